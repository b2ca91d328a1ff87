"""Finite scores near the ends of float32: one rule for each operation, the same in native code and the definition."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ev3x.ops import bootstrap_means, native, pareto_ranks, rank_metrics, score_moments, score_stats

pytestmark = [
    pytest.mark.bits,
    pytest.mark.skipif(
        not all(map(native.ensure, ("ev3x_score_stats", "ev3x_bootstrap_poisson", "ev3x_pareto_ranks"))),
        reason="native targets are not in use here",
    ),
]

LARGEST = float(np.finfo(np.float32).max)
SIZES = (1e15, 1e16, 2e18, 1e19, 1e25, 3e38, LARGEST)


def rows(n):
    """f32[K, n]: what is alike, of both signs, rising, or almost all small, in every size."""
    i = np.arange(n)
    shapes = [np.ones(n), np.where(i % 2, 1.0, -1.0), np.where(i < n // 2, 1.0, -1.0), i / n, -1.0 * (i == n - 1)]
    return np.stack([size * shape for size in SIZES for shape in shapes]).astype(np.float32)


def draws(n, weighting):
    rng = np.random.default_rng(n)
    if weighting == "real":
        return rng.uniform(0.5, 2, (1, n)).astype(np.float32)
    return {
        "none": None,
        "some": (rng.random((1, n)) < 0.6).astype(np.float32),
        "heavy": np.full((1, n), 1e15, np.float32),
    }[weighting]


def definition(name):
    return importlib.import_module(f"ev3x.ops.{name}").definition


@np.errstate(all="ignore")
def expected(x, w):
    """f64[K]: means, NaN where the mean or the sum of squares is beyond the limits; none lies at a limit."""
    x, w = x.astype(np.float64), np.ones(x.shape[1]) if w is None else w[0].astype(np.float64)
    mean = (w * x).sum(1) / w.sum()
    squares = (w * (x - mean[:, None]) ** 2).sum(1)
    for value, limit in ((np.abs(mean), 2.0**60), (squares, 2.0**120)):
        assert (np.abs(value / limit - 1) > 0.01).all()
    return np.where((np.abs(mean) < 2.0**60) & (squares < 2.0**120), mean, np.nan)


@pytest.mark.parametrize(("n", "weighting"), [(3, "none"), (100, "none"), (100, "some"), (100, "real"), (100, "heavy")])
def test_scores_beyond_the_limits_count_as_not_finite(n, weighting):
    x, w = rows(n), draws(n, weighting)
    y, own = np.zeros((1, n), np.float32), expected(x, w)
    assert np.isnan(own).any() and np.isfinite(own).any()
    forms = {
        "op": jax.jit(lambda *a: score_stats(*a, z=0.0)),
        "definition": jax.jit(lambda *a: definition("score_stats")(*(a if len(a) > 2 else (*a, None)), 0.0)),
        "parts": jax.jit(lambda *a: halves(*a).conclude(0.0)),
    }
    operands = [x[:, None], y, *([] if w is None else [w])]
    for form, compute in forms.items():
        got = jax.tree.map(np.asarray, compute(*operands))
        for value in (got.mean, got.difference):
            np.testing.assert_allclose(value[:, 0], own, rtol=1e-5, atol=1e12, err_msg=form)
        assert (np.isnan(got.variance[:, 0]) >= np.isnan(own)).all()
        clear = ~(np.abs(own) < 1e12)
        assert got.above[clear, 0].tolist() == (own[clear] > 0).tolist() and got.best[0] == np.nanargmax(own)


def test_a_reference_beyond_the_limits_leaves_the_candidates_own_statistics():
    x, y = rows(100)[:5, None], rows(100)[-5:-4]
    for got in (score_stats(x, y), definition("score_stats")(jnp.asarray(x), jnp.asarray(y), None, 1.0)):
        assert np.isnan(got.reference_mean).all() and np.isnan(got.difference).all()
        assert np.isfinite(got.mean).all() and not got.above.any() and got.best.tolist() == [0]


def halves(x, y, w=None):
    """The moments of two parts merged."""
    first, second = ((x[..., :2], y[..., :2]), (x[..., 2:], y[..., 2:]))
    if w is not None:
        first, second = (*first, w[..., :2]), (*second, w[..., 2:])
    return score_moments(*first).merge(score_moments(*second))


def test_the_error_of_large_scores_overflows_in_neither():
    x = np.linspace(-1e14, 1e14, 1 << 16).astype(np.float32)[None, None]
    y = np.zeros_like(x[0])
    got, want = score_stats(x + 1e13, y), definition("score_stats")(jnp.asarray(x + 1e13), jnp.asarray(y), None, 1.0)
    assert got.above.tolist() == want.above.tolist() == [[True]]
    assert got.best.tolist() == want.best.tolist() == [0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scheme", ["poisson", "multinomial"])
def test_resampled_means_of_finite_scores_are_finite(scheme, masked):
    x, seeds = rows(60), np.array([3, 5], np.uint32)
    mask = np.arange(60) % 3 > 0 if masked else None
    module = importlib.import_module("ev3x.ops.bootstrap_means")
    weigh = module._poisson if scheme == "poisson" else module._multinomial
    counts = np.asarray(weigh(jnp.asarray(seeds), jnp.arange(4, dtype=jnp.uint32), 60, mask), np.float64)
    want = counts @ x.T.astype(np.float64) / counts.sum(1, keepdims=True)
    assert np.isfinite(want).all()
    atol = 1e-5 * np.abs(x).max(1)
    for got in (
        bootstrap_means(x, seeds, 4, scheme=scheme, mask=mask),
        module.definition(jnp.asarray(x), jnp.asarray(seeds), mask, 4, scheme),
    ):
        assert (np.abs(np.asarray(got, np.float64) - want) <= atol).all()


def test_a_derivative_goes_through_the_scaling():
    x = jnp.asarray([[1e38, -1e38, 3e38, 0.0], [1.0, 2.0, 3.0, 4.0]])
    slope = jax.grad(lambda x: bootstrap_means(x, np.array([3, 5], np.uint32), 2, scheme="multinomial").sum())(x)
    assert np.asarray(slope[0]).tolist() == np.asarray(slope[1]).tolist() and float(slope.sum()) == 4.0


ENDS = np.array([0, 1, -1, 1e38, -1e38, 3e38, -3e38, LARGEST, -LARGEST, np.inf, -np.inf], np.float32)


@functools.cache
def at_the_ends(seed, shape):
    return np.random.default_rng(seed).choice(ENDS, shape)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_fronts_at_the_ends_of_float32(width):
    x = at_the_ends(width, (4, 40, width))
    got, want = pareto_ranks(x), definition("pareto_ranks")(jnp.asarray(x))
    np.testing.assert_array_equal(got.rank, want.rank)
    np.testing.assert_allclose(got.crowding, want.crowding, rtol=1e-6)


def test_ranks_at_the_ends_of_float32():
    x, labels = at_the_ends(0, (6, 200)), np.arange(200) % 3 == 0
    got, want = rank_metrics(x, labels), definition("rank_metrics")(jnp.asarray(x), jnp.asarray(labels))
    assert np.isfinite(want.auroc).all()
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
