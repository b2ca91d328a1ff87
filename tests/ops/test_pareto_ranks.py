"""pareto_ranks against loops over all pairs, native and definition alike, and under JAX's transformations."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import strict_and_wide

from ev3x.ops import ParetoRanks, native, pareto_ranks

pytestmark = pytest.mark.bits

definition = importlib.import_module("ev3x.ops.pareto_ranks").definition
TARGET = "ev3x_pareto_ranks"
SIZES = [0, 1, 2, 3, 7, 63, 64, 65, 127, 128, 129]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 2e-38, 3e-38], np.float32)

needs_native = pytest.mark.skipif(not native.ensure(TARGET), reason="native targets are not in use here")
quick = settings(deadline=None, max_examples=25)
by_op, by_definition = jax.jit(lambda x: pareto_ranks(x)), jax.jit(definition)
both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])


def flush(x):
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.zeros_like(x), x)


@np.errstate(invalid="ignore")
def oracle(objectives):
    """(rank, crowding) of [K, M]: every pair is compared, front after front is removed."""
    x = flush(objectives).astype(np.float64)
    size = len(x)
    rank, crowding = np.full(size, size), np.zeros(size)
    remaining = {i for i in range(size) if not np.isnan(x[i]).any()}

    def dominates(i, j):
        return (x[i] >= x[j]).all() and (x[i] > x[j]).any()

    front = 0
    while remaining:
        members = sorted(j for j in remaining if not any(dominates(i, j) for i in remaining))
        remaining -= set(members)
        rank[members] = front
        front += 1
        for values in x[members].T:
            line = sorted(range(len(members)), key=lambda i, values=values: (values[i], i))
            span = values[line[-1]] - values[line[0]]
            for place, i in enumerate(line):
                if place in (0, len(line) - 1):
                    crowding[members[i]] = np.inf
                elif 0 < span <= np.finfo(np.float32).max:
                    crowding[members[i]] += flush(values[line[place + 1]] - values[line[place - 1]]) / flush(span)
    return rank, crowding


def check(got: ParetoRanks, objectives):
    assert got.rank.dtype == np.int32 and got.crowding.dtype == np.float32
    assert got.rank.shape == got.crowding.shape == objectives.shape[:-1]
    leading = objectives.shape[:-2]
    for at in np.ndindex(leading):
        rank, crowding = oracle(objectives[at])
        np.testing.assert_array_equal(got.rank[at], rank)
        np.testing.assert_allclose(got.crowding[at], crowding, rtol=2e-6, atol=1e-37)


def same(got, want):
    np.testing.assert_array_equal(got.rank, want.rank)
    np.testing.assert_allclose(got.crowding, want.crowding, rtol=1e-6, atol=1e-37)


def draw(rng, shape, kind):
    x = rng.normal(size=shape).astype(np.float32)
    if kind == "ties":
        x = rng.integers(0, 4, shape).astype(np.float32)
    elif kind == "anticorrelated":  # one large front
        x[..., 0] = -x[..., 1:].sum(-1)
    elif kind == "chain":  # as many fronts as candidates
        x = np.broadcast_to(x[..., :1], shape).copy()
    elif kind == "special":
        x = np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, shape), x.round(1))
    elif kind == "constant":
        x[..., -1] = 0.5
    return x


KINDS = ["normal", "ties", "anticorrelated", "chain", "special", "constant"]


@needs_native
@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_every_size(width):
    rng = np.random.default_rng(1)
    for size in SIZES:
        x = draw(rng, (size, width), "ties")
        check(by_op(x), x)


@pytest.mark.parametrize("shape", [(0, 2), (1, 3), (2, 1), (3, 0, 4, 2)])
def test_the_definition_at_the_smallest_sizes(shape):
    x = draw(np.random.default_rng(2), shape, "normal")
    check(by_definition(x), x)


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from([(9, 1), (33, 2), (40, 3), (2, 2, 17, 5)]),
)
def test_against_all_pairs(compute, seed, kind, shape):
    x = draw(np.random.default_rng(seed), shape, kind)
    check(compute(x), x)


@needs_native
@pytest.mark.parametrize("shape", [(700, 2), (700, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_native_equals_definition(shape, kind):
    x = draw(np.random.default_rng(3), shape, kind)
    same(by_op(x), by_definition(x))


@needs_native
@pytest.mark.parametrize("kind", ["normal", "chain"])
def test_more_rows_than_are_held_at_a_time(kind):
    # Three objectives of which the third repeats the second: the staircase is the oracle.
    x = draw(np.random.default_rng(4), (5001, 2), kind)
    np.testing.assert_array_equal(by_op(x[:, [0, 1, 1]]).rank, by_op(x).rank)


@both
def test_larger_is_better_and_equal_rows_share_a_front(compute):
    x = np.array([[1, 1], [2, 2], [3, 0], [2, 2], [0, 5]], np.float32)
    assert compute(x).rank.tolist() == [1, 0, 0, 0, 0]


@both
def test_crowding_by_hand(compute):
    x = np.array([[0, 10], [1, 7], [4, 6], [10, 0], [0, 0], [np.nan, 20]], np.float32)
    got = compute(x)
    assert got.rank.tolist() == [0, 0, 0, 0, 1, 6]
    np.testing.assert_allclose(got.crowding, [np.inf, 0.8, 1.6, np.inf, np.inf, 0], rtol=1e-6)


@both
def test_a_candidate_with_nan_is_as_if_absent(compute):
    x = draw(np.random.default_rng(5), (33, 2), "ties")
    spoilt = x.copy()
    spoilt[[3, 11, 30], [0, 1, 0]] = np.nan
    got, there = compute(spoilt), ~np.isnan(spoilt).any(-1)
    assert (np.asarray(got.rank)[~there] == 33).all() and (np.asarray(got.crowding)[~there] == 0).all()
    rank, crowding = oracle(x[there])
    np.testing.assert_array_equal(np.asarray(got.rank)[there], rank)
    np.testing.assert_allclose(np.asarray(got.crowding)[there], crowding, rtol=1e-6)


def test_transposed_and_sliced_operands():
    x = draw(np.random.default_rng(6), (3, 80), "normal")
    want = by_op(np.ascontiguousarray(x.T[::2]))
    same(jax.jit(lambda x: pareto_ranks(x.T[::2]))(x), want)


@both
def test_vmap(compute):
    x = draw(np.random.default_rng(7), (3, 4, 20, 2), "ties")
    want = compute(x)
    same(jax.jit(jax.vmap(compute))(x), want)
    same(jax.vmap(jax.vmap(compute, in_axes=1), in_axes=2)(np.moveaxis(x, (0, 1), (2, 1))), want)


def test_scan_and_while_loop():
    x = jnp.asarray(draw(np.random.default_rng(8), (4, 20, 3), "ties"))
    _, scanned = jax.lax.scan(lambda c, x: (c, pareto_ranks(x)), 0, x)
    same(scanned, by_op(x))

    def body(state):
        i, ranks = state
        return i + 1, ranks.at[i].set(pareto_ranks(x[i]).rank)

    _, ranks = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros((4, 20), jnp.int32))))()
    np.testing.assert_array_equal(ranks, scanned.rank)


def test_gradients_say_what_to_do():
    x = jnp.ones((4, 2))
    message = r"pareto_ranks is not differentiable; pass lax.stop_gradient\(objectives\)"
    for wrap in (lambda f: f, jax.jit, lambda f: lambda x: jax.vmap(f)(x[None])[0]):
        with pytest.raises(TypeError, match=message):
            jax.grad(wrap(lambda x: pareto_ranks(x).crowding.sum()))(x)
    stopped = jax.jit(jax.grad(lambda x: (x[pareto_ranks(jax.lax.stop_gradient(x)).rank[0]] ** 2).sum()))(x)
    np.testing.assert_array_equal(stopped, [[2, 2], [0, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (np.zeros(4, "f"), ValueError, r"must have shape \(..., K, M >= 1\), got \(4,\)"),
        (np.zeros((4, 0), "f"), ValueError, r"must have shape \(..., K, M >= 1\), got \(4, 0\)"),
        (jax.ShapeDtypeStruct((2**31, 2), np.float32), ValueError, r"must have K < 2\*\*31, got 2147483648"),
        (np.zeros((4, 2), "i"), TypeError, r"must be float32, got int32; use .astype\(jnp.float32\)"),
    ],
)
def test_errors_name_the_argument(value, error, text):
    with pytest.raises(error, match=f"pareto_ranks: `objectives` {text}"):
        jax.eval_shape(pareto_ranks, value)


@needs_native
def test_compiled_code_holds_the_custom_call_and_no_conditional():
    text = by_op.lower(np.zeros((3, 2), np.float32)).compile().as_text()
    assert f'custom_call_target="{TARGET}"' in text
    assert " conditional(" not in text


def test_works_under_strict_jax_and_x64():
    x = draw(np.random.default_rng(9), (2, 20, 3), "special")
    for got in strict_and_wide(lambda x: (pareto_ranks(x), definition(x)), [x]):
        check(got, x)
