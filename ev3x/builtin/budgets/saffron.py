"""A bound on the rate of false promotions over the run; confirmations that come close cost nothing."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax.numpy as jnp
from annotated_types import Ge, Le
from typing_extensions import Doc

from ...component import Real
from ...core.types import Array, Assessment
from .investing import Investing, Wealth


@dataclasses.dataclass(frozen=True)
class Saffron(Investing):
    """SAFFRON: the wealth of `lord`, where confirmations with p-values up to lambda cost nothing.

    alpha_t = min(lambda, (1 - lambda) (w0 gamma_(t - C_0) + (level - w0) gamma_(t - tau_1 - C_1) + level * sum of
    gamma_(t - tau_j - C_j), j >= 2)), and never above the level. tau_j is when discovery j was made. C_j counts the
    candidates between it and t: p-values of at most lambda (the option `candidates`); NaN is not one. SAFFRON is better
    than `lord` where many confirmations are of true gains. It is worse where most are not, or where p-values are seldom
    below lambda, as those of e-values.

    Promised: E[false promotions] <= level * E[max(promotions, 1)] at every time (mFDR). Why: the p-value of a true null
    is above lambda with a chance of at least 1 - lambda, so the levels of p-values above it, divided by 1 - lambda,
    estimate what was spent on nulls. It needs p-values that are valid given the past: fresh examples in every round. As
    with `lord`, the false discovery rate itself needs independent nulls, and forgotten discoveries only lower later
    levels. Source: Ramdas, Zrnic, Wainwright and Jordan (ICML 2018, arXiv 1802.09098), SAFFRON for constant lambda.
    """

    candidates: Annotated[
        Real, Ge(0.01), Le(0.99), Doc("lambda: a p-value up to this makes a candidate, which uses up nothing")
    ] = 0.5

    @property
    def part(self) -> float:
        """1 - lambda: the rest is kept for candidates that are true nulls."""
        return 1 - self.candidates

    def offer(self, state: Wealth, level: Array) -> Array:
        """The sum of shares due, at most the level and lambda, so that a discovery is always a candidate."""
        return jnp.minimum(super().offer(state, level), self.candidates)

    def charged(self, confirmation: Assessment) -> Array:
        """Whether the p-value is above lambda; candidates cost nothing."""
        return ~(confirmation.p_value[0] <= self.candidates)
