"""How much processor time the self-tests of native targets cost, in a process in which JAX is up.

    python benchmarks/self_tests.py [--repeats 15] [--plugin lexicase]

Each repeat is a process of its own, without a compile cache. It runs a jitted function, loads the native module, and
then brings up one target after the other, beginning with another one each time: what the first one loads for all
others counts for it. Processor time is that of all threads, in user and system mode; JAX's own are within.
Prints a table and writes benchmarks/results/self_tests.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import timing
from measure import write
from rich.console import Console
from rich.table import Table

CODE = """
import json, resource, sys, time
import jax, numpy as np
import ev3x
from ev3x.ops import native

def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

turn, plugins = int(sys.argv[1]), sys.argv[2:]
jax.block_until_ready(jax.jit(lambda x: x + 1)(np.float32(1)))
host = ev3x.Host()
for plugin in plugins:
    host.load(plugin)
targets = [*native.registry.library().targets, *(t.name for p in plugins for t in host.targets(p, "cpu"))]
turn %= len(targets)
taken = {}
for target in targets[turn:] + targets[:turn]:
    processor, clock = processor_seconds(), time.perf_counter()
    status = native.registry.look(target)
    taken[target] = (processor_seconds() - processor, time.perf_counter() - clock)
    assert status.state == "native", status
print(json.dumps(taken))
"""


def main() -> None:
    """Times all targets, prints them and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--plugin", action="append", default=[], help="an installed plugin that brings targets too")
    given = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    runs: list[dict[str, list[float]]] = []
    for turn in range(given.repeats):
        command = [sys.executable, "-c", CODE, str(turn), *given.plugin]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, encoding="utf-8")
        runs.append(json.loads(done.stdout))
    table = Table("target", "processor ms", "most", "clock ms")
    rows = []
    for target in sorted(runs[0]):
        processor, clock = 1e3 * np.array([run[target] for run in runs]).T
        middle, most, waited = timing.median(processor), float(processor.max()), timing.median(clock)
        rows.append({"target": target, "processor_ms": middle, "most_processor_ms": most, "clock_ms": waited})
        spread = f"{middle['median']:.0f} ({middle['low']:.0f} to {middle['high']:.0f})"
        table.add_row(target, spread, f"{most:.0f}", f"{waited['median']:.0f}")
    Console().print(table)
    write("self_tests", {"repeats": given.repeats, "rows": rows})


if __name__ == "__main__":
    main()
