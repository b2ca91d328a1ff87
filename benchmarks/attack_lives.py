"""One process builds `Evolver`s one after another, each with a plan of its own, and must not grow.

    python benchmarks/attack_lives.py [--tries 200] [--seed 0]

Each try builds an `Evolver` whose program differs from all others by a constant, runs two calls of a round, and drops
it. All tries are in one child process, without a compile cache and with the options of XLA that tests are compiled with
(a quarter of the time; programs are freed alike). After each, garbage is collected and malloc is asked to give free
memory back (`malloc_trim`, where libc has it), so that what is measured is held, not merely not yet returned. The child
measures itself: resident memory, memory maps, threads, descriptors, and executables that XLA holds.

After the first 20, a line is fitted to each series (the median of all slopes between two points, which a single outlier
does not move). Its growth from there to the end may be

    executables, threads, descriptors   0
    memory maps                         1 % of what there were after the first 20
    resident memory                     0.2 MB a try: JAX's own caches, which have a bound (measurements.md)

Before programs went with their `Evolver`s, a try left 2 executables, 75 maps and 16 MB.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attack import Found

TRIES = 200
FIRST = 20
ALLOWED = {"executables": 0.0, "threads": 0.0, "descriptors": 0.0}
MAPS, MEGABYTES = 0.01, 0.2  # of the maps after the first; of memory, a try


def attack(tries: int, seed: int) -> Found:
    """What a process came to hold that built and dropped so many `Evolver`s."""
    from ev3x import wrong_sums
    from ev3x.testing.session import CACHE, LEAST

    # Without PYTHONSAFEPATH, which tests set, the child finds the modules beside this one.
    environment = {name: value for name, value in os.environ.items() if name not in (CACHE, "PYTHONSAFEPATH")}
    if platform.machine().lower() in ("x86_64", "amd64"):
        environment["XLA_FLAGS"] = LEAST
    wrong_sums.spare(environment)
    command = [sys.executable, __file__, "--child", "--tries", str(tries), "--seed", str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(measured) < tries:
        ended = f"the process ended with {done.returncode} after {len(measured)}: {done.stderr[-500:]}"
        return Found("lives", len(measured), {"ended": 1}, [ended])
    series = {name: np.array([each[name] for each in measured], float) for name in measured[0]}
    wrong, figures = judged(series, min(FIRST, tries // 2))
    return Found("lives", tries, {"built, run and dropped": tries}, wrong, figures)


def judged(series: dict[str, np.ndarray], first: int) -> tuple[list[str], dict[str, dict[str, float]]]:
    """What grew after the first ones, in words, and the figures of every series."""
    wrong, figures = [], {}
    for name, values in series.items():
        later = values[first:]
        allowed = {**ALLOWED, "maps": MAPS * later[0], "megabytes": MEGABYTES * len(later)}[name]
        growth = slope(later) * (len(later) - 1)
        figures[name] = {"after the first": later[0], "at the end": later[-1], "most": later.max(), "growth": growth}
        if growth > allowed:
            wrong.append(
                f"{name}: grew by {growth:.1f} from {later[0]:.1f} in {len(later)} tries, allowed {allowed:.1f}"
            )
    return wrong, figures


def slope(values: np.ndarray) -> float:
    """The median of the slopes between any two points (Theil and Sen)."""
    i, j = np.triu_indices(len(values), 1)
    return float(np.median((values[j] - values[i]) / (j - i)))


def lives(tries: int, seed: int) -> Iterator[dict[str, float]]:
    """What this process holds after each `Evolver`."""
    import jax
    import jax.numpy as jnp
    from jax import Array

    import ev3x
    from ev3x.builtin.adapters.promote import Promote
    from ev3x.builtin.assessors.published import Published
    from ev3x.builtin.budgets.over_run import OverRun

    @dataclasses.dataclass(frozen=True)
    class Line(ev3x.Task):
        """Which side of a point numbers are on."""

        metrics = (ev3x.Metric("accuracy", lambda logits, batch: (logits > 0) == batch["y"], binary=True),)

        def init(self, key: Array) -> Any:
            return {"params": {"x": jax.random.normal(key)}}

        def predict(self, variables: Any, batch: Any) -> Array:
            return batch["x"] - variables["params"]["x"]

    @dataclasses.dataclass(frozen=True)
    class Nudge(ev3x.Proposer):
        """The current point, moved by a constant of the program."""

        by: float = 0.0

        def labels(self, site: ev3x.Site) -> tuple[str, ...]:
            return ("nudged",)

        def propose(
            self, site: ev3x.Site, key: Array, current: Any, state: Any, explore: ev3x.Explore
        ) -> ev3x.Candidates:
            moved = jax.tree.map(lambda x: (x + self.by)[None], current)
            return ev3x.Candidates(moved, jnp.ones(1, bool), jnp.int32(0), ())

    def make(key: Array, n: int) -> dict[str, Array]:
        x = jax.random.normal(key, (n,))
        return {"x": x, "y": x > 0}

    explore, assess, decide = (ev3x.Generated(key, make) for key in jax.random.split(jax.random.key(seed), 3))
    splits = ev3x.Splits(ev3x.Explore(explore, 8), ev3x.Assess(assess), ev3x.Decide(decide))
    by = np.random.default_rng(seed).normal(size=tries)
    for i in range(tries):
        judge = Published(block=64, blocks=1)
        method = ev3x.Method([Nudge(float(by[i]))], judge, judge, [Promote()], OverRun())
        evolver = ev3x.Evolver(Line(), method, splits)
        state = evolver.init(i)
        for _ in range(2):
            state, _ = evolver.round(state)
        jax.block_until_ready(state)
        del evolver, state, method
        yield {"executables": len(jax.local_devices()[0].client.live_executables()), **held()}


def held() -> dict[str, float]:
    """What the kernel says that this process holds, once garbage is gone."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    here = Path("/proc/self")
    status = dict(line.split(":", 1) for line in (here / "status").read_text(encoding="utf-8").splitlines())
    return {
        "megabytes": int(status["VmRSS"].split()[0]) / 1024,
        "maps": (here / "maps").read_bytes().count(b"\n"),
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(here / "fd")),
    }


def main() -> None:
    """The table, or as a child one line of JSON for each try."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        for each in lives(given.tries, given.seed):
            print(json.dumps(each), flush=True)
        return
    found = attack(given.tries, given.seed)
    print(json.dumps(dataclasses.asdict(found), indent=2))
    raise SystemExit(bool(found.wrong))


if __name__ == "__main__":
    main()
