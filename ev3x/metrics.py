"""Functions for `Metric(fn=...)`: logits f32[n, classes] and a batch with the class {"y": i32[n]}.

Where a logit is NaN, metrics of right and wrong count the example as wrong, and other metrics are NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .ops import RankMetrics, rank_metrics
from .ops.rank_metrics import definition as weighted_rank_metrics
from .values import integer, number


def accuracy(logits: Array, batch: Mapping[str, Any]) -> Array:
    """Whether the class has the largest logit: bool[n]. Of equal logits the first counts as largest."""
    return (jnp.argmax(logits, axis=-1) == batch["y"]) & ~jnp.isnan(logits).any(axis=-1)


def cross_entropy(logits: Array, batch: Mapping[str, Any]) -> Array:
    """The negative logarithm of the probability of the class: f32[n], in nats."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["y"][:, None], axis=-1)[:, 0]


def brier(logits: Array, batch: Mapping[str, Any]) -> Array:
    """The squared distance of the probabilities from the class, 0 to 2: f32[n] (Brier 1950, summed over classes)."""
    wanted = jax.nn.one_hot(batch["y"], logits.shape[-1], dtype=logits.dtype)
    return jnp.square(jax.nn.softmax(logits) - wanted).sum(axis=-1)


@dataclasses.dataclass(frozen=True)
class TopK:
    """Whether the class is among the k largest logits: bool[n]. Of equal logits the first count as larger."""

    k: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", integer("TopK: k", self.k))

    def __call__(self, logits: Array, batch: Mapping[str, Any]) -> Array:
        """Whether fewer than k classes come before the right one."""
        y = batch["y"][:, None]
        own = jnp.take_along_axis(logits, y, axis=-1)
        place = jnp.arange(logits.shape[-1], dtype=y.dtype)[None]
        before = (logits > own) | ((logits == own) & (place < y))
        return (before.sum(axis=-1) < self.k) & ~jnp.isnan(logits).any(axis=-1)


def calibration_error(logits: Array, batch: Mapping[str, Any]) -> Array:
    """The expected calibration error of a set: f32[], between 0 and 1; for `Metric(kind="set")`.

    Examples fall into 15 bins (i/15, (i+1)/15] by their largest probability. The result is the mean over examples of
    |share of right examples - mean probability| of their bin (Guo et al., arXiv 1706.04599, equation 3). It is biased
    upwards when bins hold few examples.
    """
    top = jax.nn.softmax(logits).max(axis=-1)
    place = jnp.clip(jnp.ceil(top * _BINS) - 1, 0, _BINS - 1).astype(jnp.int32)
    gap = accuracy(logits, batch).astype(top.dtype) - top
    return jnp.abs(jnp.zeros(_BINS, top.dtype).at[place].add(gap)).sum() / top.shape[0]


def auroc(logits: Array, batch: Mapping[str, Any], weights: Array | None = None) -> Array:
    """The area under the ROC curve of a set: f32[], ties counting one half; for `Metric(kind="set", low=0, high=1)`.

    Logits f32[n], f32[n, 1] or f32[n, 2] mean two classes, of which 1 is the positive one. For more classes, the
    log-odds of each class rank it against the rest, and the result is the plain mean over the classes that some but not
    all examples have (one-vs-rest, macro). It is NaN when only one class occurs, or when a logit is NaN.

    `weights` f32[n] say how often each example counts: `lambda logits, batch: auroc(logits, batch, batch["w"])`.
    `Task.weigh` does not affect set-level metrics. Weighted sums are in float32.

    Reports give the mean over blocks, so let `block` be large. To confirm two classes without weights, use `bootstrap`
    with statistic = "auroc" and a metric of examples whose values are the scores. Otherwise use `paired` on many
    blocks: its unit is then the block.
    """
    found, positive, negative = _ranked(logits, batch, weights)
    return _mean(found.auroc, positive & negative)


def average_precision(logits: Array, batch: Mapping[str, Any], weights: Array | None = None) -> Array:
    """The average precision of a set: f32[], the step-wise sum; for `Metric(kind="set", low=0, high=1)`.

    Classes, weights and NaN are as for `auroc`, except that a class that all examples have scores 1. To confirm, use
    `paired` on many blocks: its unit is then the block. `bootstrap` has no such statistic.
    """
    found, positive, _ = _ranked(logits, batch, weights)
    return _mean(found.average_precision, positive)


@dataclasses.dataclass(frozen=True)
class Constant:
    """A metric with the same value for every example, f32[n]: the size of a model, a price."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number("Constant: value", self.value))

    def __call__(self, logits: Array, batch: Mapping[str, Any]) -> Array:
        """The value, n times."""
        return jnp.full(logits.shape[:1], self.value, jnp.float32)


_BINS = 15


def _ranked(logits: Array, batch: Mapping[str, Any], weights: Array | None) -> tuple[RankMetrics, Array, Array]:
    """The RankMetrics [C, 1] of C classes against the rest, and whether there are positives and others: bool[C]."""
    x = logits.astype(jnp.float32).reshape(logits.shape[0], -1)
    if x.shape[1] > 2:
        # Log-odds, log p - log(1 - p), distinguish examples whose probabilities all round to 1.
        none = jnp.full_like(x[:, :1], -jnp.inf)
        before = jax.lax.cumlogsumexp(jnp.concatenate([none, x[:, :-1]], 1), 1)
        after = jax.lax.cumlogsumexp(jnp.concatenate([x[:, 1:], none], 1), 1, reverse=True)
        scores, classes = (x - jnp.logaddexp(before, after)).T, jnp.arange(x.shape[1])
    else:
        scores, classes = (x[:, -1:] - x[:, :1] if x.shape[1] == 2 else x).T, jnp.ones(1, jnp.int32)
    labels = batch["y"][None] == classes.astype(batch["y"].dtype)[:, None]
    if weights is None:
        counted, found = jnp.ones_like(labels), rank_metrics(scores[:, None], labels)
    else:
        weights = jnp.broadcast_to(weights.astype(jnp.float32), labels.shape)
        counted, found = weights > 0, weighted_rank_metrics(scores[:, None], labels, weights)
    return found, (labels & counted).any(1), (~labels & counted).any(1)


def _mean(values: Array, defined: Array) -> Array:
    return jnp.where(defined, values[:, 0], 0).sum() / defined.sum().astype(jnp.float32)
