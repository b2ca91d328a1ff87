"""The host: metadata alone to list, a guard around every plugin, and errors that name what to repair."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile

import jax
import pytest
from installing import GOOD

from ev3x.builtin.assessors.paired import Paired
from ev3x.host.discovery import discover, unreadable
from ev3x.host.host import Host, PluginError
from ev3x.host.policy import PluginPolicy
from ev3x.ops import native

NATIVE = """
import ev3x
from handlers import handler

def agrees(name):
    pass

@ev3x.hookimpl
def ev3x_ffi_targets(platform):
    return [ev3x.FfiTarget("ev3x_{name}_op", handler(0, 1), agrees)]
"""


@pytest.fixture
def registry(monkeypatch):
    """A registry without the bundled targets, in place of this process's."""
    monkeypatch.delenv("EV3X_NATIVE", raising=False)
    made = native.Registry()
    monkeypatch.setattr(native, "registry", made)
    return made


def fault(plugin, host=None, role="assessor"):
    with pytest.raises(PluginError) as error:
        (host or Host()).find(role, f"{plugin}:mine")
    return str(error.value)


def test_a_plugin_is_found_and_offers_its_components(site):
    site("good", GOOD)
    full, cls = Host().find("assessor", "good:mine")
    assert (full, cls.__name__) == ("good:mine", "Mine")
    assert Host().build("assessor", "good:mine", {"block": 7}).to_config()["block"] == 7
    assert Host().find("assessor", "paired") == Host().find("assessor", "ev3:paired") == ("ev3:paired", Paired)


def test_listing_imports_nothing(site):
    site("loud", "raise SystemExit('imported')")
    index = discover()
    assert str(index.plugins["loud"]) == "plugin 'loud' of ev3x-loud 1.5"
    assert "module_of_loud" not in sys.modules


def test_a_run_imports_only_the_plugins_it_names(site):
    site("good", GOOD)
    site("other", "raise RuntimeError")
    Host().find("assessor", "good:mine")
    assert "module_of_good" in sys.modules and "module_of_other" not in sys.modules


BROKEN = {
    "it raises": ("raise RuntimeError('no luck')", "cannot be loaded: RuntimeError: no luck"),
    "it exits": ("import sys; sys.exit(3)", "cannot be loaded: it called sys.exit(3)"),
    "it lacks a package": ("import not_there", "cannot be loaded: ModuleNotFoundError: No module named 'not_there'"),
    "it is not Python": ("def (:", "cannot be loaded: SyntaxError: invalid syntax ("),
    "it has no hooks": ("x = 1", "cannot be loaded: TypeError: module_of_bad has no ev3x_ hooks"),
    "its hook is misspelt": (
        GOOD.replace("ev3x_assessors", "ev3x_asessors"),
        "cannot be loaded: TypeError: unknown hook 'ev3x_asessors'; did you mean 'ev3x_assessors'?",
    ),
    "its hook wants arguments": (
        GOOD.replace("ev3x_assessors()", "ev3x_assessors(config)"),
        "cannot be loaded: PluginValidationError: Plugin 'bad of ev3x-bad' for hook 'ev3x_assessors'",
    ),
    "its hook raises": (
        GOOD.replace("return [", "raise KeyError('no') #"),
        "cannot offer its assessors: KeyError: 'no'",
    ),
    "its hook returns nothing": (
        GOOD.replace("return [", "made = ["),
        "cannot offer its assessors: TypeError: a hook must return a list of its records, got None: return [...]",
    ),
    "its default raises": (
        GOOD + "\n@dataclasses.dataclass(frozen=True)\nclass Late(Mine):\n"
        "    x: int = dataclasses.field(default_factory=lambda: 1 // 0)\n"
        "@ev3x.hookimpl\ndef ev3x_assessors():\n    return [ev3x.Offer('late', Late)]\n",
        "cannot offer its assessors: ZeroDivisionError",
    ),
    "it is compared by identity": (
        GOOD.replace("frozen=True", "frozen=True, eq=False"),
        "'mine': Mine must be compared by its options: leave out eq=False",
    ),
    "it offers no records": (
        GOOD.replace('ev3x.Offer("mine", Mine)', "Mine"),
        "cannot offer its assessors: TypeError: ev3x_assessors must return Offer(name, component) records",
    ),
    "it offers an instance": (
        GOOD.replace('"mine", Mine)', '"mine", Mine())'),
        "'mine' must offer a subclass of ev3x.Component, got Mine(",
    ),
    "it offers another role": (
        GOOD.replace("ev3x.Assessor", "ev3x.Adapter"),
        "'mine' is offered as assessor but its class module_of_bad.Mine is an adapter: offer it by ev3x_adapters",
    ),
    "it offers a name twice": (
        GOOD.replace("Mine)]", "Mine)] * 2"),
        "cannot offer its assessors: ValueError: offered more than once: mine, by module_of_bad.Mine "
        "and by module_of_bad.Mine; give each its own name",
    ),
    "its class is not frozen": (
        GOOD.replace("@dataclasses.dataclass(frozen=True)", ""),
        "'mine': Mine must be decorated with @dataclasses.dataclass(frozen=True)",
    ),
    "it returns nothing": (GOOD.replace("return [", "x = ["), "cannot offer its assessors: TypeError"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_with_its_distribution_and_stops_no_other(site, case):
    source, text = BROKEN[case]
    site("bad", source)
    site("good", GOOD)
    host = Host()
    message = fault("bad", host)
    assert message.startswith("plugin 'bad' of ev3x-bad 1.5 ") and text in message
    assert message.endswith("; to go on without it: " + sys.executable + " -m pip uninstall ev3x-bad")
    assert fault("bad", host) == message, "the cause is kept and told again"
    assert host.find("assessor", "good:mine")[0] == "good:mine"


def test_a_module_that_is_gone(site, tmp_path):
    point = site("stale", None) / "entry_points.txt"
    assert (
        "ev3x-stale 1.5 cannot be loaded: ModuleNotFoundError: No module named 'module_of_stale': its files are gone; "
        f"reinstall or uninstall ev3x-stale; the entry point is `stale = module_of_stale` ({point}:2); to go on"
    ) in fault("stale")
    installed_from(site("moved", GOOD, module="moved_away"), tmp_path / "nowhere")
    (tmp_path / "moved_away.py").unlink()
    said = fault("moved")
    assert f"the folder that it was installed from is gone: {tmp_path / 'nowhere'}; the entry point is" in said


def installed_from(info, folder):
    """Says in the metadata that this distribution was installed from a folder."""
    (info / "direct_url.json").write_text(json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}}))


POINTS = {
    "a module of the package": (
        "package.nope",
        "No module named 'package.nope': there is no module 'nope' in 'package'",
    ),
    "a module, nearly": ("package.plugins", "no module 'plugins' in 'package'; did you mean 'plugin'?"),
    "the package": ("packages.plugin", "there is no module 'packages' in ev3x-lost; did you mean 'package'?"),
    "below a module": ("package.plugin.x", "No module named 'package.plugin.x'; 'package.plugin' is not a package"),
    "an object": ("package.plugin:plugged", "module 'package.plugin' has no attribute 'plugged'; did you mean 'plug'?"),
    "an object of an object": ("package.plugin:plug.real.x", "0 has no attribute 'x'"),
    "no name": ("package.plugin:", "ValueError: must name `module` or `module:object`"),
    "a file": ("package/plugin.py", "ValueError: must name `module` or `module:object`"),
}


@pytest.mark.parametrize("author", [False, True])
@pytest.mark.parametrize("case", POINTS)
def test_a_misspelt_entry_point_is_quoted_with_file_and_line(site, tmp_path, monkeypatch, case, author):
    value, text = POINTS[case]
    info = site("lost", None, module=value)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "plugin.py").write_text("plug = 0")
    (info / "RECORD").write_text("package/__init__.py,,\npackage/plugin.py,,\n")
    for name in ("package", "package.plugin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    if author:
        installed_from(info, tmp_path)
    said = fault("lost")
    assert text in said and "gone" not in said
    assert f"the entry point is `lost = {value}` ({info / 'entry_points.txt'}:2); " in said
    assert said.endswith(
        "correct it in its pyproject.toml, and install it again"
        if author
        else f"its authors can mend it; to go on without it: {sys.executable} -m pip uninstall ev3x-lost"
    )


def test_a_missing_module_of_its_own_is_not_a_package_to_install(site):
    site("partly", "import module_of_partly.helper")
    said = fault("partly")
    assert "there is no module 'helper' in 'module_of_partly' (" in said and "install that package" not in said


def test_who_works_on_a_plugin_is_not_told_to_uninstall_it(site, tmp_path):
    installed_from(site("bad", "raise RuntimeError('no luck')"), tmp_path)
    assert "uninstall" not in fault("bad")
    (tmp_path / "local.py").write_text("raise RuntimeError('no luck')")
    with pytest.raises(PluginError, match="RuntimeError: no luck") as error:
        Host().register_file(tmp_path / "local.py")
    assert "uninstall" not in str(error.value)


def test_a_component_that_is_asked_for_under_another_role_is_found_there(site):
    site("good", GOOD)
    site("mixed", GOOD.replace("ev3x.Assessor", "ev3x.Adapter"))
    assert fault("good", role="proposer") == (
        "unknown proposer 'good:mine': plugin 'good' of ev3x-good 1.5 offers it as an assessor, by ev3x_assessors"
    )
    assert fault("mixed", role="adapter") == (
        "unknown adapter 'mixed:mine': plugin 'mixed' of ev3x-mixed 1.5 offers it as an assessor, by ev3x_assessors; "
        "its class module_of_mixed.Mine is an adapter: offer it by ev3x_adapters"
    )
    with pytest.raises(PluginError, match=r"unknown budget 'paired': plugin 'ev3' .* offers it as an assessor"):
        Host().find("budget", "paired")


@pytest.mark.parametrize("content", [b"[ev3x]\nno entry point\n", b"[ev3x]\nm\xfcde = x\n"])
def test_a_stranger_that_others_cannot_read_is_named(site, content):
    stranger = site("stranger", None)
    (stranger / "entry_points.txt").write_bytes(content)
    with pytest.raises(Exception) as error:
        list(importlib.metadata.entry_points(group="x"))
    said = unreadable(error.value, discover())
    assert said is not None and f"{stranger}: unreadable metadata" in said and "not even JAX starts" in said
    with pytest.raises(UnicodeDecodeError) as mine:
        b"\xfc".decode()
    assert unreadable(mine.value, discover()) is None, "an error of somebody else's"


def test_two_distributions_that_claim_one_name(site):
    site("twice", GOOD, "ev3x-one", "module_of_one")
    site("twice", GOOD, "ev3x-two", "module_of_two")
    site("good", GOOD)
    host = Host()
    message = fault("twice", host)
    assert message.startswith("plugin name 'twice' is claimed by ev3x-")
    assert "ev3x-one 1.5" in message and "ev3x-two 1.5; disable or uninstall all but one" in message
    assert not {"module_of_one", "module_of_two"} & set(sys.modules)
    assert host.find("assessor", "good:mine")


def test_built_ins_cannot_be_shadowed(site):
    site("ev3", GOOD, "evil")
    host = Host()
    assert host.find("assessor", "paired") == ("ev3:paired", Paired)
    assert host.index.faults == ("plugin 'ev3' of evil 1.5 claims the name of the built-in plugin; ignored",)


def test_a_strangers_broken_metadata_spoil_nothing(site, tmp_path):
    site("good", GOOD)
    stranger = site("stranger", None)
    (stranger / "entry_points.txt").write_text("[ev3x]\nthis is no entry point")
    (tmp_path / "half_removed-1.0.dist-info").mkdir()
    (tmp_path / "empty-1.0.dist-info").mkdir()
    (tmp_path / "empty-1.0.dist-info" / "METADATA").write_text("")
    (tmp_path / "binary-1.0.dist-info").mkdir()
    (tmp_path / "binary-1.0.dist-info" / "METADATA").write_bytes(b"Name: b\xff\xfe\nVersion: 1\n")
    (tmp_path / "binary-1.0.dist-info" / "entry_points.txt").write_bytes(b"[ev3x]\n\xff = \xfe\n")
    host = Host()
    assert host.find("assessor", "good:mine")
    assert any("stranger-1.5.dist-info: unreadable metadata" in f for f in host.index.faults)


def test_what_lies_on_the_path_twice_or_in_a_zip_file_is_one_distribution(site, tmp_path, monkeypatch):
    site("good", GOOD)
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "link")
    with zipfile.ZipFile(tmp_path / "zipped.whl", "w") as file:
        file.writestr("zipped-1.0.dist-info/METADATA", "Name: zipped\nVersion: 1.0\n")
        file.writestr("zipped-1.0.dist-info/entry_points.txt", "[ev3x]\nzipped = module_of_zipped\n")
    monkeypatch.syspath_prepend(tmp_path / "zipped.whl")
    index = discover()
    assert not index.conflicts and not index.copies and {"good", "zipped"} <= index.plugins.keys()
    assert Host(index).find("assessor", "good:mine")


def test_of_several_copies_the_first_counts_even_if_it_brings_nothing(site, tmp_path, monkeypatch):
    site("good", GOOD)
    old = tmp_path / "in front" / "ev3x_good-0.5.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Name: ev3x-good\nVersion: 0.5\n")
    monkeypatch.syspath_prepend(old.parent)
    index = discover()
    assert "good" not in index.plugins, "Python would import the old one"
    assert index.copies["ev3x-good"] == (old.resolve(), (tmp_path / "ev3x_good-1.5.dist-info").resolve())


def test_an_error_that_cannot_say_what_is_wrong(site):
    site("bad", "class Odd(Exception):\n    def __str__(self):\n        raise KeyError\n\nraise Odd")
    host = Host()
    text = "cannot be loaded: Odd: and it raises when it is asked what is wrong ("
    assert text in fault("bad", host) and text in fault("bad", host)


def test_settings_that_cannot_be_put_back_keep_no_other_from_it(site, monkeypatch):
    changes = "import os, jax\nos.environ['XLA_FLAGS'] = '--bad'\njax.config.update('jax_enable_x64', True)\n"
    site("bad", changes + GOOD)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    update = jax.config.update

    def stubborn(name, value):
        if value is False:
            raise RuntimeError("too late")
        update(name, value)

    monkeypatch.setattr(jax.config, "update", stubborn)
    message = fault("bad")
    update("jax_enable_x64", False)
    assert "the variable XLA_FLAGS from None to '--bad', jax_enable_x64 from False to True (it stays so: too late)" in (
        message
    )
    assert "XLA_FLAGS" not in os.environ


def test_a_name_that_two_claim_is_under_each_policy_that_of_the_one_allowed(site):
    site("twice", GOOD, "ev3x-one", "module_of_one")
    site("twice", GOOD.replace("mine", "yours"), "ev3x-two", "module_of_two")
    host = Host()
    one, two = (host.narrowed(PluginPolicy(allow=[name])) for name in ("ev3x-one", "ev3x-two"))
    assert one.find("assessor", "twice:mine") and two.find("assessor", "twice:yours")
    assert "mine" not in two.offers("assessor", "twice")


def test_unknown_names_are_met_with_the_nearest_known_one(site):
    site("good", GOOD)
    host = Host()
    for use, text in (
        (
            "god:mine",
            "unknown plugin 'god'; did you mean 'good'?; `ev3x plugins list` shows what is installed; "
            "pip installs more, --plugin FILE.py takes a file",
        ),
        ("good:mien", "unknown assessor 'good:mien'; did you mean 'good:mine'?"),
        (
            "mine",
            "unknown assessor 'mine'; known: bernstein, betting, bootstrap, lexicographic, mean_bounds, paired, "
            "pareto, published (installed plugins: 'good:...')",
        ),
    ):
        with pytest.raises(PluginError) as error:
            host.find("assessor", use)
        assert str(error.value) == text


def test_hosts_share_no_plugins(site):
    site("good", GOOD)
    first, second = Host(), Host()
    first.load("good")
    assert not second._manager.has_plugin("good")


def test_finding_plugins_imports_no_jax():
    code = "import sys; from ev3x import Host; Host(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_native_targets_are_taken_over_when_they_are_wanted(site, registry):
    site("fast", NATIVE.format(name="fast"))
    host = Host()
    host.load("fast")
    Host().load("fast")  # another host of this process
    assert registry.ensure("ev3x_fast_op")
    (record,) = registry.status()
    assert (record.state, record.owner, record.fault) == ("native", "ev3x-fast 1.5", False)


def test_targets_of_other_platforms_wait(site, registry):
    site("gpu", NATIVE.format(name="gpu").replace("agrees)]", 'agrees, platform="CUDA")]'))
    host = Host()
    assert host.targets("gpu", "cpu") == []
    assert [t.name for t in host.targets("gpu", "CUDA")] == ["ev3x_gpu_op"]


WRONG_TARGETS = {
    "the prefix is another's": (
        ('"ev3x_{name}_op"', '"ev3x_op"'),
        "ValueError: the names of its targets must begin with 'ev3x_bad_', got 'ev3x_op'",
    ),
    "the prefix only begins like its own": (
        ('"ev3x_{name}_op"', '"ev3x_badly_op"'),
        "ValueError: the names of its targets must begin with 'ev3x_bad_', got 'ev3x_badly_op'",
    ),
    "the platform is misspelt": (
        ("agrees)]", 'agrees, platform="cuda")]'),
        "ValueError: 'ev3x_bad_op': platform must be one of ('cpu', 'CUDA', 'ROCM'), got 'cuda'",
    ),
    "the hook raises": (
        ("return [", "raise OSError('libfoo.so.1: cannot open') #"),
        "OSError: libfoo.so.1: cannot open",
    ),
    "the hook exits": (("return [", "raise SystemExit(4) #"), "it called sys.exit(4)"),
    "the hook returns nothing": (
        ("return [", "x = ["),
        "TypeError: a hook must return a list of its records, got None: return [...], or [] for none",
    ),
    "the hook returns other records": (
        ("return [", "return ['ev3x_bad_op'] #"),
        "TypeError: ev3x_ffi_targets must return FfiTarget(name, handler, self_test) records, got 'ev3x_bad_op'",
    ),
    "there is no self-test": (
        ("agrees)]", "None)]"),
        "TypeError: 'ev3x_bad_op': self_test must be a function of the target's name, got None",
    ),
    "a name comes twice": (
        ("agrees)]", "agrees)] * 2"),
        "ValueError: offered more than once: ev3x_bad_op, by a target for cpu with module_of_bad.agrees and by "
        "a target for cpu with module_of_bad.agrees; give each its own name",
    ),
}


@pytest.mark.parametrize("case", WRONG_TARGETS)
def test_a_wrong_offer_of_targets_costs_only_native_code(site, registry, case):
    change, text = WRONG_TARGETS[case]
    site("bad", GOOD + NATIVE.replace(*change).format(name="bad"))
    site("fine", NATIVE.format(name="fine"))
    host = Host()
    host.load("fine")
    assert host.find("assessor", "bad:mine")[0] == "bad:mine"
    with pytest.warns(native.NativeWarning) as seen:
        assert not registry.ensure("ev3x_bad_op")
    place = re.search(r" \(/.*/module_of_bad.py:\d+\)", str(seen[0].message))
    assert bool(place) == (case in ("the hook raises", "the hook exits"))
    said = (
        f"plugin 'bad' of ev3x-bad 1.5 cannot offer its native targets: {text}{place[0] if place else ''}; "
        f"to go on without it: {sys.executable} -m pip uninstall ev3x-bad"
    )
    assert [str(w.message) for w in seen] == [f"ev3x: {said}; its jnp definitions are used"]
    assert registry.ensure("ev3x_fine_op")
    assert registry.faults == [said]
    with pytest.raises(native.NativeError) as error, native.using("require"):
        registry.ensure("ev3x_bad_op")
    assert str(error.value).endswith(f"'ev3x_bad_op': no plugin that has been loaded offers it; {said}")
