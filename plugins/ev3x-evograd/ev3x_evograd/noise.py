"""Moves along random directions that are made from a key whenever they are needed, so that nobody has to keep them."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any
Kind = Literal["sign", "gaussian"]


def moved(kind: Kind, key: Array, params: PyTree, ds: Array, amounts: Array) -> PyTree:
    """params + Σ_i amounts[i] · ε_ds[i]: the same shapes and dtypes. Leaves that hold no floating point numbers stay.

    ε_0, ε_1, ... are independent +1 and -1, or standard normal numbers. Leaf by leaf they are made, used and
    forgotten, and made again for the gradient with respect to the amounts.
    """
    leaves, structure = jax.tree.flatten(params)
    ends: list[Array] = []
    for i, x in enumerate(leaves):
        if real(x):
            x = _moved(kind, jax.random.fold_in(key, i), x, ds, amounts)
            key = _after(x, key)
        ends.append(x)
    return jax.tree.unflatten(structure, ends)


def directions(kind: Kind, key: Array, params: PyTree, number: int) -> PyTree:
    """ε_0, ε_1, ... stacked, for those who keep them; None for leaves that hold no floating point numbers."""
    leaves, structure = jax.tree.flatten(params)
    ds = jnp.arange(number, dtype=jnp.int32)

    def stacked(i: int, x: Array) -> Array | None:
        leaf_key = jax.random.fold_in(key, i)
        return jax.vmap(lambda d: _direction(kind, leaf_key, d, x))(ds) if real(x) else None

    return jax.tree.unflatten(structure, [stacked(i, x) for i, x in enumerate(leaves)])


def real(leaf: Any) -> bool:
    """Whether an array holds floating point numbers, of which there is at least one."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating)) and leaf.size > 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _moved(kind: Kind, key: Array, x: Array, ds: Array, amounts: Array) -> Array:
    def step(i: Array, x: Array) -> Array:
        return x + amounts[i].astype(x.dtype) * _direction(kind, key, ds[i], x)

    number = ds.shape[0]
    end: Array = jax.lax.fori_loop(0, number, step, x, unroll=min(number, 4) if kind == "sign" else 1)
    return end


def _forward(kind: Kind, key: Array, x: Array, ds: Array, amounts: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _moved(kind, key, x, ds, amounts), (key, ds, amounts)


def _backward(kind: Kind, kept: tuple[Array, Array, Array], slope: Array) -> tuple[None, Array, None, Array]:
    key, ds, amounts = kept
    key = _after(slope, key)
    along = jax.lax.map(lambda d: jnp.vdot(slope, _direction(kind, key, d, slope)), ds)
    return None, slope, None, along.astype(amounts.dtype)


_moved.defvjp(_forward, _backward)


def _after(x: Array, key: Array) -> Array:
    """This key, but not to be had before x: XLA would make the noise of all leaves first, and keep it.

    An optimization barrier does not order what follows it; a key that looks as if it depended on x does.
    """
    return jax.random.wrap_key_data(
        jax.random.key_data(key) + jnp.isnan(x.reshape(-1)[0]).astype(jnp.uint32), impl=jax.random.key_impl(key)
    )


def _direction(kind: Kind, key: Array, d: Array, like: Array) -> Array:
    make = _signs if kind == "sign" else jax.random.normal
    return make(jax.random.fold_in(key, d), like.shape, like.dtype)


def _signs(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Independent +1 and -1. Of a random word every bit is used: a word for each sign takes seven times as long."""
    n = math.prod(shape)
    words = jax.random.bits(key, (-(-n // 32),), jnp.uint32)
    bits = (words[None] >> jnp.arange(32, dtype=jnp.uint32)[:, None]) & 1
    return jnp.where(bits.reshape(-1)[:n].reshape(shape) == 1, jnp.ones((), dtype), -jnp.ones((), dtype))
