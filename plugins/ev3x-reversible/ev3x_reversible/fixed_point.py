"""Exact arithmetic: 64-bit fixed point, and a product with a rational below 1 that loses nothing.

All of it needs 64-bit types, which `wide` switches on for as long as the integers are at work, also under a trace.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array

RADIX = 52  # fractional bits: a number x is kept as the integer part of x · 2^52, which holds |x| < 2^11
LIMIT = 2.0**9  # what is kept and what is added stay below, so that all sums are exact
END = 2 ** (9 + RADIX)  # the same in fixed point
DENOMINATOR = 2**16  # d: a momentum is n / d
WORD = 16  # bits that leave the head at a time

# jax.enable_x64 works under a trace; JAX 0.7 has its forerunner only, which does not.
LOCAL = hasattr(jax, "enable_x64")


def wide() -> contextlib.AbstractContextManager[Any]:
    """64-bit types for a while."""
    return jax.enable_x64(True) if LOCAL else contextlib.nullcontext()


def narrow(x64: bool) -> contextlib.AbstractContextManager[Any]:
    """The user's setting, inside of `wide`: losses see what they would see outside."""
    return jax.enable_x64(x64) if LOCAL else contextlib.nullcontext()


def x64_missing() -> bool:
    """Whether 64-bit types are off and can't be switched on for a while."""
    return not LOCAL and jnp.result_type(float) != jnp.float64


def fixed(x: Array) -> Array:
    """f64 as fixed point, i64, rounded towards 0."""
    return (x * 2.0**RADIX).astype(jnp.int64)


def checked(x: Array) -> Array:
    """The same, but what is not within the limit, NaN too, becomes three times the limit.

    A sum of that with what is within ends beyond the limit, also where it leaves 64 bits.
    """
    return fixed(jnp.where(jnp.abs(x) < LIMIT, x, 3 * LIMIT))


def size(c: Array) -> Array:
    """|c|, less one where c is negative: the smallest i64 has a size, too, as it has no absolute value."""
    return c ^ (c >> 63)


def floating(c: Array) -> Array:
    """Fixed point as f64."""
    return c.astype(jnp.float64) * 2.0**-RADIX


def numerators(momenta: Array) -> Array:
    """n of the rational n / d that stands for a momentum, i64."""
    return jnp.round(momenta.astype(jnp.float64) * DENOMINATOR).astype(jnp.int64)


def numerator(momentum: float) -> int:
    """The same of a number."""
    return round(momentum * DENOMINATOR)


class Momentum(NamedTuple):
    """A momentum n / d in the three forms that its products need."""

    n: Array  # i64
    number: Array  # f64, n
    inverse: Array  # f64, about 1 / n

    @property
    def value(self) -> Array:
        """n / d, f64."""
        return self.number / DENOMINATOR


def momentum(n: Array) -> Momentum:
    """Of numerators i64."""
    number = n.astype(jnp.float64)
    return Momentum(n, number, 1 / number)


def multiply(c: Array, head: Array, by: Momentum) -> tuple[Array, Array]:
    """c · n / d, i64, and the head f64 that takes in what the product forgets: log2(d / n) bits.

    The head is a whole number below 2^36, and all that is done to it is exact in f64, for which processors have fast
    instructions, as they have not for the division of 64-bit integers.
    """
    low = (c & (DENOMINATOR - 1)).astype(jnp.int32).astype(jnp.float64)
    head, rest = _divided(head * DENOMINATOR + low, by)  # i ← i d + (c mod d), then i ÷ n and i mod n
    return (c >> WORD) * by.n + _whole(rest), head  # c ← (c ÷ d) n + (i mod n)


def divide(c: Array, head: Array, by: Momentum) -> tuple[Array, Array]:
    """The inverse of `multiply`: the same with n and d exchanged."""
    # c ÷ n and c mod n by long division with digits of 31 bits, because c has more bits than f64 holds.
    high, rest = _divided((c >> 31).astype(jnp.int32).astype(jnp.float64), by)
    low, rest = _divided(rest * 2.0**31 + (c & (2**31 - 1)).astype(jnp.int32).astype(jnp.float64), by)
    both = head * by.number + rest  # i ← i n + (c mod n)
    head = jnp.floor(both / DENOMINATOR)  # i ← i ÷ d
    quotient = (_whole(high) << 31) + _whole(low)
    return (quotient << WORD) | _whole(both - head * DENOMINATOR), head  # c ← (c ÷ n) d + (i mod d)


def _divided(x: Array, by: Momentum) -> tuple[Array, Array]:
    """x ÷ n and x mod n of whole numbers in f64, |x| < 2^52.

    Whoever rounds the product, and however, the quotient is wrong by one at most, which the rest tells.
    """
    quotient = jnp.floor(x * by.inverse)
    rest = x - quotient * by.number
    low, high = rest < 0, rest >= by.number
    quotient = jnp.where(high, quotient + 1, jnp.where(low, quotient - 1, quotient))
    return quotient, jnp.where(high, rest - by.number, jnp.where(low, rest + by.number, rest))


def _whole(x: Array) -> Array:
    """Whole numbers f64 below 2^31 as i64."""
    return x.astype(jnp.int32).astype(jnp.int64)


def pushed(head: Array) -> tuple[Array, Array]:
    """The head without its last word, and the word, u16."""
    rest = jnp.floor(head / DENOMINATOR)
    return rest, _whole(head - rest * DENOMINATOR).astype(jnp.uint16)


def pulled(head: Array, word: Array) -> Array:
    """The inverse of `pushed`."""
    return head * DENOMINATOR + word.astype(jnp.int32).astype(jnp.float64)


def flushes(horizon: int, least: int) -> list[int]:
    """After which steps a word leaves the head, so that it stays exact while no momentum is below least / d.

    The head starts at 1, and a product takes it from i to less than (i + 1) d / n. Before a product it must be below
    2^36, because that puts 16 bits at its end. The schedule follows from the bound alone, so it is the same for all
    parameters, and known before anything runs.
    """
    times, most = [], 1
    for step in range(1, horizon):
        most = (most * DENOMINATOR + DENOMINATOR - 1) // least
        if most >= 2**36:
            times.append(step)
            most >>= WORD
    return times
