"""Assess: contenders and a reference are scored on the same blocks of examples, and an assessor compares them.

The same fold serves both stages: *select* (many candidates, assess split) and *confirm* (the winner, decide split).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from ..component import Component, Count
from . import contract
from .layout import Site
from .task import Metric, score, weigh
from .types import Array, Assessment, Batch, Block, Question, Variables

Evidence = Any
ReadBlock = Callable[[Array, int], tuple[Batch, Array | None]]


@dataclasses.dataclass(frozen=True)
class Assessor(Component):
    """A fold over blocks of scores whose merge is a leafwise sum, so that evidence adds over blocks and devices.

    `weighted` says that it uses the weights of the metrics in selection; other assessors refuse weights. `ranks_only`
    says that it is for selection: it calls nobody better, whatever it reads. `e_values` says that its p-values are
    1 / e of e-values, which some budgets require.
    """

    role: ClassVar[str] = "assessor"
    weighted: ClassVar[bool] = True
    ranks_only: ClassVar[bool] = False
    e_values: ClassVar[bool] = False

    block: Annotated[Count, Doc("examples scored at a time")] = 1024
    blocks: Annotated[Count, Doc("the most blocks read in a round")] = 1

    @property
    def promise(self) -> float:
        """The error level: at most this chance of calling a contender better that is not; 1.0 if none is stated."""
        return 1.0

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError when these metrics cannot be assessed in this way."""

    def assumes(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """What must be true for `promise` to hold, in sentences, for the summary."""
        return ()

    def leads(self, metrics: tuple[Metric, ...]) -> int:
        """Index of the metric shown in messages; the first by default."""
        return 0

    @abc.abstractmethod
    def begin(self, k: int, metrics: tuple[Metric, ...]) -> Evidence:
        """The evidence of no block about k contenders: a pytree of zeros."""
        raise NotImplementedError

    @abc.abstractmethod
    def observe(self, evidence: Evidence, block: Block, question: Question, metrics: tuple[Metric, ...]) -> Evidence:
        """The evidence with one more block, in the same structure, shapes and dtypes."""
        raise NotImplementedError

    def merge(self, a: Evidence, b: Evidence) -> Evidence:
        """The evidence of both together."""
        return jax.tree.map(jnp.add, a, b)

    def enough(self, evidence: Evidence, question: Question, metrics: tuple[Metric, ...]) -> Array:
        """Whether the verdict on all eligible contenders is clear, so that reading stops: bool[]. False by default."""
        return jnp.asarray(False)

    @abc.abstractmethod
    def conclude(self, evidence: Evidence, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The assessment of all contenders that follows from the evidence."""
        raise NotImplementedError

    def remark(self, evidence: Evidence, assessment: Assessment, metrics: tuple[Metric, ...]) -> str:
        """A further remark on the first contender, for the record; "" by default. Runs on the host, after the round."""
        return ""


def assess(
    assessor: Assessor,
    contenders: Sequence[tuple[Site, Variables]],
    reference: tuple[Site, Variables],
    read: ReadBlock,
    start: Array,
    question: Question,
    left: Array | None = None,
    label: str = "assessor",
) -> tuple[Assessment, Array, Evidence]:
    """The assessment of all stacked contenders against the reference, how many blocks were read, and the evidence.

    `left`, i32[], is the number of blocks that can still be read; None: no limit. `label` names the assessor where it
    breaks its contract.
    """
    who = contract.Who(label, kind=type(assessor))
    site, incumbent = reference
    metrics = site.task.metrics
    k = question.eligible.shape[0]

    def add(evidence: Evidence, i: Array) -> Evidence:
        batch, mask = read(start + i, assessor.block)
        stacks = [s.scores(stack, batch) for s, stack in contenders]
        block = Block(
            scores=stacks[0] if len(stacks) == 1 else jnp.concatenate(stacks),
            reference=score(site.task, incumbent, batch),
            weights=weigh(site.task, batch, mask),
            batch=batch,
            index=i,
        )
        after = assessor.observe(evidence, block, question, metrics)
        return contract.state(who, "observe", after, evidence, "evidence", "begin")

    most = jnp.int32(assessor.blocks) if left is None else jnp.minimum(left, assessor.blocks)

    def enough(evidence: Evidence) -> Array:
        return jnp.asarray(contract.number(who, "enough", assessor.enough(evidence, question, metrics), "b"))

    def more(carry: tuple[Array, Evidence]) -> Array:
        return (carry[0] < most) & ~enough(carry[1])

    evidence = assessor.begin(k, metrics)
    if assessor.blocks == 1 and left is None:
        used, evidence = jnp.int32(1), add(evidence, jnp.int32(0))
    else:
        used, evidence = jax.lax.while_loop(more, lambda c: (c[0] + 1, add(c[1], c[0])), (jnp.int32(0), evidence))
    concluded = assessor.conclude(evidence, question, metrics)
    return contract.assessment(who, concluded, k, len(metrics)), used, evidence
