"""The default confirmation: a test of the differences on the same examples."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import jax.numpy as jnp
from jax.scipy.special import betainc
from jax.scipy.stats import norm
from typing_extensions import Doc

from ...component import Count, Fault, Positive
from ...moments import Moments, Pooled, pool
from ...task import Metric
from ...types import Array, Assessment, Outcome, Question
from .base import OfMoments, combine, conclude, need_two_blocks

# float32 betainc(m/2, m/2, 1/2) errs by at most 1.2% of a tail (0.1 to 1e-7) up to m = 16,384; see tests.
BETAINC_ERROR = 0.02
LARGE = 16_384


@dataclasses.dataclass(frozen=True)
class Paired(OfMoments):
    """Better when the contender beats the incumbent on the same examples, at the level that the budget offers.

    Metrics of 0 and 1 are tested exactly, whatever the number of examples: among those on which the two differ, wins
    are Binomial(m, 1/2) at most (McNemar 1947). Others are tested with Student's t on the differences, which assumes
    that their mean over the examples read is close to normal. With several aimed metrics all must be better (an
    intersection-union test, valid at the same level). Worse is the same test the other way round at `level`;
    equivalent means that the 1 - 2 * level interval of every difference lies within the metric's margin.
    """

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 4
    level: Annotated[Positive, Doc("the chance of a false promotion that the budget shares out")] = 0.05
    test: Annotated[Literal["auto", "t"], Doc("auto: exact for binary metrics, t for others; t: t for all")] = "auto"

    def check(self) -> list[Fault]:
        """A level is a probability below one half."""
        return [Fault(("level",), f"must be below 0.5, got {self.level}")] if self.level >= 0.5 else []

    @property
    def promise(self) -> float:
        """The stated level."""
        return self.level

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for a set-level metric on a single block."""
        need_two_blocks("paired", metrics, self.blocks)

    def conclude(self, evidence: Moments, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The verdicts and p-values."""
        p = pool(evidence)
        aims = question.aims[None]
        sign, counts = jnp.sign(aims), aims != 0
        up, down = self._p_values(p, jnp.stack([sign, -sign]), metrics)
        p_better = jnp.where(counts, up, 0.0).max(-1)
        p_worse = jnp.where(counts, down, 1.0).min(-1)
        off = t_quantile(self.level, p.examples - 1)[None] * p.difference_error
        margin = jnp.array([[m.margin for m in metrics]])
        within = (jnp.abs(p.difference) + off < margin) | ~counts
        verdicts = [(p_better <= question.alpha, Outcome.BETTER), (p_worse <= self.level, Outcome.WORSE)]
        verdicts.append((within.all(-1), Outcome.EQUIVALENT))
        value = combine(p.difference, 0.0, question.aims)
        return conclude(
            p,
            question,
            metrics,
            rank=value,
            value=value,
            lower=p.reference[None] + p.difference - off,
            upper=p.reference[None] + p.difference + off,
            outcome=jnp.select([v[0] for v in verdicts], [v[1] for v in verdicts], Outcome.UNDECIDED),
            p_value=p_better,
        )

    def _p_values(self, p: Pooled, way: Array, metrics: tuple[Metric, ...]) -> Array:
        """The one-sided p-values f32[2, K, M] of a difference in either direction of `way`, f32[2, 1, M]."""
        difference, error, n = p.difference[None], p.difference_error[None], p.examples[None, None]
        gain = way * difference
        student = student_p(gain, error, n)
        if self.test == "t":
            return student
        # n * mean and n * mean square of differences in {-1, 0, 1} give wins - losses and wins + losses.
        square = jnp.square(error) * (n - 1) + jnp.square(difference)
        apart = jnp.round(square * n)
        exact = mcnemar_p((apart + jnp.round(gain * n)) / 2, apart)
        binary = jnp.array([m.binary for m in metrics]) & p.counted
        return jnp.where(binary[None, None], exact, student)


def mcnemar_p(wins: Array, apart: Array) -> Array:
    """P(Binomial(apart, 1/2) >= wins), rounded up by the error of its computation; 1 when nothing is apart."""
    a, b = jnp.maximum(wins, 1.0), jnp.maximum(apart - wins + 1.0, 1.0)
    small = betainc(a, b, jnp.float32(0.5)) * (1 + BETAINC_ERROR)
    # Beyond, the normal tail with continuity correction: the binomial's own tail is lighter.
    large = norm.sf((2 * wins - 1 - apart) / jnp.sqrt(jnp.maximum(apart, 1.0)))
    return jnp.where(wins >= 1, jnp.minimum(jnp.where(apart > LARGE, large, small), 1.0), 1.0)


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
