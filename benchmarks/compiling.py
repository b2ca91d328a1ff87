"""How much processor time XLA takes to compile a round, with the options that tests are compiled with and without them.

    python benchmarks/compiling.py [--repeats 7]

The round is that of `ev3x run distill-digits` with one candidate; tests compile many of that size. Each repeat is a
process of its own, without a compile cache; the sets of options take turns. Processor time is that of all threads.
Prints a table and writes benchmarks/results/compiling.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import numpy as np
import timing
from measure import write
from rich.console import Console
from rich.table import Table

from ev3x.testing.session import FUSIONS, LEAST, LEVEL, PARTS

OPTIONS = {
    "as users' programs are": "",
    "the same in one part": PARTS,
    "level 1": f"{LEVEL}=1",
    "level 0": f"{LEVEL}=0",
    **({"level 0, no fusion emitters": f"{LEVEL}=0 {FUSIONS}=false"} if FUSIONS in LEAST else {}),
    "tests: in one part and without multiply-adds, too": LEAST,
}
CODE = """
import resource
import jax
from ev3x import Plan, config
from ev3x.core import loop

def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

sets = ["task=distill-digits", "propose.0.losses=['labels']", "confirm.block=300", "confirm.blocks=1"]
sets += ["propose.0.optimizers=[{name='sgd', learning_rate=0.1}]"]
setup = config.load(None, [config.Override.parse(text) for text in sets])
plan, splits = Plan(setup.task, setup.method, setup.layout), setup.task.load(0).splits
lowered = loop.round_.of(plan).lower(splits, loop.init(plan, jax.random.key(0)))
before = processor_seconds()
lowered.compile()
print(processor_seconds() - before)
"""


def main() -> None:
    """Times all sets of options, prints them and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    taken: dict[str, list[float]] = {name: [] for name in OPTIONS}
    for _ in range(repeats):
        for name, flags in OPTIONS.items():
            taken[name].append(_seconds(flags))
    table = Table("options of XLA", "processor s", "share of the first")
    rows, first = [], np.array(taken[next(iter(OPTIONS))])
    for name, seconds in taken.items():
        middle, share = timing.median(np.array(seconds)), timing.median(np.array(seconds) / first)
        rows.append({"options": name, "flags": OPTIONS[name], "seconds": middle, "share": share})
        spread = f"{middle['median']:.2f} ({middle['low']:.2f} to {middle['high']:.2f})"
        table.add_row(name, spread, f"{share['median']:.2f} ({share['low']:.2f} to {share['high']:.2f})")
    Console().print(table)
    write("compiling", {"repeats": repeats, "rows": rows})


def _seconds(flags: str) -> float:
    """The processor time that one process takes to compile a round with these options of XLA."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | {"XLA_FLAGS": flags},
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
