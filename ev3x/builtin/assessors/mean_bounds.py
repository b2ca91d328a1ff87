"""Candidates ranked by the lower bound of their mean score (EV3, assess step)."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp
from typing_extensions import Doc

from ...component import Count, Real
from ...core.task import Metric
from ...core.types import Assessment, Outcome, Question
from ...stats.moments import Moments, pool
from .base import OfMoments, combine, conclude, gains, need_two_blocks


@dataclasses.dataclass(frozen=True)
class MeanBounds(OfMoments):
    """The candidate with the best mean score, less z standard errors.

    EV3 (arXiv 2310.18893): mean - z * std / sqrt(n) on the assess split, argmax over candidates; its published
    settings use z = 0. Several metrics are added with the weights of the question.
    """

    ranks_only = True

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 1
    z: Annotated[Real, Doc("standard errors that are taken off the mean; 0 ranks by the mean alone")] = 0.0

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for bounds on a set-level metric from a single block."""
        if self.z:
            need_two_blocks("mean_bounds", metrics, self.blocks)

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The assessment of all candidates, ranked by their bounds."""
        p = pool(evidence)
        off = self.z * p.error if self.z else jnp.zeros_like(p.mean)
        rank = combine(gains(p), off, question.aims)
        return conclude(
            p,
            question,
            metrics,
            rank=rank,
            value=combine(p.mean, off, question.aims),
            lower=p.mean - off,
            upper=p.mean + off,
            outcome=jnp.full(rank.shape, Outcome.UNDECIDED),
        )
