"""quantiles against numpy in float64, and under JAX's transformations."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import strict_and_wide

from ev3x.ops import native, quantiles

definition = importlib.import_module("ev3x.ops.quantiles").definition
TARGET = "ev3x_quantiles"
Q = (0.5, 0.0, 1.0, 0.1, 0.25, 0.7, 0.999, 1 / 3, 1e-9)
SIZES = [0, 1, 2, 3, 31, 32, 33, 127, 129, 1023, 1024, 1025, 5001]
SPECIAL = np.array([0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 2e-38, 3e-38, 1.0, 1.0000001], np.float32)

needs_native = pytest.mark.skipif(not native.ensure(TARGET), reason="native targets are not in use here")
quick = settings(deadline=None, max_examples=25)


@functools.partial(jax.jit, static_argnames="q")
def by_op(scores, mask=None, q=Q):
    return quantiles(scores, q, mask=mask)


@functools.partial(jax.jit, static_argnames="q")
def by_definition(scores, mask=None, q=Q):
    return definition(scores, mask, q)


both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])


@np.errstate(all="ignore")
def oracle(scores, mask=None, q=Q):
    want = np.full((*scores.shape[:-1], len(q)), np.nan)
    flushed = np.where(np.abs(scores) < np.finfo(np.float32).tiny, 0, scores).astype(np.float64)
    for at in np.ndindex(scores.shape[:-1]):
        row = flushed[at] if mask is None else flushed[at][mask[at[:-1]]]
        if row.size:
            want[at] = np.quantile(row, q)
    return want


def check(got, scores, mask=None, q=Q, exact=False):
    want = oracle(scores, mask, q).astype(np.float32)
    want = np.where(np.abs(want) < np.finfo(np.float32).tiny, 0, want)
    assert got.shape == want.shape and got.dtype == np.float32
    # float64 rounded, or float32 throughout: relative to the larger neighbour.
    finite = np.abs(np.where(np.isfinite(scores), scores, 0).astype(np.float64))
    scale = 0 if exact or not scores.size else finite.max(-1, initial=0)[..., None]
    close = np.abs(np.subtract(got, want, where=np.isfinite(want), out=np.zeros(want.shape))) <= (
        2e-7 * np.abs(want) + 3e-7 * scale + 1e-37
    )
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    np.testing.assert_array_equal(np.asarray(got)[np.isinf(want)], want[np.isinf(want)])
    assert (close | ~np.isfinite(want)).all(), (got, want)


def draw(rng, shape, kind="normal", masked=False):
    x = rng.normal(size=shape).astype(np.float32)
    if kind == "ties":
        x = x.round()
    elif kind == "narrow":
        x = (1e4 + 1e-2 * x).astype(np.float32)
    elif kind == "constant":
        x = np.full(shape, 0.1, np.float32)
    elif kind == "special":
        x = np.where(rng.random(shape) < 0.7, rng.choice(SPECIAL, shape), x)
    elif kind == "infinite":
        x = np.where(rng.random(shape) < 0.3, rng.choice(np.array([np.inf, -np.inf], np.float32), shape), x)
    elif kind == "wide":
        x = (x * 10.0 ** rng.integers(-37, 37, shape)).astype(np.float32)
    elif kind == "far" and shape[-1]:
        x[..., 0], x[..., -1] = -3e38, 3e38
    elif kind == "nan" and shape[-1]:
        x[..., 0, rng.integers(shape[-1])] = np.nan
    return x, rng.random((*shape[:-2], shape[-1])) < 0.6 if masked else None


KINDS = ["normal", "ties", "narrow", "constant", "special", "infinite", "wide", "far", "nan"]


@both
@pytest.mark.parametrize("masked", [False, True])
def test_every_size(compute, masked):
    rng = np.random.default_rng(1)
    for n in SIZES if compute is by_op else [0, 1, 2, 3, 129, 1025]:
        for kind in KINDS:
            data = draw(rng, (2, n), kind, masked)
            check(compute(*data), *data, exact=compute is by_op and native.ensure(TARGET))


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    masked=st.booleans(),
    shape=st.sampled_from([(1, 65), (3, 600), (2, 2, 2, 17)]),
)
def test_against_numpy(compute, seed, kind, masked, shape):
    data = draw(np.random.default_rng(seed), shape, kind, masked)
    check(compute(*data), *data)


@needs_native
@pytest.mark.parametrize("kind", KINDS)
def test_long_rows_in_every_instruction_set(kind):
    from ev3x.cli.examine import _native

    used = _native.isa()
    try:
        for masked in (False, True):
            data = draw(np.random.default_rng(2), (2, 70_001), kind, masked)
            for isa in _native.isas():
                _native.use_isa(isa)
                check(by_op(*data), *data, exact=True)
    finally:
        _native.use_isa(used)


def test_many_quantiles():
    rng = np.random.default_rng(3)
    q = tuple(rng.random(500).tolist())
    for n in (10, 3000):
        x, _ = draw(rng, (3, n))
        check(by_op(x, q=q), x, q=q)


def test_a_million_masked_examples_have_exact_ranks():
    x = np.arange(1 << 20, dtype=np.float32)[None]
    mask = np.arange(1 << 20) % 3 > 0
    q = (0.1, 0.123456789, 0.5, 0.987654321)
    for compute in (by_op, by_definition):
        np.testing.assert_allclose(compute(x, mask, q=q), oracle(x, mask, q), rtol=2e-7)


@both
def test_what_is_undefined_is_nan(compute):
    x, mask = draw(np.random.default_rng(4), (3, 40), "nan", masked=True)
    assert np.isnan(compute(x)[0]).all() and np.isfinite(compute(x)[1:]).all()
    hidden = ~np.isnan(x).any(0)
    check(compute(x, hidden), x, hidden)
    assert np.isfinite(compute(x, hidden)).all()
    assert np.isnan(compute(x, np.zeros_like(mask))).all()


@both
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 2, 5), (2, 3, 1)])
def test_empty_shapes(compute, shape):
    x, _ = draw(np.random.default_rng(5), shape)
    assert compute(x).shape == (*shape[:-1], len(Q))
    assert compute(x, q=()).shape == (*shape[:-1], 0)


def test_q_may_be_an_array_of_numpy():
    x, _ = draw(np.random.default_rng(6), (3, 50))
    np.testing.assert_array_equal(quantiles(x, np.array([0.5, 0.25])), by_op(x, q=(0.5, 0.25)))


@needs_native
def test_same_bits_on_repetition_and_for_a_lone_candidate():
    x, _ = draw(np.random.default_rng(7), (6, 20_001))
    once = np.asarray(by_op(x))
    for _ in range(3):
        np.testing.assert_array_equal(once, by_op(x))
    np.testing.assert_array_equal(once[3:4], by_op(x[3:4]))


def same(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@both
def test_transposed_and_sliced_operands(compute):
    x, _ = draw(np.random.default_rng(8), (80, 3), "ties")
    mask = np.arange(40) % 3 == 0
    got = jax.jit(lambda x, m: compute(x.T[:, ::2], m[::-1]))(x, mask)
    check(got, x.T[:, ::2], mask[::-1])


@both
def test_vmap_of_every_operand_and_of_each_alone(compute):
    x, mask = draw(np.random.default_rng(9), (4, 3, 50), masked=True)
    same(jax.jit(jax.vmap(compute))(x, mask), compute(x, mask))
    same(jax.vmap(compute)(x), compute(x))
    got = jax.vmap(compute, in_axes=(None, 0), out_axes=1)(x[0], mask)
    same(got, np.stack([compute(x[0], m) for m in mask], 1))
    got = jax.vmap(compute, in_axes=(0, None))(x, mask[0])
    same(got, np.stack([compute(v, mask[0]) for v in x]))


def test_scan_and_while_loop():
    x, mask = (jnp.asarray(a) for a in draw(np.random.default_rng(10), (4, 3, 50), masked=True))
    _, scanned = jax.lax.scan(lambda c, a: (c, quantiles(a[0], Q, mask=a[1])), 0, (x, mask))
    same(scanned, by_op(x, mask))

    def body(state):
        i, found = state
        return i + 1, found.at[i].set(quantiles(x[i], Q, mask=mask[i]))

    loop = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros((4, 3, len(Q))))))
    np.testing.assert_array_equal(loop()[1], scanned)


@pytest.mark.parametrize("masked", [False, True])
def test_the_derivative_is_the_interpolations(masked):
    x, mask = draw(np.random.default_rng(11), (2, 41), masked=masked)
    step = np.random.default_rng(12).normal(size=x.shape).astype(np.float32)
    _, got = jax.jvp(lambda x: quantiles(x, Q, mask=mask), (x,), (step,))
    wide, small = x.astype(np.float64), 1e-7
    with np.errstate(all="ignore"):
        ahead, behind = (oracle(wide + sign * small * step, mask) for sign in (1, -1))
    np.testing.assert_allclose(got, (ahead - behind) / (2 * small), rtol=1e-4, atol=1e-5)
    total = jax.jit(jax.grad(lambda x: quantiles(x, Q, mask=mask).sum()))(x)
    np.testing.assert_allclose(total.sum(-1), len(Q), rtol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    [
        ("scores", np.zeros(8, "f"), ValueError, r"must have shape \(..., K, n\), got \(8,\)"),
        ("scores", np.zeros((4, 8), "i"), TypeError, r"must be float32, got int32; use .astype\(jnp.float32\)"),
        ("scores", jax.ShapeDtypeStruct((2, 2**31), np.float32), ValueError, r"must have n < 2\*\*31, got 2147483648"),
        ("q", 0.5, ValueError, r"must be a sequence of numbers, got 0.5"),
        ("q", (0.5, 1.1), ValueError, r"must be from 0 to 1, got \(0.5, 1.1\)"),
        ("q", (float("nan"),), ValueError, r"must be from 0 to 1, got \(nan,\)"),
        ("mask", np.zeros((4, 8), bool), ValueError, r"must have shape \(8,\) \(scores without .*, got \(4, 8\)"),
        ("mask", np.zeros(8, "i"), TypeError, r"must be bool, got int32; use .astype\(jnp.bool\)"),
    ],
)
def test_errors_name_the_argument(argument, value, error, text):
    given = {"scores": np.zeros((4, 8), "f"), "q": (0.5,), argument: value}
    q = given.pop("q")
    with pytest.raises(error, match=f"quantiles: `{argument}` {text}"):
        jax.eval_shape(lambda scores, mask=None: quantiles(scores, q, mask=mask), **given)


def test_q_is_static():
    with pytest.raises(TypeError, match=r"quantiles: `q` must be .* known when traced"):
        jax.jit(lambda q: quantiles(np.zeros((2, 3), "f"), q))(np.array([0.5]))


@needs_native
def test_compiled_code_holds_the_custom_call_and_no_conditional():
    text = by_op.lower(*draw(np.random.default_rng(0), (3, 7))).compile().as_text()
    assert f'custom_call_target="{TARGET}"' in text
    assert " conditional(" not in text


def test_works_under_strict_jax_and_x64():
    data = draw(np.random.default_rng(13), (2, 3, 20), "ties", masked=True)
    for got in strict_and_wide(lambda *a: (by_op(*a), by_definition(*a)), data):
        check(got, *data)
