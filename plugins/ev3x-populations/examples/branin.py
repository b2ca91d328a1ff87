"""DEHB on Branin's function whose cheap forms lie, as a picture and a table.

    python branin.py [--out branin.png]

At fidelity z < 1 one weight of the function is .1 (1 - z) too small (Wu et al., arXiv 1903.04703): the valleys shift.
The objective is plain Python. Left: where one search looked, by fidelity. Right: the regret of the incumbent against
what was spent, in full evaluations, for ten seeds, and for random search at full fidelity.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from ev3x_populations import DEHB, Search, Space

from ev3x import Range

LEAST, SEEDS, RUNGS = 0.397887, 10, 32
SPACE = Space([Range("x", -5, 10), Range("y", 0, 15)])
SETTINGS = DEHB(SPACE, 1, 27)


def branin(x: Any, y: Any, z: float = 1.0) -> Any:
    """The function at fidelity z in (0, 1]; its three minima at z = 1 are all .397887 deep."""
    b = 5.1 / (4 * math.pi**2) - 0.1 * (1 - z)
    return (y - b * x**2 + 5 / math.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * np.cos(x) + 10


def searched(seed: int) -> tuple[list[tuple[float, float, float]], list[float], list[float]]:
    """All places and fidelities of a search, what was spent after each rung, and the incumbent's regret then."""
    search, spent, places, costs, regrets = Search(SETTINGS, seed), 0.0, [], [], []
    for _ in range(RUNGS):
        asked = search.ask()
        z = asked.fidelity / SETTINGS.max_fidelity
        search.tell(asked, [branin(**config, z=z) for config in asked.configs])
        places += [(config["x"], config["y"], asked.fidelity) for config in asked.configs]
        spent += z * len(asked.configs)
        if search.best is not None:
            costs.append(spent)
            regrets.append(search.best[1] - LEAST)
    return places, costs, regrets


def at_random(seed: int, evaluations: int) -> Any:
    """The regret of random search after each evaluation."""
    rng = np.random.default_rng(seed)
    return np.minimum.accumulate(branin(rng.uniform(-5, 10, evaluations), rng.uniform(0, 15, evaluations))) - LEAST


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="branin.png")
    args = parser.parse_args()
    matplotlib.use("Agg")
    runs = [searched(seed) for seed in range(SEEDS)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    xs, ys = np.meshgrid(np.linspace(-5, 10, 120), np.linspace(0, 15, 120))
    left.contour(xs, ys, np.log(branin(xs, ys)), 14, colors="0.85")
    places = np.array(runs[0][0])
    for i, fidelity in enumerate(SETTINGS.fidelities):
        here = places[places[:, 2] == fidelity]
        left.plot(here[:, 0], here[:, 1], ".", ms=3 + 2 * i, color=f"C{i}", label=f"{fidelity:g}: {len(here)}")
    left.set(xlabel="x", ylabel="y", title=f"fidelity: evaluations, of {len(places)}")
    left.legend()
    costs, regrets = np.array(runs[0][1]), np.array([run[2] for run in runs])
    chance = np.array([at_random(seed, math.ceil(costs[-1])) for seed in range(SEEDS)])
    print("full evaluations   DEHB    random   (median regret)")
    for i in range(0, len(costs), 5):
        print(f"{costs[i]:16.1f} {np.median(regrets[:, i]):7.4f} {np.median(chance[:, int(costs[i]) - 1]):8.4f}")
    for values, at, name in ((regrets, costs, "DEHB"), (chance, np.arange(1, chance.shape[1] + 1), "random search")):
        (line,) = right.plot(at, np.median(values, 0), label=name)
        right.fill_between(at, *np.quantile(values, [0.1, 0.9], axis=0), alpha=0.2, color=line.get_color())
    right.set(xlabel="full evaluations", ylabel="regret", yscale="log", title=f"{SEEDS} seeds: median, 10% to 90%")
    right.legend()
    figure.savefig(args.out, dpi=120)
    print(args.out)


if __name__ == "__main__":
    main()
