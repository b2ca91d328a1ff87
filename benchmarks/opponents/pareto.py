"""Opponents of pareto_ranks: (front number i32[K], crowding distance f32[K]) of objectives f32[K, M]."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .forms import Form, Forms
from .ranking import ordered

Fronts = Callable[[Array], Array]


# Crowding distances.


def shares(front: Array, values: Array) -> Array:
    """Each one's share of its front's range, along the last axis of fronts one after another, inf at their ends."""
    size, axis = values.shape[-1], values.ndim - 1
    edge = jnp.ones((*front.shape[:-1], 1), bool)
    change = front[..., 1:] != front[..., :-1]
    first, last = jnp.concatenate([edge, change], -1), jnp.concatenate([change, edge], -1)
    at = jnp.broadcast_to(jnp.arange(size), front.shape)
    begin = lax.cummax(jnp.where(first, at, 0), axis=axis)
    end = lax.cummin(jnp.where(last, at, size - 1), axis=axis, reverse=True)
    span = jnp.take_along_axis(values, end, -1) - jnp.take_along_axis(values, begin, -1)
    gap = jnp.roll(values, -1, -1) - jnp.roll(values, 1, -1)
    share = jnp.where(span > 0, gap / jnp.where(span > 0, span, 1), 0)
    return jnp.where(first | last, jnp.inf, share)


def crowd_by_tuples(x: Array, front: Array) -> Array:
    """A sort of (front, value, index) for each objective, and one back."""
    values = x.T
    fronts, index = (jnp.broadcast_to(a, values.shape) for a in (front, jnp.arange(x.shape[0], dtype=jnp.int32)))
    fronts, values, index = lax.sort((fronts, values, index), dimension=1, num_keys=2)
    return lax.sort((index, shares(fronts, values)), dimension=1, num_keys=1)[1].sum(0)


def places(x: Array) -> Array:
    """i32[M, K], indices by rising value: a sort of int64, key and index in one."""
    keys = ordered(x.T)
    with jax.enable_x64(True):
        wide = (keys.astype(jnp.int64) << np.int64(32)) | jnp.arange(x.shape[0], dtype=jnp.int64)
        return lax.sort(wide, dimension=1).astype(jnp.int32)


def crowd(x: Array, front: Array) -> Array:
    """Two sorts of one operand for each objective, (value, index) and (front, place), and a scatter back."""
    size, values = x.shape[0], x.T
    order = places(x)
    keys = front[order] * size + jnp.arange(size, dtype=jnp.int32)  # up to 46,340 candidates
    keys = lax.sort(keys, dimension=1)
    index = jnp.take_along_axis(order, keys % size, 1)
    share = shares(keys // size, jnp.take_along_axis(values, index, 1))
    return jnp.zeros(size, jnp.float32).at[index.reshape(-1)].add(share.reshape(-1))


# Fronts by a matrix of who dominates whom.


def matrix(x: Array) -> Array:
    """bool[K, K]: the row's candidate dominates the column's."""
    better, worse = x[:, None], x[None]
    return (better >= worse).all(-1) & (better > worse).any(-1)


def columns(x: Array) -> Array:
    """The same, one objective after another, without [K, K, M]."""
    at_least, above = jnp.ones((len(x), len(x)), bool), jnp.zeros((len(x), len(x)), bool)
    for values in x.T:
        at_least &= values[:, None] >= values
        above |= values[:, None] > values
    return at_least & above


def peeled(dominated: Callable[[Array], Array], size: int) -> Array:
    """Front by front, those that none of the remaining dominates."""

    def peel(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        front, remaining, rank = state
        now = remaining & ~dominated(remaining)
        return front + 1, remaining & ~now, jnp.where(now, front, rank)

    start = jnp.int32(0), jnp.ones(size, bool), jnp.zeros(size, jnp.int32)
    return lax.while_loop(lambda state: state[1].any(), peel, start)[2]


def peel_any(x: Array) -> Array:
    """Any of the remaining in each column of the boolean matrix."""
    dominates = matrix(x)
    return peeled(lambda remaining: (dominates & remaining[:, None]).any(0), len(x))


def peel_matvec(x: Array) -> Array:
    """A product of the remaining with the matrix in float32."""
    dominates = columns(x).astype(jnp.float32)
    return peeled(lambda remaining: remaining.astype(jnp.float32) @ dominates > 0, len(x))


def decremental(x: Array) -> Array:
    """How many dominate each, less those of every front that goes."""
    dominates = columns(x).astype(jnp.float32)

    def peel(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        front, count, rank = state
        now = count == 0
        count = jnp.where(now, -1, count - now.astype(jnp.float32) @ dominates)
        return front + 1, count, jnp.where(now, front, rank)

    start = jnp.int32(0), dominates.sum(0), jnp.zeros(len(x), jnp.int32)
    return lax.while_loop(lambda state: (state[1] >= 0).any(), peel, start)[2]


def relaxed(x: Array) -> Array:
    """The longest chain of dominators, relaxed until nothing changes."""
    dominates = columns(x)

    def relax(state: tuple[Array, Array]) -> tuple[Array, Array]:
        rank = state[0]
        return jnp.where(dominates, rank[:, None] + 1, 0).max(0), rank

    zero = jnp.zeros(len(x), jnp.int32)
    return lax.while_loop(lambda state: (state[0] != state[1]).any(), relax, (zero, zero - 1))[0]


# Fronts without the matrix.


def dense(x: Array) -> Array:
    """i16[M, K]: each objective's values by their places, equal ones alike; these compare twice as fast."""
    order = places(x)
    values = jnp.take_along_axis(x.T, order, 1)
    change = jnp.pad(values[:, 1:] != values[:, :-1], ((0, 0), (1, 0)))
    number = change.cumsum(1).astype(jnp.int16)
    return jnp.zeros(number.shape, jnp.int16).at[jnp.arange(x.shape[1])[:, None], order].set(number)


def lexicographic(x: Array) -> tuple[Array, Array]:
    """(indices by falling rows, first objective first; i32[K], the same number for equal rows in that order)."""
    keys = [~ordered(values) for values in x.T]
    *keys, order = lax.sort((*keys, jnp.arange(len(x), dtype=jnp.int32)), num_keys=len(keys))
    change = jnp.stack([k[1:] != k[:-1] for k in keys]).any(0)
    return order, jnp.pad(change, (1, 0)).cumsum(dtype=jnp.int32)


def blocked(size: int) -> Fronts:
    """Falling rows, so many at a time: one more than the ranks before, then a relaxation among themselves."""

    def fronts(x: Array) -> Array:
        order, same = lexicographic(x)
        k, pad = len(x), -len(x) % size
        values = jnp.pad(dense(x)[:, order], ((0, 0), (0, pad)), constant_values=-1)
        same = jnp.pad(same, (0, pad), constant_values=-1)

        def over(a: Array, b: Array, i: Array, j: Array) -> Array:
            found = i[:, None] != j
            for p, q in zip(a, b, strict=True):
                found &= p[:, None] >= q
            return found

        def step(b: Array, rank: Array) -> Array:
            mine = lax.dynamic_slice_in_dim(values, b * size, size, 1)
            group = lax.dynamic_slice_in_dim(same, b * size, size)

            def earlier(c: Array, best: Array) -> Array:
                theirs = lax.dynamic_slice_in_dim(values, c * size, size, 1)
                their_group = lax.dynamic_slice_in_dim(same, c * size, size)
                ranks = lax.dynamic_slice_in_dim(rank, c * size, size)
                above = jnp.where(over(theirs, mine, their_group, group), (ranks + 1)[:, None], 0).max(0)
                return jnp.maximum(best, above)

            base = lax.fori_loop(0, b, earlier, jnp.zeros(size, jnp.int16))
            among = over(mine, mine, group, group) & jnp.tri(size, k=-1, dtype=bool).T

            def relax(state: tuple[Array, Array]) -> tuple[Array, Array]:
                now = state[0]
                return jnp.maximum(base, jnp.where(among, (now + 1)[:, None], 0).max(0)), now

            found = lax.while_loop(lambda s: (s[0] != s[1]).any(), relax, (base, base - 1))[0]
            return lax.dynamic_update_slice_in_dim(rank, found, b * size, 0)

        rank = lax.fori_loop(0, (k + pad) // size, step, jnp.zeros(k + pad, jnp.int16))
        return jnp.zeros(k, jnp.int32).at[order].set(rank[:k].astype(jnp.int32))

    return fronts


def relaxed_places(x: Array) -> Array:
    """The longest chain, with a matrix of bytes compared by places of 16 bits."""
    values = dense(x)
    _, same = lexicographic(x)
    order, _ = lexicographic(x)
    group = jnp.zeros(len(x), jnp.int32).at[order].set(same)
    dominates = group[:, None] != group
    for v in values:
        dominates &= v[:, None] >= v

    def relax(state: tuple[Array, Array]) -> tuple[Array, Array]:
        rank = state[0]
        return jnp.where(dominates, (rank + 1)[:, None], 0).max(0), rank

    zero = jnp.zeros(len(x), jnp.int16)
    return lax.while_loop(lambda s: (s[0] != s[1]).any(), relax, (zero, zero - 1))[0].astype(jnp.int32)


# Two objectives.


def sorted_pairs(x: Array) -> tuple[Array, Array, Array]:
    """(order, second objective, whether the row equals the one before) by falling first and second objective."""
    first, second, order = lax.sort(
        (~ordered(x[:, 0]), ~ordered(x[:, 1]), jnp.arange(len(x), dtype=jnp.int32)), num_keys=2
    )
    equal = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    return order, ~second, jnp.pad(equal, (1, 0))


def staircase(x: Array) -> Array:
    """A lax.scan by falling first objective: a binary search among the fronts' highest second objectives."""
    order, second, equal = sorted_pairs(x)
    size = len(x)

    def place(carry: tuple[Array, Array], row: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        tops, previous = carry  # falling; the front is the first whose top lies below
        value, same = row
        front = jnp.searchsorted(tops, ~value, side="right").astype(jnp.int32)
        front = jnp.where(same, previous, front)
        return (tops.at[front].set(~value), front), front

    start = jnp.full(size, 2**31 - 1, jnp.int32), jnp.int32(0)  # tops as ~value, so that they rise
    fronts = lax.scan(place, start, (second, equal))[1]
    return jnp.zeros(size, jnp.int32).at[order].set(fronts)


def maxima(x: Array) -> Array:
    """Front by front, those whose second objective passes all before them: a running maximum."""
    order, second, equal = sorted_pairs(x)
    least = np.int32(-(2**31))
    leader = lax.cummax(jnp.where(equal, 0, jnp.arange(len(x))))  # the first of equal rows

    def peel(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        front, remaining, rank = state
        values = jnp.where(remaining, second, least)
        before = jnp.pad(lax.cummax(values)[:-1], (1, 0), constant_values=least)
        now = (remaining & (values > before))[leader]
        return front + 1, remaining & ~now, jnp.where(now, front, rank)

    start = jnp.int32(0), jnp.ones(len(x), bool), jnp.zeros(len(x), jnp.int32)
    fronts = lax.while_loop(lambda state: state[1].any(), peel, start)[2]
    return jnp.zeros(len(x), jnp.int32).at[order].set(fronts)


def whole(fronts: Fronts, crowding: Form = crowd) -> Form:
    """Fronts and crowding."""

    def ranks(x: Array) -> tuple[Array, Array]:
        front = fronts(x)
        return front, crowding(x, front)

    return ranks


MATRIX = Forms(
    {"peeling, any": whole(peel_any, crowd_by_tuples)},
    {
        "peeling, matvec": whole(peel_matvec),
        "decremental counts": whole(decremental),
        "longest chain": whole(relaxed),
    },
)
MANY = Forms(
    MATRIX.natural,
    MATRIX.known,
    {f"falling rows, {b} at a time": whole(blocked(b)) for b in (64, 256)}
    | {"longest chain, places": whole(relaxed_places)},
)
STAIRCASE = Forms(MATRIX.natural, {"staircase": whole(staircase)}, {"running maxima": whole(maxima)} | dict(MANY.found))
