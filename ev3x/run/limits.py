"""When a run ends: which of its limits is reached, what is left until then, and how far one chunk may go."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..core.loop import Limit
from ..core.observe import Limits, Row
from ..core.task import Metric
from .summary import Totals


def reached(limits: Limits, leading: Metric, totals: Totals, rows: Sequence[Row]) -> str | None:
    """The limit that a run has reached, in words; None while it goes on. `leading` is the metric of the target."""
    if limits.target is not None and _promoted_at(limits.target, leading, rows):
        return f"the target of {limits.target:g} was reached on the decide split"
    if limits.rounds is not None and len(rows) >= limits.rounds:
        return f"{len(rows)} rounds"
    if limits.gradient_steps is not None and totals.gradient_steps >= limits.gradient_steps:
        return f"{totals.gradient_steps} gradient steps"
    if limits.seconds is not None and totals.seconds >= limits.seconds:
        return f"{totals.seconds:.0f} seconds"
    return None


def of_chunk(limits: Limits, totals: Totals, done: int, size: int) -> Limit:
    """The limit of a chunk of `size` rounds after so many, which must not go beyond those of the run."""
    rounds = size if limits.rounds is None else min(size, limits.rounds - done)
    steps = 2**31 - 1
    if limits.gradient_steps is not None:
        steps = min(steps, limits.gradient_steps - totals.gradient_steps)
    target = math.nan if limits.target is None else limits.target
    return Limit(jnp.int32(rounds), jnp.int32(steps), jnp.float32(target))


def left(limits: Limits, totals: Totals, done: int, new: Sequence[Row], seconds: float) -> float | None:
    """An estimate of the seconds to go, after a chunk of new rounds in so many seconds; None without a finite limit."""
    ways, each = [], seconds / len(new)
    if limits.rounds is not None:
        ways.append((limits.rounds - done) * each)
    if limits.seconds is not None and math.isfinite(limits.seconds):
        ways.append(limits.seconds - totals.seconds)
    if limits.gradient_steps is not None and new[-1]["gradient_steps"]:
        ways.append((limits.gradient_steps - totals.gradient_steps) / new[-1]["gradient_steps"] * each)
    return max(0.0, min(ways)) if ways else None


def _promoted_at(target: float, metric: Metric, rows: Sequence[Row]) -> bool:
    """Whether a model was promoted whose confirmed score reaches the target."""
    scores = [np.float32(r["confirm"]["winner"]["mean"][metric.name]) for r in rows if r["promoted"]]
    goal = np.float32(target)  # float32, as on the device
    return any(bool(s >= goal if metric.maximize else s <= goal) for s in scores)
