"""The tally of what was spent, and the sequence that shares out a level: the base of the built-in budgets."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le
from jax.scipy.special import zeta
from typing_extensions import Doc

from ...component import Real
from ...core.assess import Assessor
from ...core.budget import Budget
from ...core.types import Array, Assessment, Outcome

# The default of all budgets, chosen once: all figures in the docs use it.
EXPONENT = 1.6
# float32 powers and sums err by less than this; shares are reduced by it, so that their sum never exceeds 1.
ROUNDING = 2.0**-16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """The number of confirmations, of those that said better, and the sum of all levels: i32[], i32[], f32[].

    `excess` is the amount by which the float32 sum is too large (Kahan 1965). It is needed because after some 26,000
    confirmations a level is less than half a unit in the last place of the sum.
    """

    confirmations: Array
    discoveries: Array
    spent: Array
    excess: Array

    @classmethod
    def empty(cls) -> Tally:
        """The tally before the first confirmation."""
        return cls(jnp.int32(0), jnp.int32(0), jnp.float32(0.0), jnp.float32(0.0))

    def after(self, alpha: Array, confirmation: Assessment) -> Tally:
        """The tally with one more confirmation, at the level `alpha`."""
        more = alpha - self.excess
        spent = self.spent + more
        return Tally(
            confirmations=self.confirmations + 1,
            discoveries=self.discoveries + discovery(confirmation).astype(jnp.int32),
            spent=spent,
            excess=(spent - self.spent) - more,
        )

    def account(self, earned: Array, left: Array) -> dict[str, Array]:
        """The figures that all budgets give for the record, f32[] each."""
        return {
            "spent": self.spent,
            "earned": earned,
            "left": left,
            "confirmations": self.confirmations.astype(jnp.float32),
            "discoveries": self.discoveries.astype(jnp.float32),
        }


@dataclasses.dataclass(frozen=True)
class Spending(Budget):
    """Shares out a level by gamma_t = t^-exponent / zeta(exponent), which sums to 1 over t = 1, 2, ...

    A smaller exponent leaves more for late confirmations and less for early ones.
    """

    exponent: Annotated[
        Real, Ge(1.01), Le(3), Doc("share t falls like t^-exponent; up to 3, for float32 holds no smaller shares")
    ] = EXPONENT

    def share(self, t: Array) -> Array:
        """gamma_t, rounded down, for t = 1, 2, ...: f32 of the shape of t."""
        power = jnp.power(t.astype(jnp.float32), jnp.float32(-self.exponent))
        return power * jnp.float32((1 - ROUNDING) / total(self.exponent))

    def rest(self, t: Array) -> Array:
        """gamma_t + gamma_(t+1) + ...: f32 of the shape of t."""
        first = t.astype(jnp.float32)
        tail = zeta(jnp.full_like(first, self.exponent), first)
        return tail * jnp.float32((1 - ROUNDING) / total(self.exponent))


def discovery(confirmation: Assessment) -> Array:
    """Whether the confirmation says better: bool[], whatever adapters decide then."""
    return confirmation.outcome[0] == Outcome.BETTER


def need_level(name: str, confirm: Assessor) -> None:
    """Raise ValueError for a confirmation that states no error level: there is nothing to share out."""
    if not confirm.promise < 1:
        raise ValueError(
            f"budget: {name} expects a confirmation that states its error level, a promise below 1, got "
            f"{type(confirm).__name__} with promise {confirm.promise}; confirm by `paired`, `betting` or `bernstein`"
        )


@functools.lru_cache(maxsize=64)
def total(exponent: float) -> float:
    """zeta(exponent) in float64, for the exponent rounded to float32: 10,000 terms, then Euler-Maclaurin."""
    s, n = float(np.float32(exponent)), 10_000.0
    terms = math.fsum(k**-s for k in range(1, 10_000))
    return terms + n ** (1 - s) / (s - 1) + n**-s / 2 + s * n ** (-s - 1) / 12
