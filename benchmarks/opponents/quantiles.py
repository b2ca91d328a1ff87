"""Opponents of quantiles: f32[K, len(q)] of scores f32[K, n], linearly interpolated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .forms import Forms
from .ranking import ordered


def places(q: Sequence[float], n: int) -> tuple[list[int], list[int], Array]:
    """Below, above and the share of the second."""
    at = [p * (n - 1) for p in q]
    low = [math.floor(a) for a in at]
    return low, [min(i + 1, n - 1) for i in low], jnp.array([a - i for a, i in zip(at, low, strict=True)], jnp.float32)


def between(low: Array, high: Array, share: Array) -> Array:
    """Linear interpolation."""
    return low + (high - low) * share


def floats(keys: Array) -> Array:
    """`ordered`'s inverse."""
    return lax.bitcast_convert_type(keys ^ ((keys >> 31) & 0x7FFFFFFF), jnp.float32)


def natural(scores: Array, q: Sequence[float]) -> Array:
    """jnp.quantile."""
    return jnp.quantile(scores, jnp.array(q, jnp.float32), axis=-1).T


def sort(scores: Array, q: Sequence[float]) -> Array:
    """A sort of float32."""
    low, high, share = places(q, scores.shape[-1])
    x = lax.sort(scores, dimension=1)
    return between(x[:, np.array(low)], x[:, np.array(high)], share)


def integers(scores: Array, q: Sequence[float]) -> Array:
    """A sort of int32 that compare like the scores."""
    low, high, share = places(q, scores.shape[-1])
    x = lax.sort(ordered(scores), dimension=1)
    return between(floats(x[:, np.array(low)]), floats(x[:, np.array(high)]), share)


def top(scores: Array, q: Sequence[float]) -> Array:
    """lax.top_k down to the lowest place that is needed."""
    n = scores.shape[-1]
    low, high, share = places(q, n)
    x = lax.top_k(scores, n - min(low))[0]
    return between(x[:, n - 1 - np.array(low)], x[:, n - 1 - np.array(high)], share)


def bisect(scores: Array, q: Sequence[float]) -> Array:
    """The keys' range halved 32 times, with a count of those below each time; the next above by a minimum."""
    low, _, share = places(q, scores.shape[-1])
    keys, rank = ordered(scores), jnp.array(low, jnp.int32)
    wide = keys[:, None, :]
    shape = (scores.shape[0], len(q))

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        least, most = bounds  # the key is in [least, most]
        middle = (least & most) + ((least ^ most) >> 1)
        count = (wide <= middle[..., None]).sum(-1, dtype=jnp.int32)
        enough = count > rank
        return jnp.where(enough, least, middle + 1), jnp.where(enough, middle, most)

    start = jnp.full(shape, -(2**31), jnp.int32), jnp.full(shape, 2**31 - 1, jnp.int32)
    value = lax.fori_loop(0, 32, halve, start)[0]
    above = wide > value[..., None]
    following = jnp.where(above, wide, 2**31 - 1).min(-1)
    count = wide.shape[-1] - above.sum(-1, dtype=jnp.int32)
    following = jnp.where((count > rank + 1) | (count == wide.shape[-1]), value, following)
    return between(floats(value), floats(following), share)


FORMS = Forms(
    {"jnp.quantile": natural},
    {"sort float32": sort, "sort int32": integers, "top_k": top},
    {"bisection": bisect},
)
