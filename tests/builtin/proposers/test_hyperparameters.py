"""Sampled hyperparameters: where the samples lie, and that they reach the training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from toys import Toy, examples, same, sgd

import ev3x
from ev3x.builtin.proposers.hyperparameters import Hyperparameters
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.adapt import undecided

EXPLORE = ev3x.Explore(examples(0, 64), batch_size=8)
KEY = jax.random.key(3)
SITE = ev3x.Site(Toy())
RANGES = {
    "learning_rate": {"low": 1e-3, "high": 1.0, "log": True},
    "temperature": {"low": 0.5, "high": 4.0},
}


def current():
    return Toy().init(jax.random.key(1))


def build(count=16, ranges=RANGES, **options):
    return Hyperparameters(loss="xent", optimizer=sgd(), ranges=ranges, count=count, length=3, **options)


def feedback(k, winner):
    decision = undecided(ev3x.Model(None, None, jnp.ones(1)), 0)
    return ev3x.Feedback(jnp.zeros(k), jnp.zeros((k, 1)), jnp.arange(k) == winner, jnp.int32(0), decision)


def sampled(proposer, rounds, seed=0):
    """The values of several rounds, {name: [rounds * count]}."""
    state = proposer.init(SITE, jax.random.key(seed), current())
    propose = jax.jit(lambda key, state: proposer.propose(SITE, key, current(), state, EXPLORE))
    notes = []
    for i in range(rounds):
        candidates = propose(jax.random.fold_in(KEY, i), state)
        state = proposer.learn(SITE, KEY, state, candidates, feedback(proposer.count, -1))
        notes.append(candidates.notes)
    return {name: np.concatenate([n[name] for n in notes]) for name in notes[0]}


@pytest.fixture(scope="module")
def both():
    return {kind: sampled(build(sampling=kind), 16) for kind in ("quasi", "random")}


@pytest.mark.parametrize("kind", ["quasi", "random"])
def test_values_lie_in_their_ranges_and_differ_from_round_to_round(both, kind):
    for name, limits in RANGES.items():
        values = both[kind][name]
        assert (values >= limits["low"]).all() and (values <= limits["high"]).all()
        assert len(set(values.tolist())) == len(values)


def test_a_logarithmic_range_is_uniform_in_the_logarithm(both):
    rates = both["quasi"]["learning_rate"]
    thirds = np.histogram(rates, [1e-3, 1e-2, 1e-1, 1.0])[0] / len(rates)
    np.testing.assert_allclose(thirds, 1 / 3, atol=0.02)
    temperatures = both["quasi"]["temperature"]
    assert scipy.stats.kstest(temperatures, scipy.stats.uniform(0.5, 3.5).cdf).statistic < 0.02


def unit(values):
    return np.stack([np.log10(values["learning_rate"]) / 3 + 1, (values["temperature"] - 0.5) / 3.5], axis=1).clip(0, 1)


def test_quasi_random_points_are_spread_better_than_random_ones(both):
    quasi, random = (scipy.stats.qmc.discrepancy(unit(both[k])) for k in ("quasi", "random"))
    assert quasi < random / 5


@pytest.mark.parametrize("limits", [ev3x.Range("x", 1e-3, 0.7, log=True), ev3x.Range("x", 0.1, 0.7)])
def test_the_ends_of_a_range_are_not_overstepped(limits):
    values = np.asarray(limits.at(jnp.array([0.0, 1 - 2.0**-24])))
    assert np.float32(limits.low) <= values[0] < values[1] <= np.float32(limits.high)


def test_the_same_key_samples_the_same_values():
    assert same(sampled(build(4), 2), sampled(build(4), 2))
    assert not same(sampled(build(4), 2), sampled(build(4), 2, seed=1))


def test_sampled_temperatures_and_learning_rates_reach_the_training():
    proposer = build(3)
    state = proposer.init(SITE, KEY, current())
    candidates = proposer.propose(SITE, KEY, current(), state, EXPLORE)
    for i in range(3):
        rate, temperature = (float(candidates.notes[n][i]) for n in ("learning_rate", "temperature"))
        one = Trajectories(losses=[ev3x.Loss("xent", temperature=temperature)], optimizers=[sgd(rate)], length=3)
        alone = one.propose(SITE, KEY, current(), one.init(SITE, KEY, current()), EXPLORE)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b[0], rtol=1e-5, atol=1e-6),
            candidates.variables,
            alone.variables,
        )
    assert int(candidates.steps) == 9


@pytest.mark.parametrize("winner", [-1, 1])
def test_all_candidates_start_from_the_optimizer_state_of_the_last_winner(winner):
    ranges = {"learning_rate": RANGES["learning_rate"]}
    proposer = Hyperparameters(loss="xent", optimizer=sgd(momentum=0.9), ranges=ranges, count=3, length=3)
    state = proposer.init(SITE, KEY, current())
    candidates = proposer.propose(SITE, KEY, current(), state, EXPLORE)
    learned = proposer.learn(SITE, KEY, state, candidates, feedback(3, winner))
    expected = state.optimizer if winner < 0 else jax.tree.map(lambda x: x[winner], candidates.memo)
    assert same(learned.optimizer, expected) and int(learned.sampled) == 3
