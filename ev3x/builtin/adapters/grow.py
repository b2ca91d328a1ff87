"""Growth after patience, on trial: a growth that leads to no promotion is undone (arXiv 2310.18893, growth)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from typing_extensions import Doc

from ...component import Count, Natural, Positive
from ...core.adapt import Adapter, Form, TransformError
from ...core.layout import Site
from ...core.task import Metric
from ...core.types import Array, Assessment, Batch, Decision, Outcome
from .base import enlarged, operations, verify

_UNDO = 1  # a call above it grows by the first, second, ... operation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GrowState:
    """Rounds since a promotion or growth; whether a growth is on trial; the size; what each operation achieved.

    `tried` and `proven` serve the orders that are not random; a random order draws its operation on the host.
    """

    stalled: Array  # i32[]
    trial: Array  # bool[]
    size: Array  # i32[], growths that were not undone
    last: Array  # i32[], the operation of the last growth
    tried: Array  # i32[operations]
    proven: Array  # i32[operations], growths that led to a promotion
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Grow(Adapter):
    """Grows the current model when `patience` rounds proved none better; to be listed after the adapter that promotes.

    Growth starts from the update that this round selected. The incumbent keeps its shape and stays the reference: the
    grown model is on trial until it is promoted. If another `patience` rounds do not promote it, the growth is undone
    (current = incumbent, in the old shape, with fresh optimizer states). While a model is on trial, nothing is rolled
    back. The task's `growths` are the possible operations.

    `order = "learned"` tries every operation once, and then the one whose upper confidence bound of being promoted is
    highest (UCB1, Auer, Cesa-Bianchi and Fischer 2002).
    """

    follows = True
    grows = True

    patience: Annotated[Count, Doc("rounds without a promotion before a growth, and before it is undone")] = 5
    how: Annotated[tuple[str, ...], Doc("operations of the task; none named: all that it has")] = ()
    order: Annotated[Literal["in_turn", "random", "learned"], Doc("which operation is next")] = "in_turn"
    most: Annotated[Natural, Doc("growths that may stand at a time; 0: no limit")] = 0
    morphism: Annotated[bool, Doc("keep the function of the model; else the larger one starts afresh")] = True
    tolerance: Annotated[Positive, Doc("the most by which a morphism may change a prediction, per max(1, |it|)")] = 1e-4

    def init(self, site: Site, metrics: tuple[Metric, ...]) -> GrowState:
        """The state before any growth. Raises ValueError when the task cannot grow by these operations."""
        names = operations("grow", site.task, self.how)
        zero, none = jnp.int32(0), jnp.zeros(len(names), jnp.int32)
        return GrowState(zero, jnp.asarray(False), zero, last=zero, tried=none, proven=none, names=names)

    def decide(
        self, index: int, state: GrowState, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, GrowState]:
        """The same decision, with a call when `patience` rounds have passed."""
        better = decision.promote & (confirmation.outcome[0] == Outcome.BETTER)
        stalled = jnp.where(better, 0, state.stalled + 1)
        proven = state.proven.at[state.last].add((state.trial & decision.promote).astype(jnp.int32))
        trial = state.trial & ~decision.promote
        ripe = stalled >= self.patience
        undo = ripe & trial
        grow = ripe & ~trial & ((self.most == 0) | (state.size < self.most))
        last = jnp.where(grow, self._next(state.tried, proven), state.last)
        call = jnp.where(undo, _UNDO, jnp.where(grow, _UNDO + 1 + last, 0)).astype(jnp.int32)
        state = GrowState(
            stalled=jnp.where(undo | grow, 0, stalled),
            trial=(trial | grow) & ~undo,
            size=state.size + grow.astype(jnp.int32) - undo.astype(jnp.int32),
            last=last,
            tried=state.tried.at[last].add(grow.astype(jnp.int32)),
            proven=proven,
            names=state.names,
        )
        return dataclasses.replace(decision, calls=decision.calls.at[index].set(call)), state

    def describe(self, call: int) -> str:
        """`grow` or `undo`."""
        return "undo" if call == _UNDO else "grow"

    def transform(
        self, key: Array, call: int, state: GrowState, form: Form, probe: Batch | None
    ) -> tuple[GrowState, Form]:
        """The state, and the form with the grown model or with the incumbent again. Raises when a morphism fails."""
        if call == _UNDO:
            if form.champion is None:
                raise TransformError(
                    "grow: the model on trial was promoted behind its back: list it after what promotes"
                )
            model = dataclasses.replace(form.model, current=jax.tree.map(jnp.array, form.model.incumbent))
            return state, Form(form.champion, None, model, fresh=True)
        choice, key = jax.random.split(key)
        number = call - _UNDO - 1
        if self.order == "random":
            number = int(jax.random.randint(choice, (), 0, len(state.names), jnp.int32))
        name = state.names[number]
        grown = enlarged(key, form, name, self.morphism)
        if self.morphism and probe is not None:
            verify(f"grow: {name!r}", form, grown, probe, self.tolerance)
        return state, grown

    def _next(self, tried: Array, proven: Array) -> Array:
        """The number of the operation to try next: i32[]."""
        if self.order != "learned":
            return tried.sum() % len(tried)
        n = jnp.maximum(tried, 1).astype(jnp.float32)
        total = jnp.maximum(tried.sum(), 1).astype(jnp.float32)
        bound = proven.astype(jnp.float32) / n + jnp.sqrt(2 * jnp.log(total) / n)
        return jnp.argmax(jnp.where(tried == 0, jnp.inf, bound)).astype(jnp.int32)
