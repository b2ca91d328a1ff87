"""Adapt: adapters turn a verdict into a decision, budgets guard its error level, and `move` carries it out."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax.numpy as jnp

from ..component import Component
from .data import Explore
from .layout import Site, where
from .task import Metric, Task
from .types import Array, Assessment, Batch, Decision, Model, Move, PyTree, Variables


class TransformError(ValueError):
    """A host transition that is refused, in words for the user."""


@dataclasses.dataclass(frozen=True)
class Form:
    """What a host transition may change: the model, and the tasks that its variables belong to.

    `task` is that of the current variables. `champion` is that of the incumbent while a promotion is a host transition
    (it has another shape, or the current variables were drawn anew), else None.
    `fresh` says that the current variables were drawn anew, so optimizer states must be reset.
    """

    task: Task
    champion: Task | None
    model: Model
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class Adapter(Component):
    """Refines the decision of a round. Several form a chain: each gets what the one before decided.

    `promotes` says that it sets the move or a promotion; `follows`, that it reads them: adapters that follow stand
    after all that promote. `grows` says that it changes the shape of the model: a method has at most one such adapter.
    """

    role: ClassVar[str] = "adapter"
    promotes: ClassVar[bool] = False
    follows: ClassVar[bool] = False
    grows: ClassVar[bool] = False

    def accept(self, metrics: tuple[Metric, ...], aims: tuple[float, ...]) -> None:
        """Raise ValueError when nothing can be adapted for metrics with these aims, signs and weights."""

    def init(self, site: Site, metrics: tuple[Metric, ...]) -> PyTree:
        """The first state."""
        return ()

    def prepare(self, state: PyTree, explore: Explore) -> Explore:
        """What proposers train on in the next round (further teachers, a curriculum); unchanged by default."""
        return explore

    @abc.abstractmethod
    def decide(
        self, index: int, state: PyTree, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, PyTree]:
        """The refined decision and the next state. `index` is this adapter's place in `decision.calls`."""
        raise NotImplementedError

    def describe(self, call: int) -> str:
        """What this call asks of the host, in a word, for the record."""
        return "transition"

    def transform(self, key: Array, call: int, state: PyTree, form: Form, probe: Batch | None) -> tuple[PyTree, Form]:
        """This adapter's state and the form after a host transition (growth, say) that `decide` raised `call` for.

        Runs on the host. `probe` is a training batch to try a new shape on. Shapes must follow from key, call, tasks
        and shapes alone: a resumed run repeats its transitions, without a probe, before it has weights. What must not
        go on raises TransformError; the run ends with the rounds before this call of the program kept.
        """
        raise NotImplementedError(f"{type(self).__name__} raised a call but has no transform")

    def keeps(self, state: PyTree) -> Mapping[str, tuple[Task, Variables]]:
        """Further models that are kept in this state, by name: the run's summary reports their test results."""
        return {}


def misplaced(adapters: Sequence[tuple[str, Adapter]]) -> tuple[int, str] | None:
    """The first adapter that cannot stand where it does in this chain, and why; None when all can."""
    grown = None
    for i, (name, adapter) in enumerate(adapters):
        if adapter.follows and not any(a.promotes for _, a in adapters[:i]):
            return i, f"{name} must stand after an adapter that promotes, such as `promote`"
        if adapter.follows and (later := [n for n, a in adapters[i:] if a.promotes]):
            return i, f"{name} must stand after all adapters that promote, but {later[0]} comes later"
        if adapter.grows and grown is not None:
            return i, f"{name} and {grown} both grow the model: choose one"
        grown = name if adapter.grows else grown
    return None


def undecided(model: Model, adapters: int) -> Decision:
    """The decision before any adapter spoke: keep everything."""
    return Decision(
        move=jnp.int32(Move.KEEP),
        promote=jnp.asarray(False),
        aims=model.aims,
        calls=jnp.zeros(adapters, jnp.int32),
        applied=jnp.asarray(True),
    )


def carried_out(decision: Decision, model: Model) -> Decision:
    """What is done of a decision: nothing where it is not to be applied."""
    return where(decision.applied, decision, undecided(model, decision.calls.shape[0]))


def without_restore(decision: Decision) -> Decision:
    """The decision where current and incumbent have different shapes: a rollback waits, training goes on."""
    return dataclasses.replace(decision, move=jnp.where(decision.move == Move.RESTORE, Move.TAKE, decision.move))


def move(model: Model, winner: PyTree, decision: Decision, *, succeeds: bool = True) -> Model:
    """The model after the decision. The only place under jit where variables change hands.

    Unless the winner `succeeds` the incumbent here, that stays as it is: its succession is a transition on the host.
    """
    if not succeeds:
        return Model(where(decision.move == Move.TAKE, winner, model.current), model.incumbent, decision.aims)
    restored = where(decision.move == Move.RESTORE, model.incumbent, model.current)
    current = where(decision.move == Move.TAKE, winner, restored)
    return Model(current=current, incumbent=where(decision.promote, current, model.incumbent), aims=decision.aims)
