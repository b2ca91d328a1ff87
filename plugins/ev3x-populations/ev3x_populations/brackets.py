"""Hyperband's brackets as a static table: how many configurations each rung evaluates, at which fidelity."""

from __future__ import annotations

import dataclasses
import math

LEAST = 4  # individuals of plain DE: rand/1 needs three besides the target


@dataclasses.dataclass(frozen=True)
class Bracket:
    """One bracket of successive halving: `counts[r]` configurations at fidelity `fidelities[r]`, lowest rung first."""

    counts: tuple[int, ...]
    fidelities: tuple[float, ...]


def brackets(
    min_fidelity: float, max_fidelity: float, eta: float = 3.0, *, population: int = 20
) -> tuple[Bracket, ...]:
    """The brackets of one cycle, S of them, where S = floor(log(max / min) / log(eta)) + 1 is the number of fidelities.

    Fidelities are max * eta^-i. Bracket i begins s = S - 1 - i levels below the top with floor(S / (s + 1)) * eta^s
    configurations, of which each rung keeps one in eta (Li et al., arXiv 1603.06560; the counts of DEHB 0.1.2). Where
    min = max there is nothing to halve: one rung of `population` individuals, which is a generation of plain DE.
    """
    for name, value in (("min_fidelity", min_fidelity), ("max_fidelity", max_fidelity), ("eta", eta)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    if min_fidelity <= 0:
        raise ValueError(f"min_fidelity must be above 0, got {min_fidelity!r}")
    if min_fidelity > max_fidelity:
        raise ValueError(f"min_fidelity must be at most max_fidelity, got {min_fidelity!r} > {max_fidelity!r}")
    if eta < 2:
        raise ValueError(f"eta must be at least 2, as each rung keeps one configuration in eta, got {eta!r}")
    if isinstance(population, bool) or not isinstance(population, int) or population < LEAST:
        raise ValueError(f"population must be an integer of at least {LEAST}, got {population!r}")
    if min_fidelity == max_fidelity:
        return (Bracket((population,), (float(max_fidelity),)),)
    # The quotient of floats, as released: (1, 1000, 10) falls just short of 3, and has the levels 10, 100, 1000.
    levels = -int(math.log(min_fidelity / max_fidelity) / math.log(eta)) + 1
    if levels == 1:
        text = "leave no second fidelity: lower min_fidelity or eta, or make both ends equal for plain DE"
        raise ValueError(f"min_fidelity = {min_fidelity!r}, max_fidelity = {max_fidelity!r} and eta = {eta!r} {text}")
    fidelities = tuple(float(max_fidelity * eta**-i) for i in range(levels - 1, -1, -1))
    return tuple(_bracket(levels, s, eta, fidelities) for s in range(levels - 1, -1, -1))


def _bracket(levels: int, s: int, eta: float, fidelities: tuple[float, ...]) -> Bracket:
    first = int(levels // (s + 1) * eta**s)
    return Bracket(tuple(max(int(first * eta**-r), 1) for r in range(s + 1)), fidelities[levels - s - 1 :])


def whole_steps(fidelities: tuple[float, ...]) -> tuple[int, ...]:
    """The fidelities as whole numbers (gradient steps, examples), or an error where two of them round to the same."""
    steps = tuple(round(f) for f in fidelities)
    if steps[0] < 1 or len({*steps}) < len(steps):
        text = "raise min_fidelity or eta, until every fidelity is a whole number of its own, from 1"
        raise ValueError(f"min_fidelity: the fidelities {fidelities} round to {steps} steps; {text}")
    return steps
