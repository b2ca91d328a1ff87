"""Promotion on evidence."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from typing_extensions import Doc

from ...core.adapt import Adapter
from ...core.types import Assessment, Decision, Move, Outcome


@dataclasses.dataclass(frozen=True)
class Promote(Adapter):
    """Moves variables by the verdict on the winner.

    Better: current = incumbent = winner. Equivalent or undecided: current = winner, the incumbent stays. Worse:
    current = incumbent. Nothing moves when no candidate could win.
    """

    promotes = True

    undecided: Annotated[
        Literal["take", "keep"], Doc("what becomes of current without a clear verdict: the winner, or as it was")
    ] = "take"

    def decide(
        self, index: int, state: Any, decision: Decision, selection: Assessment, confirmation: Assessment
    ) -> tuple[Decision, Any]:
        """The move and whether to promote."""
        verdict, found = confirmation.outcome[0], selection.winner >= 0
        unclear = Move.TAKE if self.undecided == "take" else Move.KEEP
        move = jnp.select(
            [~found, verdict == Outcome.BETTER, verdict == Outcome.WORSE],
            [decision.move, Move.TAKE, Move.RESTORE],
            unclear,
        )
        better = found & (verdict == Outcome.BETTER)
        return dataclasses.replace(decision, move=move.astype(jnp.int32), promote=decision.promote | better), state
