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
        """The promise as a sentence for people, with {level} in place of the level."""
        raise NotImplementedError

    def init(self) -> PyTree:
        """The state before the first confirmation, any pytree of arrays."""
        return ()

    def accept(self, confirm: Assessor) -> None:
        """Raise ValueError when this budget cannot keep its promise with confirmations by this assessor."""

    @abc.abstractmethod
    def offer(self, state: PyTree, level: Array) -> Array:
        """The error level of the next confirmation, f32[]; `level`, f32[], is the one that the user set."""
        raise NotImplementedError

    def settle(self, state: PyTree, alpha: Array, confirmation: Assessment) -> PyTree:
        """The next state, after a confirmation at the level `alpha`, f32[].

        Rounds without a winner, or without fresh decide examples, cost nothing: they leave the state as it was.
        """
        return state

    def account(self, state: PyTree, level: Array) -> dict[str, Array]:
        """Scalars for the record, by name: what was spent, what was earned, and what is left of the level."""
        return {}
