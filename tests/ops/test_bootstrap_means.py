"""bootstrap_means against float64 numpy with the same weights, its distribution, and JAX's transformations."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import strict_and_wide
from scipy import stats

from ev3x.ops import bootstrap_means, native

pytestmark = pytest.mark.bits

module = importlib.import_module("ev3x.ops.bootstrap_means")
TARGETS = ["ev3x_bootstrap_poisson", "ev3x_bootstrap_multinomial"]
SCHEMES = ["poisson", "multinomial"]
SIZES = [0, 1, 2, 3, 31, 32, 33, 65, 100, 1023, 1024, 1025, 5001]

needs_native = pytest.mark.skipif(
    not all(native.ensure(target) for target in TARGETS), reason="native targets are not in use here"
)
quick = settings(deadline=None, max_examples=20)


@functools.partial(jax.jit, static_argnames=("resamples", "scheme"))
def by_op(scores, seeds, mask=None, resamples=6, scheme=None):
    return bootstrap_means(scores, seeds, resamples, scheme=scheme, mask=mask)


@functools.partial(jax.jit, static_argnames=("resamples", "scheme"))
def by_definition(scores, seeds, mask=None, resamples=6, scheme="poisson"):
    return module.definition(scores, seeds, mask, resamples, scheme)


both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])
schemes = pytest.mark.parametrize("scheme", SCHEMES)


@functools.partial(jax.jit, static_argnames=("n", "resamples", "scheme"))
def _weights(seeds, n, mask, resamples, scheme):
    weigh = {"poisson": module._poisson, "multinomial": module._multinomial}[scheme]
    return weigh(seeds, jnp.arange(resamples, dtype=jnp.uint32), n, mask)


def weights(seeds, n, mask=None, resamples=6, scheme="poisson"):
    if n == 0:
        return np.zeros((*np.shape(seeds)[:-1], resamples, 0))
    return np.asarray(_weights(np.asarray(seeds, np.uint32), n, mask, resamples, scheme), np.float64)


@np.errstate(all="ignore")
def oracle(scores, w, mask=None):
    """The weighted means in float64; a candidate with a score that is not finite has none."""
    x = scores.astype(np.float64)
    if mask is not None:
        x = np.where(mask[..., None, :], x, 0)
    spoilt = ~np.isfinite(x).all(-1)
    means = w @ np.where(spoilt[..., None], 0, x).swapaxes(-1, -2) / w.sum(-1)[..., None]
    return np.where(spoilt[..., None, :], np.nan, means)


def check(got, scores, seeds, mask=None, resamples=6, scheme="poisson", w=None):
    w = weights(seeds, scores.shape[-1], mask, resamples, scheme) if w is None else w
    want = oracle(scores, w, mask)
    assert got.shape == want.shape == (*scores.shape[:-2], resamples, scores.shape[-2])
    assert got.dtype == np.float32
    finite = np.where(np.isfinite(scores), scores, 0).astype(np.float64)
    spread = np.ptp(finite, axis=-1).max(initial=0) if scores.shape[-1] else 0
    size = np.abs(finite).max(initial=1e-30)
    # One rounding of the result, and 1e-5 of what is averaged about the centre.
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * min(spread, size) + 2.4e-7 * size)


def draw(rng, shape, kind="normal", masked=False):
    """(scores, seeds, mask) for shape (..., K, n)."""
    x = rng.normal(size=shape)
    if kind == "narrow":
        x = 1e4 + 1e-2 * x
    elif kind == "constant":
        x = np.full(shape, 0.1)
    elif kind == "ties":
        x = x.round()
    elif kind == "small":
        x = x * 1e-39
    elif kind == "bad" and shape[-1]:
        x[..., 0, rng.integers(shape[-1])] = rng.choice([np.nan, np.inf, -np.inf])
    seeds = rng.integers(0, 2**32, (*shape[:-2], 2), dtype=np.uint32)
    return x.astype(np.float32), seeds, (rng.random((*shape[:-2], shape[-1])) < 0.6 if masked else None)


KINDS = ["normal", "narrow", "constant", "ties", "small", "bad"]


@both
@schemes
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.long), True])
def test_every_size(compute, scheme, masked):
    rng = np.random.default_rng(1)
    for n in SIZES if compute is by_op else [0, 1, 2, 33, 1025]:
        data = draw(rng, (3, n), masked=masked)
        check(compute(*data, scheme=scheme), *data, scheme=scheme)


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    scheme=st.sampled_from(SCHEMES),
    masked=st.booleans(),
    shape=st.sampled_from([(1, 65), (5, 130), (2, 2, 7, 40), (4, 1030)]),
)
def test_against_float64(compute, seed, kind, scheme, masked, shape):
    data = draw(np.random.default_rng(seed), shape, kind, masked)
    check(compute(*data, scheme=scheme), *data, scheme=scheme)


@needs_native
@schemes
@pytest.mark.parametrize("candidates", [1, 2, 3, 9])
def test_long_rows(scheme, candidates):
    data = draw(np.random.default_rng(2), (candidates, 70_001), "narrow")
    check(by_op(*data, scheme=scheme), *data, scheme=scheme)


@needs_native
@schemes
def test_many_resamples_are_as_many_tasks(scheme):
    data = draw(np.random.default_rng(3), (2, 3, 500))
    check(by_op(*data, resamples=403, scheme=scheme), *data, resamples=403, scheme=scheme)


def test_poisson_from_1024_examples_on():
    rng = np.random.default_rng(4)
    for n, scheme in ((1023, "multinomial"), (1024, "poisson")):
        x, seeds, _ = draw(rng, (2, n))
        np.testing.assert_array_equal(by_op(x, seeds), by_op(x, seeds, scheme=scheme))


@both
@schemes
def test_constant_scores_have_that_mean_exactly(compute, scheme):
    x = np.full((1, 3001), 1e4 + 0.1, np.float32)
    got = compute(x, np.array([1, 2], np.uint32), scheme=scheme)
    np.testing.assert_array_equal(got, np.full((6, 1), x[0, 0]))


@both
@schemes
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_spoils_its_own_candidate_only(compute, scheme, bad):
    x, seeds, _ = draw(np.random.default_rng(5), (3, 1100))
    clean = np.asarray(compute(x, seeds, scheme=scheme))
    x[1, 1099] = bad
    got = np.asarray(compute(x, seeds, scheme=scheme))
    assert np.isnan(got[:, 1]).all()
    np.testing.assert_array_equal(got[:, [0, 2]], clean[:, [0, 2]])


@both
@schemes
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_masked_examples_do_not_count(compute, scheme, bad):
    x, seeds, mask = draw(np.random.default_rng(6), (3, 1100), masked=True)
    spoilt = np.where(mask, x, np.float32(bad))
    np.testing.assert_array_equal(compute(spoilt, seeds, mask, scheme=scheme), compute(x, seeds, mask, scheme=scheme))
    none = compute(x, seeds, np.zeros_like(mask), scheme=scheme)
    assert np.isnan(none).all()
    one = compute(x, seeds, np.arange(1100) == 7, scheme="multinomial")
    np.testing.assert_allclose(one, np.broadcast_to(x[:, 7], (6, 3)), rtol=1e-6)


@both
def test_a_resample_without_weight_is_nan(compute):
    x, seeds = np.array([[3.0]], np.float32), np.array([1, 2], np.uint32)
    w = weights(seeds, 1, resamples=400)
    got = compute(x, seeds, resamples=400, scheme="poisson")
    np.testing.assert_array_equal(np.isnan(got[:, 0]), w[:, 0] == 0)
    assert 100 < np.isnan(got).sum() < 200  # 400 / e


@both
@schemes
def test_resamples_do_not_depend_on_how_many_follow(compute, scheme):
    x, seeds, _ = draw(np.random.default_rng(7), (3, 300))
    few, many = (np.asarray(compute(x, seeds, resamples=b, scheme=scheme)) for b in (5, 130))
    np.testing.assert_allclose(few, many[:5], rtol=1e-6, atol=1e-7)


@needs_native
@schemes
@pytest.mark.parametrize("n", [100, 70_001])
def test_same_bits_on_repetition_and_for_a_lone_candidate(scheme, n):
    # How the resamples fall on threads differs between these calls; the bits may not.
    x, seeds, _ = draw(np.random.default_rng(8), (6, n))
    resamples = 300 if n < 1000 else 40
    once = np.asarray(by_op(x, seeds, resamples=resamples, scheme=scheme))
    for _ in range(3):
        np.testing.assert_array_equal(once, by_op(x, seeds, resamples=resamples, scheme=scheme))
    np.testing.assert_array_equal(once[:9], by_op(x, seeds, resamples=9, scheme=scheme))
    np.testing.assert_array_equal(once[:, 3:4], by_op(x[3:4], seeds, resamples=resamples, scheme=scheme))
    several = by_op(np.stack([x] * 3), np.stack([seeds] * 3), resamples=resamples, scheme=scheme)
    np.testing.assert_array_equal(several, np.stack([once] * 3))


@needs_native
@schemes
@pytest.mark.parametrize("masked", [False, True])
def test_every_instruction_set_has_the_same_weights(scheme, masked):
    from ev3x.ops import _native

    x, seeds, mask = draw(np.random.default_rng(9), (5, 3001), masked=masked)
    # Powers of two, of which sums are exact: each mean tells the weights of eight examples.
    told = np.zeros((8, 3001), np.float32)
    for k in range(8):
        told[k, 8 * k * 40 : 8 * k * 40 + 8] = 1
    used, results = _native.isa(), []
    try:
        for isa in _native.isas():
            _native.use_isa(isa)
            results.append([np.asarray(by_op(v, seeds, mask, scheme=scheme)) for v in (x, told)])
    finally:
        _native.use_isa(used)
    w = weights(seeds, 3001, mask, scheme=scheme)
    for means, tellers in results:
        np.testing.assert_allclose(means, results[0][0], rtol=1e-6, atol=1e-6)
        counts = np.asarray(tellers, np.float64) * w.sum(-1)[:, None]
        np.testing.assert_allclose(counts, w @ told.T.astype(np.float64), atol=1e-2)
    check(results[0][0], x, seeds, mask, scheme=scheme)


# What the weights are.


def poisson_chances():
    bars = [(bar + 32769) / 65536 for bar in module._thresholds(1.0, 8, 16)]
    return np.diff([0, *bars, 1])


def test_the_constants_of_native_code():
    assert module._thresholds(1.0, 8, 16) == (-8660, 15450, 27504, 31523, 32527, 32728, 32762, 32766)
    np.testing.assert_allclose(poisson_chances(), stats.poisson(1).pmf(np.arange(9)), atol=2**-16)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (1, 0), (2**32 - 1, 12345)])
def test_poisson_weights_are_independent(seeds):
    b, n = 512, 4096
    w = weights(seeds, n, resamples=b)
    count = np.bincount(w.astype(int).ravel(), minlength=9)
    assert stats.chisquare(count, poisson_chances() * w.size).pvalue > 1e-4
    assert abs(w.mean() - 1) < 4 / np.sqrt(w.size)
    assert abs(w.var() - 1) < 4 * np.sqrt(3 / w.size)  # the fourth central moment is 4
    z = (w - w.mean()) / w.std()
    for size, products in ((n, z @ z.T), (b, z.T @ z)):  # of resamples, of examples
        off = products[np.triu_indices_from(products, 1)] / np.sqrt(size)
        assert abs(off.mean()) < 5 / np.sqrt(len(off))
        assert abs(off.var() - 1) < 5 * np.sqrt(2.1 / len(off))
        assert np.abs(off).max() < stats.norm.isf(1e-5 / len(off)) + 0.5
    few = np.minimum(w, 3).astype(int)
    for first, second in (
        (few[:, :-1], few[:, 1:]),
        (few[:, :-16], few[:, 16:]),  # the other half of a word
        (few[:, :-32], few[:, 32:]),
        (few[:-1], few[1:]),
        (few[:-1, :-1], few[1:, 1:]),
    ):
        table = np.bincount((4 * first + second).ravel(), minlength=16).reshape(4, 4)
        assert stats.chi2_contingency(table).pvalue > 1e-5


@pytest.mark.parametrize("n", [1, 5, 64, 65, 400, 3000])
@pytest.mark.parametrize("masked", [False, True])
def test_exact_counts_sum_to_the_number_of_examples(n, masked):
    rng = np.random.default_rng(10)
    mask = rng.random(n) < 0.3 if masked else None
    w = weights((3, 4), n, mask, 300, "multinomial")
    np.testing.assert_array_equal(w.sum(-1), n if mask is None else mask.sum())
    assert mask is None or not w[:, ~mask].any()


@pytest.mark.parametrize("n", [40, 400])
@pytest.mark.parametrize("masked", [False, True])
def test_exact_counts_are_multinomial(n, masked):
    rng, b = np.random.default_rng(11), 4000
    mask = rng.random(n) < 0.3 if masked else np.ones(n, bool)
    w = weights((5, 6), n, mask if masked else None, b, "multinomial")[:, mask]
    m = mask.sum()
    count = np.bincount(w.astype(int).ravel(), minlength=7)
    want = stats.binom(m, 1 / m).pmf(np.arange(6))
    want = np.array([*want, 1 - want.sum()]) * w.size
    # A resample's counts are dependent, a little: their variance is below the independent one's.
    assert stats.chisquare([*count[:6], count[6:].sum()], want).pvalue > 1e-4
    covariance = np.cov(w.T)
    np.testing.assert_allclose(covariance.diagonal().mean(), 1 - 1 / m, rtol=0.02)
    off = covariance[~np.eye(m, dtype=bool)]
    assert abs(off.mean() + 1 / m) < 5 * np.sqrt(2 / b) / m  # exact sums leave little freedom
    assert abs(off.std() * np.sqrt(b) - 1) < 0.15


def test_a_total_beyond_the_number_is_drawn_anew(monkeypatch):
    # At rate 1 half of the resamples have more than enough.
    monkeypatch.setattr(module, "_rate", lambda n: 1.0)
    jax.clear_caches()
    try:
        x, seeds, mask = draw(np.random.default_rng(12), (2, 300), masked=True)
        for m in (None, mask):
            w = weights(seeds, 300, m, 50, "multinomial")
            np.testing.assert_array_equal(w.sum(-1), 300 if m is None else m.sum())
            assert abs(w.var() / (1 if m is None else m.mean()) - 1) < 0.5
            got = by_op(x, seeds, m, resamples=50, scheme="multinomial")
            check(got, x, seeds, m, 50, "multinomial", w)
    finally:
        monkeypatch.undo()
        jax.clear_caches()


@schemes
def test_the_covariance_of_the_means(scheme):
    rng, n, b = np.random.default_rng(13), 2000, 4000
    x = (rng.normal(size=(4, 4)) @ rng.normal(size=(4, n))).astype(np.float32) + 5
    got = np.cov(np.asarray(by_op(x, np.array([7, 8], np.uint32), resamples=b, scheme=scheme), np.float64).T)
    want = np.cov(x.astype(np.float64), bias=True) / n
    error = np.sqrt((want**2 + np.outer(want.diagonal(), want.diagonal())) / b)  # of a sample covariance
    assert (np.abs(got - want) < 5 * error + 2 / n * np.abs(want)).all()


@schemes
def test_against_scipy(scheme):
    x = np.random.default_rng(14).gamma(2, size=(1, 1200)).astype(np.float32)
    got = np.asarray(by_op(x, np.array([9, 10], np.uint32), resamples=4000, scheme=scheme))
    want = stats.bootstrap((x[0],), np.mean, n_resamples=4000, rng=np.random.default_rng(15), method="percentile")
    np.testing.assert_allclose(got.std(), want.standard_error, rtol=0.06)  # 1.1 % each
    interval = np.quantile(got, [0.025, 0.975])
    np.testing.assert_allclose(interval, want.confidence_interval, atol=0.2 * want.standard_error)


# JAX's transformations.


def same(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@both
@schemes
def test_transposed_and_sliced_operands(compute, scheme):
    x, seeds, mask = draw(np.random.default_rng(16), (80, 3))
    mask = np.arange(40) % 3 > 0
    got = jax.jit(lambda x, m: compute(x.T[:, ::2], seeds, m[::-1], scheme=scheme))(x, mask)
    check(got, x.T[:, ::2], seeds[:], mask[::-1], scheme=scheme)


@both
@schemes
def test_vmap_of_every_operand_and_of_each_alone(compute, scheme):
    x, seeds, mask = draw(np.random.default_rng(17), (4, 3, 50), masked=True)
    f = functools.partial(compute, scheme=scheme)
    same(jax.jit(jax.vmap(f))(x, seeds, mask), f(x, seeds, mask))
    for axes in ((0, None, None), (None, 0, None), (None, None, 0)):
        picked = [[a[i if axis == 0 else 0] for a, axis in zip((x, seeds, mask), axes, strict=True)] for i in range(4)]
        operands = [a if axis == 0 else a[0] for a, axis in zip((x, seeds, mask), axes, strict=True)]
        same(jax.vmap(f, in_axes=axes, out_axes=1)(*operands), np.stack([f(*p) for p in picked], 1))


@schemes
def test_scan_and_while_loop(scheme):
    x, seeds, _ = (None if a is None else jnp.asarray(a) for a in draw(np.random.default_rng(18), (4, 3, 50)))
    _, scanned = jax.lax.scan(lambda c, a: (c, bootstrap_means(*a, 6, scheme=scheme)), 0, (x, seeds))
    same(scanned, by_op(x, seeds, scheme=scheme))

    def body(state):
        i, means = state
        return i + 1, means.at[i].set(bootstrap_means(x[i], seeds[i], 6, scheme=scheme))

    loop = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros((4, 6, 3)))))
    np.testing.assert_array_equal(loop()[1], scanned)


@both
@schemes
@pytest.mark.parametrize("masked", [False, True])
def test_the_derivative_is_the_share_of_each_example(compute, scheme, masked):
    x, seeds, mask = draw(np.random.default_rng(19), (2, 300), masked=masked)
    if masked:
        x = np.where(mask, x, np.float32(np.nan))
    got = jax.jit(jax.grad(lambda x: compute(x, seeds, mask, scheme=scheme).sum()))(x)
    w = weights(seeds, 300, mask, scheme=scheme)
    np.testing.assert_allclose(got, np.broadcast_to((w / w.sum(-1, keepdims=True)).sum(0), (2, 300)), atol=1e-6)


def test_a_derivative_does_not_hold_the_weights():
    x, seeds = jnp.zeros((2, 1 << 15)), jnp.zeros(2, jnp.uint32)
    f = jax.jit(jax.grad(lambda x: bootstrap_means(x, seeds, 1000).sum()))
    assert f.lower(x).compile().memory_analysis().temp_size_in_bytes < 60e6  # weights would be 131e6


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    [
        ("scores", np.zeros(8, "f"), ValueError, r"must have shape \(..., K, n\), got \(8,\)"),
        ("scores", np.zeros((4, 8), "i"), TypeError, r"must be float32, got int32; use .astype\(jnp.float32\)"),
        ("seeds", np.zeros((4, 2), "I"), ValueError, r"must have shape \(2,\), got \(4, 2\)"),
        ("seeds", np.zeros(2, "i"), TypeError, r"must be uint32, got int32; jax.random.bits"),
        ("resamples", -1, ValueError, r"must be an integer and not negative, got -1"),
        ("resamples", 2.0, ValueError, r"must be an integer and not negative, got 2.0"),
        ("scheme", "bayes", ValueError, r"must be None, 'poisson' or 'multinomial', got 'bayes'"),
        ("mask", np.zeros((4, 8), bool), ValueError, r"must have shape \(8,\) \(scores without .*, got \(4, 8\)"),
        ("mask", np.zeros(8, "i"), TypeError, r"must be bool, got int32; use .astype\(jnp.bool\)"),
    ],
)
def test_errors_name_the_argument(argument, value, error, text):
    given = {"scores": np.zeros((4, 8), "f"), "seeds": np.zeros(2, "I"), "resamples": 3, argument: value}
    static = {name: given.pop(name) for name in ("resamples", "scheme") if name in given}
    with pytest.raises(error, match=f"bootstrap_means: `{argument}` {text}"):
        jax.eval_shape(functools.partial(bootstrap_means, **static), **given)


@both
@schemes
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 2, 5), (2, 3, 1)])
def test_empty_shapes(compute, scheme, shape):
    x, seeds, _ = draw(np.random.default_rng(20), shape)
    for resamples in (0, 2):
        got = compute(x, seeds, resamples=resamples, scheme=scheme)
        assert got.shape == (*shape[:-2], resamples, shape[-2])


@needs_native
@schemes
def test_compiled_code_holds_the_custom_call_and_no_conditional(scheme):
    text = by_op.lower(*draw(np.random.default_rng(0), (3, 70)), scheme=scheme).compile().as_text()
    assert f'custom_call_target="ev3x_bootstrap_{scheme}"' in text
    assert " conditional(" not in text


@schemes
def test_works_under_strict_jax_and_x64(scheme):
    data = draw(np.random.default_rng(21), (2, 3, 100), masked=True)

    def compute(*a):
        return by_op(*a, scheme=scheme), by_definition(*a, scheme=scheme)

    for got in strict_and_wide(compute, data):
        check(got, *data, scheme=scheme)
