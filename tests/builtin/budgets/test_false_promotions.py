"""What budgets promise, in simulated runs whose truth is known: every limit is that of a 99.9% interval."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from ledgers import LEVEL, confirmation, promotions

from ev3x import Outcome
from ev3x.builtin.budgets.elond import Elond
from ev3x.builtin.budgets.lord import Lord
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.budgets.saffron import Saffron

RUNS, ROUNDS = 2_000, 200
SIGNAL = 0.02, 6.0  # Beta: p-values of true gains, half of them below 1e-15


def drawn(share, seed=0, runs=RUNS, rounds=ROUNDS):
    """Which confirmations are of true gains, and p-values: uniform where they are not, Beta where they are."""
    rng = np.random.default_rng(seed)
    gains = rng.random((runs, rounds)) < share
    p_values = np.where(gains, rng.beta(*SIGNAL, (runs, rounds)), rng.random((runs, rounds)))
    return gains, jnp.float32(p_values)


def limits(x):
    """The 99.9% interval of a mean."""
    return scipy.stats.norm.interval(0.999, np.mean(x), scipy.stats.sem(x))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("budget", [Lord(remembered=64), Saffron(remembered=64)], ids=lambda b: type(b).__name__)
def test_the_expected_share_of_false_promotions_is_at_most_the_level(budget, share):
    gains, p_values = drawn(share)
    better = np.asarray(promotions(budget, p_values)[0])
    false = (better & ~gains).sum(1)
    assert limits(false / np.maximum(better.sum(1), 1))[1] <= LEVEL
    assert limits(false - LEVEL * np.maximum(better.sum(1), 1))[1] <= 0
    assert false.sum() > 0 and (better & gains).sum() > 0.3 * gains.sum()


@pytest.mark.parametrize("budget", [Lord(remembered=64), Saffron(remembered=64)], ids=lambda b: type(b).__name__)
def test_the_rate_holds_where_the_next_candidate_follows_from_the_last_verdict(budget):
    """After a promotion nothing better is found for a while, and false promotions come in the best moment for them."""

    def one(carry, key):
        state, since = carry
        gain = since > 5
        alpha = budget.offer(state, jnp.float32(LEVEL))
        p = jnp.where(gain, 0.0, jax.random.uniform(key))
        better = p <= alpha
        state = budget.settle(state, alpha, confirmation(better, p))
        return (state, jnp.where(better, 0, since + 1)), (better & ~gain, better)

    def run(key):
        return jax.lax.scan(one, (budget.init(), jnp.int32(0)), jax.random.split(key, ROUNDS))[1]

    false, better = (np.asarray(x).sum(1) for x in jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), RUNS)))
    low, high = limits(false - LEVEL * np.maximum(better, 1))
    assert high <= 0 and false.mean() > 0.2 * LEVEL * better.mean() and low < 0


def test_the_chance_of_any_false_promotion_is_at_most_the_level_and_close_to_it():
    _, p_values = drawn(0.0, runs=20_000)
    better = np.asarray(promotions(OverRun(), p_values)[0])
    interval = scipy.stats.binomtest(int(better.any(1).sum()), len(better)).proportion_ci(0.999, "exact")
    assert interval.low <= LEVEL and interval.high > 0.8 * LEVEL


@pytest.mark.long
def test_a_rate_is_the_chance_of_any_false_promotion_where_there_is_no_gain_at_all():
    _, p_values = drawn(0.0)
    for budget in (Lord(remembered=64), Saffron(remembered=64), Elond()):
        better = np.asarray(promotions(budget, p_values)[0])
        interval = scipy.stats.binomtest(int(better.any(1).sum()), RUNS).proportion_ci(0.999, "exact")
        assert interval.low <= LEVEL and interval.high > 0.2 * LEVEL, budget


@pytest.mark.parametrize("dependence", ["none", "the same examples every round", "against each other"])
def test_e_values_may_depend_on_each_other(dependence):
    """E-values by the calibrator kappa p^(kappa - 1) of Vovk and Wang (Annals of Statistics 49:1736, 2021)."""
    gains, p_values = (np.asarray(x, float) for x in drawn(0.1, runs=20_000))
    gains = gains.astype(bool)
    if dependence != "none":
        u = np.random.default_rng(1).random((len(gains), 1))
        turn = (u + np.arange(ROUNDS) / ROUNDS) % 1 if dependence == "against each other" else u
        p_values = np.where(gains, p_values, turn)
    kappa = 0.1
    e_values = kappa * np.maximum(p_values, 1e-30) ** (kappa - 1)
    better = np.asarray(promotions(Elond(), jnp.float32(np.minimum(1 / e_values, 1)))[0])
    false = (better & ~gains).sum(1)
    assert limits(false / np.maximum(better.sum(1), 1))[1] <= LEVEL
    assert false.sum() > 0 and (better & gains).sum() > 0.2 * gains.sum()


def test_discoveries_earn_back_what_a_family_wise_promise_cannot():
    gains, p_values = drawn(0.5, runs=200)
    weak = jnp.where(gains, jnp.float32(np.random.default_rng(1).beta(0.3, 30.0, gains.shape)), p_values)
    found = {}
    for budget in (OverRun(), Elond(), Lord(), Saffron()):
        better = np.asarray(promotions(budget, weak)[0])
        found[type(budget)] = float((better & gains).sum() / gains.sum())
    assert found[OverRun] < found[Elond] < found[Lord] < found[Saffron], found
    assert found[Lord] > 1.5 * found[OverRun], found
    late = {b: np.asarray(promotions(b, weak)[1])[:, -1].mean() for b in (OverRun(), Lord())}
    assert late[Lord()] > 50 * late[OverRun()], late


@pytest.mark.parametrize("budget", [Lord(remembered=4), Saffron(remembered=4), Elond()], ids=lambda b: type(b).__name__)
def test_only_better_is_a_discovery(budget):
    def after(verdict):
        said = confirmation(jnp.asarray(False), jnp.float32(0.9))
        said = dataclasses.replace(said, outcome=said.outcome.at[0].set(verdict))
        state = budget.settle(budget.init(), jnp.float32(0.01), said)
        return budget.account(state, jnp.float32(LEVEL))

    verdicts = np.array(list(Outcome), np.int32)
    account = jax.jit(jax.vmap(after))(verdicts)
    assert (account["confirmations"] == 1).all()
    for name in ("discoveries", "earned"):
        assert ((account[name] > 0) == (verdicts == Outcome.BETTER)).all()
