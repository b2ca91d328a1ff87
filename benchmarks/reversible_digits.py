"""Learned training images against real ones: the contest of plugins/ev3x-reversible/examples/learned_images.py.

    python benchmarks/reversible_digits.py [--seeds 3] [--meta-steps 400]

For each seed: a split of the digits, one learned image for each class, 20 fresh initialisations; beside them 20 draws
of one real image for each class. Accuracy on the test set. Settings were chosen on seed 0; the figures are of the next
seeds. Needs ev3x-reversible[examples]. Prints a table and writes benchmarks/results/reversible_digits.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure import write
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "ev3x-reversible" / "examples"))

from learned_images import contest


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--meta-steps", type=int, default=400)
    args = parser.parse_args()
    results: dict[str, Any] = {"settings": vars(args)}
    table = Table("seed", "learned: mean ± sd", "real: mean ± sd", "points", title="test accuracy")
    for seed in range(1, 1 + args.seeds):
        _, _, found = contest(seed, args.meta_steps)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        points = 100 * (means["learned"] - means["real"])
        results[f"seed {seed}"] = {**found, "points": points}
        cells = [f"{means[n]:.4f} ± {np.std(found[n], ddof=1):.4f}" for n in ("learned", "real")]
        table.add_row(str(seed), *cells, f"{points:+.1f}")
    Console(width=150).print(table)
    print(write("reversible_digits", results))


if __name__ == "__main__":
    main()
