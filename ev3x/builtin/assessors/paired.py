"""A test of the differences on the same examples, whose number is fixed."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import jax.numpy as jnp
from jax.scipy.special import betainc
from jax.scipy.stats import norm
from typing_extensions import Doc

from ...component import Count
from ...core.task import Metric
from ...core.types import Array, Assessment, Outcome, Question
from ...stats.moments import Moments, Pooled, pool
from .base import OfMoments, combine, conclude, need_two_blocks, own_bounds
from .tested import Tested

# float32 betainc(m/2, m/2, 1/2) errs by at most 1.2% of a tail (0.1 to 1e-7) up to m = 16,384; see tests.
BETAINC_ERROR = 0.02
LARGE = 16_384
# The true level of the score test, summed over all outcomes, is up to 20 % too high from 100 examples on; see tests.
SCORE_TEST_ERROR = 0.25
_MCNEMAR = "McNemar's exact test: nothing further"
_TANGO = "Tango's score test: approximate, its p-values are raised by a quarter"


@dataclasses.dataclass(frozen=True)
class Paired(OfMoments, Tested):
    """Better when the contender beats the incumbent on the same examples, at the level that the budget offers.

    Every claim must be proven better and every guard proven not worse than the incumbent by its margin, each at that
    level: an intersection-union test, which needs no correction for their number (Berger 1982). Metrics without a
    claim or guard are not tested; weights of the metrics are for selection and do not count here.

    Claims on metrics of 0 and 1 are tested exactly, whatever the number of examples: among those on which the two
    differ, wins are Binomial(m, 1/2) at most (McNemar 1947). Guards on them are tested with Tango's score test for
    paired proportions (Statistics in Medicine 17:891, 1998), an approximation: its true error (summed over all
    outcomes, from 100 examples on) exceeded the level by up to a fifth, so its p-values are raised by a quarter. Other
    metrics are tested with Student's t on the differences, which assumes that their mean over the examples read is
    close to normal; no spread at all proves nothing. Metrics that are declared constant (the size of a model) need no
    test.

    Worse means that at `level` a claim is proven worse, or a guard worse by more than its margin; equivalent, that the
    1 - 2 * level interval of every claim's difference lies within the metric's margin and all guards hold at `level`.

    A contender's own bounds are Wilson's for metrics of 0 and 1, and mean -+ t standard errors within the metric's
    range for others, at the confidence 1 - 2 * level.
    """

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 4
    test: Annotated[
        Literal["auto", "t"], Doc("auto: exact or score tests for binary metrics, t for others; t: t for all")
    ] = "auto"

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for claims and guards that do not suit the metrics, or a set-level metric on one block."""
        need_two_blocks("paired", metrics, self.blocks)
        super().accept(metrics)

    def assumes(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """The assumptions of the test of each claim and guard."""
        sentences = ["the examples are independent draws that chose neither model", "the sample is fixed: one look"]
        for m, claim, margin in zip(metrics, self.claimed(metrics), self.margins(metrics), strict=True):
            if not claim and not margin:
                continue
            if m.constant:
                text = "is the same on every example: compared, not tested"
            elif not m.binary or self.test == "t":
                text = "Student's t: the mean of the differences is close to normal"
            else:
                text = _MCNEMAR if claim else _TANGO
                text += ", as long as all weights are 0 or 1; else Student's t"
            sentences.append(f"{m.name}: {text}")
        return tuple(sentences)

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The verdicts and p-values."""
        p = pool(evidence)
        sign = jnp.array([[1.0 if m.maximize else -1.0 for m in metrics]], jnp.float32)
        margin = jnp.array([self.margins(metrics)], jnp.float32)
        claims, guards = jnp.array([self.claimed(metrics)]), margin > 0
        up, down = self._p_values(p, sign, margin, metrics)
        p_values = jnp.where(claims | guards, up, jnp.nan)
        better = jnp.where(claims | guards, up <= question.alpha, True).all(-1)
        worse = jnp.where(claims | guards, down <= self.level, False).any(-1)
        t = t_quantile(self.level, p.examples - 1)[None]
        off = t * p.difference_error
        lower, upper = own_bounds(p, t * p.error, self.level, metrics)
        within = jnp.abs(p.difference) + off < jnp.array([[m.margin for m in metrics]])
        equivalent = jnp.where(guards, up <= self.level, within | ~claims).all(-1)
        verdicts = [(better, Outcome.BETTER), (worse, Outcome.WORSE), (equivalent, Outcome.EQUIVALENT)]
        value = combine(p.difference, 0.0, jnp.where(claims, sign, 0.0)[0])
        return conclude(
            p,
            dataclasses.replace(question, aims=jnp.where(claims | guards, sign, 0.0)[0]),
            metrics,
            rank=value,
            value=value,
            lower=lower,
            upper=upper,
            difference_lower=p.difference - off,
            difference_upper=p.difference + off,
            outcome=jnp.select([v[0] for v in verdicts], [v[1] for v in verdicts], Outcome.UNDECIDED),
            p_values=p_values,
        )

    def _p_values(self, p: Pooled, sign: Array, margin: Array, metrics: tuple[Metric, ...]) -> Array:
        """The one-sided p-values f32[2, K, M] of a gain above -margin, and of one below; margin 0 is for claims."""
        gain, n, guarded = sign * p.difference, p.examples[None], margin > 0
        student = student_p(jnp.stack([gain + margin, -gain - margin]), p.difference_error[None], n[None])
        known = jnp.stack([(gain > 0) | (guarded & (gain >= -margin)), gain < -margin])
        constant = jnp.array([m.constant for m in metrics])
        student = jnp.where(constant, 1 - known.astype(jnp.float32), student)
        if self.test == "t":
            return student
        # n * mean and n * mean square of differences in {-1, 0, 1} give wins - losses and wins + losses.
        square = jnp.square(p.difference_error) * (n - 1) + jnp.square(gain)
        apart = jnp.round(square * n)
        wins = (apart + jnp.round(gain * n)) / 2
        losses = apart - wins
        exact = jnp.stack([mcnemar_p(wins, apart), mcnemar_p(losses, apart)])
        binary = jnp.array([m.binary for m in metrics]) & p.counted
        return jnp.where(binary[None, None], jnp.where(guarded[None], tango_p(wins, losses, n, margin), exact), student)


def mcnemar_p(wins: Array, apart: Array) -> Array:
    """P(Binomial(apart, 1/2) >= wins), rounded up by the error of its computation; 1 when nothing is apart."""
    a, b = jnp.maximum(wins, 1.0), jnp.maximum(apart - wins + 1.0, 1.0)
    small = betainc(a, b, jnp.float32(0.5)) * (1 + BETAINC_ERROR)
    # For larger m, the normal tail with continuity correction; the binomial's tail is lighter.
    large = norm.sf((2 * wins - 1 - apart) / jnp.sqrt(jnp.maximum(apart, 1.0)))
    return jnp.where(wins >= 1, jnp.minimum(jnp.where(apart > LARGE, large, small), 1.0), 1.0)


def tango_p(wins: Array, losses: Array, n: Array, margin: Array) -> Array:
    """The p-values, stacked, of a difference of paired proportions above -margin and below it, raised by its error.

    Tango (1998): z = (b - c - n theta) / sqrt(n (2q + theta - theta^2)) at theta = -margin, where q is the
    maximum likelihood estimate, under that theta, of the chance that the contender alone is wrong. 1 without examples.
    """
    b, c = wins / n, losses / n
    linear = (b + c) * (1 + margin) + 2 * margin * (1 - b)
    q = (linear + jnp.sqrt(jnp.maximum(linear * linear - 8 * c * margin * (1 + margin), 0.0))) / 4
    variance = 2 * jnp.maximum(q, margin) - margin - margin * margin
    z = (b - c + margin) * jnp.sqrt(n / variance)
    raised = jnp.minimum(norm.sf(jnp.stack([z, -z])) * (1 + SCORE_TEST_ERROR), 1.0)
    return jnp.where(jnp.isnan(z)[None], 1.0, raised)


def student_p(gain: Array, error: Array, n: Array) -> Array:
    """The one-sided p-value of t = gain / error with n - 1 degrees of freedom; 1 without spread."""
    freedom = jnp.maximum(n - 1, 1.0)
    t = gain / error
    small = 0.5 * betainc(freedom / 2, jnp.float32(0.5), freedom / (freedom + t * t))
    # Beyond 100 degrees of freedom float32 betainc fails; Hill (1970) maps t to a normal deviate, to 1e-5 of a tail.
    a = freedom - 0.5
    w = jnp.sqrt(a * jnp.log1p(t * t / freedom))
    large = norm.sf(w + (w**3 + 3 * w) / (48 * a * a))
    tail = jnp.where(freedom > 100, large, small)
    return jnp.where(error > 0, jnp.where(t > 0, tail, 1 - tail), 1.0)


def t_quantile(level: float, freedom: Array) -> Array:
    """The upper `level` quantile of Student's t (Cornish-Fisher; exact below 3 degrees): 3 digits at 0.05."""
    z = norm.isf(jnp.float32(level))
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    t = z + sum(term / freedom ** (i + 1) for i, term in enumerate(terms))
    one = 1 / math.tan(math.pi * level)
    two = (1 - 2 * level) / math.sqrt(2 * level * (1 - level))
    return jnp.select([freedom < 2, freedom < 3], [one, two], t)
