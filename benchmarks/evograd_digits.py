"""Learning an angle and learning whom to trust, on scikit-learn's digits: EvoGrad, exact T1-T2, and neither.

    python benchmarks/evograd_digits.py [--first 10] [--seeds 5]

`rotated-digits`: 1,000 upright digits to train on, target digits turned by 30 degrees. `noisy-digits`: 400 of 1,000
training labels wrong. Every method runs twice: without a gate, as published (`accept`: the last model is the result),
and under ev3x's gate (`promote`: the result is the last model proven better on 100 decide examples, read again each
round). The settings were chosen on seeds 0 to 4; the figures are of others. Needs ev3x-evograd[examples]. Prints a
table for each task and writes benchmarks/results/evograd_digits.json.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats
from ev3x_evograd import EvoGrad, OneStep
from ev3x_evograd.tasks import NoisyDigits, RotatedDigits
from measure import write
from rich.console import Console
from rich.table import Table

import ev3x
from ev3x.builtin.adapters.accept import Accept
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.run.evaluate import evaluate

ADAM = ev3x.Optimizer("adam", learning_rate=3e-3)


def learner(kind: type[Any], loss: str, rate: float, length: int, **options: Any) -> ev3x.Proposer:
    """A proposer that learns the hyperparameters of `loss` with Adam at this rate."""
    meta = ev3x.Optimizer("adam", learning_rate=rate)
    made: ev3x.Proposer = kind(
        loss=loss, meta_loss="labels", optimizer=ADAM, meta_optimizer=meta, length=length, **options
    )
    return made


def plain(length: int) -> ev3x.Proposer:
    """Training without hyperparameters."""
    return Trajectories(losses=(ev3x.Loss("labels"),), optimizers=(ADAM,), length=length)


ROUNDS = 12
PROBLEMS: dict[str, tuple[ev3x.Task, Mapping[str, ev3x.Proposer]]] = {
    "rotated digits, 2,400 steps": (
        RotatedDigits(meta_batch_size=100),
        {
            "plain, upright": plain(200),
            "EvoGrad, K = 2": learner(EvoGrad, "turned", 0.3, 200),
            "EvoGrad, K = 10": learner(EvoGrad, "turned", 0.3, 200, copies=10),
            "T1-T2": learner(OneStep, "turned", 0.3, 200),
        },
    ),
    "noisy digits, 2,400 steps": (
        NoisyDigits(batch_size=100, meta_batch_size=100),
        {
            "plain": plain(200),
            "EvoGrad, K = 2": learner(EvoGrad, "weighted", 1e-2, 200),
            "EvoGrad, K = 2, sigma = .03": learner(EvoGrad, "weighted", 1e-2, 200, sigma=0.03),
            "EvoGrad, K = 10 antithetic, sigma = .01": learner(
                EvoGrad, "weighted", 1e-2, 200, copies=10, sigma=0.01, antithetic=True
            ),
            "T1-T2": learner(OneStep, "weighted", 1e-2, 200),
        },
    ),
}
GATES: dict[str, ev3x.Adapter] = {"no gate": Accept(), "gate": Promote()}


def one(task: ev3x.Task, proposer: ev3x.Proposer, gate: ev3x.Adapter, seed: int) -> dict[str, float]:
    """The test accuracy of the incumbent after all rounds, and the angle learned, if any."""
    data = task.load(seed)
    assert isinstance(data.splits, ev3x.Splits)
    method = ev3x.Method([proposer], MeanBounds(block=100), Paired(block=100, blocks=1), [gate], OverRun())
    evolver = ev3x.Evolver(task, method, data.splits)
    state, records = evolver.rounds(evolver.init(seed), ROUNDS)
    found = {"accuracy": evaluate(task, state.model.incumbent, data.test)["accuracy"]}
    for notes in records.notes.values():
        found |= {name: float(values[-1, 0]) for name, values in notes.items()}
    return found


def interval(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The mean, its 95% t interval, and the standard deviation between seeds."""
    sd = float(values.std(ddof=1))
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * sd / len(values) ** 0.5
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half, "sd": sd, "seeds": values.tolist()}


def on_meta(task: ev3x.Task, seed: int, steps: int) -> float:
    """The test accuracy of a model trained on the meta split alone."""
    data = task.load(seed)
    assert isinstance(data.splits, ev3x.Splits) and data.splits.explore.meta is not None
    splits = dataclasses.replace(data.splits, explore=data.splits.explore.meta)
    method = ev3x.Method([plain(steps)], MeanBounds(block=100), Paired(block=100, blocks=1), [Accept()], OverRun())
    evolver = ev3x.Evolver(task, method, splits)
    state, _ = evolver.rounds(evolver.init(seed), 1)
    return evaluate(task, state.model.current, data.test)["accuracy"]


def main() -> None:
    """All tasks, methods, gates and seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    results: dict[str, Any] = {"settings": vars(args)}
    for name, (task, methods) in PROBLEMS.items():
        table = Table("", *(f"{gate}: test accuracy ± sd [95%]" for gate in GATES), "learned angle", title=name)
        results[name] = {}
        for label, proposer in methods.items():
            cells, angle = [], ""
            for gate, adapter in GATES.items():
                runs = [one(task, proposer, adapter, seed) for seed in seeds]
                found = {key: interval(np.array([run[key] for run in runs])) for key in runs[0]}
                results[name][f"{label}, {gate}"] = found
                a = found["accuracy"]
                cells.append(f"{a['mean']:.4f} ± {a['sd']:.4f} [{a['low']:.4f}, {a['high']:.4f}]")
                if "angle" in found and gate == "no gate":
                    angle = f"{found['angle']['mean']:.2f} ± {found['angle']['sd']:.2f}"
            table.add_row(label, *cells, angle)
        alone = interval(np.array([on_meta(task, seed, 1000) for seed in seeds]))
        results[name]["meta examples alone"] = {"accuracy": alone}
        table.add_row("the meta examples alone", f"{alone['mean']:.4f} ± {alone['sd']:.4f}", "", "")
        Console(width=150).print(table)
    print(write("evograd_digits", results))


if __name__ == "__main__":
    main()
