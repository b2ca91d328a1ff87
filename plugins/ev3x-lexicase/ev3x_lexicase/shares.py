"""How often each candidate would be chosen by lexicase selection, estimated from tournaments."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from ev3x import ops

TARGET = "ev3x_lexicase_votes"
VOTES = 1 << 16  # that a tournament hands out
MOST = VOTES - 1  # tournaments: all their votes fit in 32 bits
_TINY = float(np.finfo(np.float32).tiny)  # the least number that is not subnormal


def selection_shares(
    scores: ArrayLike,
    words: ArrayLike,
    tournaments: int,
    *,
    epsilon: float | None = None,
    eligible: ArrayLike | None = None,
    counts: ArrayLike | None = None,
) -> Array:
    """Returns f32[..., K], the chance of each of K candidates to be chosen by lexicase selection, estimated.

    `scores` is float32 [..., K, n], the larger the better, on n cases; `words` uint32 [..., 2], for instance
    jax.random.bits(key, (2,)); `eligible` bool [..., K], who takes part, and `counts` bool [..., n], the cases that
    decide: all by default. `tournaments`, from 1 to 65535, and `epsilon` are static.

    In each tournament the cases come in a random order. On each, those within `epsilon` of the best that is still in
    remain, until one does or the cases are used up; those left then share the tournament. `epsilon=None` is
    epsilon-lexicase with the semi-dynamic threshold (La Cava et al. 2016, section 3.2): epsilon is each case's median
    absolute deviation, over all eligible candidates with a finite score. `epsilon=0` is plain lexicase selection
    (Spector 2012).

    To compute the chances themselves is NP-hard (Dolson 2023, arXiv 2301.06724). Two things make the estimate better
    than a count of winners, and leave it unbiased: tournaments begin with one case after the other, in a random order;
    and two candidates that are left share the tournament as often as each would win it, which is known: the next case
    on which they are apart decides, and each such case is as likely to come first. So two candidates get their exact
    chances, and the standard error is at most sqrt(p (1 - p) / tournaments), mostly far less.

    NaN counts as minus infinity, subnormal values as zero. Shares add up to 1, less at most K / 65536 where ties are
    shared; to 0 if nobody is eligible. The same words give the same bits, in native code and in `definition`. Native
    code works in memory for 3n + 2K numbers, `definition` for [..., tournaments, n]. Works under jit, vmap and scan;
    operands that are sharded are gathered. Shares have no derivative. Raises ValueError or TypeError at trace time,
    naming the argument.
    """
    x, w, allowed, cases = _checked(scores, words, eligible, counts)
    if isinstance(tournaments, bool) or not isinstance(tournaments, int | np.integer) or not 1 <= tournaments <= MOST:
        raise ValueError(
            f"selection_shares: `tournaments` must be an integer from 1 to {MOST}, that is known when traced, "
            f"got {tournaments!r}"
        )
    if epsilon is not None and not 0 <= epsilon <= float(np.finfo(np.float32).max):
        raise ValueError(
            f"selection_shares: `epsilon` must be None, or finite in float32 and not negative, got {epsilon!r}"
        )

    x = jnp.where(jnp.isnan(x), -jnp.inf, _flush(lax.stop_gradient(x)))
    margin = None if epsilon is None else float(np.float32(epsilon) if epsilon >= _TINY else 0)
    call, portable = (functools.partial(f, tournaments=int(tournaments), epsilon=margin) for f in (native, definition))
    votes = ops.choose(TARGET, call, portable, x, w, allowed, cases)
    return votes.astype(jnp.float32) * np.float32(1 / (VOTES * tournaments))


def native(
    scores: Array, words: Array, eligible: Array, counts: Array, tournaments: int, epsilon: float | None
) -> Array:
    """Returns u32[..., K], the votes of all tournaments: csrc/shares.h, called by csrc/native.cc."""
    *lead, k, n = scores.shape
    shapes = [(k, jnp.uint32), (2 * n + k, jnp.uint32), (n + k, jnp.float32)]  # votes, and memory to work in
    results = [jax.ShapeDtypeStruct((*lead, size), dtype) for size, dtype in shapes]
    options = {"tournaments": np.int32(tournaments), "epsilon": np.float32(-1 if epsilon is None else epsilon)}
    return ops.custom_call(TARGET, results, scores, words, eligible, counts, **options)[0]


@functools.partial(jax.jit, static_argnames=("tournaments", "epsilon"))
def definition(
    scores: Array, words: Array, eligible: Array, counts: Array, tournaments: int, epsilon: float | None
) -> Array:
    """Returns what `native` does, in plain jnp: the oracle and the fallback.

    Scores have no NaN, and neither they nor epsilon subnormal values.
    """
    row = (*scores.shape[:-2], scores.shape[-1])
    margins = _deviations(scores, eligible) if epsilon is None else jnp.full(row, epsilon, jnp.float32)
    problems = [
        x.reshape(math.prod(scores.shape[:-2]), *x.shape[scores.ndim - 2 :])
        for x in (scores, margins, words, eligible, counts)
    ]
    return jax.vmap(functools.partial(_solve, tournaments=tournaments))(*problems).reshape(scores.shape[:-1])


def _cases() -> dict[str, tuple[np.ndarray, ...]]:
    rng = ops.StoredTest.numbers()
    scores, words = rng.randint(-20, 20, (2, 7, 12)) / 10, rng.randint(0, 2**32, (2, 2), dtype=np.uint32)
    eligible, counts = rng.random_sample((2, 7)) < 0.9, rng.random_sample((2, 12)) < 0.9
    return {"small": (scores.astype(np.float32), words, eligible, counts)}


SELF_TEST = ops.StoredTest(
    TARGET,
    functools.partial(native, tournaments=40, epsilon=None),
    functools.partial(definition, tournaments=40, epsilon=None),
    _cases,
    view=lambda votes: {"votes": votes},
    folder=Path(__file__).parent,
)
"""After a change, `python -c "from ev3x_lexicase.shares import SELF_TEST; SELF_TEST.store()"`."""


def _solve(scores: Array, margins: Array, words: Array, eligible: Array, counts: Array, *, tournaments: int) -> Array:
    """u32[K] for one problem, all tournaments side by side."""
    k, n = scores.shape
    if not k:
        return jnp.zeros(0, jnp.uint32)
    numbers, cases = jnp.arange(tournaments, dtype=jnp.uint32), jnp.arange(n, dtype=jnp.uint32)
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.concatenate([numbers, VOTES + cases]))
    streams, shuffled = keys[:tournaments], _words(keys[tournaments:])
    counted = counts.sum(dtype=jnp.uint32)
    cases = lax.sort((~counts, shuffled, cases), num_keys=2)[2].astype(jnp.int32)  # those that count come first

    def meet(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """All tournaments meet their case number t; `order` is shuffled up to there (Fisher and Yates)."""
        t, order, pool = state
        random = jnp.where(t > 0, _words(jax.vmap(jax.random.fold_in, (0, None))(streams, t)), numbers)
        drawn = (t + random % (counted - t)).astype(jnp.int32)[:, None]
        case = jnp.take_along_axis(order, drawn, 1)
        here = lax.dynamic_index_in_dim(order, t.astype(jnp.int32), 1)
        order = jnp.put_along_axis(order, drawn, here, 1, inplace=False)
        score = scores.T[case[:, 0]]
        best = jnp.where(pool, score, -jnp.inf).max(1, keepdims=True)
        undecided = pool.sum(1, keepdims=True) > 2
        return t + 1, order, pool & (~undecided | (score >= _bar(best, margins[case])))

    def more(state: tuple[Array, Array, Array]) -> Array:
        t, _, pool = state
        return (t < counted) & (pool.sum(1) > 2).any()

    order = jnp.broadcast_to(cases, (tournaments, n))
    pool = jnp.broadcast_to(eligible, (tournaments, k))
    if n:
        pool = lax.while_loop(more, meet, (jnp.uint32(0), order, pool))[2]

    size = pool.sum(1, dtype=jnp.uint32)
    first, last = jnp.argmax(pool, axis=1), k - 1 - jnp.argmax(pool[:, ::-1], axis=1)
    a, b = scores[first], scores[last]
    wins, losses = (
        (counts[None] & (loser < _bar(winner, margins[None]))).sum(1).astype(jnp.float32)
        for winner, loser in ((a, b), (b, a))
    )
    share = jnp.where(wins + losses > 0, wins / jnp.maximum(wins + losses, 1), 0.5)
    ahead = jnp.floor(VOTES * share + 0.5).astype(jnp.uint32)[:, None]
    of_two = jnp.where(jnp.arange(k)[None] == first[:, None], ahead, VOTES - ahead)
    each = jnp.where(size[:, None] == 2, of_two, (VOTES // jnp.maximum(size, 1))[:, None])
    return jnp.where(pool, each, 0).sum(0, dtype=jnp.uint32)


def _words(keys: Array) -> Array:
    """A random u32 of each key."""
    return jax.random.key_data(keys)[..., 1]


def _bar(best: Array, margin: Array) -> Array:
    return _flush(best - margin)


def _flush(x: Array) -> Array:
    """Subnormal numbers made zero: XLA may or may not do so."""
    return jnp.where(jnp.abs(x) < _TINY, 0, x)


def _deviations(x: Array, eligible: Array) -> Array:
    """f32[..., n], median absolute deviation of the finite scores of eligible candidates; 0 without any."""
    *lead, k, n = x.shape
    if not k:
        return jnp.zeros((*lead, n), jnp.float32)
    known = eligible[..., None] & jnp.isfinite(x)
    number = known.sum(-2, dtype=jnp.int32, keepdims=True)

    def median(values: Array) -> Array:
        ascending = jnp.sort(jnp.where(known, values, jnp.inf), axis=-2)
        low, high = (jnp.take_along_axis(ascending, at, -2) for at in (jnp.maximum(number - 1, 0) // 2, number // 2))
        return _flush(_flush(0.5 * low) + _flush(0.5 * high))

    # No number is infinitely far from another: a distance of the largest ones is cut off.
    apart = jnp.minimum(_flush(jnp.abs(x - median(x))), np.finfo(np.float32).max)
    return jnp.where(number > 0, median(apart), 0)[..., 0, :]


def _checked(
    scores: ArrayLike, words: ArrayLike, eligible: ArrayLike | None, counts: ArrayLike | None
) -> tuple[Array, Array, Array, Array]:
    x = jnp.asarray(scores)
    if x.ndim < 2:
        raise ValueError(f"selection_shares: `scores` must have shape (..., K, n), got {x.shape}")
    lead, (k, n) = x.shape[:-2], x.shape[-2:]
    for axis, size in (("K", k), ("n", n)):
        if size >= 2**31:
            raise ValueError(f"selection_shares: `scores` must have {axis} < 2**31, got {size}")
    given = {
        "scores": (x, x.shape, jnp.float32),
        "words": (jnp.asarray(words), (*lead, 2), jnp.uint32),
        "eligible": (jnp.ones((*lead, k), bool) if eligible is None else jnp.asarray(eligible), (*lead, k), jnp.bool_),
        "counts": (jnp.ones((*lead, n), bool) if counts is None else jnp.asarray(counts), (*lead, n), jnp.bool_),
    }
    for name, (array, shape, dtype) in given.items():
        if array.shape != shape:
            raise ValueError(f"selection_shares: `{name}` must have shape {shape}, got {array.shape}")
        if array.dtype != dtype:
            raise TypeError(f"selection_shares: `{name}` must be {jnp.dtype(dtype).name}, got {array.dtype}")
    return x, given["words"][0], given["eligible"][0], given["counts"][0]
