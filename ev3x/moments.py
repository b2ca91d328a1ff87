"""Evidence as moments of each block: the building block of assessors that compare means.

Every block has a slot of its own, so that merging evidence is a sum, and pooling them loses nothing: means of blocks
are combined about a common shift, in float32, without cancellation (Chan, Golub & LeVeque 1983, eq. 2.1).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from . import ops
from .types import Array, Block


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments of up to B blocks: own and reference ones, and those of the paired differences."""

    mean: Array  # f32[B, K, M]
    variance: Array  # f32[B, K, M]
    difference: Array  # f32[B, K, M]
    difference_variance: Array  # f32[B, K, M]
    reference_mean: Array  # f32[B, M]
    reference_variance: Array  # f32[B, M]
    weight: Array  # f32[B, M], sum of weights
    square_weight: Array  # f32[B, M], sum of squared weights


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Means over all blocks and their standard errors. The standard error of fewer than two examples is NaN."""

    mean: Array  # f32[K, M]
    error: Array  # f32[K, M]
    difference: Array  # f32[K, M]
    difference_error: Array  # f32[K, M]
    reference: Array  # f32[M]
    reference_error: Array  # f32[M]
    examples: Array  # f32[M], the effective number (sum w)^2 / sum w^2
    counted: Array  # bool[M], whether all weights are 0 or 1


def begin(blocks: int, k: int, m: int) -> Moments:
    """No evidence from up to `blocks` blocks."""
    each, reference = jnp.zeros((blocks, k, m)), jnp.zeros((blocks, m))
    return Moments(each, each, each, each, reference, reference, reference, reference)


def observe(moments: Moments, block: Block) -> Moments:
    """The moments with those of one more block in its slot."""
    stats = ops.score_stats(block.scores, block.reference, block.weights)
    return Moments(
        **{
            field.name: getattr(moments, field.name).at[block.index].add(getattr(stats, field.name))
            for field in dataclasses.fields(Moments)
        }
    )


def pool(moments: Moments) -> Pooled:
    """The moments of all blocks together."""
    w, q = moments.weight, moments.square_weight
    total, squares = w.sum(0), q.sum(0)

    def together(mean: Array, variance: Array) -> tuple[Array, Array]:
        extra = (1,) * (mean.ndim - w.ndim)
        w_, q_ = (x.reshape(x.shape[0], *extra, x.shape[-1]) for x in (w, q))
        freedom = jnp.where(w_ > 0, w_ - q_ / w_, 0.0)
        within = jnp.where(freedom > 0, variance * freedom, 0.0)
        shift = mean[0]
        off = jnp.where(w_ > 0, mean - shift, 0.0)
        centre = (w_ * off).sum(0) / total
        spread = (within + w_ * jnp.square(off - centre)).sum(0) / (total - squares / total)
        spread = jnp.where(total * total > squares * (1 + 1e-6), spread, jnp.nan)
        return shift + centre, jnp.sqrt(spread * squares) / total

    mean, error = together(moments.mean, moments.variance)
    difference, difference_error = together(moments.difference, moments.difference_variance)
    reference, reference_error = together(moments.reference_mean, moments.reference_variance)
    return Pooled(mean, error, difference, difference_error, reference, reference_error, total * total / squares, total == squares)
