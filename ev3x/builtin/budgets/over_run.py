"""One error level for the whole run."""

from __future__ import annotations

import dataclasses

from ...core.types import Array, Assessment
from .base import Spending, Tally


@dataclasses.dataclass(frozen=True)
class OverRun(Spending):
    """Confirmation t gets level * t^-exponent / zeta(exponent), which sums to the level: family-wise error by spending.

    Promised: P(any false promotion) <= level, however long the run is. This follows from the union bound, so
    confirmations may depend on each other in any way, as long as each is valid for its own candidate: the examples that
    chose the candidate must not confirm it. Nothing is earned back. Source: alpha-spending, as in Foster and Stine
    (JRSS B 70:429, 2008).
    """

    @property
    def words(self) -> str:
        """The promise in words."""
        return "over the whole run, the chance of any false promotion is at most {level}"

    def init(self) -> Tally:
        """The state before the first confirmation."""
        return Tally.empty()

    def offer(self, state: Tally, level: Array) -> Array:
        """The share of the next confirmation."""
        return level * self.share(state.confirmations + 1)

    def settle(self, state: Tally, alpha: Array, confirmation: Assessment) -> Tally:
        """The state with one more confirmation."""
        return state.after(alpha, confirmation)

    def account(self, state: Tally, level: Array) -> dict[str, Array]:
        """The levels spent, and what all later confirmations together will get."""
        return state.account(0 * level, level * self.rest(state.confirmations + 1))
