"""Hypergradients over whole runs as proposers, beside the default method of `ev3x run`, for equal device seconds.

    python benchmarks/hypergradients_contest.py [--methods default fds reversible] [--seeds 5] [--seconds 20 5]

Two tasks: distill-mnist1d, confirmed as `ev3x run` confirms, and fds:digits, whose 100 decide examples are read again
in every round by `paired`. "default" are the `trajectories` of `ev3x run` (of digits, on its one loss). The other
methods have one candidate a round, a whole run from a fresh start. All have the same select, confirm and budget. They
take turns, a round at a time, until each has had so many seconds of processor time in its compiled rounds (on an
accelerator: of wall time). Accuracy of the incumbent on the test set; of distill-mnist1d also on 100,000 fresh
examples. A further method is an entry of `METHODS`. Needs ev3x-fds[examples] and
ev3x-reversible. Prints a table for each task and writes
benchmarks/results/hypergradients_contest.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from measure import write
from rich.console import Console
from rich.table import Table
from sweep import LOSSES, OPTIMIZERS, TASK, interval, report

import ev3x
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.run.evaluate import evaluate

MNIST1D, DIGITS = "distill-mnist1d", "fds:digits"


def default(task: str) -> ev3x.Proposer:
    """What `ev3x run` proposes."""
    losses = tuple(LOSSES) if task == MNIST1D else (ev3x.Loss("labels"),)
    return Trajectories(losses=losses, optimizers=tuple(OPTIMIZERS), length=250)


def fds(task: str) -> ev3x.Proposer:
    """Schedules learned in forward mode, from 0."""
    from ev3x_fds import FDS

    if task == MNIST1D:
        return FDS(loss=ev3x.Loss("kl"), meta_loss=ev3x.Loss("labels"), horizon=1000, meta_batches=8)
    return FDS(loss=ev3x.Loss("labels"), horizon=500)


def chance(task: str) -> ev3x.Proposer:
    """Schedules drawn at random from the ranges of FDS."""
    from ev3x_fds import RandomSchedules

    like = fds(task)
    return RandomSchedules(**{n: getattr(like, n) for n in ("loss", "horizon")})


def reversible(task: str) -> ev3x.Proposer:
    """Schedules learned backwards, from a rate and a momentum that one would choose by hand."""
    from ev3x_reversible import Reversible

    labels, length = ev3x.Loss("labels"), 1000 if task == MNIST1D else 500
    return Reversible(
        loss=ev3x.Loss("kl") if task == MNIST1D else labels,
        meta_loss=labels,
        optimizer=ev3x.Optimizer("sgd", learning_rate=0.1, momentum=0.9),
        meta_optimizer=ev3x.Optimizer("adam", learning_rate=0.1),
        length=length,
        window=length // 5,
        meta_batches=8 if task == MNIST1D else 1,
    )


METHODS: dict[str, Callable[[str], ev3x.Proposer]] = {
    "default": default,
    "fds": fds,
    "random": chance,
    "reversible": reversible,
}


def task_of(name: str) -> ev3x.Task:
    """The task of a table."""
    if name == MNIST1D:
        return TASK
    built = ev3x.Host().build("task", name, {})
    assert isinstance(built, ev3x.Task)
    return built


def method(task: str, name: str) -> ev3x.Method:
    """A method of `ev3x run` but for what it proposes, and for the confirmation by few examples."""
    like = ev3x.methods.ev3(LOSSES, OPTIMIZERS)
    proposers = ((name, METHODS[name](task)),)
    if task == MNIST1D:
        return dataclasses.replace(like, proposers=proposers)
    select = dataclasses.replace(like.select, block=100)
    return dataclasses.replace(like, proposers=proposers, select=select, confirm=Paired(block=100, blocks=1))


def clock() -> float:
    """Seconds of the device: of all processors where there is no other."""
    return time.process_time() if jax.default_backend() == "cpu" else time.perf_counter()


def one_seed(task: str, names: list[str], seed: int, seconds: float) -> dict[str, dict[str, Any]]:
    """What each method reaches from one seed."""
    of = task_of(task)
    data = of.load(seed)
    evolvers = {n: ev3x.Evolver(of, method(task, n), data.splits) for n in names}
    states = {n: e.init(seed) for n, e in evolvers.items()}
    for name, evolver in evolvers.items():
        jax.block_until_ready(evolver.round(states[name]))  # compiles
    spent = dict.fromkeys(evolvers, 0.0)
    results: dict[str, dict[str, Any]] = {n: {"rounds": 0, "promotions": 0, "steps": 0} for n in evolvers}
    while min(spent.values()) < seconds:
        for name, evolver in evolvers.items():
            if spent[name] >= seconds:
                continue
            start = clock()
            states[name], record = jax.block_until_ready(evolver.round(states[name]))
            spent[name] += clock() - start
            found = results[name]
            found["rounds"] += 1
            found["promotions"] += int(record.decision.promote)
            found["steps"] += int(record.steps)
            for notes in record.notes.values():
                found |= {note: np.asarray(value[0]).tolist() for note, value in notes.items()}
    for name, found in results.items():
        incumbent = states[name].model.incumbent
        test = evaluate(of, incumbent, data.test)["accuracy"]
        found |= {"seconds": spent[name], "test": test}
        if task == MNIST1D:
            found["fresh"] = report(incumbent, seed)["fresh"]
    return results


def shown(task: str, runs: list[dict[str, dict[str, Any]]], seconds: float) -> dict[str, Any]:
    """The summary of a task, printed as a table."""
    first, *others = runs[0]
    splits = [s for s in ("test", "fresh") if s in runs[0][first]]
    counts = ("rounds", "promotions", "steps")
    table = Table("", *(f"{s} accuracy [95%]" for s in splits), *counts, title=f"{task}, {seconds:g} s each")
    summary: dict[str, Any] = {}
    for name in runs[0]:
        summary[name] = {s: interval(np.array([r[name][s] for r in runs])) for s in splits}
        summary[name] |= {c: float(np.mean([r[name][c] for r in runs])) for c in counts}
        cells = ["{:.4f} [{:.4f}, {:.4f}]".format(*summary[name][s]) for s in splits]
        table.add_row(name, *cells, *(f"{summary[name][c]:,.1f}" for c in counts))
    for name in others:
        gaps = {s: interval(np.array([r[name][s] - r[first][s] for r in runs])) for s in splits}
        summary[f"{name} - {first}"] = gaps
        table.add_row(f"{name} - {first}", *("{:+.4f} [{:+.4f}, {:+.4f}]".format(*gaps[s]) for s in splits))
    Console(width=150).print(table)
    return summary


def main() -> None:
    """All tasks, methods and seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=["default", "fds", "reversible"], choices=list(METHODS))
    parser.add_argument("--tasks", nargs="*", default=[MNIST1D, DIGITS])
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, nargs="*", default=[20.0, 5.0], help="for each of the tasks")
    args = parser.parse_args()
    results: dict[str, Any] = {"settings": vars(args)}
    for task in args.tasks:
        task_of(task)  # what is not installed is told before anything runs
    for task, seconds in zip(args.tasks, args.seconds, strict=True):
        runs = []
        for seed in range(args.first, args.first + args.seeds):
            runs.append(one_seed(task, args.methods, seed, seconds))
            print(task, seed, {n: round(r["test"], 4) for n, r in runs[-1].items()}, flush=True)
        results[task] = {"runs": runs, "summary": shown(task, runs, seconds)}
        write("hypergradients_contest", results)


if __name__ == "__main__":
    main()
