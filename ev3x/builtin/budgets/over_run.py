"""One error level for the whole run."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from ...adapt import Budget
from ...types import Array, Assessment


@dataclasses.dataclass(frozen=True)
class OverRun(Budget):
    """Confirmation t gets level * 6 / (pi t)^2, which sums to the level: the chance of any false promotion."""

    @property
    def words(self) -> str:
        """The promise in words."""
        return "over the whole run, the chance of any false promotion is at most {level}"

    def init(self) -> Array:
        """Confirmations so far: i32[]."""
        return jnp.zeros((), jnp.int32)

    def offer(self, state: Array, level: Array) -> Array:
        """The share of the next confirmation."""
        t = jnp.float32(state + 1)
        return level * 6 / jnp.square(jnp.pi * t)

    def settle(self, state: Array, alpha: Array, confirmation: Assessment) -> Array:
        """One more confirmation."""
        return state + 1
