"""The rule of the EV3 paper, kept for comparison: two separate intervals must not overlap."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp
from typing_extensions import Doc

from ...component import Count, Positive
from ...core.task import Metric
from ...core.types import Assessment, Outcome, Question
from ...stats.moments import Moments, pool
from .base import OfMoments, combine, conclude, need_two_blocks


@dataclasses.dataclass(frozen=True)
class Published(OfMoments):
    """Better when the contender's lower bound exceeds the incumbent's upper bound (EV3, adapt step).

    The intervals are mean -+ z * std / sqrt(n) of each model alone: normal, unpaired, at no stated error level, so the
    level that the budget offers is not used. How often the rule errs depends on how alike the models are; `paired`
    states a level. With several weighted metrics, all must be better.
    """

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 4
    z: Annotated[Positive, Doc("standard errors on either side; the paper's experiments use 1.96")] = 1.96

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for a set-level metric on a single block."""
        need_two_blocks("published", metrics, self.blocks)

    def assumes(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """A note that there is no promise, and the assumptions of the intervals."""
        return (
            "no error level is stated, and the budget is not consulted",
            "the examples are independent draws that chose neither model",
            "the means are close to normal; the intervals take the models for independent: they are not paired",
        )

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The verdicts: better or worse when the intervals do not overlap, else undecided."""
        p = pool(evidence)
        off = self.z * p.error
        aims = question.aims[None]
        sign, counts = jnp.sign(aims), aims != 0
        # LCB(contender) > UCB(incumbent), written with the difference of the means, which float32 holds more exactly.
        gap, room = sign * p.difference, off + self.z * p.reference_error[None]
        better = ((gap > room) | ~counts).all(-1)
        worse = ((-gap > room) & counts).any(-1)
        return conclude(
            p,
            question,
            metrics,
            rank=combine(p.difference, off, question.aims),
            value=combine(p.mean, off, question.aims),
            lower=p.mean - off,
            upper=p.mean + off,
            difference_lower=p.difference - off - self.z * p.reference_error[None],
            difference_upper=p.difference + off + self.z * p.reference_error[None],
            outcome=jnp.select([better, worse], [Outcome.BETTER, Outcome.WORSE], Outcome.UNDECIDED),
        )
