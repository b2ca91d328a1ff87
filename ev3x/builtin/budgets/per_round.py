"""An error level for every round by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

from ...adapt import Budget
from ...types import Array


@dataclasses.dataclass(frozen=True)
class PerRound(Budget):
    """The same level every round; over many rounds, false promotions add up."""

    @property
    def words(self) -> str:
        """The promise in words."""
        return "in each round, the chance of a false promotion is at most {level}"

    def offer(self, state: Any, level: Array) -> Array:
        """The level."""
        return level
