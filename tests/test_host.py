"""The host: metadata alone to list, a guard around every plugin, and errors that name what to repair."""

import subprocess
import sys
import textwrap

import pytest

from ev3x.builtin.assessors.paired import Paired
from ev3x.host import Host, PluginError, discover

GOOD = """
import dataclasses
import ev3x

@dataclasses.dataclass(frozen=True)
class Mine(ev3x.Assessor):
    '''An assessor.'''

@ev3x.hookimpl
def ev3x_assessors():
    return [ev3x.Offer("mine", Mine)]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path; `site(plugin, source, ...)` installs a distribution with that plugin into it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(plugin, source, distribution=None, module=None):
        distribution, module = distribution or f"ev3x-{plugin}", module or f"module_of_{plugin}"
        info = tmp_path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[ev3x]\n{plugin} = {module}\n")
        if source is not None:
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
            monkeypatch.delitem(sys.modules, module, raising=False)
        return info

    return install


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
    "it is not Python": ("def (:", "cannot be loaded: SyntaxError: invalid syntax (module_of_bad.py, line 1)"),
    "it has no hooks": ("x = 1", "cannot be loaded: ValueError: module module_of_bad has no ev3x_ hooks"),
    "its hook is misspelt": (
        GOOD.replace("ev3x_assessors", "ev3x_asessors"),
        "cannot be loaded: PluginValidationError: unknown hook 'ev3x_asessors'",
    ),
    "its hook wants arguments": (
        GOOD.replace("ev3x_assessors()", "ev3x_assessors(config)"),
        "cannot be loaded: PluginValidationError: Plugin 'bad' for hook 'ev3x_assessors'",
    ),
    "its hook raises": (
        GOOD.replace("return [", "raise KeyError('no') #"),
        "cannot offer its assessors: KeyError: 'no'",
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
        "'mine' is offered as assessor but its class is a adapter",
    ),
    "it offers a name twice": (
        GOOD.replace("Mine)]", "Mine)] * 2"),
        "cannot offer its assessors: ValueError: offered more than once: mine",
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


def test_a_module_that_is_gone(site):
    site("stale", None)
    assert "ev3x-stale 1.5 cannot be loaded: ModuleNotFoundError: No module named 'module_of_stale'" in fault("stale")


def test_two_distributions_that_claim_one_name(site):
    site("twice", GOOD, "ev3x-one", "module_of_one")
    site("twice", GOOD, "ev3x-two", "module_of_two")
    site("good", GOOD)
    host = Host()
    message = fault("twice", host)
    assert message.startswith("plugin name 'twice' is claimed by ev3x-")
    assert "ev3x-one 1.5" in message and "ev3x-two 1.5; uninstall one of them" in message.replace(
        "-one 1.5;", "-two 1.5;"
    )
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


def test_unknown_names_are_met_with_the_nearest_known_one(site):
    site("good", GOOD)
    host = Host()
    for use, text in (
        ("god:mine", "unknown plugin 'god'; did you mean 'good'?; `ev3x plugins list` shows what is installed"),
        ("good:mien", "unknown assessor 'good:mien'; did you mean 'good:mine'?"),
        (
            "mine",
            "unknown assessor 'mine'; known: lexicographic, mean_bounds, paired, pareto, published "
            "(installed plugins: 'good:...')",
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
    code = "import sys; from ev3x.host import Host; Host(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
