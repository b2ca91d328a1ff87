"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

import ast
import importlib.metadata
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import ev3x_evosax
import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

import ev3x
import ev3x.config
from ev3x.cli import app

PACKAGE = Path(ev3x_evosax.__file__).parent
HERE = Path(__file__).parents[1]
CONFIG = """
rounds = 2
[[propose]]
use = "evosax:open_es"
population = 8
std = 0.05
optimizer = { name = "adam", learning_rate = 0.1 }
[[propose]]
use = "evosax:cma_es"
view = "subspace"
dimensions = 5
params = { c_mean = 0.8 }
"""


def test_the_plugin_is_found_through_its_entry_point():
    plugin = ev3x.Host().index.plugins["evosax"]
    assert plugin.value == "ev3x_evosax.plugin" and plugin.distribution == "ev3x-evosax"
    (api,) = [p for p in importlib.metadata.distribution("ev3x-evosax").entry_points if p.group == "ev3x.api"]
    assert (api.name, api.value) == ("evosax", "v1")


def test_listing_plugins_imports_nothing_of_it():
    code = """
import sys, ev3x
assert "evosax" in ev3x.Host().index.plugins
assert not [n for n in sys.modules if n.split(".")[0] in ("ev3x_evosax", "evosax", "jax")]
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_strategy_is_offered_and_says_what_its_options_are():
    offers = ev3x.Host().offers("proposer", "evosax")
    assert offers == ev3x_evosax.components()
    for component in offers.values():
        assert component.__doc__ and all(option.help for option in component.options())


def test_offering_them_leaves_the_backends_off_and_jax_as_it_was():
    code = """
import jax, ev3x
from ev3x.devices import backend_is_up
before = jax.numpy.asarray
assert ev3x.Host().offers("proposer", "evosax")
assert not backend_is_up() and jax.numpy.asarray is before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_its_constants_are_those_that_jax_would_make():
    from evosax.learned_evolution.cma_anchored_les_tools import SUCCESS_RATES

    expected = jnp.asarray([0.05, 0.2, 0.6])
    assert SUCCESS_RATES.dtype == expected.dtype and (expected == SUCCESS_RATES).all()


def test_every_component_can_be_pickled():
    components = ev3x_evosax.components().values()
    assert [pickle.loads(pickle.dumps(c)) for c in components] == [*components]
    proposer = ev3x_evosax.component("open_es").build({"optimizer": {"name": "adam", "learning_rate": 0.1}})
    assert pickle.loads(pickle.dumps(proposer)) == proposer
    with pytest.raises(AttributeError, match="no attribute 'CMAES'"):
        ev3x_evosax.registry.CMAES  # noqa: B018


def test_the_command_line_shows_them():
    listed = CliRunner().invoke(app, ["plugins", "show", "evosax"]).stdout
    assert "evosax:cma_es" in listed and "Covariance Matrix Adaptation Evolution Strategy" in listed
    shown = CliRunner().invoke(app, ["plugins", "show", "evosax:sv_open_es"]).stdout
    assert "num_populations" in shown and "when_moved" in shown


def test_a_config_builds_proposers():
    (_, first), (_, second) = ev3x.config.loads(CONFIG).method.proposers
    assert first == ev3x_evosax.component("open_es").build(
        {"population": 8, "std": 0.05, "optimizer": {"name": "adam", "learning_rate": 0.1}}
    )
    assert second.dimensions == 5 and second.params.to_config() == {"c_mean": 0.8}


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        ("evosax:open_es", "evosax:open_se", r"unknown proposer 'evosax:open_se'; did you mean 'evosax:open_es'"),
        ("population = 8", "population = 9", r"population.*Population size must be even"),
        ("c_mean", "c_maen", r"unknown parameter 'c_maen'; did you mean 'c_mean'"),
    ],
)
def test_a_config_with_a_mistake_is_refused(good, bad, text):
    with pytest.raises(ev3x.config.ConfigError, match=text):
        ev3x.config.loads(CONFIG.replace(good, bad))


def test_the_example_and_the_readme_build():
    setup = ev3x.config.load(HERE / "examples" / "subspace.toml")
    assert [type(p).__name__ for _, p in setup.method.proposers] == ["Trajectories", "CMA_ES"]
    block = (HERE / "README.md").read_text().split("```toml\n")[1].split("```")[0]
    (table,) = tomllib.loads(block)["propose"]
    assert ev3x_evosax.component(table.pop("use").partition(":")[2]).build(table).dimensions == 64


def test_a_run_of_the_command_line(tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG + "\n[task]\nuse = 'distill-mnist1d'\n")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "c.toml"), "--quiet", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
def test_only_public_names_of_ev3x_are_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "ev3x":
            inner = node.module.partition(".")[2]
            assert not inner or inner in ev3x.__all__, f"{node.module} is not public"
            assert inner or {alias.name for alias in node.names} <= {*ev3x.__all__}, f"{path}: {ast.unparse(node)}"
