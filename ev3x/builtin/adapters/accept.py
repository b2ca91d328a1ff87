"""Promotion without a gate."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from ...core.adapt import Adapter
from ...core.types import Assessment, Decision, Move


@dataclasses.dataclass(frozen=True)
class Accept(Adapter):
    """Every winner becomes current and incumbent, whatever the verdict: training without a gate, for comparison."""

    promotes = True

    def decide(
        self, index: int, state: Any, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, Any]:
        """Take and promote the winner."""
        found = selection.winner >= 0
        move = jnp.where(found, Move.TAKE, decision.move).astype(jnp.int32)
        return dataclasses.replace(decision, move=move, promote=found), state
