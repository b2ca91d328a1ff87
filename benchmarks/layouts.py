"""How candidates are best laid out in one program: all together (vmap), one by one (lax.map), or in chunks.

    python benchmarks/layouts.py [--quick]

Trains and scores K candidates that differ in their learning rate, with every chunk size in turn. Prints a
table with the medians in milliseconds and writes benchmarks/results/layouts.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import problems
import timing
from measure import write
from rich.console import Console
from rich.table import Table

import ev3x
from ev3x.training.losses import Loss
from ev3x.training.steps import train

CHUNKS = {0: "all (vmap)", 1: "1 (lax.map)", 2: "2", 4: "4"}
CANDIDATES = (4, 16)
STEPS, EXAMPLES = 20, 2048


def training(task: problems.Dense, k: int, chunk: int) -> Callable[[], Any]:
    """A call that trains k candidates on the same batches of 32."""
    site = ev3x.Site(task, ev3x.Layout(chunk=chunk))
    explore = problems.splits(task).explore
    current = task.init(jax.random.key(0))
    drawn = explore.draw(jax.random.key(1), STEPS)
    rates = 0.1 * 2.0 ** -jnp.arange(k)
    optimizer = ev3x.Optimizer("sgd", learning_rate=0.1, momentum=0.9)

    @jax.jit
    def run(current: Any, explore: ev3x.Explore, drawn: jax.Array, rates: jax.Array) -> Any:
        def one(rate: jax.Array) -> Any:
            sgd = optimizer.build(learning_rate=rate)
            opt_state = sgd.init(current["params"])
            key = jax.random.key(2)
            return train(task, Loss("xent"), sgd, current, opt_state, explore, drawn, key, steps=STEPS)

        return site.each(one, rates)

    return lambda: run(current, explore, drawn, rates)


def scoring(task: problems.Dense, k: int, chunk: int) -> Callable[[], Any]:
    """A call that scores k candidates on one block."""
    site = ev3x.Site(task, ev3x.Layout(score_chunk=chunk))
    stack = jax.vmap(task.init)(jax.random.split(jax.random.key(0), k))
    batch, _ = problems.splits(task).decide.block(0, EXAMPLES)
    run = jax.jit(site.scores)
    return lambda: run(stack, batch)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 repeats instead of 15")
    repeats = 3 if parser.parse_args().quick else 15

    title = f"ms: {STEPS} steps at batch 32; one block of {EXAMPLES:,} examples"
    table = Table("work", "model", "K", *CHUNKS.values(), title=title)
    rows = []
    for work, make in (("train", training), ("score", scoring)):
        for name, task in problems.TASKS.items():
            for k in CANDIDATES:
                calls = {text: make(task, k, chunk) for chunk, text in CHUNKS.items()}
                seconds = timing.interleaved(calls, repeats)
                milliseconds = {text: timing.median(1e3 * s) for text, s in seconds.items()}
                rows.append({"work": work, "model": name, "candidates": k, "milliseconds": milliseconds})
                table.add_row(work, name, str(k), *(f"{m['median']:.2f}" for m in milliseconds.values()))
    Console().print(table)
    print(write("layouts", {"repeats": repeats, "steps": STEPS, "rows": rows}))


if __name__ == "__main__":
    main()
