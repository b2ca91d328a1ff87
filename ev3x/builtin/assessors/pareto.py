"""Candidates ranked by how many others are better in every respect."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp
from typing_extensions import Doc

from ...component import Count
from ...core.objectives import find
from ...core.task import Metric
from ...core.types import Assessment, Question
from ...stats.moments import Moments, pool
from .base import OfMoments, combine, gains, places, ranked, signed_gains


@dataclasses.dataclass(frozen=True)
class Pareto(OfMoments):
    """The candidate that the fewest others dominate, of several the one with the best weighted mean.

    One dominates another when it is at least as good on all metrics and better on one; the rank by the number of
    dominators is that of Fonseca and Fleming (1993). Only eligible candidates with finite scores take part. The value
    of a candidate is how many others it is ahead of.
    """

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 1
    metrics: Annotated[tuple[str, ...], Doc("the metrics that are compared; none named: all")] = ()

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for metrics that there are not."""
        find("pareto", self.metrics, metrics)

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """All candidates by their places."""
        p = pool(evidence)
        compared = find("pareto", self.metrics, metrics) or range(len(metrics))
        weighted = combine(gains(p), 0.0, question.aims)
        gain = signed_gains(p, metrics, compared)
        can_win = question.eligible & jnp.isfinite(weighted) & jnp.isfinite(gain).all(0)
        other, own = gain[:, :, None], gain[:, None]
        dominates = can_win[:, None] & (other >= own).all(0) & (other > own).any(0)
        dominators = dominates.sum(0).astype(jnp.float32)
        return ranked(p, question, metrics, compared, places(can_win, -dominators, weighted))
