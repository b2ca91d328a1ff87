"""Candidates ranked by one metric after the other."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Annotated

import jax.numpy as jnp
from typing_extensions import Doc

from ...component import Count, Fault, Names
from ...core.objectives import Amounts, find
from ...core.task import Metric
from ...core.types import Assessment, Question
from ...stats.moments import Moments, pool
from .base import OfMoments, places, ranked, signed_gains


@dataclasses.dataclass(frozen=True)
class Lexicographic(OfMoments):
    """The candidate with the best mean of the last metric among those that no metric before has sorted out.

    On the first metric, candidates within the tolerance of the best stay. Of these, the second metric keeps those
    within its tolerance of their best, and so on; the last metric decides. The value of a candidate is the number of
    others that it is ahead of, because it stayed longer, or is better on the metric that sorted out both. Weights are
    not used.
    """

    weighted = False
    ranks_only = True

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 1
    order: Annotated[Names, Doc("metrics, the most important first; none named: those of the task")] = ()
    tolerance: Annotated[
        Amounts, Doc("name = number: how far behind the best one may stay; not named: the metric's own margin")
    ] = Amounts()

    def check(self) -> list[Fault]:
        """Faults of the options: a tolerance for a metric that is not in `order`."""
        idle = [name for name, _ in self.tolerance if self.order and name not in self.order]
        return [Fault(("tolerance", name), f"is for a metric that is not in the order {self.order}") for name in idle]

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError when a named metric does not exist."""
        find("lexicographic", self.order, metrics)
        find("lexicographic", dict(self.tolerance), metrics)

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The assessment of all candidates, ranked by their places."""
        p = pool(evidence)
        order = find("lexicographic", self.order, metrics) or range(len(metrics))
        tolerance = {m.name: m.margin for m in metrics} | dict(self.tolerance)
        gain = signed_gains(p, metrics, order)
        can_win = question.eligible & jnp.isfinite(gain).all(0)
        stay, stage, at = can_win, jnp.zeros(can_win.shape), gain[0]
        for place, (before, after) in zip(order, itertools.pairwise(gain), strict=False):
            best = jnp.where(stay, before, -jnp.inf).max()
            stay &= before >= best - tolerance[metrics[place].name]
            stage, at = stage + stay.astype(jnp.float32), jnp.where(stay, after, at)
        return ranked(p, question, metrics, order, places(can_win, stage, at))
