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
    """The verdict on one contender against the incumbent.

    UNDECIDED: no claim is proven; WORSE, EQUIVALENT, BETTER: that is proven at the level that was asked; SPENT: nothing
    was read, because every decide example has already taken part in a decision.
    """

    UNDECIDED = 0
    WORSE = 1
    EQUIVALENT = 2
    BETTER = 3
    SPENT = 4


class Move(IntEnum):
    """Where the next current variables come from.

    KEEP: they stay as they are. TAKE: they are the winner's. RESTORE: they are the incumbent's again, a rollback.
    Whether they then become the incumbent is `Decision.promote`.
    """

    KEEP = 0
    TAKE = 1
    RESTORE = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """The K candidates of one proposer.

    Attributes:
        variables: all collections of the model, stacked: every leaf [K, *shape].
        eligible: bool[K], which may win. Those that are not finite cannot, whatever stands here.
        steps: i32[], the gradient steps that were spent on all of them.
        memo: any pytree, private to the proposer: what its `learn` needs once the round has a winner.
        notes: small arrays [K, ...] by name, for the record (sampled values).
    """

    variables: Variables
    eligible: Array
    steps: Array
    memo: PyTree
    notes: dict[str, Array] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Question:
    """The question to an assessor: the error level, the weights of the metrics, and which contenders may win.

    Attributes:
        key: a typed key of this round and stage, for assessors that draw.
        alpha: f32[], the chance of a false "better" that the budget offers; 1 when all candidates are selected from.
        aims: f32[M], sign and weight of each metric: above 0 more is better, below 0 less is; 0 leaves it out.
        eligible: bool[K]. Others are only measured: they cannot win, and no further block is read because of them.
    """

    key: Array
    alpha: Array
    aims: Array
    eligible: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Block:
    """The scores of one block of n examples, of all K contenders and of the reference, by M metrics.

    Attributes:
        scores: f32[K, M, n], of the contenders. A set-level metric repeats the value of the whole block.
        reference: f32[M, n], of the reference on the same examples: the current model in selection, the incumbent in
            confirmation.
        weights: f32[M, n], how much each example counts; 0: it is none, whatever its score. A set-level metric has its
            weight on one place. None: all count alike, and every metric has a value for each example.
        batch: the examples themselves, a pytree with a leading axis of n.
        index: i32[], 0 for the first block of this assessment.
    """

    scores: Array
    reference: Array
    weights: Array | None
    batch: PyTree
    index: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assessment:
    """What an assessor concludes about K contenders and M metrics.

    `mean`, `lower`, `upper`, `difference` and `reference` are of one statistic, which records and pictures show: the
    weighted mean. Who ranks by another statistic puts that into `value` alone. Who *tests* another one, as `bootstrap`
    does with a median, gives that in place of the mean, and excuses the check `means` by its `kit`.

    Attributes:
        value: f32[K], by which contenders are ranked, in any unit; -inf: cannot win.
        mean: f32[K, M], each contender's mean score.
        lower: f32[K, M], and `upper`: the bounds of the mean, in the range of the metric.
        upper: see `lower`.
        difference: f32[K, M], the mean difference to the reference on the same examples.
        reference: f32[M], the mean score of the reference.
        outcome: i32[K], an Outcome for each contender.
        winner: i32[], the index of the best, -1 when nobody can win.
        p_value: f32[K], the largest of the p-values that are not NaN; of an e-process 1 / e.
        p_values: f32[K, M], NaN for metrics that were not tested.
        examples: i32[], how many were read.
        difference_lower: f32[K, M], and `difference_upper`: the bounds of `difference`; by default the difference.
        difference_upper: see `difference_lower`.
        futile: bool[K], whether reading stopped because a gain worth having was ruled out; by default False.
    """

    value: Array
    mean: Array
    lower: Array
    upper: Array
    difference: Array
    reference: Array
    outcome: Array
    winner: Array
    p_value: Array
    p_values: Array
    examples: Array
    difference_lower: Array = _LEFT_OUT
    difference_upper: Array = _LEFT_OUT
    futile: Array = _LEFT_OUT


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do with the model. Scalars only, so that a decision can be recorded, replayed, or not applied.

    Attributes:
        move: i32[], a Move: where the next current variables come from.
        promote: bool[], whether these next current variables become the incumbent. The loop refuses it where nobody
            could win, or nothing was read (SPENT).
        aims: f32[M], sign and weight of each metric in the selection of the next round.
        calls: i32[A], what each adapter asks the host to do after this round, a number of its own; 0: nothing.
        applied: bool[], False in shadow mode: the decision is recorded, and nothing changes.
    """

    move: Array
    promote: Array
    aims: Array
    calls: Array
    applied: Array = dataclasses.field(default_factory=lambda: jnp.asarray(True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Feedback:
    """How the candidates of one proposer did in the round.

    Attributes:
        value: f32[K], what selection ranked them by; -inf: could not win.
        mean: f32[K, M], their mean scores on the assess split.
        won: bool[K], chosen *and taken* (`Move.TAKE`): this candidate is now current. All False where a candidate of
            another proposer was chosen, or none, or where the adapters kept or restored the model. Taken is not
            promoted: that is `won & decision.promote`.
        verdict: i32[], the Outcome of the winner of the round, whoever proposed it; UNDECIDED where there was none.
        decision: what was done with the model, as it took effect: in shadow mode, to keep everything. The incumbent is
            another model after this round where `decision.promote`.
    """

    value: Array
    mean: Array
    won: Array
    verdict: Array
    decision: Decision


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """The model of a run.

    Attributes:
        current: the variables that exploration starts from.
        incumbent: those last promoted on evidence; what a confirmation compares with, and what a run gives.
        aims: f32[M], sign and weight of each metric in the next selection.
    """

    current: Variables
    incumbent: Variables
    aims: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that the next round needs. A run that continues from it, on the same data, gives the same bits.

    Attributes:
        key: the typed key of the run, from which those of all rounds and components follow.
        round: i32[], the number of the next round; the first is 0.
        spent: i32[], decide blocks read so far.
        model: the current variables, the incumbent and the aims.
        proposers: the states of the proposers, by label.
        adapters: the states of the adapters, by label.
        budget: the state of the budget.
    """

    key: Array
    round: Array
    spent: Array
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
