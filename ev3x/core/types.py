"""The records that travel through a round. All are frozen pytrees; K candidates, M metrics, n examples, A adapters."""

from __future__ import annotations

import dataclasses
from enum import IntEnum
from typing import Any, cast

import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any
Variables = Any  # a mapping of collections, at least "params"
Batch = Any  # a pytree of arrays with a leading axis of examples
Predictions = Any  # what `Task.predict` returns
_LEFT_OUT = cast(Array, None)


class Outcome(IntEnum):
    """The verdict on one contender against the incumbent."""

    UNDECIDED = 0
    WORSE = 1
    EQUIVALENT = 2
    BETTER = 3
    SPENT = 4  # nothing was read: no decide example is left that has taken part in no decision


class Move(IntEnum):
    """Where the next current variables come from."""

    KEEP = 0
    TAKE = 1
    RESTORE = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """What a proposer made: K variables stacked on a leading axis.

    `eligible` says which may win. `steps` counts the gradient steps spent. `memo` is private to the proposer: what its
    `learn` needs when the fate of the candidates is known. `notes` are small arrays for the record (sampled values).
    """

    variables: Variables
    eligible: Array  # bool[K]
    steps: Array  # i32[]
    memo: PyTree
    notes: dict[str, Array] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Question:
    """What an assessor is asked: at which error level, for which weights of the metrics, about which contenders.

    Contenders that are not eligible are measured only: they cannot win, and no block is read for their sake.
    """

    key: Array
    alpha: Array  # f32[]
    aims: Array  # f32[M], sign and weight of each metric; 0 leaves it out
    eligible: Array  # bool[K]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """The scores of one block of examples. The reference met the same examples."""

    scores: Array  # f32[K, M, n]
    reference: Array  # f32[M, n]
    weights: Array | None  # f32[M, n]
    batch: PyTree
    index: Array  # i32[], 0 for the first block of this assessment


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assessment:
    """What an assessor concludes.

    `value` is what the ranking goes by (-inf: cannot win); `winner` is its best, -1 when nobody can win. `mean` is each
    contender's own, `lower` and `upper` its bounds in the range of the metric; `difference` is its mean distance to the
    reference on the same examples, `difference_lower` and `difference_upper` are its bounds. An assessor that tests
    another statistic than the mean has that in their place. `p_values` are NaN for metrics that were not tested,
    `p_value` is the largest of the others; of an e-process, they are 1 / e. `futile` says that reading ended because a
    gain worth having was ruled out. The last three may be omitted. If you omit them, the loop sets both bounds equal to
    `difference`, and `futile` to False.
    """

    value: Array  # f32[K]
    mean: Array  # f32[K, M]
    lower: Array  # f32[K, M]
    upper: Array  # f32[K, M]
    difference: Array  # f32[K, M]
    reference: Array  # f32[M]
    outcome: Array  # i32[K], an Outcome
    winner: Array  # i32[]
    p_value: Array  # f32[K]
    p_values: Array  # f32[K, M]
    examples: Array  # i32[]
    difference_lower: Array = _LEFT_OUT  # f32[K, M]
    difference_upper: Array = _LEFT_OUT  # f32[K, M]
    futile: Array = _LEFT_OUT  # bool[K]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decision:
    """What is to become of the model. Scalars only, so that a decision can be recorded, replayed, or not applied."""

    move: Array  # i32[], a Move
    promote: Array  # bool[]: the next current variables become the incumbent
    aims: Array  # f32[M] for the next round
    calls: Array  # i32[A]: what each adapter wants of the host after this round, in its own numbers; 0 is nothing
    # bool[]: False in shadow mode, where decisions are recorded and nothing changes
    applied: Array = dataclasses.field(default_factory=lambda: jnp.asarray(True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Feedback:
    """What became of a proposer's candidates."""

    value: Array  # f32[K]
    mean: Array  # f32[K, M]
    won: Array  # bool[K]: chosen, and now current
    verdict: Array  # i32[], the Outcome of the winner
    decision: Decision


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """The variables in play: what exploration starts from, what was last promoted on evidence, and what counts."""

    current: Variables
    incumbent: Variables
    aims: Array  # f32[M]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that the next round needs. Save this, with the data, and the run goes on to the same bits."""

    key: Array
    round: Array  # i32[]
    spent: Array  # i32[], decide blocks read so far
    model: Model
    proposers: dict[str, PyTree]
    adapters: dict[str, PyTree]
    budget: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Record:
    """One round as it happened; N rounds stack these on a leading axis."""

    round: Array  # i32[]
    alpha: Array  # f32[], the error level that the budget offered
    eligible: Array  # bool[K]
    selection: Assessment  # of all candidates, in the order of the method
    confirmation: Assessment  # of (winner, current) against the incumbent
    evidence: PyTree  # what the confirmation follows from
    ledger: dict[str, Array]  # the figures of the budget after this round
    decision: Decision
    steps: Array  # i32[], gradient steps
    parameters: Array  # i32[2], how many the candidates have, and the incumbent
    notes: dict[str, dict[str, Array]]  # what each proposer notes
    uses: Array  # i32[], in how many confirmations before a decide example of this one took part, at most
    aims: Array  # f32[M], what this round selected by
