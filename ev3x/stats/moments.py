"""Evidence as moments of each block: the building block of assessors that compare means.

Every block has a slot of its own, so that evidence merges by a sum, and pooling the blocks loses nothing.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ..core.types import Array, Block
from ..ops import ScoreMoments, score_moments
from ..ops.score_stats import standard_error

Moments = ScoreMoments


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
    """No evidence from up to `blocks` blocks, in as many slots: [blocks, K, M] and [blocks, M]."""
    slot = Moments.begin(k, m)
    return jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), slot)


def observe(moments: Moments, block: Block) -> Moments:
    """The moments with one more block in its slot."""
    more = score_moments(block.scores, block.reference, block.weights)
    return jax.tree.map(lambda slots, x: slots.at[block.index].add(x), moments, more)


def pool(moments: Moments) -> Pooled:
    """The moments of all blocks together."""
    pooled = moments.combine(lambda x: x.sum(0, keepdims=True))
    stats = jax.tree.map(lambda x: x[0], pooled.conclude())
    total, squares = stats.weight, stats.square_weight

    def error(variance: Array, axes: tuple[int, ...] = ()) -> Array:
        return standard_error(variance, jnp.expand_dims(total, axes), jnp.expand_dims(squares, axes))

    return Pooled(
        mean=stats.mean,
        error=error(stats.variance, (0,)),
        difference=stats.difference,
        difference_error=error(stats.difference_variance, (0,)),
        reference=stats.reference_mean,
        reference_error=error(stats.reference_variance),
        examples=total * total / squares,
        counted=total == squares,
    )
