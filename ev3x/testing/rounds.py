"""Assessments as a round gives them, and a short run with its records, for those that come after assessors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..builtin.adapters.promote import Promote
from ..builtin.assessors.mean_bounds import MeanBounds
from ..builtin.assessors.published import Published
from ..builtin.budgets.per_round import PerRound
from ..builtin.proposers.trajectories import Trajectories
from ..evaluate import evaluate
from ..evolver import Evolver
from ..loop import Method
from ..report import rows
from ..rules import Loss, Optimizer
from ..task import Metric
from ..types import Array, Assessment, Outcome
from .worlds import TinyTask

EXAMPLES = 1024
ROUNDS = 6
P_VALUES = {Outcome.BETTER: 1e-4, Outcome.EQUIVALENT: 0.5, Outcome.UNDECIDED: 0.5, Outcome.WORSE: 1 - 1e-4}
GAINS = {Outcome.BETTER: 0.1, Outcome.EQUIVALENT: 0.0, Outcome.UNDECIDED: 0.01, Outcome.WORSE: -0.1}


def assessment(key: Array, metrics: tuple[Metric, ...], outcomes: Sequence[Outcome], winner: int) -> Assessment:
    """An assessment with these outcomes and this winner (-1: nobody), its scores in the range of the metrics."""
    seed = int(np.asarray(jax.random.key_data(key)).ravel()[-1])
    rng = np.random.default_rng(seed)
    k, m = len(outcomes), len(metrics)
    sign = np.array([1.0 if metric.maximize else -1.0 for metric in metrics])
    width = np.array([w if np.isfinite(w := metric.high - metric.low) else 2.0 for metric in metrics])
    base = np.array([_middle(metric) for metric in metrics])
    reference = base + 0.05 * width * rng.uniform(-1, 1, m)
    gain = np.array([GAINS[outcome] for outcome in outcomes])[:, None] + 0.001 * rng.uniform(-1, 1, (k, m))
    difference = sign * gain * width
    p = np.tile(np.array([P_VALUES[outcome] for outcome in outcomes])[:, None], (1, m))
    f32: Any = functools.partial(jnp.asarray, dtype=jnp.float32)
    return Assessment(
        value=f32(gain[:, 0] if winner >= 0 else np.full(k, -np.inf)),
        mean=f32(reference + difference),
        lower=f32(reference + difference - 0.02 * width),
        upper=f32(reference + difference + 0.02 * width),
        difference=f32(difference),
        reference=f32(reference),
        outcome=jnp.array([int(outcome) for outcome in outcomes], jnp.int32),
        winner=jnp.int32(winner),
        p_value=f32(p[:, 0]),
        p_values=f32(p),
        examples=jnp.int32(EXAMPLES),
    )


@functools.cache
def run() -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The rows of a short run, and its summary as summary.json has it.

    One of its candidates is not finite; at its end a model grew, and then nobody could win.
    """
    task = TinyTask()
    optimizers = tuple(Optimizer("sgd", learning_rate=rate) for rate in (0.3, 1e30))
    method = Method(
        [Trajectories(losses=(Loss("logistic"),), optimizers=optimizers, length=3)],
        MeanBounds(block=64),
        Published(block=64, blocks=1),
        [Promote()],
        PerRound(),
    )
    data = task.load(0)
    evolver = Evolver(task, method, data.splits)  # type: ignore[arg-type]
    state, records = evolver.rounds(evolver.init(0), ROUNDS)
    told = rows(evolver.plan, records)
    told[0]["confirm"]["p_value"] = 0.01
    sizes = {name: 2 * size for name, size in told[-1]["parameters"].items()}
    grew = {**told[-1], "round": ROUNDS, "calls": {"adapter": "grow"}}
    nobody = {"winner": None, "verdict": "none", "promoted": False, "move": "keep", "parameters": sizes, "calls": {}}
    told += [grew, {**told[-1], "round": ROUNDS + 1, **nobody}]
    scores = evaluate(task, state.model.incumbent, data.test)
    summary = {
        "task": "kit:tiny",
        "seed": 0,
        "rounds": len(told),
        "promotions": sum(row["promoted"] for row in told),
        "transitions": {"grow": 1},
        "gradient_steps": sum(row["gradient_steps"] for row in told),
        "examples": EXAMPLES,
        "seconds": 1.0,
        "test": scores,
        "baseline": {name: None for name in scores},
        "parameters": told[-1]["parameters"]["incumbent"],
        "kept": {},
        "outcome": "finished",
        "reason": f"{len(told)} rounds",
        "promise": "",
        "about": data.about,
        "observer_faults": {},
        "versions": {},
        "directory": None,
    }
    return tuple(told), summary


def _middle(metric: Metric) -> float:
    low, high = metric.low, metric.high
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2
    return float(high - 1 if np.isfinite(high) else low + 1 if np.isfinite(low) else 0.0)
