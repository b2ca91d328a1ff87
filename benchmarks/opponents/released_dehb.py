"""The released DEHB on multi-fidelity Hartmann-6, for a Python of its own (numpy < 2): one worker, nothing saved.

    python benchmarks/opponents/released_dehb.py SEEDS FIRST MARK ...

Prints JSON: by seed the regret of its incumbent after MARK evaluations, and the seconds of an evaluation apart from the
objective. It imports nothing of ev3x.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np

ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
P = np.array(
    [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ]
)


def height(x: Any, z: float) -> float:
    """Without noise, at fidelity z."""
    return float(-((ALPHA - 0.5 * (1 - z)) * np.exp(-(A * (x - P) ** 2).sum(1))).sum())


def run(seed: int, marks: list[int]) -> dict[str, Any]:
    """One seed."""
    from dehb import DEHB

    rng, spent = np.random.default_rng(seed), [0.0]

    def objective(x: Any, fidelity: float, **_: Any) -> dict[str, float]:
        began = time.perf_counter()
        z = np.log(fidelity) / np.log(100)
        fitness = height(x, z) + 0.1 * (1 - z) * abs(rng.normal())
        spent[0] += time.perf_counter() - began
        return {"fitness": fitness, "cost": 1.0}

    with tempfile.TemporaryDirectory() as folder:
        search = DEHB(
            f=objective, cs=None, configspace=False, dimensions=6, min_fidelity=3, max_fidelity=100, eta=3, seed=seed,
            n_workers=1, save_freq=None, output_path=folder, log_level="ERROR",
        )  # fmt: skip
        raw: list[float] = []
        full: list[float | None] = []
        best, seconds = (np.inf, None), 0.0
        for i in range(marks[-1]):
            began = time.perf_counter()
            job = search.ask()
            result = objective(job["config"], job["fidelity"])
            search.tell(job, result)
            seconds += time.perf_counter() - began
            if job["fidelity"] > 99 and result["fitness"] < best[0]:
                best = (result["fitness"], job["config"].copy())
            if i + 1 in marks:
                raw.append(height(search.inc_config, 1.0) + 3.32237)
                full.append(None if best[1] is None else height(best[1], 1.0) + 3.32237)
    return {"raw": raw, "full": full, "seconds": (seconds - spent[0]) / marks[-1]}


if __name__ == "__main__":
    seeds, first, *rest = map(int, sys.argv[1:])
    print(json.dumps([run(seed, rest) for seed in range(first, first + seeds)]))
