"""Candidates' correct predictions, and those that only they or only the reference got right, as counts."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from . import lowering, native

_TARGET = "ev3x_count_stats"


class CountStats(NamedTuple):
    """Counts of K candidates' predictions over n examples; see `count_stats`."""

    correct: Array
    """i32[..., K], examples that the candidate gets right"""
    reference_correct: Array
    """i32[...], examples that the reference gets right"""
    wins: Array
    """i32[..., K], examples that the candidate gets right and the reference does not"""
    losses: Array
    """i32[..., K], examples that the reference gets right and the candidate does not"""


def count_stats(
    predictions: ArrayLike, labels: ArrayLike, reference: ArrayLike, mask: ArrayLike | None = None
) -> CountStats:
    """Returns the CountStats of K candidates' classes against one reference's.

    `predictions` is int32 [..., K, n], `labels` and the `reference`'s predictions int32 [..., n], `mask` bool
    [..., n]: the examples that count, all by default. A prediction is right if it equals the label, so one
    that no label equals (-1, say) is never right. Wins and losses are the discordant pairs of McNemar's test;
    correct - reference_correct = wins - losses.

    The counts are exact. The native CPU code reads the predictions once and holds no scores; where the same
    jit computes them (an argmax over logits), they must be written first. Works under jit, vmap, scan and
    while_loop; operands that are sharded, over candidates or examples, stay where they are. Integers have no
    derivative. Raises ValueError or TypeError at trace time, naming the argument.
    """
    p, operands = jnp.asarray(predictions), [jnp.asarray(labels), jnp.asarray(reference)]
    if p.ndim < 2:
        raise ValueError(f"count_stats: `predictions` must have shape (..., K, n), got {p.shape}")
    if p.dtype != jnp.int32:
        raise TypeError(f"count_stats: `predictions` must be int32, got {p.dtype}; use .astype(jnp.int32)")
    lowering.check_sizes("count_stats", "predictions", K=p.shape[-2], n=p.shape[-1])
    if mask is not None:
        operands.append(jnp.asarray(mask))
    row = (*p.shape[:-2], p.shape[-1])
    for name, a in zip(("labels", "reference", "mask"), operands, strict=False):
        dtype = "bool" if name == "mask" else "int32"
        if a.shape != row:
            raise ValueError(
                f"count_stats: `{name}` must have shape {row} (predictions without the candidate axis), got {a.shape}"
            )
        if a.dtype != dtype:
            raise TypeError(f"count_stats: `{name}` must be {dtype}, got {a.dtype}; use .astype(jnp.{dtype})")
    layout = lowering.Layout(
        ("kn", "n", "n", "n")[: 1 + len(operands)], ("k", "", "k", "k"), joined="n", across=_call_across
    )
    return lowering.choose(_TARGET, _call, definition, p, *operands, layout=layout)


def definition(predictions: Array, labels: Array, reference: Array, mask: Array | None = None) -> CountStats:
    """Returns what `count_stats` does, in plain jnp, arguments unchecked: the oracle and the fallback."""
    counts = jnp.ones(labels.shape, bool) if mask is None else mask
    right = (predictions == labels[..., None, :]) & counts[..., None, :]
    reference_right = (reference == labels) & counts
    other = reference_right[..., None, :]
    fields = (right, reference_right, right & ~other, other & ~right)
    return CountStats(*(field.sum(-1, dtype=jnp.int32) for field in fields))


def _call(*operands: Array, target: str = _TARGET) -> CountStats:
    candidates, column = operands[0].shape[:-1], operands[1].shape[:-1]
    shapes = (candidates, column, candidates, candidates)
    results = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    return CountStats(*lowering.custom_call(target, results, *operands))


def _call_across(axes: Mapping[str, Any], *operands: Array) -> CountStats:
    return CountStats(*(lax.psum(counts, axes["n"]) for counts in _call(*operands)))


def _self_test(target: str) -> None:
    """Returns if the native target agrees with the definition on a small input; else RuntimeError."""
    rng = np.random.default_rng(0)
    predictions, labels, reference = (
        rng.integers(0, 3, shape).astype(np.int32) for shape in ((2, 3, 37), (2, 37), (2, 37))
    )
    for mask in ([], [rng.random((2, 37)) < 0.6]):
        call = functools.partial(_call, target=target)
        lowering.agree(call, definition, [predictions, labels, reference, *mask], CountStats._fields)


native.declare(_TARGET, _self_test)
