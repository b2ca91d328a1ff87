"""Whole runs: they improve a model without gradients, beside gradients, and go on after a stop to the same bits."""

import dataclasses
import runpy
from pathlib import Path

import ev3x_evosax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ev3x
from ev3x.run import checkpoint

EXAMPLES = Path(__file__).parents[1] / "examples"


def nearness(point, batch):
    return -((point[None] - batch["x"]) ** 2).sum(-1)


@dataclasses.dataclass(frozen=True)
class Point(ev3x.Task):
    """Bring a point to the mean of the examples, (1, -1)."""

    @property
    def metrics(self):
        return (ev3x.Metric("nearness", nearness),)

    @property
    def losses(self):
        return ("distance",)

    def init(self, key):
        return {"params": {"at": jnp.zeros(2)}}

    def predict(self, variables, batch):
        return variables["params"]["at"]

    def loss(self, name, variables, batch, key, hypers):
        return -nearness(self.predict(variables, batch), batch), variables


def around(key, n):
    return {"x": jnp.array([[1.0, -1.0]]) + 0.1 * jax.random.normal(key, (n, 2))}


def evolver(*proposers):
    def build(role, name, **options):
        return ev3x.Host().build(role, f"ev3:{name}", options)

    a, b, c = (ev3x.Generated(k, around) for k in jax.random.split(jax.random.key(5), 3))
    method = ev3x.Method(
        proposers,
        build("assessor", "mean_bounds", block=64),
        build("assessor", "paired", block=64),
        [build("adapter", "promote")],
        build("budget", "over_run"),
    )
    return ev3x.Evolver(Point(), method, ev3x.Splits(ev3x.Explore(a, 8), ev3x.Assess(b), ev3x.Decide(c)))


def strategy(name, **options):
    return ev3x_evosax.component(name).build({"population": 8, "std": 0.2, **options})


@pytest.mark.parametrize("name", ["cma_es", "differential_evolution"])
def test_a_strategy_alone_finds_the_point(name):
    run = evolver(strategy(name))
    state, records = run.rounds(run.init(0), 40)
    assert np.abs(state.model.incumbent["params"]["at"] - np.array([1.0, -1.0])).max() < 0.1
    assert int(records.steps.sum()) == 0 and int(records.decision.promote.sum()) >= 3


@pytest.mark.bits
def test_it_goes_on_beside_gradients_after_a_stop_to_the_same_bits():
    sgd = ev3x.Host().build(
        "proposer",
        "ev3:trajectories",
        {"losses": ["distance"], "optimizers": [{"name": "sgd", "learning_rate": 0.01}], "length": 3},
    )
    evo = strategy("cma_es", view="subspace", dimensions=1)
    run = evolver(("sgd", sgd), ("evo", evo), ("ga", strategy("simple_ga")))
    first = run.init(0)
    state, _ = run.rounds(first, 4)
    restored = checkpoint.fill(first, {k: np.asarray(x) for k, x in checkpoint.leaves(state).items()})
    whole, records = run.rounds(state, 4)
    resumed, again = run.rounds(restored, 4)
    assert list(checkpoint.leaves(whole)) == list(checkpoint.leaves(resumed))
    for ours, theirs in ((whole, resumed), (records, again)):
        for x, y in zip(checkpoint.leaves(ours).values(), checkpoint.leaves(theirs).values(), strict=True):
            np.testing.assert_array_equal(x, y)


def test_the_example_raises_the_accuracy():
    assert runpy.run_path(str(EXAMPLES / "accuracy.py"))["main"]() > 0.95
