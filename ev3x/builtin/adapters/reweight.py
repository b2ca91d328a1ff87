"""Metrics that stall get more weight in selection."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Lt
from typing_extensions import Doc

from ...component import Kit, Positive, Real
from ...core.adapt import Adapter
from ...core.layout import Site
from ...core.task import Metric
from ...core.types import Array, Assessment, Decision, Move


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReweightState:
    """The aims of the method, once they are known, and the recent gains of the current model."""

    begun: Array  # bool[]
    base: Array  # f32[M]
    progress: Array  # f32[M], running mean of the gains; larger is better
    change: Array  # f32[M], running mean of the gains' absolute values


@dataclasses.dataclass(frozen=True)
class Reweight(Adapter):
    """Metrics whose scores progress slowly count more in selection; to be listed after the adapter that promotes.

    EV3 (arXiv 2310.18893) promises to "dynamically prioritize tasks in scenarios with multiple objectives" and does not
    say how. Here the gain of a round is the score of the next current model (the winner where it is taken, the
    incumbent where that is restored) minus the score of the present one, on the same examples of the decide split,
    which did not choose it. Progress is the running mean of the gain over the running mean of its absolute value:
    between -1 and 1, whatever the units. The new weights are those of the method times softmax(-progress /
    temperature), scaled to the same sum. They do not change which claims and guards are confirmed.
    """

    follows = True
    kit = Kit(excuse={"aims_kept": "it is there to move them"})

    memory: Annotated[Real, Ge(0), Lt(1), Doc("what a running mean keeps of itself in a round")] = 0.9
    temperature: Annotated[Positive, Doc("lower ones prioritise more: weights can differ e^(2 / temperature)-fold")] = (
        1.0
    )

    def accept(self, metrics: tuple[Metric, ...], aims: tuple[float, ...]) -> None:
        """Raise ValueError when fewer than two metrics have weights."""
        active = [m.name for m, aim in zip(metrics, aims, strict=True) if aim]
        if len(active) < 2:
            raise ValueError(
                f"reweight: needs at least two metrics with weights above 0, got {active} "
                f"of {[m.name for m in metrics]}: set the weights of the method"
            )

    def init(self, site: Site, metrics: tuple[Metric, ...]) -> ReweightState:
        """The state before the first round: no progress."""
        none = jnp.zeros(len(metrics), jnp.float32)
        return ReweightState(jnp.asarray(False), none, none, none)

    def decide(
        self, index: int, state: ReweightState, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, ReweightState]:
        """The decision with new aims; unchanged where a score with an aim is not finite."""
        base = jnp.where(state.begun, state.base, decision.aims)
        aimed = base != 0
        winner, current = confirmation.difference
        moved = jnp.select([decision.move == Move.TAKE, decision.move == Move.RESTORE], [winner - current, -current], 0)
        gain = jnp.where(aimed, jnp.sign(base) * moved, 0.0)
        fine = jnp.isfinite(gain).all()
        state = ReweightState(
            begun=jnp.asarray(True),
            base=base,
            progress=jnp.where(fine, self._mean(state.progress, gain), state.progress),
            change=jnp.where(fine, self._mean(state.change, jnp.abs(gain)), state.change),
        )
        relative = jnp.where(state.change > 0, state.progress / state.change, 0.0)
        aims = base * jax.nn.softmax(jnp.where(aimed, -relative / self.temperature, -jnp.inf))
        aims = aims * jnp.abs(base).sum() / jnp.abs(aims).sum()
        return dataclasses.replace(decision, aims=jnp.where(fine, aims, decision.aims)), state

    def _mean(self, mean: Array, value: Array) -> Array:
        return self.memory * mean + (1 - self.memory) * value
