"""The operation against lexicase in plain Python, native and definition alike, and under JAX's transformations."""

import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import lexicase_oracle as oracle
import numpy as np
import pytest
from ev3x_lexicase import selection_shares, shares
from hypothesis import given, settings
from hypothesis import strategies as st

from ev3x import ops

needs_native = pytest.mark.skipif(not ops.native.ensure(shares.TARGET), reason="native code is not in use here")
quick = settings(deadline=None, max_examples=20)
MOST = 3e38
SHAPE = (8, 11)  # of most tests: a program is compiled once
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)


def votes(form, scores, words, eligible, counts, tournaments=40, epsilon=None):
    """Whole numbers, by "native" code or by the "definition"."""
    compute = jax.jit(getattr(shares, form), static_argnames=("tournaments", "epsilon"))
    scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    return np.asarray(compute(scores, words, eligible, counts, tournaments=tournaments, epsilon=epsilon))


both = pytest.mark.parametrize("form", [pytest.param("native", marks=needs_native), "definition"])


def draw(rng, shape, kind="normal"):
    """(scores, words, eligible, counts) for shape (..., K, n); scores are such that float32 is exact."""
    scores = (rng.normal(size=shape) * 8).round().astype(np.float32) / 8
    eligible, counts = np.ones(shape[:-1], bool), np.ones((*shape[:-2], shape[-1]), bool)
    if kind == "ties":
        scores = rng.integers(0, 2, shape).astype(np.float32)
    elif kind == "constant":
        scores = np.full(shape, 0.125, np.float32)
    elif kind == "special":
        scores = np.where(rng.random(shape) < 0.4, rng.choice(SPECIAL, shape), scores)
    elif kind == "masked":
        eligible, counts = rng.random(eligible.shape) < 0.6, rng.random(counts.shape) < 0.5
    elif kind == "nothing":
        eligible, counts = rng.random(eligible.shape) < 0.5, np.zeros_like(counts)
    elif kind == "nobody":
        eligible = np.zeros_like(eligible)
    return scores, rng.integers(0, 2**32, (*shape[:-2], 2), dtype=np.uint32), eligible, counts


def check(got, scores, words, eligible, counts, **options):
    options = {"tournaments": 40, "epsilon": None} | options
    assert got.dtype == np.uint32 and got.shape == scores.shape[:-1]
    for at in np.ndindex(scores.shape[:-2]):
        want = oracle.votes(scores[at], words[at], eligible[at], counts[at], **options)
        np.testing.assert_array_equal(got[at], want)


@pytest.mark.parametrize(
    ("key", "counter", "result"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((oracle.MASK,) * 2, (oracle.MASK,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_oracle_draws_as_the_authors_of_threefry_do(key, counter, result):
    assert oracle.threefry(key, counter) == result  # kat_vectors of Random123


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["normal", "ties", "constant", "special", "masked", "nothing", "nobody"]),
    epsilon=st.sampled_from([None, 0.5]),
)
def test_against_plain_python(form, seed, kind, epsilon):
    data = draw(np.random.default_rng(seed), SHAPE, kind)
    check(votes(form, *data, epsilon=epsilon), *data, epsilon=epsilon)


@needs_native
def test_every_size():
    rng = np.random.default_rng(1)
    for candidates in (0, 1, 2, 3, 63, 64, 65):
        for cases in (0, 1, 2, 17, 100) if candidates == 3 else (8,):
            data = draw(rng, (candidates, cases), "ties")
            check(votes("native", *data), *data)


@pytest.mark.parametrize("shape", [(0, 2), (3, 0), (1, 1), (2, 0, 4), (0, 3, 4)])
def test_the_definition_at_the_smallest_sizes(shape):
    data = draw(np.random.default_rng(2), shape)
    check(votes("definition", *data), *data)


@pytest.mark.bits
@needs_native
@pytest.mark.parametrize("epsilon", [None, 0.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "special", "masked"])
def test_native_equals_definition_bit_for_bit(kind, epsilon):
    rng = np.random.default_rng(3)
    scores, *rest = draw(rng, (150, 333), kind)
    # Numbers as they come: differences are rounded, and some overflow or are subnormal.
    scores = (scores + rng.normal(size=scores.shape)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.05] = MOST
    scores[rng.random(scores.shape) < 0.05] = -MOST
    scores[:, :20] = rng.choice(np.array([0, 1.2e-38, 1.3e-38, -1.2e-38, 2.5e-38], np.float32), (150, 20))
    got = [votes(form, scores, *rest, tournaments=500, epsilon=epsilon) for form in ("native", "definition")]
    np.testing.assert_array_equal(*got)


@pytest.mark.parametrize("epsilon", [None, 0.0, 0.5])
@pytest.mark.parametrize("kind", ["normal", "ties"])
def test_shares_are_the_exact_chances_but_for_chance(kind, epsilon):
    rng, tournaments = np.random.default_rng(4), 20_000
    for _ in range(4):
        scores, words, eligible, _ = draw(rng, (6, 5), kind)
        exact = np.array(oracle.chances(scores.astype(np.float64), epsilon), np.float64)
        got = shared(scores, words, eligible, tournaments=tournaments, epsilon=epsilon)
        # The standard error is at most that of counting winners; and votes are whole numbers.
        assert (np.abs(got - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / tournaments) + 1e-4).all(), (got, exact)
        assert got.sum() == pytest.approx(1, abs=6 / 65536)


@functools.partial(jax.jit, static_argnames=("tournaments", "epsilon"))
def shared(scores, words, eligible=None, counts=None, tournaments=40, epsilon=None):
    return selection_shares(scores, words, tournaments, epsilon=epsilon, eligible=eligible, counts=counts)


def test_the_standard_error_is_no_larger_than_that_of_counting_winners():
    rng, tournaments, repeats = np.random.default_rng(5), 10, 2000
    scores = draw(rng, (8, 6), "ties")[0]
    exact = np.array(oracle.chances(scores.astype(np.float64), 0.0), np.float64)
    words = rng.integers(0, 2**32, (repeats, 2), dtype=np.uint32)
    many = jax.vmap(lambda w: shared(scores, w, tournaments=tournaments, epsilon=0.0))(words)
    counting = exact * (1 - exact) / tournaments
    assert (exact > 0.05).sum() > 2, "the case no longer shows what it is for"
    assert (np.var(many, 0) <= 0.9 * counting + 1e-9).all()
    assert (np.abs(np.mean(many, 0) - exact) <= 4.5 * np.sqrt(counting / repeats) + 1e-4).all()


def test_two_candidates_get_their_exact_chances():
    scores, words, eligible, _ = draw(np.random.default_rng(6), (9, 30))
    eligible[:] = False
    eligible[[2, 7]] = True
    ahead, behind = (scores[2] > scores[7]).sum(), (scores[2] < scores[7]).sum()
    got = shared(scores, words, eligible, tournaments=1, epsilon=0.0)
    assert got[2] == pytest.approx(ahead / (ahead + behind), abs=1e-5) and got[2] + got[7] == 1


def test_whoever_is_alone_or_equal_to_all():
    words = np.array([1, 2], np.uint32)
    assert shared(np.array([[0.5, np.nan]], np.float32), words).tolist() == [1]
    np.testing.assert_allclose(shared(np.zeros((3, 4), np.float32), words), 1 / 3, atol=1 / 65536)
    nobody = np.zeros(3, bool)
    assert shared(np.zeros((3, 4), np.float32), words, nobody).tolist() == [0, 0, 0]


@both
def test_when_the_first_case_decides_all_cases_are_begun_with_alike(form):
    scores, words, eligible, counts = draw(np.random.default_rng(7), SHAPE)
    scores += np.arange(8, dtype=np.float32)[:, None] / 128  # no ties
    got = votes(form, scores, words, eligible, counts, tournaments=22, epsilon=0.0)
    assert got.tolist() == (2 * 65536 * np.bincount(scores.argmax(0), minlength=8)).tolist()


@both
def test_tournaments_do_not_depend_on_how_many_follow(form):
    data = draw(np.random.default_rng(8), SHAPE, "ties")
    more, fewer = (votes(form, *data, tournaments=n).astype(np.int64) for n in (41, 40))
    assert ((more - fewer) >= 0).all() and (more - fewer).sum() > 65536 - 8


@both
def test_cases_and_candidates_that_do_not_count_change_nothing(form):
    scores, words, eligible, counts = draw(np.random.default_rng(9), SHAPE, "masked")
    want = votes(form, scores, words, eligible, counts)
    scores[~eligible] = 100
    scores[:, ~counts] = np.nan
    np.testing.assert_array_equal(votes(form, scores, words, eligible, counts), want)


def test_nan_loses_and_subnormal_numbers_are_zero():
    words = np.array([3, 4], np.uint32)
    scores = np.array([[1, 1e-40], [np.nan, 0], [1, -1e-40], [0, np.nan]], np.float32)
    assert shared(scores, words, epsilon=0.0).tolist() == [0.5, 0, 0.5, 0]
    assert shared(scores, words, epsilon=1e-40).tolist() == [0.5, 0, 0.5, 0]


@both
def test_one_call_for_all_leading_axes_is_a_call_for_each(form):
    data = draw(np.random.default_rng(10), (2, 3, *SHAPE), "masked")
    whole = votes(form, *data)
    each = [[votes(form, *(a[i, j] for a in data)) for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(whole, each)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_under_vmap_scan_and_eagerly(mode):
    scores, words, *_ = draw(np.random.default_rng(11), (3, *SHAPE))
    with ops.native.using(mode):
        alone = selection_shares(scores[0], words[0], 40)
        mapped = jax.jit(jax.vmap(lambda w: selection_shares(scores[0], w, 40)))(words)  # all get the same scores
        scanned = jax.jit(lambda *a: jax.lax.scan(lambda c, x: (c, selection_shares(*x, 40)), 0, a)[1])(scores, words)
    np.testing.assert_array_equal(alone, shared(scores[0], words[0]))
    np.testing.assert_array_equal(mapped, [shared(scores[0], w) for w in words])
    np.testing.assert_array_equal(scanned, [shared(s, w) for s, w in zip(scores, words, strict=True)])


@needs_native
def test_calls_at_once_from_several_threads_give_the_same_bits():
    data = draw(np.random.default_rng(12), (60, 200), "ties")
    compute = jax.jit(functools.partial(shares.native, tournaments=300, epsilon=None))
    want = compute(*data)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: compute(*data), range(16)):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_with_64_bit_types_enabled(mode):
    if not hasattr(jax, "enable_x64"):
        pytest.skip("this jax has no jax.enable_x64 to switch on for a while")
    data = draw(np.random.default_rng(13), SHAPE, "masked")
    want = shared(*data)
    with jax.enable_x64(True), ops.native.using(mode):
        got = jax.jit(lambda s, w, e, c: selection_shares(s, w, 40, eligible=e, counts=c))(*data)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


def test_shares_have_no_derivative():
    scores, words, *_ = draw(np.random.default_rng(14), SHAPE)
    assert not np.any(jax.grad(lambda s: jnp.vdot(shared(s, words), jnp.arange(8.0)))(scores))


GOOD = {"scores": np.zeros((2, 3), np.float32), "words": np.zeros(2, np.uint32), "tournaments": 5}


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        ({"scores": np.zeros(3, np.float32)}, ValueError, r"`scores` must have shape \(\.\.\., K, n\), got \(3,\)"),
        ({"scores": np.zeros((2, 3), np.int32)}, TypeError, "`scores` must be float32, got int32"),
        ({"words": np.zeros(3, np.uint32)}, ValueError, r"`words` must have shape \(2,\), got \(3,\)"),
        ({"words": np.zeros(2, np.int32)}, TypeError, "`words` must be uint32, got int32"),
        ({"eligible": np.ones(3, bool)}, ValueError, r"`eligible` must have shape \(2,\), got \(3,\)"),
        ({"counts": np.ones(3, np.float32)}, TypeError, "`counts` must be bool, got float32"),
        ({"tournaments": 0}, ValueError, "`tournaments` must be an integer from 1 to 65535.*, got 0"),
        ({"tournaments": 65536}, ValueError, "`tournaments` must be an integer from 1 to 65535.*, got 65536"),
        ({"epsilon": -1.0}, ValueError, "`epsilon` must be None, or finite in float32 and not negative, got -1.0"),
        (
            {"epsilon": float("nan")},
            ValueError,
            "`epsilon` must be None, or finite in float32 and not negative, got nan",
        ),
    ],
)
def test_wrong_arguments_are_named(bad, error, text):
    with pytest.raises(error, match=f"^selection_shares: {text}"):
        selection_shares(**(GOOD | bad))


@needs_native
@pytest.mark.parametrize(
    ("shapes", "tournaments", "text"),
    [
        (((3,), (2,), (2,), (3,), (2,)), 1, r"scores must be \[\.\.\., K, n\]"),
        (((2, 3), (3,), (2,), (3,), (2,)), 1, "the shape of words does not fit the scores'"),
        (((2, 3), (2,), (3,), (3,), (2,)), 1, "the shape of eligible does not fit the scores'"),
        (((4, 2, 3), (4, 2), (4, 2), (1, 3), (4, 2)), 1, "the shape of counts does not fit the scores'"),
        (((2, 3), (2,), (2,), (3,), (3,)), 1, "the shape of votes does not fit the scores'"),
        (((2, 3), (2,), (2,), (3,), (2,)), 65536, "tournaments must be from 1 to 65535"),
    ],
)
def test_the_handler_trusts_nobody(shapes, tournaments, text):
    *operands, result = shapes
    dtypes = (np.float32, np.uint32, bool, bool)
    sizes = ((2 * 3 + 2, np.uint32), (3 + 2, np.float32))
    results = [jax.ShapeDtypeStruct(result, np.uint32), *(jax.ShapeDtypeStruct((n,), t) for n, t in sizes)]
    with pytest.raises(RuntimeError, match=f"lexicase: {text}"):
        ops.custom_call(
            shares.TARGET,
            results,
            *(jnp.zeros(s, t) for s, t in zip(operands, dtypes, strict=True)),
            tournaments=np.int32(tournaments),
            epsilon=np.float32(0),
        )[0].block_until_ready()
