"""Budgets share out the error level of a run over its rounds."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

from ..component import Component
from .assess import Assessor
from .types import Array, Assessment, PyTree


@dataclasses.dataclass(frozen=True)
class Budget(Component):
    """Shares out the error level over the rounds."""

    role: ClassVar[str] = "budget"

    @property
    @abc.abstractmethod
    def words(self) -> str:
        """What is promised, in words, with {level} where the level stands."""
        raise NotImplementedError

    def init(self) -> PyTree:
        """The first state."""
        return ()

    def accept(self, confirm: Assessor) -> None:
        """Raise ValueError when the promise cannot be kept with confirmations by this assessor."""

    @abc.abstractmethod
    def offer(self, state: PyTree, level: Array) -> Array:
        """The error level of the next confirmation, f32[], when the user asked for `level`."""
        raise NotImplementedError

    def settle(self, state: PyTree, alpha: Array, confirmation: Assessment) -> PyTree:
        """The next state, after a confirmation at the level `alpha` that took place.

        Rounds without a winner, or without fresh decide examples, cost nothing: it is not called for them.
        """
        return state

    def account(self, state: PyTree, level: Array) -> dict[str, Array]:
        """Figures for the record: what was spent, earned, and is left of the level."""
        return {}
