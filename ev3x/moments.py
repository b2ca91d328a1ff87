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
    mean, error = _pool(moments.mean, moments.variance, w[:, None], q[:, None])
    difference, difference_error = _pool(moments.difference, moments.difference_variance, w[:, None], q[:, None])
    reference, reference_error = _pool(moments.reference_mean, moments.reference_variance, w, q)
    return Pooled(
        mean=mean,
        error=error,
        difference=difference,
        difference_error=difference_error,
        reference=reference,
        reference_error=reference_error,
        examples=total * total / squares,
        counted=total == squares,
    )


def _pool(mean: Array, variance: Array, w: Array, q: Array) -> tuple[Array, Array]:
    """The mean and its standard error over the leading axis of blocks with weights w and squared weights q."""
    total, squares = w.sum(0), q.sum(0)
    read = w > 0
    mean = jnp.where(read, mean, 0.0)
    shift = (w * mean).sum(0) / total
    off = jnp.where(read, mean - shift[None], 0.0)
    rest = (w * off).sum(0) / total
    freedom = jnp.where(read, w - q / w, 0.0)
    within = jnp.where(freedom > 0, variance * freedom, 0.0)
    spread = (within + w * jnp.square(off - rest[None])).sum(0) / (total - squares / total)
    several = total * total > squares * (1 + 1e-6)
    return shift + rest, jnp.where(several, jnp.sqrt(spread * squares) / total, jnp.nan)
