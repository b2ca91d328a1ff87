"""Opponents of lexicase: i32[parents] by epsilon-lexicase selection from scores f32[K, C], semi-dynamic threshold.

`seeds` is u32[2], the data of a threefry key.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from .forms import Forms
from .quantiles import floats
from .ranking import ordered

TOP = np.int32(2**31 - 1)


class Draws(NamedTuple):
    """What chance adds."""

    order: Array
    """i32[P, C], distinct numbers not negative: cases come by rising ones; the low bits are the case"""
    pick: Array
    """f32[P] in [0, 1), which of the survivors"""


def draws(seeds: Array, parents: int, cases: int) -> Draws:
    """Those of the tuned forms."""
    first, second = random.split(random.wrap_key_data(seeds, impl="threefry2x32"))
    bits = random.bits(first, (parents, cases), jnp.uint32) >> 1
    low = np.uint32((1 << (cases - 1).bit_length()) - 1)
    order = (bits & ~low) | jnp.arange(cases, dtype=jnp.uint32)
    return Draws(order.astype(jnp.int32), random.uniform(second, (parents,)))


def margins(x: Array) -> Array:
    """f32[C], median absolute deviations of x f32[C, K], by sorts of int32."""

    def median(a: Array) -> Array:
        k = a.shape[-1]
        a = lax.sort(ordered(a), dimension=1)
        return 0.5 * floats(a[:, (k - 1) // 2]) + 0.5 * floats(a[:, k // 2])

    return median(jnp.abs(x - median(x)[:, None]))


def chosen(pool: Array, pick: Array) -> Array:
    """i32: the index of one of those still in the pool, bool[K]."""
    number = pool.sum(dtype=jnp.int32)
    at = jnp.minimum((pick * number.astype(jnp.float32)).astype(jnp.int32), number - 1)
    return jnp.argmax(pool & (pool.astype(jnp.int32).cumsum() == at + 1)).astype(jnp.int32)


def natural(scores: Array, seeds: Array, parents: int) -> Array:
    """A while_loop over a permutation of the cases, under vmap over parents."""
    candidates, cases = scores.shape
    margin = jnp.median(jnp.abs(scores - jnp.median(scores, 0)), 0)

    def parent(key: Array) -> Array:
        first, second = random.split(key)
        order = random.permutation(first, cases)

        def meet(state: tuple[Array, Array]) -> tuple[Array, Array]:
            t, pool = state
            score = scores[:, order[t]]
            best = jnp.where(pool, score, -jnp.inf).max()
            return t + 1, pool & (score >= best - margin[order[t]])

        def undecided(state: tuple[Array, Array]) -> Array:
            return (state[0] < cases) & (state[1].sum() > 1)

        pool = lax.while_loop(undecided, meet, (jnp.int32(0), jnp.ones(candidates, bool)))[1]
        return random.choice(second, candidates, p=pool / pool.sum()).astype(jnp.int32)

    return jax.vmap(parent)(random.split(random.wrap_key_data(seeds, impl="threefry2x32"), parents))


def masked(
    scores: Array, seeds: Array, parents: int, batch: int, early: bool = True, first_known: bool = False
) -> Array:
    """A mask of candidates per parent; `batch` of them at a time (0: all), with or without an early exit."""
    candidates, cases = scores.shape
    x = scores.T
    margin = margins(x)
    low = np.int32((1 << (cases - 1).bit_length()) - 1)
    starts = x >= (x.max(-1) - margin)[:, None] if first_known else None

    def parent(draw: Draws) -> Array:
        def following(last: Array) -> Array:
            return jnp.where(draw.order > last, draw.order, TOP).min()

        def meet(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            t, last, pool = state
            now = following(last)
            case = now & low
            score = x[case]
            best = jnp.where(pool, score, -jnp.inf).max()
            return t + 1, now, pool & (score >= best - margin[case])

        def undecided(state: tuple[Array, Array, Array]) -> Array:
            return (state[0] < cases) & (state[2].sum() > 1)

        state = jnp.int32(0), jnp.int32(-1), jnp.ones(candidates, bool)
        if starts is not None:
            now = following(state[1])
            state = jnp.int32(1), now, starts[now & low]
        if early:
            state = lax.while_loop(undecided, meet, state)
        else:
            state = lax.fori_loop(1 if first_known else 0, cases, lambda _, s: meet(s), state)
        return chosen(state[2], draw.pick)

    every = draws(seeds, parents, cases)
    if batch == 0:
        return jax.vmap(parent)(every)
    return lax.map(parent, every, batch_size=None if batch == 1 else batch)


def compact(scores: Array, seeds: Array, parents: int, cap: int, batch: int = 0) -> Array:
    """Lists of at most `cap` survivors of each possible first case; masks where one has more."""
    candidates, cases = scores.shape
    cap = min(cap, candidates)
    x = scores.T
    margin = margins(x)
    low = np.int32((1 << (cases - 1).bit_length()) - 1)
    number = (x >= (x.max(-1) - margin)[:, None]).sum(-1, dtype=jnp.int32)

    def parent(pools: Array, draw: Draws) -> Array:
        now = draw.order.min()
        pool = pools[now & low]

        def meet(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            t, last, alive = state
            now = jnp.where(draw.order > last, draw.order, TOP).min()
            case = now & low
            score = x.reshape(-1)[case * candidates + pool]
            best = jnp.where(alive, score, -jnp.inf).max()
            return t + 1, now, alive & (score >= best - margin[case])

        def undecided(state: tuple[Array, Array, Array]) -> Array:
            return (state[0] < cases) & (state[2].sum() > 1)

        start = jnp.int32(1), now, jnp.arange(cap) < number[now & low]
        return pool[chosen(lax.while_loop(undecided, meet, start)[2], draw.pick)]

    def listed() -> Array:
        best = lax.top_k(x, cap)[1]  # the survivors are the best few, here by score and below by index
        pools = lax.sort(jnp.where(jnp.arange(cap) < number[:, None], best, candidates), dimension=1)
        every = draws(seeds, parents, cases)
        one = functools.partial(parent, jnp.minimum(pools, candidates - 1))
        return lax.map(one, every, batch_size=batch) if batch else jax.vmap(one)(every)

    def wide() -> Array:
        return masked(scores, seeds, parents, 64, first_known=True)

    return lax.cond(number.max() <= cap, listed, wide)


def maps(name: str, *batches: int, early: bool = True, first_known: bool = False) -> dict[str, Callable[..., Array]]:
    """Masks, so many parents at a time."""
    return {
        f"{name}, {'all' if b == 0 else f'map {b}'}": functools.partial(
            masked, batch=b, early=early, first_known=first_known
        )
        for b in batches
    }


FORMS = Forms(
    {"vmap of while_loop": natural},
    maps("masks", 0, 1, 8, 64) | maps("masks, no early exit", 0, 1, 64, early=False),
    maps("masks, first case once", 0, 1, 64, first_known=True)
    | {f"lists of {cap}": functools.partial(compact, cap=cap) for cap in (16, 32, 128)}
    | {f"lists of {cap}, map 64": functools.partial(compact, cap=cap, batch=64) for cap in (32, 128)},
)
