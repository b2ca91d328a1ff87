"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

import pickle
import subprocess
import sys
import unittest
from pathlib import Path

import ev3x_evosax
import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

import ev3x
import ev3x.config
from ev3x.cli import app
from ev3x.testing import sample
from ev3x.testing.distribution import DistributionTests, built, snippets

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


class TestDistribution(DistributionTests):
    config = CONFIG
    mistakes = (
        ("evosax:open_es", "evosax:open_se", r"unknown proposer 'evosax:open_se'; did you mean 'evosax:open_es'"),
        ("population = 8", "population = 9", r"population.*Population size must be even"),
        ("c_mean", "c_maen", r"unknown parameter 'c_maen'; did you mean 'c_mean'"),
    )
    heavy = ("evosax",)

    def offers(self):
        return {"proposer": ev3x_evosax.components()}

    def tried(self):
        """A population, a distribution in a subspace, and one of the other strategies."""
        others = {name: kind for name, kind in super().tried().items() if not kind.refused}
        return {
            "population": ev3x_evosax.component("simple_ga")(population=4),
            "distribution": ev3x_evosax.component("sep_cma_es")(population=4, view="subspace", dimensions=3),
            **sample(others, 1, seed=16),
        }

    def test_it_keeps_the_contract(self, check):
        """Nothing is excused."""
        try:
            super().test_it_keeps_the_contract(check)
        except unittest.SkipTest as reason:
            pytest.fail(f"{reason}")


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


def test_the_example_and_the_readme_build():
    setup = ev3x.config.load(HERE / "examples" / "subspace.toml")
    assert [type(p).__name__ for _, p in setup.method.proposers] == ["Trajectories", "CMA_ES"]
    (block,) = snippets(HERE / "README.md", "toml")
    ((_, proposer),) = built(block).items()
    assert proposer.dimensions == 64


# The teacher of mnist1d takes a minute to train where it is not in the cache.
@pytest.mark.parametrize(
    "more",
    [
        "[task]\nuse = 'distill-digits'\n[confirm]\nuse = 'paired'\nblock = 100\nblocks = 1\n",
        pytest.param("[task]\nuse = 'distill-mnist1d'\n", marks=pytest.mark.long),
    ],
    ids=["digits", "mnist1d"],
)
def test_a_run_of_the_command_line(more, tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG + more)
    result = CliRunner().invoke(app, ["run", str(tmp_path / "c.toml"), "--quiet", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 2
