"""The base of assessors whose verdict may be looked at after every block."""

from __future__ import annotations

import abc
import dataclasses
from typing import Annotated, Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ...component import Count, Fault, Positive, Real
from ...core.task import Metric
from ...core.types import Array, Assessment, Block, Outcome, Question
from ...stats.betting import (
    MetricRanges,
    PowerSums,
    begin,
    bounded,
    broadcasting,
    gain_bounds,
    log_wealth,
    observe,
    score_bounds,
)
from .tested import Tested

# The distance at which the bet on futility is best, in units of `min_gain`: between a contender that gains
# nothing (1) and one that is worse by `min_gain` (2).
FUTILE_BET = 1.75


class Clear(NamedTuple):
    """The verdicts proven so far, bool[K] each, and the p-values f32[K, M] of claims and guards (NaN: neither)."""

    better: Array
    worse: Array
    equivalent: Array
    futile: Array
    p_values: Array


@dataclasses.dataclass(frozen=True)
class Anytime(Tested):
    """An assessor that reads blocks until its verdict is clear: proven better, worse, equivalent, or futile to go on.

    Its p-values are 1 / e of e-processes. Better: the p-values of all claims and guards are at most the level that the
    budget offers. Worse: at `level`, a claim is proven worse, or a guard worse by more than its margin. Equivalent: at
    `level`, every claim's difference is proven to lie within the metric's margin, and all guards hold. Futile: for a
    claim, a gain of `min_gain` or more is refuted at the level `futility`; the verdict is then whatever is proven so
    far.
    """

    e_values = True
    kind: ClassVar[str]

    block: Annotated[Count, Doc("examples scored between two looks")] = 256
    blocks: Annotated[Count, Doc("the most blocks read in a round")] = 128
    min_gain: Annotated[Positive, Doc("the smallest gain of interest, as a part of the metric's range")] = 0.01
    bets: Annotated[
        tuple[Positive, ...], Doc("the gains that bets are best at, in smallest gains of interest; each has a share")
    ] = (0.75, 1.5, 4.0)
    futility: Annotated[
        Real, Doc("the chance to give up on a contender that gains as much as is of interest; 0: never give up")
    ] = 0.01

    def check(self) -> list[Fault]:
        """Faults of the options: `min_gain` must be a part of a range, `bets` not empty, `futility` a probability."""
        faults = super().check()
        if self.min_gain >= 1:
            faults.append(Fault(("min_gain",), f"must be below 1, the whole range of a metric, got {self.min_gain}"))
        if not self.bets:
            faults.append(Fault(("bets",), "must have at least one, got none"))
        if not 0 <= self.futility < 1:
            faults.append(Fault(("futility",), f"must be at least 0 and below 1, got {self.futility}"))
        return faults

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for claims and guards on metrics that do not exist or have no range."""
        super().accept(metrics)
        name = type(self).__name__.lower()
        for metric, claim, margin in zip(metrics, self.claimed(metrics), self.margins(metrics), strict=True):
            if (claim or margin) and not bounded(metric) and not metric.constant:
                raise ValueError(
                    f"{name}: metric {metric.name!r} must declare its range to be tested, got low={metric.low}, "
                    f"high={metric.high}: Metric(..., low=..., high=...), or confirm with `paired`, which needs none"
                )

    def begin(self, k: int, metrics: tuple[Metric, ...]) -> PowerSums:
        """No evidence: an empty slot for every block."""
        return begin(self.blocks, k, len(metrics))

    def observe(self, evidence: PowerSums, block: Block, question: Question, metrics: tuple[Metric, ...]) -> PowerSums:
        """The evidence with the power sums of one more block."""
        return observe(evidence, block, self.ranges(metrics))

    def assumes(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """The assumptions of the bets: fresh examples, and scores within their ranges."""
        return (
            f"an e-process ({self.kind}): holds for any number of examples and whenever reading stops",
            "the decide examples are drawn afresh, independently of the candidates",
            "scores lie in the declared range of their metric, weights in [0, 1]",
        )

    @abc.abstractmethod
    def ranges(self, metrics: tuple[Metric, ...]) -> MetricRanges:
        """The ranges of these metrics, which say how bets on them are computed."""
        raise NotImplementedError

    def enough(self, evidence: PowerSums, question: Question, metrics: tuple[Metric, ...]) -> Array:
        """Whether, for every eligible contender, the verdict is clear or nothing more can be proven."""
        found = self._clear(evidence, question, metrics)
        faulty = (evidence.faults.sum(0) > 0) & jnp.array([[not m.constant for m in metrics]])
        broken = faulty | ~jnp.isfinite(evidence.gains[..., 0]).all(0)
        lost = (broken & ~jnp.isnan(found.p_values)).any(-1)
        clear = found.better | found.worse | found.equivalent | found.futile | lost
        return (clear | ~question.eligible).all()

    @broadcasting
    def conclude(self, evidence: PowerSums, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The verdicts so far."""
        ranges, found = self.ranges(metrics), self._clear(evidence, question, metrics)
        n = evidence.weight.sum(0)
        low, width = ranges.low, ranges.width
        mean, reference = (low + width * x[..., 0].sum(0) / n for x in (evidence.scores, evidence.reference))
        gain = evidence.gains[..., 0].sum(0) / n
        outward = ranges.sign * width
        claims, tested = jnp.array(self.claimed(metrics)), ~jnp.isnan(found.p_values)
        rank = jnp.where(claims, width * gain, 0.0).sum(-1)
        sound = jnp.where(tested, jnp.isfinite(mean), True).all(-1)
        can_win = question.eligible & sound & jnp.isfinite(rank)
        ends = [
            outward * end for end in gain_bounds(evidence, ranges, self._distances(jnp.zeros(len(metrics))), self.level)
        ]
        own = [low + width * end for end in score_bounds(evidence, self.level)]
        verdicts = [
            (~sound & question.eligible, Outcome.WORSE),
            (found.better, Outcome.BETTER),
            (found.worse, Outcome.WORSE),
            (found.equivalent, Outcome.EQUIVALENT),
        ]
        return Assessment(
            value=jnp.where(can_win, rank, -jnp.inf),
            mean=mean,
            lower=jnp.where(ranges.known, own[0], mean),
            upper=jnp.where(ranges.known, own[1], mean),
            difference=outward * gain,
            reference=reference,
            outcome=jnp.select([v[0] for v in verdicts], [v[1] for v in verdicts], Outcome.UNDECIDED).astype(jnp.int32),
            winner=jnp.where(can_win.any(), jnp.argmax(jnp.where(can_win, rank, -jnp.inf)), -1).astype(jnp.int32),
            p_value=jnp.nanmax(found.p_values, axis=-1),
            p_values=found.p_values,
            examples=jnp.round(n.max()).astype(jnp.int32),
            difference_lower=jnp.where(ranges.known, jnp.minimum(*ends), outward * gain),
            difference_upper=jnp.where(ranges.known, jnp.maximum(*ends), outward * gain),
            futile=found.futile & ~found.better,
        )

    def remark(self, evidence: Any, assessment: Assessment, metrics: tuple[Metric, ...]) -> str:
        """A remark on the first contender: why reading ended, or what is wrong with the scores."""
        faults = np.asarray(evidence.faults).sum(0)[0]
        wrong = [f"{m.name}: {int(n)}" for m, n in zip(metrics, faults, strict=True) if n]
        if wrong:
            where = "outside of their range (0 and 1 of a binary metric), or weights outside of 0 ... 1"
            return f"proves nothing: there are examples with scores {where} ({', '.join(wrong)})"
        return f"given up: a gain of {self.min_gain:g} of the range is ruled out" if bool(assessment.futile[0]) else ""

    @broadcasting
    def _distances(self, theta: Array) -> Array:
        """The distances f32[..., J, M] at which bets against theta f32[..., M] are best; one is the margin's size."""
        scale = jnp.where(theta == 0, self.min_gain, jnp.abs(theta))
        return scale[..., None, :] * jnp.array(self.bets, jnp.float32)[:, None]

    @broadcasting
    def _clear(self, evidence: PowerSums, question: Question, metrics: tuple[Metric, ...]) -> Clear:
        ranges = self.ranges(metrics)
        claims, guard = jnp.array(self.claimed(metrics)), jnp.array(self.margins(metrics), jnp.float32) / ranges.width
        guards, tested = guard > 0, claims | (guard > 0)
        margin = jnp.array([m.margin for m in metrics], jnp.float32) / ranges.width
        least = jnp.full(guard.shape, self.min_gain, jnp.float32)

        # Each bet: the mean gain it is against, the side, and the distances at which it is best.
        rows = {"up": (-guard, 1.0, self._distances(-guard)), "down": (-guard, -1.0, self._distances(-guard))}
        if self.futility:
            rows["futile"] = (least, -1.0, jnp.broadcast_to(FUTILE_BET * least, (len(self.bets), *least.shape)))
        if any(m.margin for m in metrics):
            rows |= {"above": (-margin, 1.0, self._distances(margin)), "below": (margin, -1.0, self._distances(margin))}
        theta, distances = (jnp.stack([row[i] for row in rows.values()]) for i in (0, 2))
        side = jnp.array([row[1] for row in rows.values()])[:, None] * jnp.ones_like(theta)
        wealth = log_wealth(evidence, ranges, theta[:, None], side[:, None], distances)
        gain = evidence.gains[..., 0].sum(0) / evidence.weight.sum(0)
        ahead = jnp.where(side[:, None] * (gain - theta[:, None]) > 0, jnp.inf, -jnp.inf)  # for constant metrics
        log_e = dict(zip(rows, jnp.where(jnp.array([m.constant for m in metrics]), ahead, wealth), strict=True))

        up, stated = log_e["up"], -jnp.log(jnp.float32(self.level))
        within = futile = jnp.zeros(up.shape, bool)
        if "above" in rows:
            within = (jnp.minimum(log_e["above"], log_e["below"]) >= stated) & (margin > 0)
        if "futile" in rows:
            futile = log_e["futile"] >= -jnp.log(jnp.float32(self.futility))
        return Clear(
            better=jnp.where(tested, up >= -jnp.log(question.alpha), True).all(-1),
            worse=jnp.where(tested, log_e["down"] >= stated, False).any(-1),
            equivalent=jnp.where(guards, up >= stated, within | ~claims).all(-1),
            futile=jnp.where(claims, futile, False).any(-1),
            p_values=jnp.where(tested, jnp.exp(-jnp.maximum(up, 0.0)), jnp.nan),
        )
