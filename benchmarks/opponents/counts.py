"""Opponents of count_stats: predictions i32[K, n] against labels and a reference's predictions, i32[n]."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .forms import Form, Forms, layouts
from .moments import cast, lanes

Counts = tuple[Array, Array, Array, Array]


def natural(predictions: Array, labels: Array, reference: Array) -> Counts:
    """Four comparisons and four sums."""
    right, other = predictions == labels, reference == labels
    fields = (right, other, right & ~other, other & ~right)
    a, b, c, d = (field.sum(-1, dtype=jnp.int32) for field in fields)
    return a, b, c, d


def discordant(count: Callable[[Array], Array]) -> Form:
    """Two counts per candidate: wins and losses follow from the correct and the discordant."""

    def counts(predictions: Array, labels: Array, reference: Array) -> Counts:
        right, other = predictions == labels, reference == labels
        correct, reference_correct, apart = count(right), count(other), count(right ^ other)
        lead = correct - reference_correct
        return correct, reference_correct, (apart + lead) // 2, (apart - lead) // 2

    return counts


def packed(predictions: Array, labels: Array, reference: Array) -> Counts:
    """One count per candidate: correct in the low half of a byte, discordant in the high one, 15 rounds of bytes."""
    right, other = predictions == labels, reference == labels
    both = right.astype(jnp.uint8) + (right ^ other).astype(jnp.uint8) * np.uint8(16)
    n = both.shape[-1]
    both = jnp.pad(both, [(0, 0)] * (both.ndim - 1) + [(0, -n % 960)]).reshape(*both.shape[:-1], -1, 15, 64)
    t = lax.reduce(both, np.uint8(0), lax.add, (both.ndim - 2,))
    correct, apart = ((t >> shift & 15).astype(jnp.int32).sum((-2, -1)) for shift in (np.uint8(0), np.uint8(4)))
    reference_correct = cast(other)
    lead = correct - reference_correct
    return correct, reference_correct, (apart + lead) // 2, (apart - lead) // 2


def words(predictions: Array, labels: Array, reference: Array) -> Counts:
    """The same in one int32 of two halves, for up to 32,767 examples at a time."""
    right, other = predictions == labels, reference == labels
    both = right.astype(jnp.int32) + ((right ^ other).astype(jnp.int32) << 16)
    n = both.shape[-1]
    both = jnp.pad(both, [(0, 0)] * (both.ndim - 1) + [(0, -n % 16384)]).reshape(*both.shape[:-1], -1, 16384)
    t = both.sum(-1)
    correct, apart = (t & 0xFFFF).sum(-1), (t >> 16).sum(-1)
    reference_correct = cast(other)
    lead = correct - reference_correct
    return correct, reference_correct, (apart + lead) // 2, (apart - lead) // 2


FORMS = Forms(
    {"four sums": natural},
    layouts({"two sums": discordant(cast)} | {f"byte lanes {r}": discordant(lanes(r)) for r in (16, 128)}),
    layouts({"packed bytes": packed, "packed words": words}, (8,)),
)
