"""A bound on the share of false promotions over the run, from e-values that may depend on each other."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ...core.assess import Assessor
from ...core.types import Array, Assessment
from .base import Spending, Tally, discovery, need_level


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gained:
    """The tally, and what discoveries added to the amount that may be spent, as a part of the level: f32[]."""

    tally: Tally
    earned: Array


@dataclasses.dataclass(frozen=True)
class Elond(Spending):
    """e-LOND: alpha_t = level * gamma_t * (D + 1) after D discoveries; e-values of 1 / alpha_t or more are discoveries.

    Promised: the false discovery rate, the expected share of false promotions among all, is at most the level at every
    time, even at a time chosen by the data. It needs e-values, each valid for its own candidate: the expectation is at
    most 1 if that candidate is no better. They may depend on each other in any way. Why: a discovery at t is one of D_t
    >= D + 1, so it adds at most alpha_t E_t / (D + 1) = level * gamma_t * E_t to the share. Source: Xu and Ramdas
    (AISTATS 2024, arXiv 2311.06412), e-LOND.
    """

    @property
    def words(self) -> str:
        """The promise in words."""
        return "over the whole run, the expected share of false promotions among all is at most {level}"

    def accept(self, confirm: Assessor) -> None:
        """Raise ValueError for a confirmation that states no error level, or whose p-values are not 1 / e."""
        need_level("elond", confirm)
        if not confirm.e_values:
            raise ValueError(
                f"budget: elond expects a confirmation by e-values, got {type(confirm).__name__}, whose p-values are "
                "not; confirm by `betting` or `bernstein`, or choose the budget `lord`, `saffron` or `over_run`"
            )

    def init(self) -> Gained:
        """The state before the first confirmation."""
        return Gained(Tally.empty(), jnp.float32(0.0))

    def offer(self, state: Gained, level: Array) -> Array:
        """The share of the next confirmation, times one more than the discoveries so far."""
        many = (state.tally.discoveries + 1).astype(jnp.float32)
        return level * self.share(state.tally.confirmations + 1) * many

    def settle(self, state: Gained, alpha: Array, confirmation: Assessment) -> Gained:
        """The state with one more confirmation; a discovery adds all future shares once more."""
        tally = state.tally.after(alpha, confirmation)
        more = jnp.where(discovery(confirmation), self.rest(tally.confirmations + 1), 0.0)
        return Gained(tally, state.earned + more)

    def account(self, state: Gained, level: Array) -> dict[str, Array]:
        """The levels spent, what discoveries added, and what later confirmations will get if none is a discovery."""
        many = (state.tally.discoveries + 1).astype(jnp.float32)
        left = level * self.rest(state.tally.confirmations + 1) * many
        return state.tally.account(level * state.earned, left)
