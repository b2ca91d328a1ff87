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
    """An adapter refuses a host transition; the text is for the user."""


@dataclasses.dataclass(frozen=True)
class Form:
    """What a host transition may change: the model, and the tasks that its variables belong to.

    Attributes:
        task: that of the current variables.
        champion: the task of the incumbent while a promotion needs a host transition (because its shape differs, or
            because the current variables were drawn anew), else None: then it is `task`, too.
        model: current variables, incumbent and aims.
        fresh: whether the current variables were drawn anew, so that optimizer states must be reset.
    """

    task: Task
    champion: Task | None
    model: Model
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class Adapter(Component):
    """Refines the decision of a round. Several adapters form a chain: each gets the decision of the one before.

    `promotes` says that it sets `move` or `promote`; `follows` says that it reads them, so it must come after all
    adapters that promote. `grows` says that it changes the shape of the model: a method has at most one such adapter.
    """

    role: ClassVar[str] = "adapter"
    promotes: ClassVar[bool] = False
    follows: ClassVar[bool] = False
    grows: ClassVar[bool] = False

    def accept(self, metrics: tuple[Metric, ...], aims: tuple[float, ...]) -> None:
        """Raise ValueError when this adapter cannot work with these metrics and aims (sign and weight of each)."""

    def init(self, site: Site, metrics: tuple[Metric, ...]) -> PyTree:
        """The state before the first round, any pytree of arrays; `decide` keeps its structure, shapes, dtypes."""
        return ()

    def prepare(self, state: PyTree, explore: Explore) -> Explore:
        """The explore split for the next round's proposers (with more teachers, say); unchanged by default."""
        return explore

    @abc.abstractmethod
    def decide(
        self, index: int, state: PyTree, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, PyTree]:
        """The refined decision, and the next state in the structure, shapes and dtypes of `state`.

        Args:
            index: this adapter's place in `decision.calls`.
            state: this adapter's state.
            decision: what the adapters before this one decided; before the first: keep everything. To an
                adapter that `follows`, `promote` is final, but for rounds where nobody could win or nothing was read.
            selection: all candidates, [K, M], against the current model, on the assess split.
            confirmation: the winner and the current model, [2, M], against the incumbent, on the decide split.
        """
        raise NotImplementedError

    def describe(self, call: int) -> str:
        """What this call asks the host to do, in a word, for the record."""
        return "transition"

    def transform(self, key: Array, call: int, state: PyTree, form: Form, probe: Batch | None) -> tuple[PyTree, Form]:
        """This adapter's state and the form after the host transition (growth, say) that `decide` asked for by `call`.

        Runs on the host, after the round and before the next one. It may change the current variables and their task:
        grow them, draw them anew, or go back to the incumbent. The incumbent was proven on evidence and must predict as
        before: what is to replace it must win a round. It may change this adapter's state, its structure included.

        Args:
            key: a typed key of this round and this adapter.
            call: what `decide` put into its entry of `calls`, not 0.
            state: the state that `decide` returned.
            form: the model after the round's move, and its tasks. A promotion has taken place.
            probe: a training batch to try a new shape on; None where a resumed run repeats its transitions before it
                has read the weights. So shapes must depend only on key, call, tasks and shapes.

        Returns:
            The state, and `Form(task, champion, model, fresh)`. With another task, or fresh variables, `champion` is
            the task of the incumbent: a promotion then takes a host transition, and until then nothing is rolled back.

        Raise TransformError to refuse: the run then ends, and the rounds before this call of the compiled program are
        kept.
        """
        raise NotImplementedError(f"{type(self).__name__} raised a call but has no transform")

    def keeps(self, state: PyTree) -> Mapping[str, tuple[Task, Variables]]:
        """Further models that this state holds, by name; the run's summary reports their test results."""
        return {}


def misplaced(adapters: Sequence[tuple[str, Adapter]]) -> tuple[int, str] | None:
    """The index of the first adapter that is in the wrong place of the chain, and why; None when the order is right."""
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


def rivals(adapters: Sequence[tuple[str, Adapter]]) -> tuple[str, ...]:
    """The adapters that promote, where there are several: each promotes by itself, and the last one sets the move."""
    names = tuple(name for name, adapter in adapters if adapter.promotes)
    return names if len(names) > 1 else ()


def undecided(model: Model, adapters: int) -> Decision:
    """The decision before the first adapter: keep everything."""
    return Decision(
        move=jnp.int32(Move.KEEP),
        promote=jnp.asarray(False),
        aims=model.aims,
        calls=jnp.zeros(adapters, jnp.int32),
        applied=jnp.asarray(True),
    )


def carried_out(decision: Decision, model: Model) -> Decision:
    """The decision that takes effect: this one, or to keep everything where this one is not to be applied."""
    return where(decision.applied, decision, undecided(model, decision.calls.shape[0]))


def without_restore(decision: Decision) -> Decision:
    """The decision with TAKE in place of RESTORE, which must wait while current and incumbent differ in shape."""
    return dataclasses.replace(decision, move=jnp.where(decision.move == Move.RESTORE, Move.TAKE, decision.move))


def move(model: Model, winner: PyTree, decision: Decision, *, succeeds: bool = True) -> Model:
    """The model after the decision. Under jit, nothing else replaces the current variables or the incumbent.

    With `succeeds=False` the incumbent stays as it is, because promoting then needs a host transition.
    """
    if not succeeds:
        return Model(where(decision.move == Move.TAKE, winner, model.current), model.incumbent, decision.aims)
    restored = where(decision.move == Move.RESTORE, model.incumbent, model.current)
    current = where(decision.move == Move.TAKE, winner, restored)
    return Model(current=current, incumbent=where(decision.promote, current, model.incumbent), aims=decision.aims)
