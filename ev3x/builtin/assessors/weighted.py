"""Statistics of weighted examples, prepared once and then computed for many weightings, as resampling needs.

Each function returns a function of weights f32[b, n] whose result is f32[b, C], for C models with finite values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from ...core.types import Array

Statistic = Callable[[Array], Array]
_RUN = 32  # examples
_REACH = 7  # how far from a quantile's place to look, in standard deviations of the resampled place


def means(values: Array) -> Statistic:
    """The mean of values f32[C, n]."""

    def of(weights: Array) -> Array:
        return _sums(weights, values) / weights.sum(-1, keepdims=True)

    return of


def ratios(above: Array, below: Array) -> Statistic:
    """The ratio of two sums of values, f32[C, n] each."""

    def of(weights: Array) -> Array:
        return _sums(weights, above) / _sums(weights, below)

    return of


def quantiles(values: Array, mask: Array, q: float, left_out: int) -> Statistic:
    """The quantile q of values f32[C, n] of which those in `mask` count, interpolated as numpy does by default.

    Weights are counts: the result is the quantile of a sample that holds each example that often. Weights may also
    leave out up to `left_out` examples at once. Only places near the quantile's own are searched: a resampled quantile
    lies more than seven standard deviations away once in 10^12.
    """
    n = values.shape[-1]
    width = min(n, math.ceil(2 * _REACH * math.sqrt(n * q * (1 - q))) + 2 * left_out + 64)
    order = jnp.argsort(jnp.where(mask[None], values, jnp.inf), axis=-1)
    centre = (q * jnp.maximum(mask.sum().astype(jnp.float32) - 1, 0.0)).astype(jnp.int32)
    start = jnp.clip(centre - width // 2, 0, n - width)
    near = lax.dynamic_slice_in_dim(order, start, width, 1)
    at = jnp.take_along_axis(values, near, 1)
    before = (jnp.argsort(order, axis=-1) < start).astype(jnp.float32)

    def of(weights: Array) -> Array:
        up_to = _sums(weights, before)[..., None] + jnp.take(weights, near, axis=1).cumsum(-1)  # [b, C, width]
        last = weights.sum(-1) - 1
        place = q * last
        low = jnp.floor(place)
        a, b = (
            jnp.minimum((up_to <= rank[:, None, None]).sum(-1), width - 1) for rank in (low, jnp.minimum(low + 1, last))
        )
        a, b = (jnp.take_along_axis(at, i.T, 1).T for i in (a, b))
        share = (place - low)[:, None]
        return (1 - share) * a + share * b

    return of


def aurocs(values: Array, mask: Array, positive: Array) -> Statistic:
    """The area under the ROC curve of values f32[C, n] for the positives bool[n]; equal values count one half."""
    models, n = values.shape
    padding = ((0, 0), (0, -n % _RUN))
    keys = jnp.where(mask[None], values, jnp.inf)
    # Sorted twice, equal values in opposite orders: a negative then stands before a positive in one of the two.
    order = jnp.concatenate([jnp.argsort(keys, axis=-1), jnp.flip(jnp.argsort(-keys, axis=-1), -1)])
    order = jnp.pad(order, padding)
    real = jnp.pad(jnp.ones((2 * models, n), bool), padding)
    up, down = (real & positive[order])[None], (real & ~positive[order])[None]
    before = jnp.triu(jnp.ones((_RUN, _RUN), jnp.float32), 1)

    def of(weights: Array) -> Array:
        ranked = jnp.take(weights, order, axis=1)  # [b, 2 C, n]
        runs = (*ranked.shape[:2], -1, _RUN)
        positives, negatives = (jnp.where(side, ranked, 0.0).reshape(runs) for side in (up, down))
        # Sums of negatives before each place: in its own run (by a matrix product, which is faster than a cumulative
        # sum), and in the runs before.
        within = jnp.einsum("bcrs,st->bcrt", negatives, before, precision=lax.Precision.HIGHEST)
        per_run = negatives.sum(-1)
        wins = (positives * within).sum((-1, -2)) + (positives.sum(-1) * (per_run.cumsum(-1) - per_run)).sum(-1)
        area = wins / positives.sum((-1, -2)) / per_run.sum(-1)
        return (area[:, :models] + area[:, models:]) / 2

    return of


def _sums(weights: Array, values: Array) -> Array:
    return jnp.einsum("bn,cn->bc", weights, values, precision=lax.Precision.HIGHEST)
