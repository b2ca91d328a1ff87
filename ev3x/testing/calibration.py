"""How often an assessor calls a contender better that is not, and one that is: simulated, with exact intervals."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ..core.assess import Assessor
from ..core.programs import compiled
from ..core.task import Metric
from ..core.types import Array, Block, Outcome, PyTree, Question
from ..stats.intervals import clopper_pearson
from . import worlds

LEVELS = (0.2, 0.05, 0.01)
COPIED = (0.0, 0.9)  # the part of the examples on which contender and reference agree by construction
REPEATS = 8_000
AT_ONCE = 500
EXAMPLES, BLOCKS = 256, 4  # the most examples of a block, and blocks, that are simulated
CONFIDENCE = 0.999


@dataclasses.dataclass(frozen=True)
class Rate:
    """How often a contender was called better, and at which level that was asked."""

    metrics: tuple[str, ...]
    copied: float
    level: float
    hits: int
    repeats: int

    @property
    def interval(self) -> tuple[float, float]:
        """The Clopper-Pearson interval of the rate, at `CONFIDENCE`."""
        low, high = clopper_pearson(self.hits, self.repeats, (1 - CONFIDENCE) / 2)
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        where = f"{'+'.join(self.metrics)}, {self.copied:.0%} alike"
        return f"level {self.level:g} ({where}): {self.hits / self.repeats:.4f} [{low:.4f}, {high:.4f}]"


def rates(
    assessor: Assessor,
    metrics: tuple[Metric, ...],
    *,
    gain: float = 0.0,
    copied: float = 0.0,
    levels: tuple[float, ...] = LEVELS,
    repeats: int = REPEATS,
) -> list[Rate]:
    """How often the assessor calls a contender better that is so by `gain` on every metric (0: it is not), per level.

    Every repeat is one confirmation as a round runs it: two contenders against a reference, block by block, stopped
    when the assessor says that it is enough. Long ones are cut: at most 256 examples a block, and four blocks.
    `repeats` is a multiple of 500.
    """
    short = dataclasses.replace(assessor, block=min(assessor.block, EXAMPLES), blocks=min(assessor.blocks, BLOCKS))
    hits = np.zeros(len(levels), int)
    rng = np.random.default_rng(0)
    for i in range(repeats // AT_ONCE):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), i), AT_ONCE)
        scores, reference = worlds.scores(rng, metrics, (gain, 0.0), copied, (AT_ONCE, short.blocks, short.block))
        given = keys, jnp.asarray(scores), jnp.asarray(reference)
        hits += [int(_better((short, metrics), *given, jnp.float32(level))) for level in levels]
    names = tuple(metric.name for metric in metrics)
    return [Rate(names, copied, level, int(h), repeats) for level, h in zip(levels, hits, strict=True)]


@compiled()
def _better(
    tried: tuple[Assessor, tuple[Metric, ...]], keys: Array, scores: Array, reference: Array, level: Array
) -> Array:
    """How often the first of both contenders is called better at this level: i32[]."""
    assessor, metrics = tried
    aims = jnp.array([1.0 if metric.maximize else -1.0 for metric in metrics], jnp.float32)
    sets = any(metric.kind == "set" for metric in metrics)
    weights = jnp.asarray(worlds.weights(metrics, np.ones(assessor.block, np.float32))) if sets else None

    def once(key: Array, scores: Array, reference: Array) -> Array:
        question = Question(key, level, aims, jnp.ones(2, bool))

        def more(carry: tuple[Array, PyTree]) -> Array:
            return (carry[0] < assessor.blocks) & ~assessor.enough(carry[1], question, metrics)

        def add(carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
            i, evidence = carry
            block = Block(scores[i], reference[i], weights, None, i)
            return i + 1, assessor.observe(evidence, block, question, metrics)

        _, evidence = jax.lax.while_loop(more, add, (jnp.int32(0), assessor.begin(2, metrics)))
        return assessor.conclude(evidence, question, metrics).outcome[0] == Outcome.BETTER

    return jax.vmap(once)(keys, scores, reference).sum(dtype=jnp.int32)
