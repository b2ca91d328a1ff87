"""The base of assessors that compare mean scores, and functions that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from ...core.assess import Assessor
from ...core.task import Metric
from ...core.types import Array, Assessment, Block, Outcome, Question
from ...stats.intervals import wilson
from ...stats.moments import Moments, Pooled, begin, observe


@dataclasses.dataclass(frozen=True)
class OfMoments(Assessor):
    """An assessor whose evidence is the moments of each block."""

    def begin(self, k: int, metrics: tuple[Metric, ...]) -> Moments:
        """No evidence: an empty slot for every block."""
        return begin(self.blocks, k, len(metrics))

    def observe(self, evidence: Moments, block: Block, question: Question, metrics: tuple[Metric, ...]) -> Moments:
        """The evidence with the moments of one more block."""
        return observe(evidence, block)


def need_two_blocks(name: str, metrics: tuple[Metric, ...], blocks: int) -> None:
    """Raise ValueError for a set-level metric on fewer than two blocks, which show no spread."""
    for metric in metrics:
        if metric.kind == "set" and blocks < 2:
            raise ValueError(
                f"{name}: metric {metric.name!r} is set-level, its uncertainty is that between blocks: "
                f"blocks must be at least 2, got {blocks}"
            )


def own_bounds(p: Pooled, off: Array, level: float, metrics: tuple[Metric, ...]) -> tuple[Array, Array]:
    """Bounds of each contender's own mean, f32[K, M]: Wilson's for counted metrics of 0 and 1, else mean -+ off."""
    lower, upper = wilson(p.mean, p.examples[None], level)
    rate = (jnp.array([m.binary for m in metrics]) & p.counted)[None]
    return jnp.where(rate, lower, p.mean - off), jnp.where(rate, upper, p.mean + off)


def combine(mean: Array, off: Array | float, aims: Array) -> Array:
    """The weighted sum over metrics of mean less `off` (in the direction of each aim): f32[K]; aim 0 omits a metric."""
    aims = aims[None]
    return jnp.where(aims != 0, aims * mean - jnp.abs(aims) * off, 0.0).sum(-1)


def gains(p: Pooled) -> Array:
    """The values by which contenders are compared, f32[K, M]: their mean difference to the reference.

    float32 means of large scores are too coarse to compare. Where the reference is not finite, the means are used
    instead, so that contenders can still win.
    """
    return jnp.where(jnp.isfinite(p.reference)[None], p.difference, p.mean)


def signed_gains(p: Pooled, metrics: tuple[Metric, ...], order: Sequence[int]) -> Array:
    """The gains on the metrics in `order`, signed so that larger is better: f32[len(order), K]."""
    gain = gains(p)
    return jnp.stack([gain[:, i] if metrics[i].maximize else -gain[:, i] for i in order])


def places(can_win: Array, *keys: Array) -> Array:
    """How many others that can win each contender is ahead of, by the first key, then the second, and so on: f32[K].

    Equal contenders have equal places; a contender that cannot win has NaN.
    """
    ahead = jnp.zeros((can_win.size, can_win.size), bool)
    for key in reversed(keys):
        ahead = (key[:, None] > key[None]) | ((key[:, None] == key[None]) & ahead)
    return jnp.where(can_win, (ahead & can_win[None]).sum(-1).astype(jnp.float32), jnp.nan)


def conclude(
    p: Pooled,
    question: Question,
    metrics: tuple[Metric, ...],
    *,
    rank: Array,
    value: Array,
    lower: Array,
    upper: Array,
    outcome: Array,
    p_values: Array | None = None,
    **further: Array,
) -> Assessment:
    """The assessment ranked by `rank`; contenders that are not eligible, or not finite, cannot win and are WORSE.

    `further` are the optional fields of `Assessment`.
    """
    can_win = question.eligible & jnp.isfinite(rank)
    sound = question.eligible & jnp.isfinite(combine(p.mean, 0.0, question.aims))
    best = jnp.argmax(jnp.where(can_win, rank, -jnp.inf))
    low, high = jnp.array([[m.low for m in metrics]]), jnp.array([[m.high for m in metrics]])
    return Assessment(
        value=jnp.where(can_win, value, -jnp.inf),
        mean=p.mean,
        lower=jnp.clip(lower, low, high),
        upper=jnp.clip(upper, low, high),
        difference=p.difference,
        reference=p.reference,
        outcome=jnp.where(sound, outcome, Outcome.WORSE).astype(jnp.int32),
        winner=jnp.where(can_win.any(), best, -1).astype(jnp.int32),
        p_value=jnp.full(rank.shape, jnp.nan) if p_values is None else jnp.nanmax(p_values, axis=-1),
        p_values=jnp.full(p.mean.shape, jnp.nan) if p_values is None else p_values,
        examples=jnp.round(p.examples.max()).astype(jnp.int32),
        **further,
    )


def ranked(
    p: Pooled, question: Question, metrics: tuple[Metric, ...], looked_at: Sequence[int], place: Array
) -> Assessment:
    """The assessment of candidates ranked by their places, with the means of the metrics, without bounds."""
    aims = jnp.zeros_like(question.aims).at[jnp.array(looked_at)].set(1.0)
    return conclude(
        p,
        dataclasses.replace(question, aims=aims),
        metrics,
        rank=place,
        value=place,
        lower=p.mean,
        upper=p.mean,
        outcome=jnp.full(place.shape, Outcome.UNDECIDED),
    )
