"""Everything is assessed and recorded, nothing changes."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from ...core.types import Assessment, Decision
from .promote import Promote


@dataclasses.dataclass(frozen=True)
class Shadow(Promote):
    """Decides as `promote` does, and has none of the round's decisions carried out: for trying ev3x on a live pipeline.

    Records hold what would have been moved and promoted, and the budget is charged as if it had been; current and
    incumbent stay what they were, no weight of a metric moves, and no adapter gets its call.
    """

    def decide(
        self, index: int, state: Any, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, Any]:
        """The decision of `promote`, not to be applied."""
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, applied=jnp.asarray(False)), state
