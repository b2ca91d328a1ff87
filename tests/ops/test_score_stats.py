"""score_stats against float64 numpy, native and definition alike, and under JAX's transformations."""

import functools
import importlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ev3x.ops import ScoreMoments, ScoreStats, native, score_moments, score_stats

pytestmark = pytest.mark.bits

module = importlib.import_module("ev3x.ops.score_stats")
definition = module.definition
TARGETS = ["ev3x_score_stats", "ev3x_score_moments"]
SIZES = [0, 1, 2, 3, 7, 8, 9, 31, 33, 127, 129, 1023, 1025, 2039, 2041, 5001]
LARGE = 70_001  # more than one piece per row

needs_native = pytest.mark.skipif(
    not all(native.ensure(target) for target in TARGETS), reason="native targets are not in use here"
)
quick = settings(deadline=None, max_examples=25)


@functools.partial(jax.jit, static_argnames="z")
def by_op(scores, reference, weights=None, z=1.0):
    return score_stats(scores, reference, weights, z=z)


@functools.partial(jax.jit, static_argnames="z")
def by_definition(scores, reference, weights=None, z=1.0):
    return definition(scores, reference, weights, z)


both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])


class Oracle(NamedTuple):
    mean: np.ndarray
    variance: np.ndarray
    difference: np.ndarray
    difference_variance: np.ndarray
    reference_mean: np.ndarray
    reference_variance: np.ndarray
    weight: np.ndarray
    square_weight: np.ndarray
    above: np.ndarray
    best: np.ndarray
    bound: np.ndarray
    bar: np.ndarray


@np.errstate(all="ignore")
def oracle(scores, reference, weights=None, z=1.0):
    x, y = scores.astype(np.float64), reference.astype(np.float64)[..., None, :, :]
    w = np.ones_like(y) if weights is None else weights.astype(np.float64)[..., None, :, :]
    total, square = w.sum(-1), (w * w).sum(-1)

    def rows(x):
        mean = np.where(w > 0, w * x, 0).sum(-1) / total
        mean = np.where(np.isfinite(mean), mean, np.nan)
        spread = np.where(w > 0, w * (x - mean[..., None]) ** 2, 0).sum(-1)
        freedom = np.where((w > 0).sum(-1) > 1, total - square / total, np.nan)
        return mean, spread / freedom

    def margin(variance):
        return z * np.sqrt(variance * square) / total if z else 0.0

    (m, v), (d, dv), (rm, rv) = rows(x), rows(x - y), rows(y)
    bound, bar = m - margin(v), rm + margin(rv)
    finite = np.where(np.isfinite(bound), bound, -np.inf)
    best = np.where(np.isfinite(bound).any(-2), finite.argmax(-2), -1)
    column = [a[..., 0, :] for a in (rm, rv, total, square)]
    return Oracle(m, v, d, dv, *column, bound > bar, best, bound, np.broadcast_to(bar, bound.shape))


def check(got: ScoreStats, scores, reference, weights=None, z=1.0, rtol=1e-5):
    want = oracle(scores, reference, weights, z)
    if scores.shape[-1]:
        scale = np.nanmax(np.abs(np.where(np.isfinite(scores), scores, 0).astype(np.float64)), initial=1e-30)
    else:
        scale = 1.0
    for name in ("mean", "difference", "reference_mean", "weight", "square_weight"):
        a, b = np.asarray(getattr(got, name)), getattr(want, name)
        assert a.shape == b.shape, name
        assert a.dtype == np.float32, name
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=4e-6 * scale, err_msg=name)
    for name in ("variance", "difference_variance", "reference_variance"):
        a, b = np.asarray(getattr(got, name)), getattr(want, name)
        # Relative to the variance; the atol is for exact zeros that float64 does not quite reach.
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12 * scale**2, err_msg=name)
    # Decisions, where float64 itself is sure of them.
    sure = ~(np.abs(want.bound - want.bar) < 1e-6 * scale)
    above, best = np.asarray(got.above), np.asarray(got.best)
    np.testing.assert_array_equal(above[sure], want.above[sure])
    assert above.dtype == np.bool_ and best.dtype == np.int32
    picked = np.take_along_axis(want.bound, np.maximum(best, 0)[..., None, :], -2)[..., 0, :]
    top = np.where(np.isfinite(want.bound), want.bound, -np.inf).max(-2)
    np.testing.assert_array_equal(best == -1, want.best == -1)
    assert (np.isfinite(picked) | (best == -1)).all()
    assert ((top - picked <= 1e-6 * scale) | (best == -1)).all()


def draw(rng, shape, kind, weighting):
    """(scores, reference, weights) for shape (..., K, M, n)."""
    column = (*shape[:-3], *shape[-2:])
    x, y = rng.normal(size=shape), rng.normal(size=column)
    if kind == "bool":
        x, y = x > 0.3, y > 0
    elif kind == "narrow":
        x, y = (1e4 + 1e-2 * v for v in (x, y))
    elif kind == "constant":
        x, y = np.full(shape, 0.1), np.full(column, 0.3)
    elif kind == "outlier":
        x, y = x.copy(), y.copy()
        x[..., :1] = 1e6
    elif kind == "nan" and shape[-1]:
        x[..., 0, 0, rng.integers(shape[-1])] = rng.choice([np.nan, np.inf, -np.inf])
    if kind != "bool":
        x, y = x.astype(np.float32), y.astype(np.float32)
    if weighting == "none":
        return x, y, None
    if weighting == "mask":
        return x, y, (rng.random(column) < 0.4).astype(np.float32)
    return x, y, rng.uniform(0, 2, column).astype(np.float32)


# Each shape is compiled once per kind, so sizes are enumerated and hypothesis draws the values.
@both
@pytest.mark.parametrize("weighting", ["none", "mask", "real"])
@pytest.mark.parametrize("kind", ["normal", pytest.param("bool", marks=pytest.mark.long)])
def test_every_size(compute, kind, weighting):
    rng = np.random.default_rng(1)
    for n in SIZES if compute is by_op else [0, 1, 2, 3, 129, 5001]:
        data = draw(rng, (3, 2, n), kind, weighting)
        check(compute(*data), *data)


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["normal", "bool", "narrow", "constant", "nan"]),
    weighting=st.sampled_from(["none", "mask", "real"]),
    shape=st.sampled_from([(1, 1, 65), (4, 1, 1024), (2, 3, 2, 300), (2, 2, 3, 1, 17)]),
    z=st.sampled_from([0.0, 1.0, 2.5]),
)
def test_against_float64(compute, seed, kind, weighting, shape, z):
    data = draw(np.random.default_rng(seed), shape, kind, weighting)
    check(compute(*data, z=z), *data, z=z)


@both
@pytest.mark.parametrize("weighting", ["none", "real"])
@pytest.mark.parametrize("kind", ["narrow", "bool"])
def test_long_rows(compute, kind, weighting):
    data = draw(np.random.default_rng(2), (3, 1, LARGE), kind, weighting)
    check(compute(*data), *data)


def test_an_outlier_in_front_does_not_spoil_the_variance():
    data = draw(np.random.default_rng(3), (2, 1, 5001), "outlier", "none")
    check(score_stats(*data), *data)


def test_outlying_scores_of_small_weight_do_not_spoil_the_variance():
    x, y, w = draw(np.random.default_rng(3), (2, 1, 1024), "normal", "real")
    x[..., :32], w[..., :32] = 1e4, 1e-7
    check(score_stats(x, y, w), x, y, w)


@both
def test_constant_rows_have_variance_zero(compute):
    x, y = np.full((2, 1, 3001), 1e4 + 0.1, np.float32), np.full((1, 3001), 1e4, np.float32)
    got = compute(x, y)
    np.testing.assert_allclose(got.variance, 0, atol=1e-12)
    np.testing.assert_allclose(got.difference_variance, 0, atol=1e-12)
    np.testing.assert_allclose(got.difference, x[:, :, 0] - y[:, 0])


@both
@pytest.mark.parametrize("weighting", ["none", "real"])
def test_flags_are_decided_in_double(compute, weighting):
    # Standard errors of 1e-5 about means of 1e4, where floats are 1e-3 apart: f32 bounds could not tell.
    rng = np.random.default_rng(4)
    n = 1_000_000
    y = rng.normal(1e4, 1e-2, (1, n)).astype(np.float32)
    lifted = np.stack([y, y, y])
    lifted[1:, :, : n // 2] += np.float32(2**-10)  # means + 0.49e-3; half of it at the tail
    lifted[2, :, : n // 4] -= np.float32(2**-10)
    w = None if weighting == "none" else rng.uniform(0.5, 1.5, (1, n)).astype(np.float32)
    got = compute(lifted, y, w)
    want = oracle(lifted, y, w)
    assert np.asarray(got.above)[:, 0].tolist() == want.above[:, 0].tolist() == [False, True, True]
    assert np.asarray(got.best).tolist() == want.best.tolist() == [1]
    np.testing.assert_allclose(got.difference, want.difference, rtol=1e-5)
    float32_bounds = np.asarray(got.mean) - np.sqrt(np.asarray(got.variance) / np.float32(n))
    assert np.unique(float32_bounds).size < 3, "the case no longer shows what it is for"


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("weighting", ["none", "real"])
def test_a_non_finite_score_spoils_its_own_row_only(compute, bad, weighting):
    x, y, w = draw(np.random.default_rng(5), (3, 2, 500), "normal", weighting)
    x[1, 0, 499] = bad
    got = compute(x, y, w)
    nan_rows = np.zeros((3, 2), bool)
    nan_rows[1, 0] = True
    for field in (got.mean, got.variance, got.difference, got.difference_variance):
        np.testing.assert_array_equal(np.isnan(field), nan_rows)
    assert np.isfinite(got.reference_mean).all()
    assert not got.above[1, 0] and got.best[0] != 1
    check(got, x, y, w)


@both
def test_a_non_finite_reference_leaves_the_candidates_own_statistics(compute):
    x, y, _ = draw(np.random.default_rng(6), (3, 2, 50), "normal", "none")
    y[0, 3] = np.inf
    got = compute(x, y)
    assert np.isfinite(got.mean).all() and np.isnan(got.reference_mean[0])
    assert not np.asarray(got.above)[:, 0].any()
    assert (np.asarray(got.best) >= 0).all()


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_examples_of_weight_zero_do_not_count(compute, bad):
    x, y, w = draw(np.random.default_rng(7), (3, 2, 500), "normal", "mask")
    clean = compute(x, y, w)
    spoilt = compute(np.where(w == 0, np.float32(bad), x), np.where(w == 0, np.float32(bad), y), w)
    jax.tree.map(np.testing.assert_array_equal, clean, spoilt)


@both
@pytest.mark.parametrize("weighting", ["none", "real"])
def test_bfloat16_scores_are_what_they_are_in_float32(compute, weighting):
    x, y, w = draw(np.random.default_rng(17), (3, 2, 5001), "normal", weighting)
    x, y = jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16)
    check(compute(x, y, w), np.asarray(x, np.float32), np.asarray(y, np.float32), w)


@pytest.mark.parametrize("weighting", ["none", "mask", "real"])
@pytest.mark.parametrize("kind", ["normal", "bool", "narrow", "constant", "nan"])
@pytest.mark.parametrize("compute", [score_moments, module._define_moments], ids=["op", "definition"])
def test_in_parts_of_any_size(compute, kind, weighting):
    x, y, w = draw(np.random.default_rng(18), (3, 2, 1200), kind, weighting)
    moments, start = ScoreMoments.begin(3, 2), 0
    for end in (0, 1, 2, 500, 500, 1200):
        part = [None if a is None else a[..., start:end] for a in (x, y, w)]
        moments, start = moments.merge(compute(*part)), end
    for z in (0.0, 1.0):
        check(moments.conclude(z), x, y, w, z=z, rtol=1e-4 if kind == "constant" else 1e-5)


def test_observing_is_merging_and_no_example_changes_nothing():
    x, y, w = draw(np.random.default_rng(19), (3, 2, 500), "narrow", "real")
    empty, part = ScoreMoments.begin(3, 2), score_moments(x, y, w)
    same(empty.observe(x, y, w).conclude(), part.conclude())
    same(part.merge(empty).conclude(), part.conclude())
    assert np.isnan(empty.conclude().mean).all() and empty.conclude().best.tolist() == [-1, -1]


def test_parts_are_combined_along_an_axis_or_over_devices():
    x, y, w = draw(np.random.default_rng(20), (5, 3, 2, 300), "narrow", "real")
    parts = score_moments(x, y, w)
    whole = [np.concatenate(list(a), -1) for a in (x, y, w)]
    along = parts.combine(lambda a: a.sum(0, keepdims=True)).conclude()
    check(jax.tree.map(lambda a: a[0], along), *whole)
    over = jax.vmap(lambda m: m.combine(lambda a: jax.lax.psum(a, "i")).conclude(), axis_name="i")(parts)
    check(jax.tree.map(lambda a: a[0], over), *whole)


def test_decisions_on_parts_tell_means_of_1e4_apart():
    rng = np.random.default_rng(21)
    y = rng.normal(1e4, 1e-2, (1, 200_000)).astype(np.float32)
    lifted = np.stack([y, y])
    lifted[1, :, :20_000] += np.float32(2**-10)
    moments = ScoreMoments.begin(2, 1)
    for i in range(0, 200_000, 50_000):
        moments = moments.observe(lifted[..., i : i + 50_000], y[..., i : i + 50_000])
    want, got = oracle(lifted, y, z=0.5), moments.conclude(0.5)
    assert np.asarray(got.above)[:, 0].tolist() == want.above[:, 0].tolist() == [False, True]
    assert got.best.tolist() == [1]


def test_the_definition_leaves_no_accelerator_to_round_products():
    x, y, w = draw(np.random.default_rng(0), (2, 1, 64), "normal", "real")
    dots = [t for t in by_definition.lower(x, y, w).as_text().splitlines() if "dot_general" in t]
    assert dots and all("precision = [HIGHEST, HIGHEST]" in t for t in dots)


@both
def test_a_mask_equals_leaving_examples_out(compute):
    x, y, w = draw(np.random.default_rng(8), (3, 1, 500), "normal", "mask")
    keep = w[0] > 0
    left = compute(x[..., keep], y[..., keep])
    for name, a, b in zip(ScoreStats._fields, compute(x, y, w), left, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=name)


@both
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_one_effective_example_has_a_mean_but_no_variance(compute, scale):
    x, y, w = draw(np.random.default_rng(9), (2, 1, 40), "normal", "real")
    w = np.where(np.arange(40) == 17, np.float32(scale), np.float32(0))[None]
    got = compute(x, y, w)
    np.testing.assert_allclose(got.mean[:, 0], x[:, 0, 17], rtol=1e-6)
    assert np.isnan(got.variance).all() and np.isnan(got.difference_variance).all()
    assert not np.asarray(got.above).any() and np.asarray(got.best).tolist() == [-1]
    assert np.asarray(compute(x, y, w, z=0.0).best).tolist() == [int(x[:, 0, 17].argmax())]


@both
def test_ties_go_to_the_lowest_index_and_no_finite_candidate_is_minus_one(compute):
    rng = np.random.default_rng(10)
    row, y = rng.normal(size=(1, 1, 100)).astype(np.float32), rng.normal(size=(1, 100)).astype(np.float32)
    tied = np.concatenate([row - 1, row, row])
    assert compute(tied, y).best.tolist() == [1]
    assert compute(np.full_like(tied, np.nan), y).best.tolist() == [-1]


@needs_native
@pytest.mark.parametrize("kind", ["normal", "bool"])
@pytest.mark.parametrize("weighting", ["none", "real"])
def test_same_bits_on_repetition_and_for_a_lone_candidate(kind, weighting):
    # How the rows fall on threads differs between these calls; the bits may not.
    x, y, w = draw(np.random.default_rng(11), (6, 1, LARGE), kind, weighting)
    once = by_op(x, y, w)
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, once, by_op(x, y, w))
    alone = by_op(x[3:4], y, w)
    assert alone.mean[0] == once.mean[3] and alone.difference_variance[0] == once.difference_variance[3]


def same(got, want):
    """Up to rounding: XLA may reduce the definition in another order once it is batched."""
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize("weighting", ["none", "real"])
def test_vmap_of_every_operand(weighting):
    x, y, w = draw(np.random.default_rng(12), (5, 3, 2, 100), "normal", weighting)
    got = jax.jit(jax.vmap(score_stats))(x, y, w)
    same(got, by_op(x, y, w))


def test_vmap_of_some_operands():
    x, y, w = draw(np.random.default_rng(13), (5, 3, 2, 100), "normal", "real")
    got = jax.vmap(score_stats, in_axes=(0, None, None))(x, y[0], w[0])
    each = [by_op(x[i], y[0], w[0]) for i in range(5)]
    same(got, jax.tree.map(lambda *a: np.stack(a), *each))
    got = jax.vmap(score_stats, in_axes=(None, 0, None))(x[0], y, w[0])
    each = [by_op(x[0], y[i], w[0]) for i in range(5)]
    same(got, jax.tree.map(lambda *a: np.stack(a), *each))
    got = jax.vmap(score_stats, in_axes=(None, None, 0), out_axes=-1)(x[0], y[0], w)
    assert got.best.shape == (2, 5)


def test_scan_and_while_loop():
    x, y, _ = draw(np.random.default_rng(14), (4, 3, 1, 100), "normal", "none")
    _, scanned = jax.lax.scan(lambda c, xy: (c, score_stats(*xy)), 0, (x, y))
    same(scanned, by_op(x, y))

    def body(state):
        i, best = state
        return i + 1, best.at[i].set(score_stats(x_device[i], y_device[i]).best[0])

    x_device, y_device = jnp.asarray(x), jnp.asarray(y)
    _, best = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros(4, jnp.int32))))()
    np.testing.assert_array_equal(best, scanned.best[:, 0])


@pytest.mark.parametrize("weighting", ["none", "mask"])
def test_derivatives_are_those_of_numpy_moments(weighting):
    x, y, w = draw(np.random.default_rng(15), (2, 1, 30), "normal", weighting)
    if w is not None:
        x = np.where(w == 0, np.float32(np.nan), x)
    total = 30 if w is None else w.sum()
    counted = np.ones_like(x) if w is None else np.broadcast_to(w, x.shape)
    mean = jax.grad(lambda x: score_stats(x, y, w).mean.sum())(x)
    np.testing.assert_allclose(mean, counted / total, rtol=1e-5)
    variance = jax.grad(lambda x: score_stats(x, y, w).variance.sum())(x)
    centred = np.where(counted > 0, x - np.nansum(x * counted, -1, keepdims=True) / total, 0)
    np.testing.assert_allclose(variance, 2 * centred / (total - 1), rtol=1e-4, atol=1e-6)


def test_derivatives_of_moments_are_those_of_their_definition():
    x, y, w = draw(np.random.default_rng(23), (2, 1, 30), "normal", "real")
    fast = jax.grad(lambda x: score_moments(x, y, w).conclude().variance.sum())(x)
    plain = jax.grad(lambda x: module._define_moments(x, y, w).conclude().variance.sum())(x)
    np.testing.assert_allclose(fast, plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    [
        ("scores", np.zeros((2, 8), "f"), ValueError, r"must have shape \(..., K >= 1, M, n\), got \(2, 8\)"),
        ("scores", np.zeros((0, 2, 8), "f"), ValueError, r"must have shape .*, got \(0, 2, 8\)"),
        ("scores", np.zeros((4, 2, 8), "i"), TypeError, r"must be float32, bfloat16, bool, got int32; use .astype"),
        (
            "reference",
            np.zeros(8, "f"),
            ValueError,
            r"must have shape \(2, 8\) \(scores without the candidate axis\), got \(8,\)",
        ),
        (
            "scores",
            jax.ShapeDtypeStruct((2, 2, 2**31), np.float32),
            ValueError,
            r"must have n < 2\*\*31, got 2147483648",
        ),
        ("reference", np.zeros((2, 8), bool), TypeError, r"must be float32 like `scores`, got bool"),
        ("weights", np.zeros((4, 2, 8), "f"), ValueError, r"must have shape \(2, 8\) .*, got \(4, 2, 8\)"),
        ("weights", np.zeros((2, 8), bool), TypeError, r"must be float32, got bool; use .astype"),
        ("z", -1.0, ValueError, r"must be finite and not negative, got -1.0"),
        ("z", float("nan"), ValueError, r"must be finite and not negative, got nan"),
    ],
)
def test_errors_name_the_argument(argument, value, error, text):
    arguments = {"scores": np.zeros((4, 2, 8), "f"), "reference": np.zeros((2, 8), "f"), argument: value}
    with pytest.raises(error, match=f"score_stats: `{argument}` {text}"):
        jax.eval_shape(functools.partial(score_stats, z=arguments.pop("z", 1.0)), **arguments)


@needs_native
@pytest.mark.parametrize("kind", ["f32", "bool"])
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled_code_holds_the_custom_call_and_no_conditional(kind, weighted):
    x, y, w = draw(np.random.default_rng(0), (2, 1, 64), kind, "real" if weighted else "none")
    text = by_op.lower(x, y, w).compile().as_text()
    assert 'custom_call_target="ev3x_score_stats"' in text
    assert " conditional(" not in text


def test_works_under_strict_jax_and_x64():
    x, y, w = draw(np.random.default_rng(16), (2, 3, 2, 50), "normal", "real")
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_nans(True),
    ):
        strict = jax.jit(lambda *a: (score_stats(*a), definition(*a, 1.0)))(*map(jnp.asarray, (x, y, w)))
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        wide = jax.jit(lambda *a: (score_stats(*a), definition(*a, 1.0)))(x, y, w)
    for stats in (*strict, *wide):
        check(stats, x, y, w)
        assert [a.dtype for a in stats] == [np.float32] * 8 + [np.bool_, np.int32]
