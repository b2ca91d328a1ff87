"""Vectors as parameters: one number for each parameter, or coordinates in a random subspace of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any
BITS = 32


def size(params: PyTree) -> int:
    """How many numbers can be moved: those of floating point leaves. ValueError when there is none."""
    total = sum(x.size for x in jax.tree.leaves(params) if _real(x))
    if not total:
        raise ValueError("the params hold no floating point numbers: there is nothing for a strategy to move")
    return total


def shifted(params: PyTree, steps: Array) -> PyTree:
    """params + steps[k] for each k: leaves [K, ...] of the same dtypes. `steps` is f[K, n], n = size(params).

    Each sum is rounded once, to the dtype of its leaf. Leaves without floating point numbers are repeated.
    """
    start = 0

    def part(x: Array) -> Array:
        nonlocal start
        here = steps[:, start : start + x.size]
        start += x.size
        return here

    return _added(params, (part(x) for x in jax.tree.leaves(params) if _real(x)), steps.shape[0])


def projected(params: PyTree, steps: Array, key: Array) -> PyTree:
    """params + P steps[k] for each k, with a random matrix P of +1/√d and -1/√d, made from the key.

    `steps` is f[K, d]. Of P there are never more than 32 columns of one leaf in memory: a random 32-bit word for each
    parameter holds its signs in 32 of them. Time: K·n·d multiplications, and n·⌈d/32⌉ random words.

    Sources: Li et al., ICLR 2018, arXiv 1804.08838 (training in a random subspace); Achlioptas, JCSS 66 (2003)
    (signs for normal numbers). There the columns have length 1; here √(n/d), so that a normal step of standard
    deviation s moves every parameter by s, whatever d.
    """
    leaves = [x for x in jax.tree.leaves(params) if _real(x)]
    parts = (_spread(steps, x.size, jax.random.fold_in(key, i)) for i, x in enumerate(leaves))
    return _added(params, parts, steps.shape[0])


def _spread(steps: Array, rows: int, key: Array) -> Array:
    """P's rows of one leaf times steps: f[K, rows]."""
    k, d = steps.shape
    words = -(-d // BITS)
    padded = jnp.pad(steps / math.sqrt(d), ((0, 0), (0, words * BITS - d))).reshape(k, words, BITS)
    place = jnp.arange(BITS, dtype=jnp.uint32)[:, None]

    def add(total: Array, word: tuple[Array, Array]) -> tuple[Array, None]:
        i, coordinates = word
        bits = jax.random.bits(jax.random.fold_in(key, i), (1, rows), jnp.uint32)
        signs = 1 - 2 * ((bits >> place) & 1).astype(steps.dtype)
        return total + jnp.matmul(coordinates, signs, precision=jax.lax.Precision.HIGHEST), None

    xs = jnp.arange(words, dtype=jnp.uint32), padded.transpose(1, 0, 2)
    total: Array = jax.lax.scan(add, jnp.zeros((k, rows), steps.dtype), xs)[0]
    return total


def _added(params: PyTree, parts: Iterator[Array], k: int) -> PyTree:
    def add(x: Array) -> Array:
        if not _real(x):
            return jnp.broadcast_to(x[None], (k, *x.shape))
        step = next(parts)
        return (x[None].astype(step.dtype) + step.reshape(k, *x.shape)).astype(x.dtype)

    return jax.tree.map(add, params)


def _real(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating)) and x.size > 0
