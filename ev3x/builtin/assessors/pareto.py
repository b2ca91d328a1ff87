"""Candidates ranked by Pareto fronts."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp
from typing_extensions import Doc

from ...component import Count, Names
from ...core.objectives import find
from ...core.task import Metric
from ...core.types import Assessment, Question
from ...ops import pareto_ranks
from ...stats.moments import Moments, pool
from .base import OfMoments, combine, gains, places, ranked, signed_gains


@dataclasses.dataclass(frozen=True)
class Pareto(OfMoments):
    """A candidate that no other dominates, of several one that is far from its neighbours.

    One candidate dominates another when it is at least as good on all metrics and better on one. The order is that of
    NSGA-II (Deb et al. 2002, sections III-A and III-B): candidates that nobody dominates are the first front,
    candidates that only the first front dominates are the second, and so on; within a front, the larger crowding
    distance comes first. The ends of a front, its best and its worst candidate on any metric, have infinite distance;
    of equal distances, the better weighted mean comes first. For a compromise by weights, select with `mean_bounds`.
    Only eligible candidates with finite scores take part. The value of a candidate is the number of others that it is
    ahead of.
    """

    ranks_only = True

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 1
    metrics: Annotated[Names, Doc("the metrics that are compared; none named: all")] = ()

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError when a named metric does not exist."""
        find("pareto", self.metrics, metrics)

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The assessment of all candidates, ranked by their places."""
        p = pool(evidence)
        compared = find("pareto", self.metrics, metrics) or range(len(metrics))
        weighted = combine(gains(p), 0.0, question.aims)
        gain = signed_gains(p, metrics, compared)
        can_win = question.eligible & jnp.isfinite(weighted) & jnp.isfinite(gain).all(0)
        found = pareto_ranks(jnp.where(can_win[:, None], gain.T, jnp.nan))  # NaN dominates nobody
        return ranked(p, question, metrics, compared, places(can_win, -found.rank, found.crowding, weighted))
