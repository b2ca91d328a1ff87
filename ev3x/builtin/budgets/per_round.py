"""An error level for every round by itself."""

from __future__ import annotations

import dataclasses

from ...core.budget import Budget
from ...core.types import Array, Assessment
from .base import Tally


@dataclasses.dataclass(frozen=True)
class PerRound(Budget):
    """The same level every round; over many rounds, false promotions add up."""

    @property
    def words(self) -> str:
        """The promise in words."""
        return "in each round, the chance of a false promotion is at most {level}"

    def init(self) -> Tally:
        """The state before the first confirmation."""
        return Tally.empty()

    def offer(self, state: Tally, level: Array) -> Array:
        """The level."""
        return level

    def settle(self, state: Tally, alpha: Array, confirmation: Assessment) -> Tally:
        """The state with one more confirmation."""
        return state.after(alpha, confirmation)

    def account(self, state: Tally, level: Array) -> dict[str, Array]:
        """The sum of the levels of all rounds so far; the whole level is left for each further round."""
        return state.account(0 * level, level)
