"""Tail probabilities and quantiles in float32 against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ev3x.builtin.assessors.paired import mcnemar_p, student_p, t_quantile

p_of_wins, p_of_t = jax.jit(mcnemar_p), jax.jit(student_p)
SIZES = [1, 2, 3, 7, 20, 100, 999, 5_000, 16_384, 16_385, 100_000, 1_000_000]


@pytest.mark.optimised
@pytest.mark.parametrize("apart", SIZES)
def test_the_exact_test_never_understates_and_overstates_by_three_percent(apart):
    spread = apart / 2 + np.linspace(-2, 6, 200) * np.sqrt(apart) / 2
    wins = np.unique(np.round(spread).clip(0, apart))
    exact = scipy.stats.binom.sf(wins - 1, apart, 0.5)
    got = np.asarray(p_of_wins(jnp.float32(wins), jnp.full(len(wins), apart, jnp.float32)), np.float64)
    held = exact > 1e-8
    assert (got[held] >= exact[held] * (1 - 1e-5)).all()
    assert (got[held] <= exact[held] * 1.035).all()


@pytest.mark.optimised
@pytest.mark.parametrize(("wins", "apart"), [(0, 0), (1, 1), (5, 5), (3, 10), (8, 10), (60, 100), (8_400, 16_384)])
def test_the_exact_test_is_scipys_binomial_test(wins, apart):
    exact = scipy.stats.binomtest(wins, apart, alternative="greater").pvalue if apart else 1.0
    got = float(p_of_wins(jnp.float32(wins), jnp.float32(apart)))
    assert exact <= got * (1 + 1e-6) and got <= min(1.0, 1.035 * exact)


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 10**7), st.floats(-6, 8))
def test_students_tail_is_scipys_within_a_thousandth(n, t):
    t = np.float32(t)
    exact = scipy.stats.t.sf(t, n - 1)
    got = float(p_of_t(jnp.float32(t), jnp.float32(1), jnp.float32(n)))
    assert got == pytest.approx(exact, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10, 100, 101, 102, 8_192, 1_000_000])
def test_students_tail_never_understates_by_more_than_a_thousandth(n):
    t = np.linspace(0, 8, 400).astype(np.float32)
    exact = scipy.stats.t.sf(t, n - 1)
    got = np.asarray(p_of_t(jnp.asarray(t), jnp.ones(400), jnp.full(400, n, jnp.float32)), np.float64)
    assert (got >= exact * (1 - 1e-3))[exact > 1e-9].all()


def test_a_difference_without_spread_proves_nothing():
    assert float(p_of_t(jnp.float32(1), jnp.float32(0), jnp.float32(10))) == 1.0


@pytest.mark.parametrize(("level", "tolerance"), [(0.2, 5e-4), (0.05, 1e-3), (0.01, 5e-3)])
@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 20, 1000])
def test_the_quantile_of_student_holds_from_one_degree_of_freedom_on(level, tolerance, freedom):
    got = float(t_quantile(level, jnp.float32(freedom)))
    assert got == pytest.approx(scipy.stats.t.isf(level, freedom), rel=tolerance)
