"""Growth and synergy on distill-mnist1d: students that grow from one block, against direct training of every size.

    python benchmarks/growth.py [--first 0] [--seeds 5] [--rounds 40] [--passes 2] [--jobs 2]

The student is a one-dimensional ResNet of one stage, 8 channels wide, with 1, 2 and 4 blocks. Three ways to each size:

- growth: one pass of EV3 (kl, AdamW at two learning rates; confirmed by `paired` at levels that fall like t^-2);
  `grow` doubles the blocks after three rounds without a promotion, and undoes what does not prove itself. A size's
  model is the incumbent when the next size succeeds it, or at the end; a size whose growths were all undone has none.
- synergy: passes of fresh students of all sizes (kl, AdamW); from the second on, archived students teach too. A size's
  model is the best student of that size in the archive.
- direct: a fresh student of that size trained with AdamW and a cosine schedule for as many gradient steps as the method
  had spent, on all of its candidates, when it left the size: once with those of growth, once with those of synergy.

Test accuracy is that of the 1,000 standard test examples, fresh accuracy that of 100,000 fresh ones. Seeds run side by
side, one on each core. Prints a table and writes benchmarks/results/growth.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import write
from rich.console import Console
from rich.table import Table
from sweep import interval

import ev3x
from ev3x.builtin.adapters.grow import Grow
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.synergy import Synergy
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.tasks import mnist1d
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D
from ev3x.run.evaluate import evaluate
from ev3x.training.steps import train

TASK = DistillMnist1D(student="resnet", blocks=(1,), filters=8)
SIZES = tuple(dataclasses.replace(TASK, blocks=(n,)) for n in (1, 2, 4))
RATES = (3e-3, 1e-3)
WAYS = ("growth", "synergy")
LENGTH = 250


def method(losses: tuple[ev3x.Loss, ...], rates: tuple[float, ...], adapter: ev3x.Adapter) -> ev3x.Method:
    """EV3 with its defaults, and an adapter that grows."""
    optimizers = [ev3x.Optimizer("adamw", learning_rate=rate) for rate in rates]
    like = ev3x.methods.ev3(losses, optimizers, length=LENGTH)
    return ev3x.Method(like.proposers, like.select, Paired(), [Promote(), adapter], OverRun(exponent=2.0))


def rounds(evolver: ev3x.Evolver, seed: int, most: int) -> Iterator[tuple[int, Any, ev3x.State, ev3x.Record]]:
    """After each round: gradient steps so far, task and variables of the incumbent before it, the state, the record."""
    state, steps = evolver.init(seed), 0
    for _ in range(most):
        before = evolver.plan.incumbent_site.task, state.model.incumbent
        state, record = evolver.round(state)
        steps += int(record.steps)
        yield steps, before, state, record


def growth(seed: int, splits: ev3x.Splits, most: int) -> dict[str, Any]:
    """The incumbent of each size when it was succeeded, with the gradient steps by then, and what happened."""
    adapter = Grow(patience=3, how=("deepen_all",), most=2)
    evolver = ev3x.Evolver(TASK, method((ev3x.Loss("kl"),), RATES, adapter), splits, ev3x.Layout(chunk=1))
    models: dict[int, Any] = {}
    calls: list[str] = []
    for steps, (task, variables), state, record in rounds(evolver, seed, most):
        calls += [adapter.describe(int(c)) for c in record.decision.calls if c]
        now = evolver.plan.incumbent_site.task
        models[SIZES.index(task)] = task, variables, steps
        models[SIZES.index(now)] = now, state.model.incumbent, steps
    return {"models": models, "calls": calls}


def synergy(seed: int, splits: ev3x.Splits, most: int, passes: int) -> dict[str, Any]:
    """The archived student of each size, with the gradient steps when the last of that size left."""
    adapter = Synergy(patience=3, passes=passes, most=2, how=("deepen_all",))
    losses = tuple(ev3x.Loss("kl", teacher=float(i)) for i in range(4))
    evolver = ev3x.Evolver(TASK, method(losses, RATES[:1], adapter), splits, ev3x.Layout(chunk=1))
    spent: dict[int, int] = {}
    calls: list[str] = []
    won: list[int] = []
    for steps, _, state, record in rounds(evolver, seed, most):
        won.append(int(record.selection.winner))
        for call in record.decision.calls:
            if call:
                spent[len(calls) % len(SIZES)] = steps
                calls.append(adapter.describe(int(call)))
        kept = list(adapter.keeps(state.adapters["synergy"]).values())
        if "done" in calls:
            break
    return {"models": {i: (*kept[i], spent[i]) for i in spent}, "calls": calls, "won": won}


@functools.partial(jax.jit, static_argnums=(0, 3))
def trained(task: ev3x.Task, splits: ev3x.Splits, key: jax.Array, most: int, steps: jax.Array, rate: float) -> Any:
    """A fresh student after so many steps of AdamW; the learning rate falls to 0 along a cosine."""
    optimizer = optax.adamw(lambda i: 0.5 * rate * (1 + jnp.cos(jnp.pi * jnp.minimum(i / steps, 1.0))))
    first, second = jax.random.split(key)
    start = task.init(first)
    drawn = splits.explore.draw(second, most)
    state = optimizer.init(start["params"])
    return train(task, ev3x.Loss("kl"), optimizer, start, state, splits.explore, drawn, second, steps=steps)[0]


def direct(task: ev3x.Task, seed: int, splits: ev3x.Splits, steps: int) -> Any:
    """A student of this size trained for so many steps."""
    most = -(-steps // 10_000) * 10_000  # one program for many numbers of steps
    return trained(task, splits, jax.random.key(seed), most, jnp.int32(steps), RATES[0])


def one_seed(seed: int, most: int, passes: int) -> dict[str, Any]:
    """Accuracies by way and size."""
    data = TASK.load(seed)
    assert isinstance(data.splits, ev3x.Splits)
    fresh = ev3x.Arrays(mnist1d.generate(jax.random.key(10_000 + seed), 100_000))

    def accuracy(task: ev3x.Task, variables: Any) -> dict[str, float]:
        return {n: evaluate(task, variables, e)["accuracy"] for n, e in (("test", data.test), ("fresh", fresh))}

    found: dict[str, Any] = {}
    for way, run in (
        ("growth", growth(seed, data.splits, most)),
        ("synergy", synergy(seed, data.splits, 4 * most, passes)),
    ):
        sizes: dict[str, Any] = {}
        for _, (task, variables, steps) in sorted(run.pop("models").items()):
            plain = direct(task, seed, data.splits, steps)
            reached = {way: accuracy(task, variables), "direct": accuracy(task, plain)}
            sizes[str(task.blocks[0])] = {"steps": steps, **reached}
        found[way] = {"sizes": sizes, **run}
    print(seed, found, flush=True)
    return found


def alone_on_a_core(free: Any) -> None:
    """This process keeps to one core, which no other has."""
    os.sched_setaffinity(0, {free.get()})


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        free = manager.Queue()
        for core in sorted(os.sched_getaffinity(0))[: args.jobs]:
            free.put(core)
        with ProcessPoolExecutor(args.jobs, spawn, alone_on_a_core, (free,)) as pool:
            every = [itertools.repeat(x) for x in (args.rounds, args.passes)]
            runs = list(pool.map(one_seed, seeds, *every))
    counts = {str(t.blocks[0]): t.network.parameters(jnp.zeros((1, *t.shape))) for t in SIZES}
    table = Table("blocks", "parameters", "way", "seeds", "gradient steps", "test accuracy", "fresh accuracy")
    summary: dict[str, Any] = {}
    for way, (size, parameters) in itertools.product(WAYS, counts.items()):
        have = [r[way]["sizes"][size] for r in runs if size in r[way]["sizes"]]
        reached = {n: {s: np.array([h[n][s] for h in have]) for s in ("test", "fresh")} for n in (way, "direct")}
        reached["difference"] = {s: reached[way][s] - reached["direct"][s] for s in ("test", "fresh")}
        steps = float(np.mean([h["steps"] for h in have])) if have else 0.0
        for name, values in reached.items():
            found = {s: interval(x) if len(x) > 1 else None for s, x in values.items()}
            form = "{:+.4f} [{:+.4f}, {:+.4f}]" if name == "difference" else "{:.4f} [{:.4f}, {:.4f}]"
            cells = [form.format(*f) if f else "" for f in found.values()]
            table.add_row(
                size,
                f"{parameters:,}",
                name if name == way else f"{way}: {name}",
                str(len(have)),
                f"{steps:,.0f}",
                *cells,
            )
            summary[f"{way} {size}: {name}"] = {"parameters": parameters, "n": len(have), "steps": steps, **found}
    Console(width=150).print(table)
    print(write("growth", {"settings": vars(args), "runs": runs, "summary": summary}))


if __name__ == "__main__":
    main()
