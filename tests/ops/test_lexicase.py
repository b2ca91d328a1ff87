"""lexicase against tournaments in plain Python, native and definition alike, and under JAX's transformations."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import strict_and_wide

from ev3x.ops import lexicase, native

definition = importlib.import_module("ev3x.ops.lexicase").definition
TARGET = "ev3x_lexicase"
SIZES = [0, 1, 2, 3, 63, 64, 65]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 2e-38, 3e-38], np.float32)

needs_native = pytest.mark.skipif(not native.ensure(TARGET), reason="native targets are not in use here")
quick = settings(deadline=None, max_examples=25)
MASK = 2**32 - 1


@functools.partial(jax.jit, static_argnames=("parents", "epsilon"))
def by_op(scores, seeds, eligible, parents=30, epsilon=None):
    return lexicase(scores, seeds, parents, epsilon=epsilon, eligible=eligible)


@functools.partial(jax.jit, static_argnames=("parents", "epsilon"))
def by_definition(scores, seeds, eligible, parents=30, epsilon=None):
    return definition(scores, seeds, eligible, parents, epsilon)


both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])


def mix(x):
    x = ((x ^ x >> 16) * 0x21F0AAAD) & MASK
    x = ((x ^ x >> 15) * 0xD35A2D97) & MASK
    return x ^ x >> 15


def flush(x):
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.zeros_like(x), x)


@np.errstate(all="ignore")
def margins(scores, eligible):
    """[C], numpy's median absolute deviation of finite scores, in float32 like the operation."""
    half = np.float32(0.5)

    def median(values):
        values = np.sort(values)
        return flush(flush(half * values[(len(values) - 1) // 2]) + flush(half * values[len(values) // 2]))

    out = np.zeros(scores.shape[1], np.float32)
    for c, column in enumerate(scores.T):
        finite = column[eligible & np.isfinite(column)]
        if len(finite):
            out[c] = median(flush(np.abs(finite - median(finite))))
    return out


@np.errstate(all="ignore")
def tournament(scores, margin, eligible, draw):
    """One parent; draw(t, n) is a number below n."""
    pool = [int(k) for k in np.flatnonzero(eligible)]
    cases = list(range(scores.shape[1]))
    for t in range(len(cases)):
        j = t + draw(t, len(cases) - t)
        cases[t], cases[j] = cases[j], cases[t]
        column = scores[:, cases[t]]
        best = max((column[k] for k in pool), default=-np.inf)
        bar = best if np.isinf(best) else flush(np.float32(best - margin[cases[t]]))
        pool = [k for k in pool if column[k] >= bar]
    return pool[draw(len(cases), len(pool))] if pool else -1


def oracle(scores, seeds, eligible, parents=30, epsilon=None):
    a, b = (int(s) for s in seeds)
    scores = flush(np.where(np.isnan(scores), np.float32(-np.inf), scores))
    margin = margins(scores, eligible) if epsilon is None else np.full(scores.shape[1], epsilon, np.float32)

    def one(p):
        stream = mix((mix(p ^ a) + b) & MASK)
        return tournament(
            scores, margin, eligible, lambda t, n: mix(stream ^ mix((mix(t ^ b ^ 0x9E3779B9) + a) & MASK)) % n
        )

    return np.array([one(p) for p in range(parents)], np.int32)


def check(got, scores, seeds, eligible, parents=30, epsilon=None):
    assert got.dtype == np.int32 and got.shape == (*scores.shape[:-2], parents)
    for at in np.ndindex(scores.shape[:-2]):
        want = oracle(scores[at], seeds[at], eligible[at], parents, epsilon)
        np.testing.assert_array_equal(got[at], want)


def draw(rng, shape, kind="normal"):
    """(scores, seeds, eligible) for shape (..., K, C)."""
    scores = rng.normal(size=shape).astype(np.float32)
    eligible = np.ones(shape[:-1], bool)
    if kind == "ties":
        scores = rng.integers(0, 2, shape).astype(np.float32)
    elif kind == "constant":
        scores = np.full(shape, 0.1, np.float32)
    elif kind == "special":
        scores = np.where(rng.random(shape) < 0.4, rng.choice(SPECIAL, shape), scores.round(1))
    elif kind == "masked":
        eligible = rng.random(shape[:-1]) < rng.choice([0.1, 0.7])
    elif kind == "nobody":
        eligible[...] = False
    return scores, rng.integers(0, 2**32, (*shape[:-2], 2), dtype=np.uint32), eligible


KINDS = ["normal", "ties", "constant", "special", "masked", "nobody"]


@needs_native
@pytest.mark.parametrize("epsilon", [None, 0.0])
def test_every_size(epsilon):
    rng = np.random.default_rng(1)
    for candidates in SIZES:
        for cases in (0, 1, 2, 17) if candidates == 3 else (8,):
            data = draw(rng, (candidates, cases), "ties")
            check(by_op(*data, epsilon=epsilon), *data, epsilon=epsilon)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (1, 1), (2, 0, 4)])
def test_the_definition_at_the_smallest_sizes(shape):
    data = draw(np.random.default_rng(2), shape)
    check(by_definition(*data), *data)


@both
def test_parents_do_not_depend_on_how_many_follow(compute):
    data = draw(np.random.default_rng(3), (12, 9), "ties")
    many = compute(*data, parents=65)
    for parents in (0, 64):
        np.testing.assert_array_equal(compute(*data, parents=parents), many[:parents])


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from([(33, 12), (2, 2, 10, 5)]),
    epsilon=st.sampled_from([None, 0.0, 0.5]),
)
def test_against_plain_python(compute, seed, kind, shape, epsilon):
    data = draw(np.random.default_rng(seed), shape, kind)
    check(compute(*data, epsilon=epsilon), *data, epsilon=epsilon)


@needs_native
@pytest.mark.parametrize("epsilon", [None, 0.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "special"])
def test_native_equals_definition(kind, epsilon):
    # Enough for several tasks of both sorts.
    data = draw(np.random.default_rng(4), (700, 65), kind)
    got = by_op(*data, parents=600, epsilon=epsilon)
    np.testing.assert_array_equal(got, by_definition(*data, parents=600, epsilon=epsilon))


@both
@pytest.mark.parametrize("epsilon", [None, 0.0])
def test_frequencies_are_those_of_another_implementation(compute, epsilon):
    rng = np.random.default_rng(5)
    scores, seeds, eligible = draw(rng, (6, 4))
    scores = scores.round(1)
    parents, trials = 200_000, 20_000
    got = np.bincount(compute(scores, seeds, eligible, parents=parents, epsilon=epsilon), minlength=6) / parents
    median = np.median(scores, 0)
    margin = np.median(np.abs(scores - median), 0) if epsilon is None else np.zeros(4)

    def one():
        pool = np.arange(6)
        for c in rng.permutation(4):
            pool = pool[scores[pool, c] >= scores[pool, c].max() - margin[c] - 1e-6]
        return rng.choice(pool)

    want = np.bincount([one() for _ in range(trials)], minlength=6) / trials
    deviation = np.sqrt(want * (1 - want) * (1 / trials + 1 / parents))
    assert (np.abs(got - want) <= 4.5 * deviation + 1e-12).all(), (got, want)
    assert (want > 0.05).sum() > 2, "the case no longer shows what it is for"


@both
def test_the_final_draw_and_the_order_of_cases_are_uniform(compute):
    # Everybody ties: only the last draw counts. Candidate c alone is best on case c: only the first does.
    seeds, eligible = np.array([7, 7], np.uint32), np.ones(7, bool)
    for scores in (np.zeros((7, 7), np.float32), np.eye(7, dtype=np.float32)):
        counts = np.bincount(compute(scores, seeds, eligible, parents=98_000, epsilon=0.0), minlength=7)
        assert ((counts - 14_000) ** 2 / 14_000).sum() < 30, counts  # chi square, 6 degrees: p = 4e-5
    # Runs of parents are independent: pairs of successive winners are uniform too.
    winners = np.asarray(compute(np.eye(7, dtype=np.float32), seeds, eligible, parents=98_000, epsilon=0.0))
    pairs = np.bincount(winners[::2] * 7 + winners[1::2], minlength=49)
    assert ((pairs - 1000) ** 2 / 1000).sum() < 95, pairs  # 48 degrees: p = 7e-5


@both
def test_another_seed_gives_other_parents(compute):
    scores, _, eligible = draw(np.random.default_rng(6), (20, 4), "ties")
    seen = {tuple(compute(scores, np.array(s, np.uint32), eligible).tolist()) for s in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(seen) == 4


@both
@pytest.mark.parametrize("epsilon", [None, 0.0])
def test_nan_loses_on_its_case_only(compute, epsilon):
    scores, seeds, eligible = draw(np.random.default_rng(7), (5, 3))
    scores[2] = [np.nan, 9, 9]
    winners = np.asarray(compute(scores, seeds, eligible, parents=300, epsilon=epsilon))
    assert 0.5 < (winners == 2).mean() < 0.8
    scores[2] = np.nan
    assert not (np.asarray(compute(scores, seeds, eligible, parents=300, epsilon=epsilon)) == 2).any()


@both
def test_margins_are_of_the_eligible_only(compute):
    scores, seeds, eligible = draw(np.random.default_rng(8), (20, 4), "masked")
    eligible[:2] = True, False
    spoilt = np.where(eligible[:, None], scores, np.float32(1e6))
    np.testing.assert_array_equal(compute(spoilt, seeds, eligible), compute(scores, seeds, eligible))
    assert eligible[np.asarray(compute(scores, seeds, eligible))].all()


def test_everybody_is_eligible_by_default_and_a_jax_key_gives_the_seeds():
    scores, _, eligible = draw(np.random.default_rng(9), (20, 4))
    seeds = jax.random.bits(jax.random.key(0), (2,))
    np.testing.assert_array_equal(lexicase(scores, seeds, 30), by_op(scores, seeds, eligible))


def test_transposed_and_sliced_operands():
    scores, seeds, _ = draw(np.random.default_rng(10), (6, 40), "ties")
    want = by_op(np.ascontiguousarray(scores.T[::2]), seeds, np.ones(20, bool))
    got = jax.jit(lambda x, s: lexicase(x.T[::2], s[::-1], 30))(scores, np.ascontiguousarray(seeds[::-1]))
    np.testing.assert_array_equal(got, want)


@both
def test_vmap(compute):
    scores, seeds, eligible = draw(np.random.default_rng(11), (4, 20, 6), "ties")
    want = compute(scores, seeds, eligible)
    np.testing.assert_array_equal(jax.jit(jax.vmap(compute))(scores, seeds, eligible), want)
    got = jax.vmap(compute, in_axes=(None, 0, None), out_axes=1)(scores[0], seeds, eligible[0])
    np.testing.assert_array_equal(got.T, [compute(scores[0], s, eligible[0]) for s in seeds])


def test_scan_and_while_loop():
    scores, seeds, eligible = (jnp.asarray(a) for a in draw(np.random.default_rng(12), (4, 20, 6), "ties"))
    want = by_op(scores, seeds, eligible)
    _, scanned = jax.lax.scan(lambda c, a: (c, by_op(*a)), 0, (scores, seeds, eligible))
    np.testing.assert_array_equal(scanned, want)

    def body(state):
        i, winners = state
        return i + 1, winners.at[i].set(lexicase(scores[i], seeds[i], 30))

    loop = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros((4, 30), jnp.int32))))
    np.testing.assert_array_equal(loop()[1], want)


def test_no_derivative_flows_through_the_choice():
    scores, seeds, _ = draw(np.random.default_rng(13), (5, 3))
    got = jax.jit(jax.grad(lambda x: x[lexicase(x, seeds, 1)[0]].sum()))(scores)
    want = np.zeros((5, 3))
    want[int(lexicase(scores, seeds, 1)[0])] = 1
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    [
        ("scores", np.zeros(4, "f"), ValueError, r"must have shape \(..., K, C\), got \(4,\)"),
        ("scores", np.zeros((4, 3), "i"), TypeError, r"must be float32, got int32; use .astype\(jnp.float32\)"),
        ("scores", jax.ShapeDtypeStruct((2**31, 2), np.float32), ValueError, r"must have K < 2\*\*31, got 2147483648"),
        ("scores", jax.ShapeDtypeStruct((2, 2**31), np.float32), ValueError, r"must have C < 2\*\*31, got 2147483648"),
        ("parents", 2**31, ValueError, r"must be below 2\*\*31, got 2147483648"),
        ("seeds", np.zeros((4, 2), np.uint32), ValueError, r"must have shape \(2,\), got \(4, 2\)"),
        ("seeds", np.zeros(2, "i"), TypeError, r"must be uint32, got int32; jax.random.bits\(key, \(2,\)\) gives such"),
        ("eligible", np.ones(3, bool), ValueError, r"must have shape \(4,\), got \(3,\)"),
        ("eligible", np.ones(4, "f"), TypeError, r"must be bool, got float32"),
        ("parents", -1, ValueError, r"must be an integer and not negative, got -1"),
        ("parents", 2.0, ValueError, r"must be an integer and not negative, got 2.0"),
        ("epsilon", -0.5, ValueError, r"must be None, or finite and not negative, got -0.5"),
        ("epsilon", float("inf"), ValueError, r"must be None, or finite and not negative, got inf"),
    ],
)
def test_errors_name_the_argument(argument, value, error, text):
    arguments = {"scores": np.zeros((4, 3), "f"), "seeds": np.zeros(2, np.uint32), argument: value}
    static = {name: arguments.pop(name, default) for name, default in (("parents", 5), ("epsilon", None))}
    with pytest.raises(error, match=f"lexicase: `{argument}` {text}"):
        jax.eval_shape(functools.partial(lexicase, **static), **arguments)


@needs_native
def test_compiled_code_holds_the_custom_call_and_no_conditional():
    text = by_op.lower(*draw(np.random.default_rng(0), (3, 2))).compile().as_text()
    assert f'custom_call_target="{TARGET}"' in text
    assert " conditional(" not in text


def test_works_under_strict_jax_and_x64():
    data = draw(np.random.default_rng(14), (2, 20, 3), "special")

    def compute(scores, seeds, eligible):
        return lexicase(scores, seeds, 30, eligible=eligible), definition(scores, seeds, eligible, 30, None)

    for got in strict_and_wide(compute, data):
        check(got, *data)
