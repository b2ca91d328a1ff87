"""Functions for `Metric(fn=...)`: logits f32[n, classes] and a batch with the class {"y": i32[n]}.

Where a logit is NaN the model is wrong, and numbers other than right or wrong are NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def accuracy(logits: Array, batch: Mapping[str, Any]) -> Array:
    """Whether the class has the largest logit: bool[n]. Of equal ones the first counts."""
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
    """Whether the class is among the k largest logits: bool[n]. Of equal ones the first count."""

    k: int = 5

    def __call__(self, logits: Array, batch: Mapping[str, Any]) -> Array:
        """Whether fewer than k classes come before the right one."""
        y = batch["y"][:, None]
        own = jnp.take_along_axis(logits, y, axis=-1)
        place = jnp.arange(logits.shape[-1], dtype=y.dtype)[None]
        before = (logits > own) | ((logits == own) & (place < y))
        return (before.sum(axis=-1) < self.k) & ~jnp.isnan(logits).any(axis=-1)


def calibration_error(logits: Array, batch: Mapping[str, Any]) -> Array:
    """The expected calibration error of a set: f32[], between 0 and 1; for `Metric(kind="set")`.

    The mean over examples of |share that is right - mean probability| of the bin that its largest probability lies
    in: 15 bins (i/15, (i+1)/15] of equal width (Guo et al., arXiv 1706.04599, equation 3). Biased upwards for few
    examples a bin.
    """
    top = jax.nn.softmax(logits).max(axis=-1)
    place = jnp.clip(jnp.ceil(top * _BINS) - 1, 0, _BINS - 1).astype(jnp.int32)
    gap = accuracy(logits, batch).astype(top.dtype) - top
    return jnp.abs(jnp.zeros(_BINS, top.dtype).at[place].add(gap)).sum() / top.shape[0]


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same value for every example, f32[n]: the size of a model, a price."""

    value: float

    def __call__(self, logits: Array, batch: Mapping[str, Any]) -> Array:
        """The value, n times."""
        return jnp.full(logits.shape[:1], self.value, jnp.float32)


_BINS = 15
