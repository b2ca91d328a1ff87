"""The distribution as a plugin, and its README."""

import tomllib
from pathlib import Path

import jax
import pytest
from ev3x_reversible import Reversible

from ev3x.testing.distribution import DistributionTests, built, snippets

HOME = Path(__file__).parents[1]
README = HOME / "README.md"

CONFIG = """
rounds = 2
[[propose]]
use = "reversible:run"
loss = "kl"
meta_loss = "labels"
optimizer = { name = "sgd", learning_rate = 1e-2, momentum = 0.9 }
meta_optimizer = { name = "adam", learning_rate = 0.1 }
"""


class TestDistribution(DistributionTests):
    config = CONFIG
    mistakes = (
        ('use = "reversible:run"', 'use = "reversible:rn"', r"unknown proposer 'reversible:rn'; did you mean"),
        ('meta_loss = "labels"', 'metaloss = "labels"', r"metaloss.*did you mean 'meta_loss'"),
        ("momentum = 0.9 }", "momentum = 1.0 }", r"momentum must be a number above 0 in \[0.5, 0.999\], got 1"),
    )
    heavy = ("optax", "sklearn")

    def offers(self):
        return {"proposer": {"run": Reversible}}


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 40


def test_the_function_of_the_readme_gives_a_hypergradient():
    (block,) = snippets(README, "python")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    found = names["found"]
    assert found.gradient.rates.shape == (100,) and float(found.meta_loss) < 0.1
    assert all(jax.numpy.isfinite(x).all() for x in jax.tree.leaves(found))


def test_the_proposer_of_the_readme_is_built_from_its_table():
    (block,) = snippets(README, "toml")
    ((use, proposer),) = built(block).items()
    assert use == "reversible:run" and isinstance(proposer, Reversible) and proposer.length == 200


@pytest.mark.long
@pytest.mark.loose_types("optax's Adam mixes integers and floats")
def test_learned_images_beat_real_ones_by_25_points(monkeypatch):
    pytest.importorskip("sklearn.datasets", reason="the digits are scikit-learn's")
    monkeypatch.syspath_prepend(HOME / "examples")
    learned_images = pytest.importorskip("learned_images", reason="the examples are not beside the tests")
    _, _, found = learned_images.contest(seed=4, meta_steps=200)
    learned, real = (sum(values) / len(values) for values in (found["learned"], found["real"]))
    assert learned >= real + 0.25


def test_the_metadata_name_the_plugin():
    points = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points == {"ev3x": {"reversible": "ev3x_reversible.plugin"}, "ev3x.api": {"reversible": "v1"}}
