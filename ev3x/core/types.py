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
    SPENT = 4  # nothing was read: every decide example has already taken part in a decision


class Move(IntEnum):
    """Where the next current variables come from."""

    KEEP = 0
    TAKE = 1
    RESTORE = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """The K candidates of one proposer: their variables stacked on a leading axis.

    `eligible` says which may win. `steps` counts the gradient steps spent. `memo` is private to the proposer: what its
    `learn` needs after the round has chosen a winner. `notes` are small arrays for the record (sampled values).
    """

    variables: Variables
    eligible: Array  # bool[K]
    steps: Array  # i32[]
    memo: PyTree
    notes: dict[str, Array] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Question:
    """The question to an assessor: the error level, the weights of the metrics, and which contenders may win.

    Contenders that are not eligible are only measured: they cannot win, and no further block is read because of them.
    """

    key: Array
    alpha: Array  # f32[]
    aims: Array  # f32[M], sign and weight of each metric; 0 leaves it out
    eligible: Array  # bool[K]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """The scores of one block of examples, of all contenders and of the reference."""

    scores: Array  # f32[K, M, n]
    reference: Array  # f32[M, n]
    weights: Array | None  # f32[M, n]
    batch: PyTree
    index: Array  # i32[], 0 for the first block of this assessment


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assessment:
    """What an assessor concludes about K contenders and M metrics.

    Contenders are ranked by `value` (-inf: cannot win); `winner` is the index of the best, -1 when nobody can win.
    `mean` is each contender's mean score, `lower` and `upper` are its bounds in the range of the metric; `difference`
    is its mean difference to the reference on the same examples, `difference_lower` and `difference_upper` are its
    bounds. An assessor that tests another statistic (a median, say) gives that statistic instead of the mean.
    `p_values` are NaN for metrics that were not tested, `p_value` is the largest of the others; p-values of an
    e-process are 1 / e. `futile` says that the assessor stopped reading because it had ruled out a gain worth having.
    The last three may be omitted. If you omit them, the loop sets both bounds equal to `difference`, and `futile` to
    False.
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
    """What to do with the model. Scalars only, so that a decision can be recorded, replayed, or not applied."""

    move: Array  # i32[], a Move
    promote: Array  # bool[]: the next current variables become the incumbent
    aims: Array  # f32[M] for the next round
    calls: Array  # i32[A]: what each adapter asks the host to do after this round, a number of its own; 0: nothing
    # bool[]: False in shadow mode, where decisions are recorded and nothing changes
    applied: Array = dataclasses.field(default_factory=lambda: jnp.asarray(True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Feedback:
    """How the candidates of one proposer did in the round."""

    value: Array  # f32[K]
    mean: Array  # f32[K, M]
    won: Array  # bool[K]: chosen, and now current
    verdict: Array  # i32[], the Outcome of the winner
    decision: Decision


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """The variables that exploration starts from, those last promoted on evidence, and the aims of selection."""

    current: Variables
    incumbent: Variables
    aims: Array  # f32[M]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that the next round needs. A run that continues from it, on the same data, gives the same bits."""

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
    eligible: Array  # bool[K], which may win: finite, and eligible by their proposer
    finite: Array  # bool[K], which hold finite numbers only
    selection: Assessment  # of all candidates, in the order of the method
    confirmation: Assessment  # of (winner, current) against the incumbent
    evidence: PyTree  # what the confirmation was concluded from
    ledger: dict[str, Array]  # the figures of the budget after this round
    decision: Decision
    steps: Array  # i32[], gradient steps
    parameters: Array  # i32[2], how many the candidates have, and the incumbent
    notes: dict[str, dict[str, Array]]  # the notes of each proposer
    uses: Array  # i32[], the most earlier confirmations that a decide example of this one took part in
    aims: Array  # f32[M], the aims of this round's selection
