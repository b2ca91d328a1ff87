"""What a hypergradient of a whole run costs: both directions of reversible learning against one plain run.

    python benchmarks/reversible_time.py [--repeats 15] [--horizon 200] [--penalties]

Digits, 64-32-10 with batches of 32 and 64-256-10 with batches of 128, momentum .9; the gradient is by initial weights,
rates and momenta, with --penalties also by a penalty for each array, which the loss then has. All programs of a network
are called in turn in one process; ratios are those of neighbours in time: to the plain float32 run, of wall time and of
processor time. Needs ev3x-reversible and scikit-learn. Prints a table and writes results/reversible_time.json
(results/reversible_time_penalties.json) in benchmarks/.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ev3x_reversible import hypergradient, train
from measure import write
from reversible_problem import batches, meta_loss, network, plain, train_loss
from rich.console import Console
from rich.table import Table

NETWORKS = {"64-32-10, batch 32": ((64, 32, 10), 32), "64-256-10, batch 128": ((64, 256, 10), 128)}


def programs(sizes: tuple[int, ...], batch: int, horizon: int, penalties: bool) -> dict[str, Any]:
    """Compiled programs by name, each a call without arguments, the plain float32 run first."""
    found: dict[str, Any] = {}
    for dtype in (jnp.float32, jnp.float64):
        name = dtype.dtype.name
        with jax.enable_x64(dtype == jnp.float64):
            params = network(jax.random.key(0), sizes, dtype)
            hypers = jax.tree.map(lambda _, d=dtype: jnp.full((), -8.0, d), params) if penalties else []
            args = (params, hypers, jnp.full(horizon, 0.02, dtype), jnp.full(horizon, 0.9, dtype))
            options: dict[str, Any] = {"batches": batches(batch, dtype), "least_momentum": 0.9}
            forms: dict[str, Any] = {
                f"plain, {name}": plain(batch, dtype),
                f"forward, {name}": functools.partial(train, train_loss, **options),
                f"both directions, {name}": functools.partial(hypergradient, train_loss, meta_loss(dtype), **options),
            }
            for label, form in forms.items():
                found[label] = functools.partial(jax.jit(form).lower(*args).compile(), *args)
    return found


def measured(calls: dict[str, Any], repeats: int) -> dict[str, np.ndarray[Any, Any]]:
    """Seconds f64[repeats, 2] of wall time and of processor time, of each."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: np.array(pairs[1:]) for name, pairs in times.items()}


def quartiles(values: np.ndarray[Any, Any]) -> list[float]:
    """The median and the quartiles."""
    return [float(x) for x in np.quantile(values, (0.5, 0.25, 0.75))]


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--horizon", type=int, default=200)
    parser.add_argument("--penalties", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = {"settings": vars(args)}
    columns = ("microseconds a step", "wall time / plain float32", "processor time / plain float32")
    table = Table("network", "program", *columns, title="median [quartiles]")
    for network_name, (sizes, batch) in NETWORKS.items():
        times = measured(programs(sizes, batch, args.horizon, args.penalties), args.repeats)
        base = times["plain, float32"]
        for name, found in times.items():
            wall, processor = (quartiles(found[:, i] / base[:, i]) for i in (0, 1))
            step = float(np.median(found[:, 0])) / args.horizon * 1e6
            results[f"{network_name}: {name}"] = {"microseconds": step, "wall": wall, "processor": processor}
            cells = [f"{m:.2f} [{low:.2f}, {high:.2f}]" for m, low, high in (wall, processor)]
            table.add_row(network_name, name, f"{step:.0f}", *cells)
    Console(width=150).print(table)
    print(write("reversible_time_penalties" if args.penalties else "reversible_time", results))


if __name__ == "__main__":
    main()
