"""Several passes from the smallest student to the largest; students of earlier passes teach (arXiv 2310.18893)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ...component import Count, Positive
from ...core.adapt import Adapter, Form
from ...core.data import Explore, Teacher
from ...core.layout import Site
from ...core.task import Metric, Task
from ...core.types import Array, Assessment, Batch, Decision, Move, Outcome, Variables
from .base import enlarged, operations, verify

_PASS, _DONE = 1, 2  # a call above them grows by the first, second, ... operation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Student:
    """The best student of its size, and its confirmed score of the first metric when it left."""

    task: Task = dataclasses.field(metadata={"static": True})
    variables: Variables
    score: Array  # f32[]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SynergyState:
    """Rounds without progress; the passes and growths so far; how good the student is; the archive, one per size."""

    stalled: Array  # i32[]
    size: Array  # i32[], growths in this pass
    passes: Array  # i32[], passes that have ended
    proven: Array  # bool[], whether the incumbent has this size
    gap: Array  # f32[], the most by which a student of this size was better than the incumbent
    score: Array  # f32[], of the student that would be archived now
    archive: tuple[Student, ...]
    sign: int = dataclasses.field(metadata={"static": True})
    first: Task = dataclasses.field(metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    teaching: bool = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Synergy(Adapter):
    """Grows the student `most` times in each of several passes, and archives the best student of every size.

    From the second pass on the archived students are further teachers: their predictions are in the training batches as
    `students`, f32[n, sizes, ...], smallest first. Give each teacher a loss (`{ name = "kl", teacher = 2 }` in the
    distillation tasks); selection on the assess split then decides whose update is kept. Every pass begins with a fresh
    student of the first size.

    The incumbent is not reset. It keeps its shape and stays the reference, so no proven model is lost; there is no
    rollback until a student of this pass and size is promoted. The student grows after `patience` rounds without
    progress. Progress is a promotion; before the first promotion at this size, it is also a distance to the incumbent,
    on the same examples, that is surely smaller than any before at this size. After the last pass the largest student
    trains on, and the archive stays as it is. To be listed after the adapter that promotes, not beside `grow`.
    """

    follows = True
    grows = True

    patience: Annotated[Count, Doc("rounds without progress before the student grows, or the pass ends")] = 5
    passes: Annotated[Count, Doc("passes; the first learns from the task's teacher alone")] = 2
    most: Annotated[Count, Doc("growths in a pass: it has one size more")] = 2
    how: Annotated[tuple[str, ...], Doc("operations of the task, in turn; none named: all that it has")] = ()
    morphism: Annotated[bool, Doc("keep the function of the model when it grows; else the larger one is fresh")] = False
    tolerance: Annotated[Positive, Doc("the most by which a morphism may change a prediction, per max(1, |it|)")] = 1e-4

    def init(self, site: Site, metrics: tuple[Metric, ...]) -> SynergyState:
        """The state before the first pass. Raises ValueError when the task cannot grow by these operations."""
        zero, names = jnp.int32(0), operations("synergy", site.task, self.how)
        return SynergyState(
            stalled=zero,
            size=zero,
            passes=zero,
            proven=jnp.asarray(True),
            gap=jnp.float32(-jnp.inf),
            score=jnp.float32(jnp.nan),
            archive=(),
            sign=1 if metrics[0].maximize else -1,
            first=site.task,
            names=names,
            teaching=False,
        )

    def prepare(self, state: SynergyState, explore: Explore) -> Explore:
        """The explore split, with the archived students as teachers after the first pass."""
        if not state.teaching:
            return explore
        if "students" in explore.teachers:
            raise ValueError("synergy: the explore split has teachers named 'students' already: rename them")
        students = tuple(Teacher(student.task, student.variables) for student in state.archive)
        return dataclasses.replace(explore, teachers={**explore.teachers, "students": students})

    def decide(
        self, index: int, state: SynergyState, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, SynergyState]:
        """The same decision, with a call when `patience` rounds have passed without progress."""
        better = decision.promote & (confirmation.outcome[0] == Outcome.BETTER)
        gap, sure = self._distance(state.sign, confirmation)
        closer = ~state.proven & (sure > state.gap)
        stalled = jnp.where(better | closer, 0, state.stalled + 1)
        proven = state.proven | decision.promote
        taken = jnp.where(decision.move == Move.TAKE, confirmation.mean[0, 0], confirmation.mean[1, 0])
        kept = state.proven & ~decision.promote
        score = jnp.where(kept, confirmation.reference[0], taken)
        ripe = stalled >= self.patience
        grow = ripe & (state.size < self.most)
        over = ripe & ~grow & (state.passes < self.passes)
        operation = state.size % len(state.names)
        ends = jnp.where(state.passes + 1 < self.passes, _PASS, _DONE)
        call = jnp.where(grow, _DONE + 1 + operation, jnp.where(over, ends, 0)).astype(jnp.int32)
        again = over & (call == _PASS)
        leaves = grow | again
        state = dataclasses.replace(
            state,
            stalled=jnp.where(grow | over, 0, stalled),
            size=jnp.where(again, 0, state.size + grow.astype(jnp.int32)),
            passes=state.passes + over.astype(jnp.int32),
            proven=proven & ~leaves,
            gap=jnp.where(leaves, -jnp.inf, jnp.fmax(state.gap, gap)),
            score=score,
        )
        return dataclasses.replace(decision, calls=decision.calls.at[index].set(call)), state

    def describe(self, call: int) -> str:
        """`grow`, `pass` (a new one begins) or `done` (the last has ended)."""
        return {_PASS: "pass", _DONE: "done"}.get(call, "grow")

    def transform(
        self, key: Array, call: int, state: SynergyState, form: Form, probe: Batch | None
    ) -> tuple[SynergyState, Form]:
        """The archive with the student of this size, and the grown or fresh student."""
        state = dataclasses.replace(state, archive=_archived(state, form))
        if call == _DONE:
            return state, form
        if call == _PASS:
            model = dataclasses.replace(form.model, current=state.first.init(key))
            state = dataclasses.replace(state, teaching=True)
            return state, Form(state.first, form.champion or form.task, model, fresh=True)
        name = state.names[call - _DONE - 1]
        grown = enlarged(key, form, name, self.morphism)
        if self.morphism and probe is not None:
            verify(f"synergy: {name!r}", form, grown, probe, self.tolerance)
        return state, grown

    def _distance(self, sign: int, confirmation: Assessment) -> tuple[Array, Array]:
        """By how much the winner is better than the incumbent, estimated and at least (lower bound): f32[] each."""
        sure = confirmation.difference_lower if sign > 0 else confirmation.difference_upper
        return sign * confirmation.difference[0, 0], sign * sure[0, 0]

    def keeps(self, state: SynergyState) -> Mapping[str, tuple[Task, Variables]]:
        """The archived students, smallest first."""
        return {f"size {i}": (student.task, student.variables) for i, student in enumerate(state.archive, 1)}


def _archived(state: SynergyState, form: Form) -> tuple[Student, ...]:
    """The archive with this student as the one of its size, unless a better one is there already."""
    variables = form.model.incumbent if form.champion is None else form.model.current
    student = Student(form.task, jax.tree.map(jnp.array, variables), state.score)
    sizes = [old.task for old in state.archive]
    if form.task not in sizes:
        return (*state.archive, student)
    place = sizes.index(form.task)
    if not state.sign * state.score > np.nan_to_num(state.sign * state.archive[place].score, nan=-np.inf):
        return state.archive
    return (*state.archive[:place], student, *state.archive[place + 1 :])
