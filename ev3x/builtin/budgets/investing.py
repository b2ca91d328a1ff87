"""The base of `lord` and `saffron`: discoveries add to a wealth, which is paid out in shares from then on."""

from __future__ import annotations

import abc
import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le
from typing_extensions import Doc

from ...component import Count, Real
from ...core.assess import Assessor
from ...core.types import Array, Assessment
from .base import Spending, Tally, discovery, need_level


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Wealth:
    """The tally, and the next share's number: of the initial wealth, i32[], and of each remembered discovery, i32[N].

    0 stands for no discovery. Discovery n (from 0) is stored at index n modulo N.
    """

    tally: Tally
    initial: Array
    gained: Array


@dataclasses.dataclass(frozen=True)
class Investing(Spending):
    """An initial wealth of w times the level; the first discovery adds 1 - w times the level, each later one the level.

    Each of these amounts is paid out by gamma, beginning with the next confirmation; a confirmation gets the sum of all
    shares that are due.
    """

    initial: Annotated[
        Real, Ge(0.01), Le(1), Doc("w, the share of the level to begin with; the first discovery gains the rest")
    ] = 0.5
    remembered: Annotated[
        Count, Doc("how many discoveries are remembered, the last ones; a forgotten one only lowers later levels")
    ] = 256

    @property
    @abc.abstractmethod
    def part(self) -> float:
        """How much of the wealth is paid out."""
        raise NotImplementedError

    @abc.abstractmethod
    def charged(self, confirmation: Assessment) -> Array:
        """Whether this confirmation uses up its share, so that the next shares are smaller: bool[]."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """The promise in words."""
        return (
            "over the whole run, the expected number of false promotions is at most {level} of the expected number of "
            "all promotions, counted as one where there are none"
        )

    def accept(self, confirm: Assessor) -> None:
        """Raise ValueError for a confirmation that states no error level."""
        need_level(type(self).__name__.lower(), confirm)

    def init(self) -> Wealth:
        """The state before the first confirmation."""
        return Wealth(Tally.empty(), jnp.int32(1), jnp.zeros(self.remembered, jnp.int32))

    def offer(self, state: Wealth, level: Array) -> Array:
        """The sum of shares due from the initial wealth and all remembered discoveries, at most the level."""
        gains = self._gains(state) * self.share(jnp.maximum(state.gained, 1))
        due = level * self.part * (self.initial * self.share(state.initial) + gains.sum())
        return jnp.minimum(due, level)

    def settle(self, state: Wealth, alpha: Array, confirmation: Assessment) -> Wealth:
        """The state with the next shares if this one was used up, and with one more discovery if this was one."""
        step = self.charged(confirmation).astype(jnp.int32)
        here = jnp.arange(self.remembered) == state.tally.discoveries % self.remembered
        return Wealth(
            tally=state.tally.after(alpha, confirmation),
            initial=state.initial + step,
            gained=jnp.where(here & discovery(confirmation), 1, jnp.where(state.gained > 0, state.gained + step, 0)),
        )

    def account(self, state: Wealth, level: Array) -> dict[str, Array]:
        """The levels spent, what discoveries added, and what later confirmations will get if none is a discovery."""
        found = state.tally.discoveries
        gains = self._gains(state) * self.rest(jnp.maximum(state.gained, 1))
        earned = found.astype(jnp.float32) - jnp.where(found > 0, self.initial, 0.0)
        left = self.initial * self.rest(state.initial) + gains.sum()
        return state.tally.account(level * self.part * earned, level * self.part * left)

    def _gains(self, state: Wealth) -> Array:
        """What each remembered discovery added, as a part of the level: f32[N]."""
        first = (jnp.arange(self.remembered) == 0) & (state.tally.discoveries <= self.remembered)
        return jnp.where(state.gained > 0, jnp.where(first, 1 - self.initial, 1.0), 0.0)
