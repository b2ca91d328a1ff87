"""What a search costs besides its objective: ours, and the released DEHB's in a Python of its own.

    python benchmarks/dehb_overhead.py [--released PYTHON] [--repeats 5] [--seeds 30]

Seconds of an evaluation on multi-fidelity Hartmann-6, 1,000 evaluations: `minimize` with a jitted objective (its cost
included, compilation apart), `Search` by rungs with a numpy one (apart). PYTHON has `dehb==0.1.2` and `numpy<2`; with
it the regrets of as many seeds are compared, too (Mann-Whitney, Holm over rows). Writes
benchmarks/results/dehb_overhead.json; with --seeds 0 the regrets stay there as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from dehb_functions import ALPHA, ROWS, A, Hartmann6, P, height, regrets
from ev3x_populations import DEHB, Search, minimize
from measure import RESULTS, write

EVALUATIONS = 1000
OPPONENT = Path(__file__).parent / "opponents" / "released_dehb.py"


def objective(values: dict[str, jax.Array], fidelity: float, key: jax.Array) -> jax.Array:
    """Hartmann-6 by its named coordinates."""
    x, z = jnp.stack(list(values.values())), math.log(fidelity) / math.log(100)
    near = jnp.exp(-(jnp.array(A) * (x[None] - jnp.array(P)) ** 2).sum(-1))
    return -((jnp.array(ALPHA) - 0.5 * (1 - z)) * near).sum() + 0.1 * (1 - z) * jnp.abs(jax.random.normal(key))


def jitted(dehb: DEHB, seed: int) -> float:
    """Seconds of an evaluation by `minimize`."""
    began = time.perf_counter()
    found = minimize(objective, dehb, jax.random.key(seed), EVALUATIONS)
    return (time.perf_counter() - began) / int(found.evaluations[-1])


def by_rungs(dehb: DEHB, seed: int) -> float:
    """Seconds of an evaluation by `Search`, without those of the objective."""
    search, rng, seconds = Search(dehb, seed), np.random.default_rng(seed), 0.0
    for rung in dehb.rungs(EVALUATIONS):
        began = time.perf_counter()
        asked = search.ask()
        seconds += time.perf_counter() - began
        z = float(np.log(asked.fidelity) / np.log(100))
        noise = 0.1 * (1 - z) * np.abs(rng.normal(size=rung.n))
        values = [float(height(np.array([*c.values()]), z)) + e for c, e in zip(asked.configs, noise, strict=True)]
        began = time.perf_counter()
        search.tell(asked, values)
        jax.block_until_ready(search.state)
        seconds += time.perf_counter() - began
    return seconds / search.evaluations


def released(python: str, seeds: int, first: int, *marks: int) -> list[dict[str, Any]]:
    """What the release did."""
    command = [python, str(OPPONENT), str(seeds), str(first), *map(str, marks)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compared(python: str, seeds: int) -> list[dict[str, Any]]:
    """Our regrets against the release's, by the number of evaluations; p: that ours are larger."""
    marks = sorted(ROWS["hartmann6"].goals)
    theirs = released(python, seeds, 0, *marks)
    ours, _ = regrets(ROWS["hartmann6"], seeds)
    rows: list[dict[str, Any]] = []
    for i, mark in enumerate(marks):
        for kind in ("raw", "full"):
            other = [run[kind][i] for run in theirs]
            p = float(scipy.stats.mannwhitneyu(ours[mark], other, alternative="greater").pvalue)
            less = float(scipy.stats.mannwhitneyu(ours[mark], other, alternative="less").pvalue)
            row = {"evaluations": mark, "incumbent": kind, "ours": float(ours[mark].mean()), "worse": p, "better": less}
            rows.append(row | {"released": float(np.mean(other))})
    for side in ("worse", "better"):  # Holm
        most = 0.0
        for rank, row in enumerate(sorted(rows, key=lambda row: float(row[side]))):
            most = max(most, min(1.0, float(row[side]) * (len(rows) - rank)))
            row[f"{side}, Holm"] = most
    return rows


def main() -> None:
    """Times in turn, then regrets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--released", help="a Python that has dehb 0.1.2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=30)
    args = parser.parse_args()
    dehb = Hartmann6().dehb()
    jitted(dehb, 0), by_rungs(dehb, 0)  # compiled
    times: dict[str, list[float]] = {"jitted": [], "by rungs": [], "released": []}
    for i in range(args.repeats):
        times["jitted"].append(jitted(dehb, i))
        times["by rungs"].append(by_rungs(dehb, i))
        if args.released:
            times["released"].append(released(args.released, 1, i, EVALUATIONS)[0]["seconds"])
    medians = {name: statistics.median(values) for name, values in times.items() if values}
    for name, seconds in medians.items():
        print(f"{name:10s} {seconds * 1e6:8.1f} us an evaluation")
    results: dict[str, Any] = {"seconds": times, "medians": medians}
    if args.released:
        each = zip(times["released"], times["jitted"], times["by rungs"], strict=True)
        ratios = [(other / a, other / b) for other, a, b in each]
        results["ratios"] = {"jitted": [a for a, _ in ratios], "by rungs": [b for _, b in ratios]}
        print({name: round(statistics.median(values), 1) for name, values in results["ratios"].items()})
        path = RESULTS / "dehb_overhead.json"
        if args.seeds:
            results["regrets"] = compared(args.released, args.seeds)
        else:
            results["regrets"] = json.loads(path.read_text(encoding="utf-8"))["regrets"]
        for row in results["regrets"]:
            print(row)
    print(write("dehb_overhead", results))


if __name__ == "__main__":
    main()
