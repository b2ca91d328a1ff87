"""Who may bring plugins: code decides; environment, options, lock and config narrow it, and say so."""

import importlib
import importlib.util
import json
import marshal
import struct
import sys
import types
from pathlib import Path

import pytest
from installing import GOOD
from typer.testing import CliRunner

import ev3x
from ev3x import PluginPolicy
from ev3x.cli import app
from ev3x.config import ConfigError, loads
from ev3x.host import imported, lock
from ev3x.host.discovery import discover
from ev3x.host.host import Host, PluginError
from ev3x.host.policy import from_environment
from ev3x.run import session

CONFIG = """\
rounds = 1
[select]
use = "good:mine"
[plugins]
"""


BUDGET = """
import dataclasses
import ev3x
import toys

@dataclasses.dataclass(frozen=True)
class Mine(ev3x.Budget):
    words = "at {{level}}"
    def offer(self, state, level):
        return level

    {body}

@dataclasses.dataclass(frozen=True)
class Line(toys.Toy):
    measured: tuple[ev3x.Metric, ...] = dataclasses.field(default=(toys.ACCURACY,), init=False)

    def load(self, seed):
        return ev3x.Data(toys.splits(), toys.examples(9, 64), "toy")

@ev3x.hookimpl
def ev3x_budgets():
    return [ev3x.Offer("mine", Mine)]

@ev3x.hookimpl
def ev3x_tasks():
    return [ev3x.Offer("line", Line)]
"""
PROPOSE = """
[[propose]]
use = "trajectories"
losses = ["hinge"]
optimizers = [{ name = "sgd", learning_rate = 0.5 }]
length = 2
"""


@pytest.fixture
def good(site):
    site("good", GOOD)
    site("other", GOOD.replace("Mine", "Yours"))
    return site


def refusal(host, use="good:mine"):
    with pytest.raises(PluginError) as error:
        host.find("assessor", use)
    return str(error.value)


def problems(text, host=None):
    with pytest.raises(ConfigError) as error:
        loads(CONFIG + text, "my.toml", host=host)
    return list(error.value.problems)


def test_a_program_says_which_distributions_it_allows(good):
    assert Host(policy=PluginPolicy(allow=["EV3X_Good"])).find("assessor", "good:mine")
    host = Host(policy=PluginPolicy(allow=["ev3x-other"]))
    assert refusal(host) == (
        "plugin 'good' of ev3x-good 1.5 cannot be used: "
        "ev3x-good is not among the distributions that the program's PluginPolicy allows"
    )
    assert list(host.plugins) == ["ev3", "other"]
    with pytest.raises(TypeError, match="must be a list of distributions, got 'ev3x-good'"):
        PluginPolicy(disable="ev3x-good")


@pytest.mark.parametrize(
    ("value", "usable"),
    [("", "good other"), ("ev3x-good", "good"), ("-ev3x-good", "other"), ("none", ""), ("ev3x-good, -ev3x-good", "")],
)
def test_the_environment_narrows(good, monkeypatch, value, usable):
    monkeypatch.setenv("EV3X_PLUGINS", value)
    assert list(Host().plugins) == ["ev3", *usable.split()]
    assert list(Host(policy=PluginPolicy(allow=["ev3x-other"])).plugins) == ["ev3", *({"other"} & {*usable.split()})]


def test_none_stands_alone(monkeypatch):
    monkeypatch.setenv("EV3X_PLUGINS", "none,ev3x-good")
    with pytest.raises(ValueError, match="EV3X_PLUGINS must be `none` or name distributions"):
        Host()


def test_a_disabled_plugin_is_not_imported_and_its_line_says_who_disabled_it(good):
    assert problems('disable = ["ev3x-good"]') == [
        "my.toml:3: select.use: plugin 'good' of ev3x-good 1.5 cannot be used: ev3x-good is disabled by my.toml:5"
    ]
    assert problems('enable = ["ev3x-other"]')[0].endswith("not among the distributions that my.toml:5 allows")


def test_a_config_cannot_widen_what_is_allowed(good):
    host = Host(policy=PluginPolicy(allow=["ev3x-other"]))
    said = "ev3x-good is not among the distributions that the program's PluginPolicy allows"
    assert problems('enable = ["ev3x-good"]', host) == [
        f"my.toml:3: select.use: plugin 'good' of ev3x-good 1.5 cannot be used: {said}",
        f"my.toml:5: plugins.enable[0]: cannot widen what is allowed: {said}",
    ]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('disable = ["ev3x-godo"]', "'ev3x-godo' is none that brings plugins; did you mean 'ev3x-good'?"),
        (
            'disable = ["good"]',
            "must name a distribution: 'good' is none that brings plugins; did you mean 'ev3x-good'",
        ),
        ('enable = "ev3x-good"', "plugins.enable: must be a list, got 'ev3x-good'"),
        ('disabel = ["ev3x-good"]', "plugins.disabel: unknown option 'disabel'; did you mean 'disable'?"),
        ('require = ["ev3x-gone"]', "ev3x-gone is not installed, or brings no plugin; pip install 'ev3x-gone'"),
        ('require = ["ev3x-other>=2"]', "plugin 'other' of ev3x-other 1.5 is not >=2; pip install 'ev3x-other>=2'"),
        ('require = ["a b"]', "must be a distribution such as 'ev3x-evograd>=0.1', got 'a b'"),
    ],
)
def test_mistakes_in_the_plugins_table(good, line, text):
    said = problems(line)
    assert len(said) == 1 and said[0].startswith("my.toml:5: plugins.") and text in said[0], said


def test_what_is_required_must_load(good):
    good("broken", "raise OSError('libx.so')")
    assert "cannot be loaded: OSError: libx.so (" in problems('require = ["ev3x-broken"]')[0]


def test_rules_that_cannot_be_read_import_nothing(good):
    good("loud", "raise SystemExit('imported')")
    said = problems('disable = ["ev3x-loud"]\nstric = true\n[budget]\nuse = "loud:x"')
    assert said == ["my.toml:6: plugins.stric: unknown option 'stric'; known: disable, enable, require"]


def test_what_one_of_two_claims_may_be_required(site, monkeypatch):
    site("good", GOOD, "ev3x-one", "module_of_one")
    site("good", GOOD, "ev3x-two", "module_of_two", api="v9")
    monkeypatch.setenv("EV3X_PLUGINS", "-ev3x-two")
    assert loads(CONFIG.replace("[plugins]", "") + '[plugins]\nrequire = ["ev3x-one"]')
    rows = json.loads(invoke("plugins", "list", "--json").stdout)["plugins"]
    assert [r["state"] for r in rows[1:]] == ["usable", "ev3x-two is disabled by EV3X_PLUGINS"]


def test_an_incompatible_plugin_is_no_question_of_permission(good):
    good("new", GOOD, api="v9")
    assert loads(CONFIG + 'enable = ["ev3x-new", "ev3x-good"]').plugins[-1].name == "good"


FAULTY = {
    "check exits": "def check(self): raise SystemExit(0)",
    "offer raises": "def offer(self, state, level): return 1 / 0",
    "init raises": "def init(self): raise KeyError('x')",
    "words are wrong": "words = 'at {levl}'",
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_component_that_fails_before_the_first_round_is_named(good, case):
    body = "words = 'at {level}'\n    def offer(self, state, level): return level\n    " + FAULTY[case]
    good("bad", BUDGET.format(body=body))
    text = 'rounds = 1\ntask = "bad:line"\nobserve = []\n[budget]\nuse = "bad:mine"\n' + PROPOSE
    with pytest.raises((ConfigError, PluginError)) as error:
        session.run(loads(text, "my.toml"), None)
    assert "plugin 'bad' of ev3x-bad 1.5" in str(error.value)


def test_options_without_a_schema_leave_out_their_component_alone(good):
    good("odd", BUDGET.format(body="held: ev3x.Metric = ev3x.Metric('m', len)"))
    made = invoke("config", "schema")
    assert made.exit_code == 0 and "good:mine" in made.stdout and "odd:mine" not in made.stdout
    assert "plugin 'odd' of ev3x-odd 1.5: the options of 'mine' have no schema" in made.stderr.replace("\n", " ")


def test_strict_makes_every_fault_an_error(good, tmp_path):
    (tmp_path / "~ild-1.0.dist-info").mkdir()
    host = Host(policy=PluginPolicy(strict=True))
    assert "~ild-1.0.dist-info: left over from an upgrade" in "".join(problems("", host))
    assert host.strict and not Host().strict


def test_a_plugin_that_is_no_longer_offered_is_met_with_its_versions(site):
    site("aged", GOOD.replace('"mine", Mine)', '"mine@2", Mine), ev3x.Offer("mine@3", Mine)'))
    assert Host().find("assessor", "aged:mine@2")[0] == "aged:mine@2"
    assert refusal(Host(), "aged:mine") == ("'aged' offers no assessor 'aged:mine', but aged:mine@2, aged:mine@3")


@pytest.mark.parametrize(
    ("api", "why"),
    [
        ("v2", "it needs plugin API v2, this ev3x has v1: upgrade ev3x"),
        ("v0", "it was made for plugin API v0, this ev3x runs v1 or newer: upgrade the plugin"),
        ("1.0", "it states the plugin API '1.0': must be a version such as \"v1\""),
        (None, "it does not state the plugin API it was made for"),
    ],
)
def test_a_plugin_for_another_api_is_not_imported(site, api, why):
    site("good", "raise SystemExit", api=api)
    assert refusal(Host()).startswith(f"plugin 'good' of ev3x-good 1.5 cannot be used: {why}")


def test_what_is_locked_is_used_and_nothing_else(good, tmp_path):
    path = tmp_path / "plugins.lock"
    host = Host(policy=PluginPolicy(allow=["ev3x-good"]))
    written = lock.write(host, path)
    assert list(written) == ["ev3x", "ev3x-good"] and written["ev3x-good"].version == "1.5"
    narrow = Host().narrowed(lock.policy(Host(), path))
    assert narrow.find("assessor", "good:mine") and "not among the distributions" in refusal(narrow, "other:mine")
    (tmp_path / "module_of_good.py").write_text(GOOD + "# changed")
    with pytest.raises(lock.LockError) as error:
        lock.policy(Host(), path)
    now = lock.pins([discover().plugins["good"]])["ev3x-good"]
    assert f"ev3x-good is {written['ev3x-good']} locked, {now} here" in str(error.value)
    with pytest.raises(lock.LockError, match=r"cannot be read .*`ev3x plugins lock` writes it"):
        lock.policy(Host(), tmp_path / "none")
    path.write_text("x = 1")
    with pytest.raises(lock.LockError, match="is no lock file"):
        lock.policy(Host(), path)


def test_the_digest_is_of_contents_not_of_what_installers_add(good, tmp_path):
    plugin = discover().plugins["good"]
    before = lock.pins([plugin])
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "__pycache__" / "module_of_good.cpython-311.pyc").write_text("compiled")
    (tmp_path / "ev3x_good-1.5.dist-info" / "INSTALLER").write_text("pip")
    record = tmp_path / "ev3x_good-1.5.dist-info" / "RECORD"
    more = "ev3x_good-1.5.dist-info/INSTALLER,,\n__pycache__/module_of_good.cpython-311.pyc,,\n"
    record.write_text(record.read_text() + more)
    assert lock.pins([plugin]) == before


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A distribution whose plugin is in a package, with a library beside it."""
    root = tmp_path / "site"
    info = root / "ev3x_packed-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ev3x-packed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ev3x]\npacked = packed.plugin\n\n[ev3x.api]\npacked = v1\n")
    (root / "packed").mkdir()
    (root / "packed" / "__init__.py").touch()
    (root / "packed" / "plugin.py").write_text(GOOD)
    (root / "packed" / "data.txt").touch()
    listed = ["packed/__init__.py", "packed/plugin.py", "packed/data.txt"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(root)
    importlib.invalidate_caches()
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "packed"]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, imported._Finder)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("packed/extra.py", True),
        ("packed/sub/extra.py", True),
        ("packed/extra.pyc", True),
        ("packed/extra.cpython-311-x86_64-linux-gnu.so", True),
        ("packed/lib/libextra.so.1", True),
        ("packed/__pycache__/extra.py", True),
        ("packed/__pycache__/plugin.cpython-311.pyc", False),
        ("packed/made.txt", False),
        ("theirs/extra.py", False),
    ],
)
def test_the_digest_is_of_all_that_python_would_import_listed_or_not(package, name, code):
    plugin = discover().plugins["packed"]
    before = lock.pins([plugin])
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_bytes(b"other")
    assert (lock.pins([plugin]) != before) == code


def test_a_package_that_stands_before_the_locked_one_is_seen(package, tmp_path, monkeypatch):
    plugin = discover().plugins["packed"]
    before = lock.pins([plugin])
    (tmp_path / "first" / "packed").mkdir(parents=True)
    (tmp_path / "first" / "packed" / "__init__.py").write_text("other = 1")
    monkeypatch.syspath_prepend(tmp_path / "first")
    importlib.invalidate_caches()
    assert lock.pins([plugin]) != before


def test_what_is_locked_is_compiled_from_its_source(package, tmp_path):
    """Python believes a compiled file whose date and size are those of the source, whatever it holds."""
    source = package / "packed" / "plugin.py"
    host = Host(policy=PluginPolicy(allow=["ev3x-packed"]))
    path = tmp_path / "plugins.lock"
    lock.write(host, path)
    poisoned = importlib.util.cache_from_source(str(source))
    code = compile("raise SystemExit('poisoned')", str(source), "exec")
    facts = source.stat()
    Path(poisoned).parent.mkdir(exist_ok=True)
    head = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(facts.st_mtime), facts.st_size)
    Path(poisoned).write_bytes(head + marshal.dumps(code))
    assert "poisoned" in refusal(Host(), "packed:mine")
    sys.modules.pop("packed.plugin", None)
    assert Host().narrowed(lock.policy(Host(), path)).find("assessor", "packed:mine")


RULE = GOOD.replace("ev3x_assessors():", "ev3x_assessors():  # local")


def test_a_local_file_is_a_plugin(tmp_path):
    (tmp_path / "my_rule.py").write_text(RULE)
    host = Host()
    plugin = host.register_file(tmp_path / "my_rule.py")
    assert plugin.name == "my-rule" and host.find("assessor", "my-rule:mine")[0] == "my-rule:mine"
    assert str(plugin).startswith(f"plugin 'my-rule' of {tmp_path}/my_rule.py (sha256 ")
    assert Host(policy=PluginPolicy(allow=())).register_file(tmp_path / "my_rule.py"), "named on purpose"


PLUGIN = """import ev3x
class Rule(ev3x.Plugin):
    @ev3x.hookimpl
    def ev3x_budgets(self):
        from ev3x.builtin.budgets.per_round import PerRound
        return [ev3x.Offer("mine", PerRound)]
"""


@pytest.mark.parametrize(
    ("file", "source", "name", "attribute"),
    [
        ("my_rule.py", f"{PLUGIN}plugin = Rule()", "my-rule", "plugin"),
        ("my_rule.py", f"{PLUGIN}whole = Rule()", "my-rule", "whole"),
        ("my_rule.py", f"{PLUGIN}plugin, other = Rule(), Rule()", "my-rule", "plugin"),
        ("ev3x_my_rule/__init__.py", f"{PLUGIN}plugin = Rule()", "my-rule", "plugin"),
    ],
)
def test_a_local_file_may_hold_what_a_distribution_does(tmp_path, file, source, name, attribute):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    host = Host()
    plugin = host.register_file(path)
    assert (plugin.name, plugin.attribute) == (name, attribute)
    assert host.find("budget", f"{name}:mine")[0] == f"{name}:mine"


def test_an_entry_point_that_names_the_module_around_the_plugin_is_told_its_name(tmp_path):
    module = types.ModuleType("around")
    exec(f"{PLUGIN}plugin = Rule()", vars(module))
    with pytest.raises(PluginError, match="around has no ev3x_ hooks, its `plugin` has: name that, as in `around:plu"):
        Host().register("around", module)


@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        ("rule.py", "raise KeyError('x')", "cannot be loaded: KeyError: 'x' ("),
        ("rule.py", "x = 1", "TypeError: the file has no ev3x_ hooks: write functions such as ev3x_proposers with"),
        ("rule.py", PLUGIN, "the file has no ev3x_ hooks, but the class Rule: add `plugin = Rule()`"),
        ("rule.py", f"{PLUGIN}one, two = Rule(), Rule()", "but several plugins, one, two: call the one that is meant"),
        ("rule.txt", RULE, "must be a Python file, with the ending .py"),
        ("good.py", RULE, "cannot be registered: its name is that of plugin 'good' of ev3x-good 1.5"),
        ("ev3.py", RULE, "cannot be registered: its name is that of plugin 'ev3' of ev3x"),
        ("gone.py", None, "gone.py: cannot be read: No such file or directory"),
    ],
)
def test_what_is_wrong_with_a_local_file(good, tmp_path, name, source, text):
    if source is not None:
        (tmp_path / name).write_text(source)
    with pytest.raises(PluginError) as error:
        Host().register_file(tmp_path / name)
    assert text in str(error.value)


class Typed(ev3x.Plugin):
    @ev3x.hookimpl
    def ev3x_budgets(self):
        from ev3x.builtin.budgets.per_round import PerRound

        return [ev3x.Offer("mine", PerRound)]


def test_registration_is_of_instances_and_idempotent():
    host, plugin = Host(), Typed()
    assert host.register("mine", plugin) is host.register("mine", plugin)
    assert host.find("budget", "mine:mine") and host.offers("task", "mine") == {}
    with pytest.raises(PluginError, match=r"Typed is a class, an instance is expected: have you forgotten the \(\)\?"):
        Host().register("mine", Typed)
    with pytest.raises(PluginError, match="its name is that of plugin 'mine'"):
        host.register("mine", Typed())
    host.load("ev3")
    with pytest.raises(PluginError, match="its name is that of plugin 'ev3'"):
        host.register("ev3", plugin)


def test_the_digest_of_an_editable_distribution_is_of_its_sources(site, tmp_path):
    package = tmp_path / "sources" / "module_of_edited"
    package.mkdir(parents=True)
    info = site("edited", None)
    (package / "__init__.py").write_text(GOOD)
    (info / "RECORD").write_text(f"{info.name}/METADATA,,\n")
    (info / "direct_url.json").write_text(json.dumps({"dir_info": {"editable": True}}))
    sys.path.insert(0, str(package.parent))
    try:
        before = lock.pins([discover().plugins["edited"]])
        (package / "__init__.py").write_text(GOOD + "# changed")
        assert lock.pins([discover().plugins["edited"]]) != before
    finally:
        sys.path.remove(str(package.parent))


class Async(ev3x.Plugin):
    @ev3x.hookimpl
    async def ev3x_tasks(self):
        return []


class Wrapper(ev3x.Plugin):
    @ev3x.hookimpl(wrapper=True)
    def ev3x_tasks(self):
        return (yield)


class Unmarked(ev3x.Plugin):
    def ev3x_tasks(self):
        return []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Async, "is async: hooks are called"),
        (Wrapper, "is a wrapper"),
        (Unmarked, "lacks the decorator @ev3x.hookimpl"),
    ],
)
def test_hooks_that_pluggy_would_take_are_refused(kind, text):
    with pytest.raises(PluginError, match=f"cannot be registered: TypeError: ev3x_tasks {text}"):
        Host().register("mine", kind())


def invoke(*args):
    return CliRunner().invoke(app, list(args))


def test_the_command_line_takes_files_and_refuses_plugins(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rule.py").write_text(RULE)
    shown = invoke("plugins", "show", "rule:mine", "--plugin", "rule.py")
    assert shown.exit_code == 0 and shown.stdout.startswith("rule:mine, an assessor\nAn assessor.")
    (tmp_path / "c.toml").write_text('rounds = 1\n[select]\nuse = "good:mine"\n')
    refused = invoke("run", "c.toml", "--no-plugins")
    assert refused.exit_code == 2 and "c.toml:3: select.use" in refused.stderr
    assert "that --no-plugins allows" in refused.stderr.replace("\n", " ")
    assert invoke("plugins", "lock").stdout.splitlines()[-1] == "ev3x-plugins.lock: written"
    (tmp_path / "module_of_good.py").write_text("")
    locked = invoke("run", "c.toml", "--locked")
    assert locked.exit_code == 2 and "ev3x-good is 1.5 (sha256" in locked.stderr


def test_the_schema_takes_what_configs_say_and_nothing_else(good, tmp_path):
    import tomllib
    from pathlib import Path

    import jsonschema

    made = invoke("config", "schema")
    schema = json.loads(made.stdout)
    good_table = next(t for t in schema["properties"]["select"]["anyOf"] if "good:mine" in str(t.get("properties")))
    assert good_table["properties"]["use"] == {"enum": ["good:mine"]}
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    root = Path(__file__).parents[2]
    configs = [*root.glob("examples/*.toml")]
    assert len(configs) > 3
    for text in (
        *(path.read_text() for path in configs),
        'rounds = 3\nselect = "pareto"\nadapt = ["promote"]',
        'adapt = "shadow"',
    ):
        assert not list(validator.iter_errors(tomllib.loads(text))), text
    for text in (
        "rouns = 3",
        "rounds = 0",
        "select = 'parteo'",
        "[[adapt]]\nuse = 'promote'\nx = 1",
        "[plugins]\na = 1",
    ):
        assert list(validator.iter_errors(tomllib.loads(text))), text


@pytest.mark.parametrize("value", ["a b", "*", "-", "[", "none,a"])
def test_a_variable_that_names_no_distribution_is_refused(monkeypatch, value):
    monkeypatch.setenv("EV3X_PLUGINS", value)
    with pytest.raises(ValueError, match="EV3X_PLUGINS must be `none` or name distributions, got"):
        from_environment()
