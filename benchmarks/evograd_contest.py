"""EvoGrad as a proposer beside trajectories, on distill-mnist1d, for equal device seconds.

    python benchmarks/evograd_contest.py [--first 10] [--seeds 5] [--seconds 20]

Three methods run from the same students, confirmed by `paired` at levels that fall like t^-2: the six `trajectories`
of `ev3x run`; EvoGrad alone, which learns the temperature and the label smoothing of kl + labels such that the labels
of fresh examples get likely; and both together. They take turns, a round at a time, until each has had so many seconds
in its compiled rounds. Accuracies of the incumbent on the 1,000 standard test examples and on 100,000 fresh ones. Needs
ev3x-evograd. Prints a table and writes benchmarks/results/evograd_contest.json.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np
from ev3x_evograd import EvoGrad
from measure import write
from rich.console import Console
from rich.table import Table
from sweep import LOSSES, OPTIMIZERS, TASK, interval, report

import ev3x
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.proposers.trajectories import Trajectories

SGD = ev3x.Optimizer("sgd", learning_rate=0.1, momentum=0.9)
RANGES = {
    "temperature": {"low": 0.5, "high": 20.0, "log": True},
    "label_smoothing": {"low": 0.0, "high": 0.5},
}


def methods(length: int) -> dict[str, ev3x.Method]:
    """The three methods."""
    trajectories = Trajectories(losses=tuple(LOSSES), optimizers=tuple(OPTIMIZERS), length=length)
    learner = EvoGrad.build(
        {
            "loss": ev3x.Loss("kl") + ev3x.Loss("labels"),
            "meta_loss": "labels",
            "optimizer": SGD,
            "meta_optimizer": {"name": "adam", "learning_rate": 1e-2},
            "ranges": RANGES,
            "length": length,
        }
    )
    proposers: dict[str, list[ev3x.Proposer]] = {
        "trajectories": [trajectories],
        "EvoGrad": [learner],
        "both": [trajectories, learner],
    }
    like = ev3x.methods.ev3(LOSSES, OPTIMIZERS, length=length)
    return {
        n: ev3x.Method(p, like.select, Paired(), like.adapters, OverRun(exponent=2.0)) for n, p in proposers.items()
    }


def one_seed(seed: int, seconds: float, length: int) -> dict[str, dict[str, Any]]:
    """What each method reaches from one seed."""
    splits = TASK.load(seed).splits
    evolvers = {n: ev3x.Evolver(TASK, m, splits) for n, m in methods(length).items()}
    states = {n: e.init(seed) for n, e in evolvers.items()}
    for name, evolver in evolvers.items():
        jax.block_until_ready(evolver.round(states[name]))  # compiles
    spent = dict.fromkeys(evolvers, 0.0)
    start_from = {"rounds": 0, "promotions": 0, "steps": 0, "EvoGrad won": 0}
    results: dict[str, dict[str, Any]] = {name: dict(start_from) for name in evolvers}
    while min(spent.values()) < seconds:
        for name, evolver in evolvers.items():
            if spent[name] >= seconds:
                continue
            start = time.perf_counter()
            states[name], record = jax.block_until_ready(evolver.round(states[name]))
            spent[name] += time.perf_counter() - start
            found = results[name]
            found["rounds"] += 1
            found["promotions"] += int(record.decision.promote)
            found["steps"] += int(record.steps)
            found["EvoGrad won"] += "evograd" in evolver.plan.labels()[int(record.selection.winner)]
            if record.notes.get("evograd"):
                found |= {hyper: float(value[0]) for hyper, value in record.notes["evograd"].items()}
    for name, found in results.items():
        found |= {"seconds": spent[name], **report(states[name].model.incumbent, seed)}
    return results


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--length", type=int, default=250)
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    runs = [one_seed(seed, args.seconds, args.length) for seed in seeds]
    columns = ("rounds", "promotions", "EvoGrad won", "temperature", "label_smoothing")
    table = Table("", "test accuracy [95%]", "fresh accuracy [95%]", *columns, title=f"{args.seconds:g} s each")
    summary: dict[str, Any] = {}
    for name in runs[0]:
        found = {split: interval(np.array([r[name][split] for r in runs])) for split in ("test", "fresh")}
        means = {c: float(np.mean([r[name][c] for r in runs])) if c in runs[0][name] else None for c in columns}
        summary[name] = found | means
        cells = ["{:.4f} [{:.4f}, {:.4f}]".format(*found[split]) for split in ("test", "fresh")]
        table.add_row(name, *cells, *("" if m is None else f"{m:.3g}" for m in means.values()))
    for name in ("EvoGrad", "both"):
        gaps = {s: interval(np.array([r[name][s] - r["trajectories"][s] for r in runs])) for s in ("test", "fresh")}
        summary[f"{name} - trajectories"] = gaps
        table.add_row(f"{name} - trajectories", *("{:+.4f} [{:+.4f}, {:+.4f}]".format(*gap) for gap in gaps.values()))
    Console(width=160).print(table)
    print(write("evograd_contest", {"settings": vars(args), "runs": runs, "summary": summary}))


if __name__ == "__main__":
    main()
