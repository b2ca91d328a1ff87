"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import ev3x_evograd
import pytest
from ev3x_evograd.tasks import NoisyDigits, RotatedDigits

import ev3x
import ev3x.config

PACKAGE = Path(ev3x_evograd.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.toml"))


def output(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_plugin_is_found_through_its_entry_point():
    plugin = ev3x.Host().index.plugins["evograd"]
    assert plugin.value == "ev3x_evograd.plugin" and plugin.distribution == "ev3x-evograd"
    assert plugin.version == importlib.metadata.version("ev3x-evograd")


def test_listing_plugins_imports_nothing_of_it_and_no_jax():
    code = """
import sys, ev3x
assert "evograd" in ev3x.Host().index.plugins
print([n for n in sys.modules if n.split(".")[0] in ("ev3x_evograd", "jax", "optax", "flax", "sklearn")])
"""
    assert output(code).strip() == "[]"


def test_proposers_and_tasks_are_offered():
    host = ev3x.Host()
    assert host.offers("proposer", "evograd") == {"evograd": ev3x_evograd.EvoGrad, "one_step": ev3x_evograd.OneStep}
    assert host.offers("task", "evograd") == {"rotated-digits": RotatedDigits, "noisy-digits": NoisyDigits}
    for role in ("assessor", "adapter", "budget", "observer"):
        assert host.offers(role, "evograd") == {}


def test_using_the_proposers_imports_neither_flax_nor_scikit_learn():
    code = """
import sys, ev3x
host = ev3x.Host()
assert {*host.offers("proposer", "evograd"), *host.offers("task", "evograd")}
print([n for n in sys.modules if n in ("flax", "sklearn", "matplotlib")])
"""
    assert output(code).strip() == "[]"


@pytest.mark.parametrize("role", ["proposer", "task"])
def test_every_option_says_what_it_is(role):
    for component in ev3x.Host().offers(role, "evograd").values():
        assert component.__doc__
        assert all(option.help for option in component.options())


CONFIG = """
rounds = 2
[task]
use = "evograd:rotated-digits"
[[propose]]
use = "evograd:evograd"
loss = "turned"
meta_loss = "labels"
optimizer = { name = "adam", learning_rate = 1e-2 }
meta_optimizer = { name = "adam", learning_rate = 0.5 }
ranges = { angle = { low = -90, high = 90 } }
"""


def test_a_config_builds_a_proposer_and_a_task():
    setup = ev3x.config.loads(CONFIG)
    assert setup.task == RotatedDigits()
    (_, proposer), *_ = setup.method.proposers
    assert isinstance(proposer, ev3x_evograd.EvoGrad) and proposer.copies == 2
    assert proposer.ranges == ev3x.Ranges([ev3x.Range("angle", -90, 90)])


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        ('use = "evograd:evograd"', 'use = "evograd:evogard"', r"unknown proposer 'evograd:evogard'; did you mean"),
        ('meta_loss = "labels"', 'metaloss = "labels"', r"metaloss.*did you mean 'meta_loss'"),
        ('meta_loss = "labels"', 'meta_loss = "labels"\ncopies = 1', r"copies.*greater than or equal to 2, got 1"),
    ],
)
def test_a_config_with_a_mistake_is_refused(good, bad, text):
    with pytest.raises(ev3x.config.ConfigError, match=text):
        ev3x.config.loads(CONFIG.replace(good, bad))


if EXAMPLES:

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_the_examples_can_be_loaded(path):
        setup = ev3x.config.load(path)
        used = [setup.task, *(proposer for _, proposer in setup.method.proposers)]
        assert any(type(component).__module__.startswith("ev3x_evograd.") for component in used)

else:

    @pytest.mark.skip(reason="there are no examples/*.toml beside the tests")
    def test_the_examples_can_be_loaded():
        pass


def imported(path):
    """What a file imports of ev3x: pairs of a module and a name of it, or None."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "ev3x")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "ev3x":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_public_names_of_ev3x_are_imported(path):
    for module, name in imported(path):
        _, _, inner = module.partition(".")
        assert not inner or inner in ev3x.__all__, f"{module} is not public"
        assert inner or name is None or name in ev3x.__all__, f"{module}.{name} is not public"
        assert not (name or "").startswith("_")


def test_the_package_imports_ev3x_somewhere():
    found = {pair for path in SOURCES for pair in imported(path)}
    assert ("ev3x", "Proposer") in found and ("ev3x.component", "Count") in found


def test_what_the_package_names_it_has():
    assert all(hasattr(ev3x_evograd, name) for name in ev3x_evograd.__all__)
    assert (PACKAGE / "py.typed").exists()
