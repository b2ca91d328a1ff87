"""Intervals of rates against scipy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ev3x.stats.intervals import clopper_pearson, wilson

SIZES = (1, 2, 3, 17, 256, 8_191, 1_000_000)
LEVELS = (0.2, 0.05, 0.0005)
jitted = jax.jit(wilson, static_argnums=2)


def counts(n):
    return np.unique(np.round(np.array([0, 1, 0.1 * n, 0.5 * n, n - 1, n])).clip(0, n).astype(int))


def scipys(hits, n, level, method):
    found = [scipy.stats.binomtest(int(k), n).proportion_ci(1 - 2 * level, method) for k in hits]
    return np.array([f.low for f in found]), np.array([f.high for f in found])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", SIZES)
def test_wilsons_interval_is_scipys(n, level):
    hits = counts(n)
    got = jitted(jnp.float32(hits / n), jnp.full(len(hits), n, jnp.float32), level)
    for end, want in zip(got, scipys(hits, n, level, "wilson"), strict=True):
        assert end.dtype == jnp.float32
        np.testing.assert_allclose(end, want, rtol=1e-4, atol=1e-7)
    assert float(got[0][0]) == 0.0 and float(got[1][-1]) == 1.0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", SIZES)
def test_the_exact_interval_is_scipys(n, level):
    hits = counts(n)
    for end, want in zip(clopper_pearson(hits, n, level), scipys(hits, n, level, "exact"), strict=True):
        assert end.dtype == np.float64
        np.testing.assert_allclose(end, want, rtol=1e-9, atol=1e-11)  # to which scipy searches


@settings(deadline=None, max_examples=200)
@given(st.floats(0, 1, width=32), st.floats(0.01, 1e9), st.floats(1e-6, 0.49))
def test_wilsons_interval_is_that_of_its_formula_and_holds_the_mean(mean, n, level):
    low, high = (float(end) for end in wilson(mean, n, level))
    assert 0 <= low <= mean <= high <= 1
    z = scipy.stats.norm.isf(level)
    c = z * z / n
    centre = (mean + c / 2) / (1 + c)
    off = np.sqrt(c * (mean * (1 - mean) + c / 4)) / (1 + c)
    assert (low, high) == pytest.approx((centre - off, centre + off), rel=1e-3, abs=1e-6)


def test_without_examples_everything_is_possible():
    assert [float(end) for end in wilson(jnp.nan, 0.0, 0.05)] == [0.0, 1.0]
    assert [float(end) for end in clopper_pearson(0, 0, 0.05)] == [0.0, 1.0]


def test_a_mean_that_is_none_has_no_bounds():
    assert np.isnan(wilson(jnp.nan, 10.0, 0.05)).all()


def test_shapes_broadcast():
    assert [end.shape for end in wilson(jnp.zeros((3, 2)), jnp.ones((1, 2)), 0.05)] == [(3, 2)] * 2
    assert [end.shape for end in clopper_pearson(np.zeros((3, 2)), np.ones(2), 0.05)] == [(3, 2)] * 2


def test_the_exact_interval_covers_every_rate_at_least_as_often_as_it_says():
    n, level = 40, 0.05
    low, high = clopper_pearson(np.arange(n + 1), n, level)
    rates = np.linspace(0.01, 0.99, 197)[:, None]
    chance = scipy.stats.binom.pmf(np.arange(n + 1)[None], n, rates)
    assert ((chance * (low > rates)).sum(1) <= level + 1e-12).all()
    assert ((chance * (high < rates)).sum(1) <= level + 1e-12).all()
