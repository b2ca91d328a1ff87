"""Assessments as a round gives them, and the rows of a run, for those that come after assessors. Made up."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..builtin.adapters.promote import Promote
from ..builtin.assessors.mean_bounds import MeanBounds
from ..builtin.assessors.paired import Paired
from ..builtin.budgets.over_run import OverRun
from ..builtin.proposers.trajectories import Trajectories
from ..core.plan import Method, Plan
from ..core.task import Metric
from ..core.types import Array, Assessment, Decision, Move, Outcome, Record
from ..run.fates import fates
from ..run.rows import rows
from ..training.losses import Loss
from ..training.optimizers import Optimizer
from .trees import inexact
from .worlds import TinyTask

EXAMPLES = 1024
FATES = (Outcome.BETTER, Outcome.UNDECIDED, Outcome.WORSE)  # of three rounds that are tried
OUTCOMES = (
    Outcome.UNDECIDED,
    Outcome.BETTER,
    Outcome.EQUIVALENT,
    Outcome.WORSE,
    Outcome.UNDECIDED,
    Outcome.SPENT,
    None,
)
P_VALUES = {
    Outcome.BETTER: 1e-4,
    Outcome.EQUIVALENT: 0.5,
    Outcome.UNDECIDED: 0.5,
    Outcome.WORSE: 1 - 1e-4,
    Outcome.SPENT: 1.0,
}
GAINS = {Outcome.BETTER: 0.1, Outcome.EQUIVALENT: 0.0, Outcome.UNDECIDED: 0.01, Outcome.WORSE: -0.1, Outcome.SPENT: 0.0}


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
        difference_lower=f32(difference - 0.01 * width),
        difference_upper=f32(difference + 0.01 * width),
        futile=jnp.zeros(k, bool),
    )


@functools.cache
def run() -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """The rows of a made-up run, and its summary as summary.json has it.

    It has every verdict, a growth, a round whose scores are not finite, and one without a winner.
    """
    task = TinyTask()
    optimizers = tuple(Optimizer("sgd", learning_rate=rate) for rate in (0.1, 0.3))
    trajectories = Trajectories(losses=(Loss("logistic"),), optimizers=optimizers, length=3)
    plan = Plan(task, Method([trajectories], MeanBounds(), Paired(), [Promote()], OverRun()))
    records = [_record(i, outcome, task.metrics) for i, outcome in enumerate(OUTCOMES)]
    for i in (-3, -2):  # scores that are not finite, and none at all
        lost = inexact(lambda x: jnp.full_like(x, jnp.nan), records[i].confirmation)
        records[i] = dataclasses.replace(records[i], confirmation=lost)
    told = rows(plan, jax.tree.map(lambda *x: jnp.stack(x), *records))
    told[2]["calls"] = {"adapter": "grow"}
    scores: dict[str, float | None] = {metric.name: 0.5 for metric in task.metrics}
    summary = {
        "task": "kit:tiny",
        "seed": 0,
        "rounds": len(told),
        "promotions": sum(row["promoted"] for row in told),
        "in_shadow": 0,
        "transitions": {"grow": 1},
        "gradient_steps": sum(row["gradient_steps"] for row in told),
        "examples": EXAMPLES * len(told),
        "proposers": fates(told),
        "seconds": 1.0,
        "test": scores,
        "baseline": dict.fromkeys(scores),
        "parameters": told[-1]["parameters"]["incumbent"],
        "kept": {},
        "outcome": "finished",
        "reason": f"{len(told)} rounds",
        "promise": "",
        "assumes": [],
        "ledger": told[-1]["ledger"],
        "holdout": {"read": EXAMPLES * len(told), "size": None, "uses": 1},
        "about": "made up",
        "observer_faults": {},
        "versions": {},
        "directory": None,
    }
    return tuple(told), summary


def _record(i: int, outcome: Outcome | None, metrics: tuple[Metric, ...]) -> Record:
    """A round with this verdict; None: nobody could win."""
    key = jax.random.fold_in(jax.random.key(0), i)
    verdict = Outcome.UNDECIDED if outcome is None else outcome
    winner = -1 if outcome is None else i % 2
    move = {Outcome.WORSE: Move.RESTORE, None: Move.KEEP}.get(outcome, Move.TAKE)
    aims = jnp.array([1.0, *[0.0] * (len(metrics) - 1)], jnp.float32)
    promoted = jnp.asarray(outcome == Outcome.BETTER)
    size = 100 if i < 3 else 200
    return Record(
        round=jnp.int32(i),
        alpha=jnp.float32(0.01),
        eligible=jnp.array([outcome is not None, i % 3 != 1 and outcome is not None]),
        finite=jnp.ones(2, bool),
        selection=assessment(key, metrics, (Outcome.UNDECIDED,) * 2, winner),
        confirmation=assessment(jax.random.fold_in(key, 1), metrics, (verdict, Outcome.UNDECIDED), 0),
        evidence=(),
        ledger={},
        decision=Decision(jnp.int32(move), promoted, aims, jnp.zeros(1, jnp.int32)),
        steps=jnp.int32(6),
        parameters=jnp.array([size, 100], jnp.int32),
        notes={"trajectories": {}},
        uses=jnp.int32(0),
        aims=aims,
    )


def _middle(metric: Metric) -> float:
    low, high = metric.low, metric.high
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2
    return float(high - 1 if np.isfinite(high) else low + 1 if np.isfinite(low) else 0.0)
