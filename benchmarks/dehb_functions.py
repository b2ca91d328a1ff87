"""DEHB on functions with known optima: multi-fidelity Hartmann-6 and counting ones, against the goals of the plan.

    python benchmarks/dehb_functions.py [--seeds 100] [--only hartmann6]

All seeds run at once, by vmap. Regret is that of the incumbent without noise at full fidelity, after the last whole
rung within so many evaluations; those that look at the best of a lower fidelity count. "At most" is the goal,
"released" what DEHB 0.1.2 reached with the same rule for its incumbent (Hartmann-6, 30 seeds), or with the best of
all raw scores (counting ones, 12 seeds). The package ev3x-populations must be installed. Prints a table and writes
benchmarks/results/dehb_functions.json; with --only, the rows of other functions stay there as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from ev3x_populations import DEHB, Categorical, Space, Trials, ask, init, tell
from measure import RESULTS, write
from rich.console import Console
from rich.table import Table

from ev3x import Range

Floats = npt.NDArray[np.float64]
ALPHA = (1.0, 1.2, 3.0, 3.2)
A = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
LEAST = -3.32237


@dataclasses.dataclass(frozen=True)
class Hartmann6:
    """Hartmann-6 whose weights are .5 (1 - z) lower at fidelity z, with noise |N(0, 1)| .1 (1 - z)."""

    def dehb(self) -> DEHB:
        """Fidelities 3 to 100, on a logarithmic scale z."""
        return DEHB(Space([Range(f"x{i}", 0, 1) for i in range(6)]), 3, 100)

    def regret(self, x: Floats) -> Floats:
        """Without noise, at full fidelity."""
        return height(x, 1.0) - LEAST

    def value(self, x: Floats, fidelity: float, rng: np.random.Generator) -> Floats:
        """What the search sees."""
        z = math.log(fidelity) / math.log(100)
        return height(x, z) + 0.1 * (1 - z) * np.abs(rng.normal(size=x.shape[:-1]))


@dataclasses.dataclass(frozen=True)
class CountingOnes:
    """n bits and n Bernoulli parameters, each estimated from as many samples as the fidelity says."""

    n: int

    def dehb(self) -> DEHB:
        """Fidelities 576 / d to 93,312 / d, d = 2 n."""
        bits = [Categorical(f"bit{i}", (0, 1)) for i in range(self.n)]
        return DEHB(Space([*bits, *(Range(f"p{i}", 0, 1) for i in range(self.n))]), 288 / self.n, 46656 / self.n)

    def regret(self, x: Floats) -> Floats:
        """The missing share of ones."""
        return 1 - self._ones(x, x[..., self.n :])

    def value(self, x: Floats, fidelity: float, rng: np.random.Generator) -> Floats:
        """What the search sees."""
        samples = int(fidelity)
        return -self._ones(x, rng.binomial(samples, x[..., self.n :]) / samples)

    def _ones(self, x: Floats, shares: Floats) -> Floats:
        return ((x[..., : self.n] >= 0.5).sum(-1) + shares.sum(-1)) / (2 * self.n)


def height(x: Floats, z: float) -> Floats:
    """Hartmann-6 at fidelity z, without noise."""
    near = np.exp(-(np.array(A) * (x[..., None, :] - np.array(P)) ** 2).sum(-1))
    return np.asarray(-((np.array(ALPHA) - 0.5 * (1 - z)) * near).sum(-1))


@dataclasses.dataclass(frozen=True)
class Row:
    """A function, and by evaluations the goal and what was released."""

    problem: Hartmann6 | CountingOnes
    goals: dict[int, tuple[float, float]]


ROWS = {
    "hartmann6": Row(Hartmann6(), {300: (0.68, 0.584), 1000: (0.135, 0.109), 3000: (0.052, 0.034)}),
    "ones 4+4": Row(CountingOnes(4), {3000: (0.008, 0.006)}),
    "ones 8+8": Row(CountingOnes(8), {3000: (0.048, 0.043)}),
    "ones 32+32": Row(CountingOnes(32), {3000: (0.212, 0.204)}),
}


def regrets(row: Row, seeds: int) -> tuple[dict[int, Floats], float]:
    """The regret of every seed after so many evaluations, and the seconds of all seeds together."""
    dehb, rng = row.problem.dehb(), np.random.default_rng(2026)
    states = jax.jit(jax.vmap(lambda key: init(dehb, key)))(jax.random.split(jax.random.key(2026), seeds))
    # All seeds are at one step, which is not mapped over: then branches stay branches.
    states = dataclasses.replace(states, step=states.step[0], part=states.part[0])
    axes = jax.tree.map(lambda x: 0, states)
    axes = dataclasses.replace(axes, step=None, part=None)
    rung_axes: Any = Trials(0, 0, 0, None)  # type: ignore[arg-type]
    asks = jax.jit(
        lambda states, n: jax.vmap(lambda s: ask(dehb, s, n), in_axes=(axes,), out_axes=rung_axes)(states),
        static_argnums=1,
    )
    tells = jax.jit(jax.vmap(lambda s, t, v: tell(dehb, s, t, v), in_axes=(axes, rung_axes, 0), out_axes=axes))
    found: dict[int, Floats] = {}
    began, told, marks = time.perf_counter(), 0, sorted(row.goals)
    for rung in dehb.rungs(marks[-1]):
        if told + rung.n > marks[0]:
            found[marks.pop(0)] = row.problem.regret(np.asarray(states.best, np.float64))
        trials = asks(states, rung.n)
        values = row.problem.value(np.asarray(trials.x, np.float64), dehb.fidelities[rung.level], rng)
        states = tells(states, trials, values.astype(np.float32))
        told += rung.n
    found[marks[0]] = row.problem.regret(np.asarray(states.best, np.float64))
    return found, time.perf_counter() - began


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--only", choices=[*ROWS], action="append", help="one function; may come several times")
    args = parser.parse_args()
    table = Table("function", "evaluations", "regret [95%]", "sd", "at most", "released", title=f"{args.seeds} seeds")
    rows: list[dict[str, Any]] = []
    chosen = {name: row for name, row in ROWS.items() if not args.only or name in args.only}
    for name, row in chosen.items():
        found, seconds = regrets(row, args.seeds)
        for evaluations, values in found.items():
            goal, released = row.goals[evaluations]
            mean, sd = float(values.mean()), float(values.std(ddof=1))
            half = 1.96 * sd / args.seeds**0.5
            rows.append(
                {
                    "function": name, "seeds": args.seeds, "evaluations": evaluations, "regret": mean, "sd": sd,
                    "half interval": half, "at most": goal, "released": released, "met": mean <= goal,
                    "seconds": seconds,
                }
            )  # fmt: skip
            cells = f"{mean:.4f} ± {half:.4f}", f"{sd:.4f}", f"{goal}", f"{released}"
            table.add_row(name, f"{evaluations:,}", *cells, style="" if mean <= goal else "red")
        print(f"{name}: {seconds:.0f} s", flush=True)
    Console(width=110).print(table)
    path = RESULTS / "dehb_functions.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows += [row for row in kept if row["function"] not in chosen]
    rows.sort(key=lambda row: ([*ROWS].index(row["function"]), row["evaluations"]))
    print(write("dehb_functions", {"rows": rows}))


if __name__ == "__main__":
    main()
