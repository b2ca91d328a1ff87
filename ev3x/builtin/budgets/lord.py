"""A bound on the rate of false promotions over the run; discoveries earn levels back."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from ...core.types import Array, Assessment
from .investing import Investing


@dataclasses.dataclass(frozen=True)
class Lord(Investing):
    """LORD++: alpha_t = w0 gamma_t + (level - w0) gamma_(t - tau_1) + level * sum of gamma_(t - tau_j), j >= 2.

    tau_j is when discovery j was made, w0 = initial * level. So the levels of all confirmations up to a time with R
    discoveries sum to level * max(R, 1) at most.

    Promised: E[false promotions] <= level * E[max(promotions, 1)] at every time, the modified false discovery rate
    (mFDR). It needs p-values that are valid given the past: fresh examples in every round. The false discovery rate
    itself, the expected share of false promotions, is at most the level if p-values of true nulls are also independent
    of everything else. That fails when proposals follow from earlier promotions; `elond` promises the rate without it.
    Both statements hold where discoveries are forgotten: levels are lower then, and still grow with every earlier
    discovery. Source: Ramdas, Yang, Wainwright and Jordan (NIPS 2017, arXiv 1710.00499), LORD++.
    """

    @property
    def part(self) -> float:
        """All of it."""
        return 1.0

    def charged(self, confirmation: Assessment) -> Array:
        """True: every confirmation uses up its share."""
        return jnp.asarray(True)
