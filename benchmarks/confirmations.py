"""Many confirmations at once of a metric of 0 and 1, from the wins and losses of every block of examples.

A candidate wins an example that it alone is right on, and loses one that the incumbent alone is right on. Evidence of
`betting` and `bernstein` on such a metric depends on these counts alone, so that a block of examples is two numbers.
The verdict and the number of examples are those of the assessor itself, look by look: see tests/benchmarks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.scipy.special import logsumexp
from numpy.typing import NDArray

import ev3x
from ev3x.builtin.assessors.anytime import FUTILE_BET, Anytime
from ev3x.builtin.assessors.paired import Paired, mcnemar_p
from ev3x.builtin.assessors.published import Published
from ev3x.stats.betting import PowerSums, growth

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
# Wins and losses f32[trials, blocks] of some trials in the blocks from one to another.
Read = Callable[[Integers, int, int], tuple[Floats, Floats]]

BLOCKS_AT_ONCE, LANES_AT_ONCE, FEWEST = 16, 4096, 256


def _never(predictions: object, batch: object) -> None:
    raise AssertionError("scores are drawn, not computed")


ACCURACY = ev3x.Metric("accuracy", _never, binary=True)


@dataclasses.dataclass(frozen=True)
class World:
    """A candidate that copies a part of the incumbent's outcomes, and is drawn anew on the others; its true gain."""

    gain: float
    copied: float
    accuracy: float = 0.7

    @property
    def chances(self) -> tuple[float, float]:
        """Those to win and to lose an example."""
        anew, right = 1 - self.copied, self.accuracy + self.gain / (1 - self.copied)
        return anew * right * (1 - self.accuracy), anew * (1 - right) * self.accuracy

    def draw(self, rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Wins and losses among n examples, f32 of this shape each."""
        wins, losses, up_to = _table(self.chances, n)
        at = np.minimum(np.searchsorted(up_to, rng.random(shape), side="right"), len(up_to) - 1)
        return wins[at], losses[at]

    def reader(self, rng: np.random.Generator, n: int) -> Read:
        """Reads fresh blocks of n examples."""
        return lambda trials, start, stop: self.draw(rng, n, (len(trials), stop - start))


@functools.lru_cache(maxsize=16)
def _table(chances: tuple[float, float], n: int) -> tuple[Floats, Floats, Floats]:
    """Pairs of wins and losses that are not too rare to matter, and the chance of each pair or one before it."""
    wins, losses = (x.ravel() for x in np.mgrid[0 : n + 1, 0 : n + 1])
    can_be = wins + losses <= n
    wins, losses = wins[can_be], losses[can_be]
    chance = scipy.stats.multinomial.pmf(
        np.stack([wins, losses, n - wins - losses], -1), n, [*chances, 1 - sum(chances)]
    )
    kept = chance > 1e-18
    up_to = np.cumsum(chance[kept])
    return wins[kept].astype(np.float32), losses[kept].astype(np.float32), up_to / up_to[-1]


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """What became of each trial."""

    outcome: Integers  # an ev3x.Outcome
    blocks: Integers  # read
    p_value: Floats

    @property
    def better(self) -> NDArray[np.bool_]:
        """Who was promoted."""
        return self.outcome == ev3x.Outcome.BETTER


def confirm(assessor: Anytime, alpha: Floats, read: Read, left: Integers | None = None) -> Confirmed:
    """What an anytime-valid assessor says of every trial at its level; `left` limits the blocks of each trial."""
    most = np.minimum(np.full(len(alpha), assessor.blocks) if left is None else left, assessor.blocks)
    with np.errstate(divide="ignore"):  # futility 0 is never reached
        needed = [-np.log(np.float32(x)) for x in (alpha, assessor.level, assessor.futility)]
    done = Confirmed(np.full(len(alpha), int(ev3x.Outcome.UNDECIDED)), most.copy(), np.ones(len(alpha), np.float32))
    before = np.zeros((len(alpha), 2), np.float32)
    won = np.zeros((len(alpha), 2 * len(assessor.bets) + 1), np.float32)
    open_ = np.flatnonzero(most > 0)
    for start in range(0, assessor.blocks, BLOCKS_AT_ONCE):
        stop = min(start + BLOCKS_AT_ONCE, assessor.blocks)
        wins, losses = read(open_, start, stop)
        still = np.zeros(len(open_), bool)
        for first in range(0, len(open_), LANES_AT_ONCE):
            some = slice(first, first + LANES_AT_ONCE)
            trials = open_[some]
            wealth, before[trials], won[trials] = _look(
                assessor, before[trials], won[trials], wins[some], losses[some], start
            )
            still[some] = ~_close(done, trials, wealth, (needed[0][trials], *needed[1:]), start, most[trials])
        open_ = open_[still]
    return done


def _close(
    done: Confirmed, trials: Integers, wealth: Floats, needed: tuple[Floats, ...], start: int, most: Integers
) -> NDArray[np.bool_]:
    """Which trials end in these blocks, where the first verdict is clear or nothing is left; what they end with."""
    up, down, below = wealth  # f32[trials, blocks] each
    better, worse = up >= needed[0][:, None], down >= needed[1]
    clear = better | worse | (below >= needed[2])
    clear &= start + np.arange(up.shape[1]) < most[:, None]
    ended = clear.any(1) | (most <= start + up.shape[1])
    last = np.where(clear.any(1), clear.argmax(1), np.minimum(most - start, up.shape[1]) - 1)
    at = np.arange(len(trials)), last
    verdict = np.select([better[at], worse[at]], [int(ev3x.Outcome.BETTER), int(ev3x.Outcome.WORSE)], 0)
    done.outcome[trials[ended]] = verdict[ended]
    done.blocks[trials[ended]] = start + last[ended] + 1
    done.p_value[trials[ended]] = np.exp(-np.maximum(up[at], 0.0))[ended]
    return ended


def _look(
    assessor: Anytime, before: Floats, won: Floats, wins: Floats, losses: Floats, start: int
) -> tuple[Floats, Floats, Floats]:
    """Log-wealth f32[3, trials, blocks] after each block, and what to go on with."""
    trials = len(wins)
    width = max(FEWEST, 1 << (trials - 1).bit_length())  # few widths, so that few programs are compiled
    padded = [np.pad(x, ((0, width - trials), (0, 0))) for x in (before, won, wins, losses)]
    wealth, before, won = _wealth(assessor, *padded, np.float32(start * assessor.block))
    return np.asarray(wealth)[:, :trials], np.asarray(before)[:trials], np.asarray(won)[:trials]


@functools.partial(jax.jit, static_argnums=0)
def _wealth(
    assessor: Anytime, before: jax.Array, won: jax.Array, wins: jax.Array, losses: jax.Array, read: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_look`: trials are contenders, and their first slot holds all blocks before these."""
    trials, blocks = wins.shape
    apart = jnp.concatenate([before.T[:, None], jnp.stack([(wins - losses).T, (wins + losses).T])], axis=1)
    sums = PowerSums(
        gains=jnp.stack([apart[0], apart[1], apart[0], apart[1]], -1)[:, :, None],
        scores=jnp.zeros((blocks + 1, trials, 1, 2)),
        reference=jnp.zeros((blocks + 1, 1, 2)),
        weight=jnp.full((blocks + 1, 1), float(assessor.block)).at[0].set(read),
        faults=jnp.zeros((blocks + 1, trials, 1)),
    )
    ranges, least = assessor.ranges((ACCURACY,)), jnp.float32(assessor.min_gain)
    bets = least * jnp.array(assessor.bets, jnp.float32)[:, None]
    sides = jnp.array([1.0, -1.0])[:, None, None]
    gained = growth(sums, ranges, jnp.zeros((2, 1, 1)), sides, bets)
    refuted = growth(sums, ranges, least[None, None], -jnp.ones((1, 1)), FUTILE_BET * least[None, None])
    each = jnp.concatenate([gained.reshape(-1, *gained.shape[2:]), refuted])[:, 1:, :, 0]

    def add(total: jax.Array, more: jax.Array) -> tuple[jax.Array, jax.Array]:
        return total + more, total + more

    won, paths = jax.lax.scan(add, won.T, jnp.moveaxis(each, 1, 0))
    paths = jnp.moveaxis(paths, 0, -1)  # [bettors, trials, blocks]
    j = len(assessor.bets)
    wealth = [logsumexp(x, axis=0) - jnp.log(jnp.float32(len(x))) for x in (paths[:j], paths[j:-1], paths[-1:])]
    return jnp.stack(wealth), apart.sum(1).T, won.T


def paired(assessor: Paired, alpha: Floats, wins: Floats, losses: Floats) -> NDArray[np.bool_]:
    """Whom `paired` calls better, by wins and losses among all examples that it reads."""
    p = mcnemar_p(jnp.asarray(wins), jnp.asarray(wins + losses))
    return np.asarray(p) <= np.float32(alpha)


def published(assessor: Published, right: Floats, wins: Floats, losses: Floats, n: int) -> NDArray[np.bool_]:
    """Whom the published rule calls better, by wins and losses and how often the incumbent is right, of n examples."""
    old, new = np.float64(right) / n, np.float64(right + wins - losses) / n
    errors = [np.sqrt(p * (1 - p) / (n - 1)) for p in (old, new)]
    return (new - old) > assessor.z * (errors[0] + errors[1])
