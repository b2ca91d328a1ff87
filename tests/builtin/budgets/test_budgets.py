"""Levels and figures of every budget, against the formulas of the papers and the tables of another implementation."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from ledgers import LEVEL, promotions, told

import ev3x
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.published import Published
from ev3x.builtin.budgets.base import EXPONENT, total
from ev3x.builtin.budgets.elond import Elond
from ev3x.builtin.budgets.lord import Lord
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.budgets.per_round import PerRound
from ev3x.builtin.budgets.saffron import Saffron

ALL = [OverRun(), PerRound(), Lord(), Saffron(), Elond()]
LONG = 40  # confirmations in a drawn run
FIGURES = ["spent", "earned", "left", "confirmations", "discoveries"]


def gamma(t, exponent):
    """The spending sequence, in float64."""
    return np.asarray(t, float) ** -exponent / scipy.special.zeta(exponent, 1)


def lord(budget, better, p_values):
    """The levels by the formula of LORD++, every discovery looked up anew for each; the last `remembered` of them."""
    w0, levels = budget.initial * LEVEL, []
    for t in range(1, len(better) + 1):
        times = [j for j in range(1, t) if better[j - 1]]
        alpha = w0 * gamma(t, budget.exponent)
        for number, tau in list(enumerate(times))[-budget.remembered :]:
            alpha += (LEVEL - w0 if number == 0 else LEVEL) * gamma(t - tau, budget.exponent)
        levels.append(alpha)
    return levels


def saffron(budget, better, p_values):
    """The levels by the formula of SAFFRON for constant lambda, candidates counted anew for each."""
    w0, levels = budget.initial * LEVEL, []
    close = [p <= budget.candidates for p in p_values]
    for t in range(1, len(better) + 1):
        times = [j for j in range(1, t) if better[j - 1]]
        alpha = w0 * gamma(t - sum(close[: t - 1]), budget.exponent)
        for number, tau in list(enumerate(times))[-budget.remembered :]:
            since = t - tau - sum(close[tau : t - 1])
            alpha += (LEVEL - w0 if number == 0 else LEVEL) * gamma(since, budget.exponent)
        levels.append(min(budget.candidates, LEVEL, (1 - budget.candidates) * alpha))
    return levels


def elond(budget, better, p_values):
    """The levels by the formula of e-LOND."""
    return [LEVEL * gamma(t, budget.exponent) * (1 + sum(better[: t - 1])) for t in range(1, len(better) + 1)]


def over_run(budget, better, p_values):
    """The levels of alpha-spending."""
    return [LEVEL * gamma(t, budget.exponent) for t in range(1, len(better) + 1)]


CASES = [
    (OverRun(), over_run),
    (OverRun(exponent=1.1), over_run),
    (OverRun(exponent=3.0), over_run),
    (Lord(), lord),
    (Lord(initial=1.0, remembered=1), lord),
    (Lord(initial=0.1, remembered=7, exponent=2.0), lord),
    (Saffron(), saffron),
    (Saffron(candidates=0.02, remembered=1), saffron),
    (Saffron(candidates=0.9, initial=0.2, remembered=7, exponent=1.2), saffron),
    (Elond(), elond),
    (Elond(exponent=1.2), elond),
]


@st.composite
def runs(draw):
    """Outcomes and p-values, some NaN, of a run with any share of discoveries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share, missing = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    p_values = np.where(rng.random(LONG) < missing, np.nan, rng.random(LONG) ** draw(st.sampled_from([1, 4])))
    return rng.random(LONG) < share, np.float32(p_values)


@pytest.mark.parametrize(("budget", "formula"), CASES, ids=[repr(budget) for budget, _ in CASES])
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(run=runs())
def test_levels_are_those_of_the_papers(budget, formula, run):
    better, p_values = run
    alpha, _ = told(budget, jnp.array(better), jnp.array(p_values))
    assert alpha.dtype == jnp.float32 and (alpha > 0).all() and (alpha <= LEVEL).all()
    np.testing.assert_allclose(alpha, formula(budget, better, p_values), rtol=2e-5)


@pytest.mark.parametrize("budget", ALL, ids=repr)
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(run=runs())
def test_the_account_adds_up(budget, run):
    better, p_values = run
    alpha, account = told(budget, jnp.array(better), jnp.array(p_values))
    assert list(account) == sorted(FIGURES) and all(x.dtype == jnp.float32 for x in account.values())
    spent, earned, left, confirmations, discoveries = (np.asarray(account[name], float) for name in FIGURES)
    np.testing.assert_allclose(spent, np.cumsum(np.asarray(alpha, float)), rtol=1e-6)
    assert (confirmations == np.arange(1, LONG + 1)).all() and (discoveries == np.cumsum(better)).all()
    assert (np.diff(spent) > 0).all() and (np.diff(earned) >= 0).all() and (left > 0).all()
    if isinstance(budget, PerRound):
        assert (earned == 0).all() and (left == np.float32(LEVEL)).all()
    elif not isinstance(budget, Saffron):  # there, candidates use up nothing of what they spend
        had = LEVEL * (budget.initial if isinstance(budget, Lord) else 1)
        np.testing.assert_allclose(left, had + earned - spent, atol=2e-5 * LEVEL * LONG)


@pytest.mark.parametrize("budget", [OverRun(), Lord(), Saffron(), Elond()], ids=repr)
def test_what_is_left_is_what_further_confirmations_get_if_they_find_nothing(budget):
    rng = np.random.default_rng(0)
    better, p_values = rng.random(40) < 0.3, rng.random(40)
    far = 10_000
    better, p_values = np.append(better, np.zeros(far, bool)), np.append(p_values, np.ones(far))
    alpha, account = told(dataclasses.replace(budget, exponent=3.0), jnp.array(better), jnp.float32(p_values))
    assert float(account["left"][39]) == pytest.approx(np.asarray(alpha, float)[40:].sum(), rel=1e-3)


@pytest.mark.parametrize("exponent", [1.01, EXPONENT, 2.0, 3.0])
def test_the_shares_of_a_run_never_add_up_to_more_than_the_level(exponent):
    n, budget, as_float32 = 2_000_000, OverRun(exponent=exponent), float(np.float32(exponent))
    assert total(exponent) == pytest.approx(scipy.special.zeta(as_float32, 1), rel=1e-15)
    shares = np.asarray(budget.share(jnp.arange(1, n + 1)), float)
    behind = scipy.special.zeta(as_float32, n + 1) / scipy.special.zeta(as_float32, 1)
    assert 1 - 1e-4 < shares.sum() + behind <= 1
    np.testing.assert_allclose(shares, gamma(np.arange(1, n + 1), as_float32), rtol=2e-5)
    ends = jnp.array([1, 2, 10, 1000, n, 2**31 - 1])
    assert (np.diff(budget.share(ends)) < 0).all() and budget.share(ends)[-1] > 0
    np.testing.assert_allclose(budget.rest(ends), scipy.special.zeta(as_float32, ends) / total(exponent), rtol=2e-5)


def test_the_ledger_counts_levels_that_are_lost_in_a_float32_sum():
    n = 200_000
    alpha, account = told(OverRun(), jnp.zeros(n, bool), jnp.ones(n))
    exact = np.cumsum(np.asarray(alpha, float))
    naive = np.cumsum(np.asarray(alpha), dtype=np.float32)
    assert abs(naive[-1] / exact[-1] - 1) > 1e-4
    np.testing.assert_allclose(account["spent"], exact, rtol=1e-7)
    assert (np.diff(account["spent"]) >= 0).all() and account["spent"][-1] <= LEVEL


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_ledgers_of_rates_never_spend_more_than_the_level_for_each_discovery(share):
    rng = np.random.default_rng(0)
    p_values = jnp.float32(np.where(rng.random((20, 500)) < share, 0.0, rng.random((20, 500))))
    for budget in (Lord(), Lord(remembered=3), Lord(initial=1.0), Saffron(), Saffron(candidates=0.1), Elond()):
        better, alpha = (np.asarray(x, float) for x in promotions(budget, p_values))
        if isinstance(budget, Saffron):
            alpha = alpha * (np.asarray(p_values) > budget.candidates) / (1 - budget.candidates)
        found = np.cumsum(better, 1)
        bound = found + 1 if isinstance(budget, Elond) else np.maximum(found, 1)
        assert (np.cumsum(alpha, 1) <= LEVEL * bound).all(), budget


@pytest.mark.parametrize("budget", [Lord(), Saffron()], ids=repr)
def test_a_forgotten_discovery_only_lowers_later_levels_and_more_discoveries_never_do(budget):
    rng = np.random.default_rng(0)
    few = dataclasses.replace(budget, remembered=4)
    for _ in range(20):
        p_values = jnp.float32(rng.random(LONG))
        better = rng.random(LONG) < 0.4
        more = better | (rng.random(LONG) < 0.1)
        forgetful = [told(few, jnp.array(x), p_values)[0] for x in (better, more)]
        assert (forgetful[0] <= told(budget, jnp.array(better), p_values)[0] * (1 + 1e-6)).all()
        assert (forgetful[0] <= forgetful[1] * (1 + 1e-6)).all()


class ByLog:
    """The default sequence of the R package onlineFDR, proposed by Javanmard and Montanari (2018)."""

    def share(self, t):
        t = t.astype(jnp.float32)
        return 0.07720838 * jnp.log(jnp.maximum(t, 2)) / (t * jnp.exp(jnp.sqrt(jnp.log(t))))


@dataclasses.dataclass(frozen=True)
class Lond(ByLog, Elond):
    """The p-value method with the same levels, for which there is a table."""


@pytest.mark.parametrize(
    ("budget", "level", "table"),
    [
        (
            Saffron(),
            0.05,
            """2.9000e-08 0.005468627 1  6.7430e-02 0.010937254 0  1.5140e-02 0.010937254 0  8.1740e-02 0.010937254 0
            1.7100e-03 0.010937254 1  3.6000e-05 0.021874508 1  7.9149e-01 0.032811762 0  2.7201e-01 0.010823845 0
            2.8295e-01 0.010823845 0  7.5900e-08 0.010823845 1  6.9274e-01 0.021761099 0  3.0443e-01 0.009265591 0
            1.3600e-03 0.009265591 1  7.2342e-01 0.020202846 0  5.4757e-01 0.009064367 0""",
        ),
        (
            Saffron(initial=0.25),
            0.1,
            """2.9000e-08 0.005468627 1  6.7430e-02 0.021874508 0  1.5140e-02 0.021874508 1  8.1740e-02 0.043749017 0
            1.7100e-03 0.043749017 1  2.7201e-01 0.065623525 0  3.6000e-05 0.065623525 1  7.9149e-01 0.087498033 0
            7.5900e-08 0.028863587 1  2.8295e-01 0.050738095 0  6.9274e-01 0.050738095 0  7.2342e-01 0.022302945 0
            3.0443e-01 0.013293195 0  5.4757e-01 0.013293195 0  1.3600e-03 0.009042997 1""",
        ),
        (
            Lond(),
            0.05,
            """2.9000e-08 0.0026758385 1  6.7430e-02 0.0011638206 0  1.5140e-02 0.0009912499 0
            8.1740e-02 0.0008243606 0  1.7100e-03 0.0006988870 0  3.6000e-05 0.0006045900 1
            7.9149e-01 0.0007979166 0  2.7201e-01 0.0007117838 0  2.8295e-01 0.0006421423 0
            7.5900e-08 0.0005847378 1  6.9274e-01 0.0007155186 0  3.0443e-01 0.0006610273 0
            1.3600e-03 0.0006141682 0  7.2342e-01 0.0005734509 0  5.4757e-01 0.0005377472 0""",
        ),
    ],
    ids=["saffron", "saffron with less to begin with", "lond"],
)
def test_levels_are_those_that_the_manual_of_onlinefdr_shows(budget, level, table):
    p_values, levels, found = np.array(table.split(), float).reshape(-1, 3).T
    better, alpha = promotions(budget, jnp.float32(p_values), level)
    assert (np.asarray(better) == found).all()
    np.testing.assert_allclose(alpha, levels, rtol=1e-4)


def test_the_default_sequence_is_one_for_all_budgets():
    assert {budget.exponent for budget in ALL if not isinstance(budget, PerRound)} == {EXPONENT}
    first = float(OverRun().offer(OverRun().init(), jnp.float32(LEVEL)))
    assert first == pytest.approx(0.0219, abs=5e-5)


def test_the_level_per_round_is_the_same_every_round():
    alpha, _ = told(PerRound(), jnp.arange(5) > 2, jnp.ones(5))
    assert (alpha == np.float32(LEVEL)).all()


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (OverRun(), "over the whole run, the chance of any false promotion is at most 0.05"),
        (PerRound(), "in each round, the chance of a false promotion is at most 0.05"),
        (Lord(), "the expected number of false promotions is at most 0.05 of the expected number of all promotions"),
        (Saffron(), "the expected number of false promotions is at most 0.05 of the expected number of all promotions"),
        (Elond(), "over the whole run, the expected share of false promotions among all is at most 0.05"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_promise_is_said_in_words_with_its_level(budget, words):
    assert words in budget.words.format(level=0.05)


class ByEValues(Paired):
    e_values = True


@pytest.mark.parametrize("budget", ALL, ids=repr)
def test_a_budget_of_rates_refuses_a_confirmation_without_a_level(budget):
    budget.accept(ByEValues())
    if isinstance(budget, OverRun | PerRound):
        budget.accept(Published())
        return
    name = type(budget).__name__.lower()
    text = rf"^budget: {name} expects a confirmation that states its error level, .* got Published with promise 1.0; "
    with pytest.raises(ValueError, match=text + "confirm by `paired`"):
        budget.accept(Published())


def test_a_budget_of_e_values_refuses_p_values_and_says_what_would_do():
    with pytest.raises(ValueError, match=r"elond expects .* e-values, got Paired, .*; confirm by `betting` or `bern"):
        Elond().accept(Paired())
    Lord().accept(Paired())
    Saffron().accept(Paired())


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (OverRun, {"exponent": 1.0}, "exponent: must be greater than or equal to 1.01, got 1.0"),
        (Elond, {"exponent": 3.5}, "exponent: must be less than or equal to 3, got 3.5"),
        (Lord, {"initial": 0.0}, "initial: must be greater than or equal to 0.01, got 0.0"),
        (Lord, {"remembered": 0}, "remembered: must be greater than or equal to 1, got 0"),
        (Saffron, {"candidates": 1.0}, "candidates: must be less than or equal to 0.99, got 1.0"),
    ],
)
def test_an_option_out_of_range_is_refused(kind, options, text):
    with pytest.raises(ev3x.OptionError, match=text):
        kind(**options)
