"""Native code against the definition: the seconds of `selection_shares`, compiled, on one machine.

    python benchmarks/shares.py [--repeats 20] [--out benchmarks/shares.json]

K candidates on n cases, 1024 tournaments. "binary" scores are right with chances from 0.6 to 0.95, as of candidates of
several strengths; "real" ones are normal. Both are called in turn, after one call each that compiles, and must give the
same bits. Prints medians and the middle half of the repeats in milliseconds, and writes them as JSON.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ev3x_lexicase import selection_shares

import ev3x

SIZES = ((8, 300), (32, 1024), (128, 2048), (512, 2048))
TOURNAMENTS = 1024
MODES: dict[str, ev3x.ops.native.Mode] = {"native": "require", "definition": "off"}
Call = Callable[[np.ndarray, np.ndarray], jax.Array]


def compiled(native: ev3x.ops.native.Mode, epsilon: float | None, *operands: np.ndarray) -> Call:
    """The operation, traced with native code or without."""
    run = jax.jit(functools.partial(selection_shares, tournaments=TOURNAMENTS, epsilon=epsilon))
    with ev3x.ops.native.using(native):
        return run.lower(*operands).compile()


def milliseconds(call: Call, *operands: np.ndarray) -> float:
    """Of one call."""
    start = time.perf_counter()
    call(*operands).block_until_ready()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    ev3x.Host().load("lexicase")
    rng, rows = np.random.default_rng(0), []
    print("    K     n  scores  epsilon       native          definition      ratio")
    for k, n in SIZES:
        chance = np.linspace(0.6, 0.95, k)[:, None]
        kinds = {"binary": rng.random((k, n)) < chance, "real": rng.normal(size=(k, n))}
        for kind, scores in kinds.items():
            for epsilon in (0.0,) if kind == "binary" else (0.0, None):
                operands = (scores.astype(np.float32), np.array([1, 2], np.uint32))
                calls = {name: compiled(mode, epsilon, *operands) for name, mode in MODES.items()}
                np.testing.assert_array_equal(calls["native"](*operands), calls["definition"](*operands))
                times = [
                    {name: milliseconds(call, *operands) for name, call in calls.items()} for _ in range(args.repeats)
                ]
                quartiles = {name: np.quantile([t[name] for t in times], [0.25, 0.5, 0.75]).round(4) for name in calls}
                ratio = quartiles["definition"][1] / quartiles["native"][1]
                cells = ("{1:7.2f} ({0:.2f}-{2:.2f})".format(*quartiles[name]) for name in calls)
                print(
                    f"{k:5d} {n:5d}  {kind:6s}  {'MAD' if epsilon is None else epsilon!s:7s}", *cells, f"{ratio:6.1f}"
                )
                each = {
                    name: dict(zip(("q25", "median", "q75"), map(float, q), strict=True))
                    for name, q in quartiles.items()
                }
                rows.append({"k": k, "n": n, "scores": kind, "epsilon": epsilon, "ms": each, "ratio": float(ratio)})
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in ("ev3x", "ev3x-lexicase", "jax", "jaxlib")},
        "tournaments": TOURNAMENTS,
        "repeats": args.repeats,
    }
    args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
