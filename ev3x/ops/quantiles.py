"""Quantiles of candidates' scores, without sorting them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import lowering, native
from .bits import flush, upper_product

_TARGET = "ev3x_quantiles"
_BEHIND = np.int32(2**31 - 1)  # a key above all others


def quantiles(scores: ArrayLike, q: Sequence[float], *, mask: ArrayLike | None = None) -> Array:
    """Returns f32[..., K, len(q)], the quantiles of each of K candidates' scores over n examples.

    `scores` is float32 [..., K, n], `mask` bool [..., n], the examples that count, all by default; `q`, numbers from
    0 to 1 in any order, is static. Quantiles are numpy.quantile's with its default, linear interpolation: so they are
    NaN beside an infinite score (also on it: infinity minus infinity), for a candidate with a NaN among the scores
    that count, and without examples that count. Subnormal values count as zero.

    The native CPU code interpolates in double, `definition` in float32. Works under jit, vmap, scan and while_loop.
    Operands that are sharded stay where they are over candidates and leading axes; examples are gathered. The
    derivative is the interpolation's, in the two scores that a quantile lies between (of equal ones, in any). Raises
    ValueError or TypeError at trace time, naming the argument.
    """
    x = jnp.asarray(scores)
    if x.ndim < 2:
        raise ValueError(f"quantiles: `scores` must have shape (..., K, n), got {x.shape}")
    if x.dtype != jnp.float32:
        raise TypeError(f"quantiles: `scores` must be float32, got {x.dtype}; use .astype(jnp.float32)")
    lowering.check_sizes("quantiles", "scores", K=x.shape[-2], n=x.shape[-1])
    if isinstance(q, jax.core.Tracer):
        raise TypeError("quantiles: `q` must be a sequence of numbers that are known when traced, got a traced array")
    if np.ndim(q) != 1:
        raise ValueError(f"quantiles: `q` must be a sequence of numbers, got {q!r}")
    given = tuple(map(float, q))
    if not all(0 <= each <= 1 for each in given):
        raise ValueError(f"quantiles: `q` must be from 0 to 1, got {q!r}")
    if mask is None:
        return _quantiles(x, None, given)
    m, row = jnp.asarray(mask), (*x.shape[:-2], x.shape[-1])
    if m.shape != row:
        raise ValueError(f"quantiles: `mask` must have shape {row} (scores without the candidate axis), got {m.shape}")
    if m.dtype != jnp.bool_:
        raise TypeError(f"quantiles: `mask` must be bool, got {m.dtype}; use .astype(jnp.bool)")
    return _quantiles(x, m, given)


def definition(scores: Array, mask: Array | None, q: tuple[float, ...]) -> Array:
    """Returns what `quantiles` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    if scores.shape[-1] == 0 or not q:
        return jnp.full((*scores.shape[:-1], len(q)), jnp.nan, jnp.float32)
    keys, defined = _keys(scores, mask)
    # Integers alone: several times faster on CPUs than floats or a second operand.
    keys = lax.sort(keys, dimension=keys.ndim - 1)
    places = _places(scores, mask, q)
    a, b = (_floats(jnp.take_along_axis(keys, at, -1)) for at in (places.low, places.high))
    # Halves: the difference of the largest numbers is none.
    half = 0.5 * b - 0.5 * a
    value = jnp.where(places.share < 0.5, a + 2 * places.share * half, b - 2 * places.rest * half)
    return jnp.where(defined, flush(value), jnp.nan)


class _Places(NamedTuple):
    """Of quantiles among the scores that count, in order: `share` = 1 - `rest` of the way from one rank to the next.

    Shape [..., 1, q] or, with no mask, [q].
    """

    low: Array
    high: Array
    share: Array
    rest: Array


def _places(scores: Array, mask: Array | None, q: tuple[float, ...]) -> _Places:
    n, shape = scores.shape[-1], (*scores.shape[:-1], len(q))

    def along(a: Array) -> Array:
        return jnp.broadcast_to(a.reshape((1,) * (len(shape) - a.ndim) + a.shape), shape)

    if mask is None:
        at = np.array(q) * (n - 1)
        floor = at.astype(np.int32)
        fraction = at - floor
        ranks = (along(jnp.asarray(each)) for each in (floor, np.minimum(floor + 1, n - 1)))
        return _Places(*ranks, *(along(jnp.asarray(each.astype(np.float32))) for each in (fraction, 1 - fraction)))

    # q * (number - 1) in fixed point with 32 bits of a fraction, rounded: float32 does not hold large ranks.
    last = jnp.maximum(mask.sum(-1, dtype=jnp.int32) - 1, 0)[..., None, None]
    fixed = [min(int(each * 2**64), 2**64 - 1) for each in q]
    upper, lower = (along(jnp.asarray(np.array([f // d % 2**32 for f in fixed], np.uint32))) for d in (2**32, 1))
    number = jnp.broadcast_to(last.astype(jnp.uint32), shape)
    whole, part, carried = upper_product(number, upper), number * upper, upper_product(number, lower)
    once = part + carried
    rounded = once + ((number * lower) >> 31)
    low = (whole + sum(each.astype(jnp.uint32) for each in (once < part, rounded < once))).astype(jnp.int32)
    share, rest = (each.astype(jnp.float32) * np.float32(2**-32) for each in (rounded, np.uint32(0) - rounded))
    return _Places(low, jnp.minimum(low + 1, last), share, rest)


def _keys(scores: Array, mask: Array | None) -> tuple[Array, Array]:
    """Integers in the order of the scores, those that do not count behind; and whether there are quantiles."""
    x, unknown = flush(scores), jnp.isnan(scores)
    bits = lax.bitcast_convert_type(x, jnp.int32)
    keys = jnp.where(bits < 0, bits ^ _BEHIND, bits)
    if mask is None:
        return keys, ~unknown.any(-1, keepdims=True)
    counts = mask[..., None, :]
    return jnp.where(counts, keys, _BEHIND), ~(unknown & counts).any(-1, keepdims=True) & counts.any(-1, keepdims=True)


def _floats(keys: Array) -> Array:
    return lax.bitcast_convert_type(jnp.where(keys < 0, keys ^ _BEHIND, keys), jnp.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _quantiles(scores: Array, mask: Array | None, q: tuple[float, ...]) -> Array:
    if not q:
        return definition(scores, mask, q)
    operands = (scores,) if mask is None else (scores, mask)
    layout = lowering.Layout(("kn", "n")[: len(operands)], ("kq",), whole="n")
    call, portable = (functools.partial(f, q=q) for f in (_call, _portable))
    return lowering.choose(_TARGET, call, portable, *operands, layout=layout)


@_quantiles.defjvp
def _quantiles_jvp(q: tuple[float, ...], primals: Any, tangents: Any) -> tuple[Array, Array]:
    scores, mask = primals
    value = _quantiles(scores, mask, q)
    if scores.shape[-1] == 0 or not q:
        return value, jnp.zeros_like(value)
    axis = scores.ndim - 1
    keys, _ = _keys(scores, mask)
    _, order = lax.sort((keys, lax.broadcasted_iota(jnp.int32, keys.shape, axis)), dimension=axis, num_keys=1)
    places = _places(scores, mask, q)
    at_low, at_high = (
        jnp.take_along_axis(tangents[0], jnp.take_along_axis(order, at, -1), -1) for at in (places.low, places.high)
    )
    return value, (1 - places.share) * at_low + places.share * at_high


def _portable(scores: Array, mask: Array | None = None, *, q: tuple[float, ...]) -> Array:
    return definition(scores, mask, q)


def _call(scores: Array, mask: Array | None = None, *, q: tuple[float, ...]) -> Array:
    result = jax.ShapeDtypeStruct((*scores.shape[:-1], len(q)), jnp.float32)
    operands = (scores,) if mask is None else (scores, mask)
    return lowering.custom_call(_TARGET, [result], *operands, q=np.array(q, np.float64))[0]


def _self_test(target: str) -> None:
    """Returns if the native target agrees with the definition on a small input; else RuntimeError."""
    rng = np.random.default_rng(0)
    scores, mask = rng.normal(size=(2, 3, 150)).astype(np.float32).round(1), rng.random((2, 150)) < 0.6
    call, portable = (functools.partial(f, q=(0.9, 0.0, 0.51)) for f in (_call, _portable))
    for operands in ([scores], [scores, mask]):
        lowering.agree(call, portable, operands, ["quantiles"], rtol=1e-6, atol=1e-6)


native.declare(_TARGET, _self_test)
