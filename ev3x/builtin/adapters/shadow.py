"""Rounds that are assessed and recorded, but change nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from ...core.types import Assessment, Decision
from .promote import Promote


@dataclasses.dataclass(frozen=True)
class Shadow(Promote):
    """Decides as `promote` does, but none of the round's decisions takes effect: for trying ev3x on a live pipeline.

    Records hold what would have been moved and promoted, and the budget is charged for it; current and incumbent stay
    as they were, so do the weights of the metrics, and no call of an adapter is answered.
    """

    def decide(
        self, index: int, state: Any, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, Any]:
        """The decision of `promote`, with `applied` False."""
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, applied=jnp.asarray(False)), state
