"""Evidence as bets: a gambler who bets on contenders that are no better than the reference wins nothing on average.

A gain is the difference of a score to the reference's score on the same example, as a part of the metric's range, with
larger values better: y in [-1, 1]. To prove that its mean exceeds theta, we bet on it: wealth starts at 1 and is
multiplied by 1 + lambda (y - theta) for every example. If the mean is at most theta, wealth is a supermartingale,
whatever lambda is chosen before an example is seen. Then the probability that wealth ever reaches 1 / alpha is at most
alpha (Ville 1939): one may look after every block and stop (Waudby-Smith and Ramdas, JRSS-B 86, 2024, section 4).

The bets on a block follow from the blocks before: lambda = distance / v for a few distances that are worth finding,
where v is the mean square of the gains so far; this bet grows fastest at that distance. So a block is needed only as
power sums, and evidence adds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from ..core.task import Metric
from ..core.types import Array, Block

# A prior for the mean square of gains before the first block, and the number of examples that it counts as.
PRIOR, PRIOR_EXAMPLES = 0.1, 64.0
# The largest part of the wealth that one example can take.
MOST_EXACT, MOST = 0.75, 0.5
SLACK = 1e-5  # scores may leave their range by this much, from rounding

P = ParamSpec("P")
R = TypeVar("R")


def broadcasting(f: Callable[P, R]) -> Callable[P, R]:
    """The function, which may broadcast arrays [M] to [K, M] even where JAX's rank promotion is strict."""
    return jax.numpy_rank_promotion("allow")(f)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PowerSums:
    """Power sums of scores, with a slot for each block; w are weights in [0, 1]."""

    gains: Array  # f32[B, K, M, 4], sums of w y^p for p = 1 ... 4
    scores: Array  # f32[B, K, M, 2], sums of w u^p, where u in [0, 1] is the score's place in the range
    reference: Array  # f32[B, M, 2]
    weight: Array  # f32[B, M], sums of w
    faults: Array  # f32[B, K, M], examples whose scores or weights were outside of their range, or not 0 or 1 if exact


@dataclasses.dataclass(frozen=True)
class MetricRanges:
    """The ranges of some metrics; metrics without one are measured as they are.

    Wealth from bets on metrics with `exact` values, 0 or 1, is computed exactly; wealth on other metrics is bounded
    from below by powers of the gains up to `order`.
    """

    low: Array  # f32[M]
    width: Array  # f32[M]
    sign: Array  # f32[M]
    known: Array  # bool[M]
    exact: Array  # bool[M]
    order: int

    @classmethod
    def of(cls, metrics: Sequence[Metric], *, exact: bool = True, order: int = 4) -> MetricRanges:
        """The ranges of these metrics."""
        known = np.array([bounded(m) for m in metrics])
        low = np.array([m.low if bounded(m) else 0.0 for m in metrics])
        high = np.array([m.high if bounded(m) else 1.0 for m in metrics])
        return cls(
            jnp.asarray(low, jnp.float32),
            jnp.asarray(high - low, jnp.float32),
            jnp.array([1.0 if m.maximize else -1.0 for m in metrics], jnp.float32),
            jnp.asarray(known),
            jnp.array([m.binary and exact for m in metrics]),
            order,
        )


def bounded(metric: Metric) -> bool:
    """Whether a metric declares both ends of its range."""
    return bool(np.isfinite(metric.low) and np.isfinite(metric.high))


def begin(blocks: int, k: int, m: int) -> PowerSums:
    """No evidence: empty slots for this many blocks."""
    shapes = {"gains": (k, m, 4), "scores": (k, m, 2), "reference": (m, 2), "weight": (m,), "faults": (k, m)}
    return PowerSums(**{name: jnp.zeros((blocks, *shape), jnp.float32) for name, shape in shapes.items()})


@broadcasting
def observe(sums: PowerSums, block: Block, ranges: MetricRanges) -> PowerSums:
    """The sums with one more block in its slot."""
    n = block.reference.shape[-1]
    w = jnp.ones((ranges.low.shape[0], n), jnp.float32) if block.weights is None else block.weights
    counts = w != 0

    def placed(x: Array) -> Array:  # examples of weight 0 may hold anything, also NaN
        return jnp.where(counts, (x - ranges.low[:, None]) / ranges.width[:, None], 0.0)

    scores, reference = placed(block.scores), placed(block.reference)
    gain = ranges.sign[:, None] * (scores - reference)

    def powers(x: Array, most: int) -> Array:
        terms = [w * x]
        for _ in range(most - 1):
            terms.append(terms[-1] * x)
        return jnp.stack([t.sum(-1) for t in terms], axis=-1)

    def outside(x: Array) -> Array:
        possible = jnp.where(ranges.exact[:, None], (x == 0) | (x == 1), (x >= -SLACK) & (x <= 1 + SLACK))
        return ranges.known[:, None] & ~possible

    bad = outside(scores) | outside(reference) | (w < 0) | (w > 1)
    found = PowerSums(
        gains=powers(gain, 4),
        scores=powers(scores, 2),
        reference=powers(reference, 2),
        weight=w.sum(-1),
        faults=jnp.broadcast_to(bad, scores.shape).astype(jnp.float32).sum(-1),
    )
    # Each block fills an empty slot, so evidence of other blocks, also from other devices, merges by leafwise sums.
    return jax.tree.map(lambda slots, x: slots.at[block.index].add(x), sums, found)


@broadcasting
def log_wealth(sums: PowerSums, ranges: MetricRanges, theta: Array, side: Array, distances: Array) -> Array:
    """The log of the mean wealth, f32[..., K, M], of bettors that the mean gain is above theta (side 1) or below (-1).

    `theta` and `side` are f32[..., K, M] or [..., 1, M]; `distances`, f32[..., J, M], are the distances to theta at
    which the J bettors are best, as parts of the range. The wealth on a contender with faults, or on a metric without a
    range, is 0.
    """
    blocks = jnp.moveaxis(growth(sums, ranges, theta, side, distances), -3, 0)
    # Added in the order of the blocks, and not by `sum`, which some versions of XLA get wrong: see wrong_sums.py.
    won = jax.lax.fori_loop(0, len(blocks), lambda i, total: total + blocks[i], jnp.zeros_like(blocks[0]))
    # Each bettor's wealth is a supermartingale, so their mean is one too: the best bettor pays for the others.
    wealth = logsumexp(won, axis=-3) - jnp.log(jnp.float32(distances.shape[-2]))
    sound = ranges.known & (sums.faults.sum(0) == 0) & jnp.isfinite(wealth)
    return jnp.where(sound, wealth, -jnp.inf)


@broadcasting
def growth(sums: PowerSums, ranges: MetricRanges, theta: Array, side: Array, distances: Array) -> Array:
    """What every block adds to the log-wealth of each bettor: f32[..., J, B, K, M]; takes arguments of `log_wealth`."""
    s0 = sums.weight[:, None]  # [B, 1, M]
    s1, s2, s3, s4 = jnp.moveaxis(sums.gains, -1, 0)  # [B, K, M]
    # Bets depend on earlier blocks alone: one that had seen its own block could win on chance.
    square = _before(s2, PRIOR * PRIOR_EXAMPLES) / _before(s0, PRIOR_EXAMPLES)
    at, way = theta[..., None, None, :, :], side[..., None, None, :, :]  # [..., J, B, K, M]
    reach = 1 + jnp.abs(at)  # how far a gain in [-1, 1] can lie from theta: no example takes more than `most`
    most = jnp.where(ranges.exact, MOST_EXACT, MOST) / reach
    bet = jnp.minimum(distances[..., :, None, None, :] / square, most)

    signed = way * bet
    # Gains of 0/1 metrics are -1, 0 or 1: two sums count them, and log(1 + ...) need not be bounded.
    wins, losses = (s2 + s1) / 2, (s2 - s1) / 2
    exact = (
        wins * jnp.log1p(signed * (1 - at))
        + losses * jnp.log1p(-signed * (1 + at))
        + (s0 - s2) * jnp.log1p(-signed * at)
    )
    # For z >= -v: log(1 + z) >= z - rest(v, 2) z^2 (Fan, Grama and Liu 2015, the root of empirical Bernstein bounds),
    # and in the same way >= z - z^2/2 + z^3/3 - rest(v, 4) z^4; both are equalities at -v.
    # A bound from below keeps the claim: real wealth is at least what is computed here.
    rest = _rest(bet * reach, ranges.order)
    z1 = signed * (s1 - at * s0)
    z2 = bet**2 * (s2 - 2 * at * s1 + at**2 * s0)
    if ranges.order == 2:
        below = z1 - rest * z2
    else:
        z3 = signed**3 * (s3 - 3 * at * s2 + 3 * at**2 * s1 - at**3 * s0)
        z4 = bet**4 * (s4 - 4 * at * s3 + 6 * at**2 * s2 - 4 * at**3 * s1 + at**4 * s0)
        below = z1 - z2 / 2 + z3 / 3 - rest * z4
    return jnp.where(ranges.exact, exact, below)


def _rest(v: Array, order: int) -> Array:
    """The series of -log(1 - v) from v^order on, over v^order: for v up to 1/2."""
    total = jnp.zeros_like(v)
    # Horner's rule; at v = 1/2 the terms after the 26th are below float32's rounding.
    for p in range(26, order - 1, -1):
        total = total * v + 1 / p
    return total


def _before(sums: Array, prior: float) -> Array:
    """The sum over earlier blocks plus a prior: [B, ...]."""
    return jnp.cumsum(sums, axis=0) - sums + prior


@broadcasting
def gain_bounds(sums: PowerSums, ranges: MetricRanges, distances: Array, level: float) -> tuple[Array, Array]:
    """Bounds of the mean gain, f32[K, M] each, as parts of the range; each holds at all times with chance 1 - level.

    They enclose every theta that no bet has refuted. Wealth is monotone in theta, so bisection finds them.
    """
    k, m = sums.gains.shape[1:3]
    mean = sums.gains[..., 0].sum(0) / sums.weight.sum(0)
    start = jnp.nan_to_num(mean)
    needed = -jnp.log(jnp.float32(level))
    sides = jnp.array([1.0, -1.0], jnp.float32)[:, None, None] * jnp.ones((2, k, m), jnp.float32)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        out, kept = ends  # refuted or the end of the range, and not refuted
        middle = (out + kept) / 2
        refuted = log_wealth(sums, ranges, middle, sides, distances) >= needed
        return jnp.where(refuted, middle, out), jnp.where(refuted, kept, middle)

    # 20 halvings leave 2e-6 of the range. The result is the refuted end, so errors make the bounds wider.
    out, _ = jax.lax.fori_loop(0, 20, halve, (-sides, jnp.stack([start, start])))
    return out[0], out[1]


@broadcasting
def score_bounds(sums: PowerSums, level: float) -> tuple[Array, Array]:
    """Bounds of the mean scores, f32[K, M] each in [0, 1]; each holds at all times with chance 1 - level.

    The empirical Bernstein confidence sequence with predictable plug-in bets (Waudby-Smith and Ramdas 2024, section
    3.2): around the mean of the blocks before, with lambda = sqrt(2 log(1/level) / (v t log(1 + t))).
    """
    n, s1, s2 = sums.weight[:, None], sums.scores[..., 0], sums.scores[..., 1]
    # Before the first block stands one artificial example of value 1/2 and variance 1/4, the largest possible.
    count = _before(n, 1.0)
    centre = _before(s1, 0.5) / count
    spread = jnp.maximum(_before(s2, 0.5) / count - centre**2, 0.0) + 0.25 / count
    t = count + n - 1
    needed = -jnp.log(jnp.float32(level))
    bet = jnp.minimum(jnp.sqrt(2 * needed / (spread * jnp.maximum(t, 1.0) * jnp.log1p(t + 1))), MOST)
    around = s2 - 2 * centre * s1 + centre**2 * n
    total = (bet * n).sum(0)
    off = (needed + ((-jnp.log1p(-bet) - bet) * around).sum(0)) / total
    middle = jnp.where(total > 0, (bet * s1).sum(0) / total, 0.5)
    return jnp.clip(middle - off, 0.0, 1.0), jnp.clip(middle + off, 0.0, 1.0)
