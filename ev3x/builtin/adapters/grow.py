"""Growth after patience, on trial: a grown model that does not prove itself is undone (arXiv 2310.18893, growth)."""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ...adapt import Adapter
from ...component import Count, Natural, Positive, unknown
from ...propose import Site
from ...task import Batch, Metric, Task
from ...types import Array, Assessment, Decision, Model, Outcome

_log = logging.getLogger(__name__)
_UNDO = 1  # calls above it grow for the first, second, ... time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GrowState:
    """Rounds since a model was proven better or grown; whether it is on trial; its size, and the growths tried."""

    stalled: Array  # i32[]
    trial: Array  # bool[]
    size: Array  # i32[], growths that stand
    tried: Array  # i32[]


@dataclasses.dataclass(frozen=True)
class Grow(Adapter):
    """Grows the current model when `patience` rounds proved none better; to be listed after the adapter that promotes.

    The update just selected grows, not the one before. The incumbent keeps its shape and stays the one to beat: the
    grown model is on trial until it is promoted, and undone (current = incumbent, in the old shape) when another
    `patience` rounds do not promote it. While it is on trial nothing is rolled back. The task says how it can grow.
    """

    patience: Annotated[Count, Doc("rounds without a promotion before a growth, and before it is undone")] = 5
    how: Annotated[tuple[str, ...], Doc("operations of the task; none named: all that it has")] = ()
    order: Annotated[Literal["in_turn", "random"], Doc("which operation is next")] = "in_turn"
    most: Annotated[Natural, Doc("growths that may stand at a time; 0: no limit")] = 0
    morphism: Annotated[bool, Doc("keep the function of the model; else the larger one starts afresh")] = True
    tolerance: Annotated[Positive, Doc("the most by which a morphism may change a prediction")] = 1e-4

    def init(self, site: Site, metrics: tuple[Metric, ...]) -> GrowState:
        """No growth so far. Raises ValueError when the task cannot grow in this way."""
        self._operations(site.task)
        return GrowState(jnp.int32(0), jnp.asarray(False), jnp.int32(0), jnp.int32(0))

    def decide(
        self, index: int, state: GrowState, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, GrowState]:
        """The same decision, with a call when patience is at its end."""
        proven = decision.promote & (confirmation.outcome[0] == Outcome.BETTER)
        stalled = jnp.where(proven, 0, state.stalled + 1)
        trial = state.trial & ~decision.promote
        ripe = stalled >= self.patience
        undo = ripe & trial
        grow = ripe & ~trial & ((self.most == 0) | (state.size < self.most))
        call = jnp.where(undo, _UNDO, jnp.where(grow, _UNDO + 1 + state.tried, 0)).astype(jnp.int32)
        state = GrowState(
            stalled=jnp.where(undo | grow, 0, stalled),
            trial=(trial | grow) & ~undo,
            size=state.size + grow.astype(jnp.int32) - undo.astype(jnp.int32),
            tried=state.tried + grow.astype(jnp.int32),
        )
        return dataclasses.replace(decision, calls=decision.calls.at[index].set(call)), state

    def describe(self, call: int) -> str:
        """`grow` or `undo`."""
        return "undo" if call == _UNDO else "grow"

    def transform(
        self, key: Array, call: int, task: Task, champion: Task | None, model: Model, probe: Batch | None
    ) -> tuple[Task, Task | None, Model]:
        """The grown model, with its former task as champion; or the incumbent again. Raises when a morphism is none."""
        if call == _UNDO:
            if champion is None:
                raise ValueError("grow: the model on trial was promoted behind its back: list it after what promotes")
            return champion, None, dataclasses.replace(model, current=jax.tree.map(jnp.array, model.incumbent))
        choice, key = jax.random.split(key)
        names = self._operations(task)
        tried = call - _UNDO - 1
        if self.order == "in_turn":
            name = names[tried % len(names)]
        else:
            name = names[int(jax.random.randint(choice, (), 0, len(names), jnp.int32))]
        larger, variables = task.grow(name, key, model.current)
        if not self.morphism:
            variables = larger.init(key)
        elif probe is not None:
            self._verify(name, (task, model.current), (larger, variables), probe)
        return larger, task, dataclasses.replace(model, current=variables)

    def _operations(self, task: Task) -> tuple[str, ...]:
        if not task.growths:
            raise ValueError(f"grow: the task {type(task).__name__} cannot grow: it has no `growths`")
        for name in self.how:
            if name not in task.growths:
                raise ValueError(f"grow: {unknown('operation', name, task.growths)}")
        return self.how or task.growths

    def _verify(self, name: str, before: tuple[Task, Any], after: tuple[Task, Any], probe: Batch) -> None:
        pairs = zip(*(jax.tree.leaves(task.predict(v, probe)) for task, v in (before, after)), strict=True)
        change = max(float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))) for a, b in pairs)
        if not change <= self.tolerance:
            raise ValueError(
                f"grow: {name!r} of {type(before[0]).__name__} is no morphism: it changes a prediction by "
                f"{change:.3g}, more than tolerance = {self.tolerance:g} (or set morphism = false)"
            )
        _log.info("%s changed predictions by at most %.3g", name, change)
