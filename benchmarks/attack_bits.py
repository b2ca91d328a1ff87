"""The same seed and config in processes with one and with two threads, with and without a compile cache: the same bits.

    python benchmarks/attack_bits.py [--tries 4] [--seed 0]

Each try is a process of its own that runs `distill-digits` with a network wide enough for XLA to share out its loops
and products. The four cases: one thread and two, without a cache; one that fills a cache, and two that read what it
compiled (for one thread). XLA's CPU client makes as many threads as the process may use processors, so a case is its
affinity; PJRT_NPROC says the same where there is one processor, or no affinity. The process counts its threads: where
both numbers gave as many, nothing was tried. Compared are all leaves of the last checkpoint, the records of all rounds,
and rounds.jsonl. More than four tries go on with the next seed.

Other instruction sets give other last bits: docs/native.md says which.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from attack import Found

TRIES = 4
CASES = {  # threads, and whether there is a cache
    "one thread": (1, False),
    "two threads": (2, False),
    "one thread fills a cache": (1, True),
    "two threads read it": (2, True),
}
CACHE = "JAX_COMPILATION_CACHE_DIR"
CONFIG = """
seed = {seed}
task = {{ use = "distill-digits", hidden = [512], batch_size = 256 }}
rounds = 6
[[propose]]
use = "trajectories"
length = 4
losses = ["labels"]
optimizers = [{{ name = "sgd", learning_rate = 0.1 }}, {{ name = "adam", learning_rate = 0.003 }}]
[confirm]
use = "published"
block = 64
[select]
use = "mean_bounds"
block = 256
"""


def attack(tries: int, seed: int) -> Found:
    """How many processes ended in the bits of the first of their seed."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    figures: dict[str, Any] = {}
    threads: dict[int, set[int]] = {1: set(), 2: set()}
    with tempfile.TemporaryDirectory(prefix="ev3x-bits-") as folder:
        for i in range(tries):
            (case, (number, cached)), its_seed = list(CASES.items())[i % len(CASES)], seed + i // len(CASES)
            place = Path(folder) / str(i)
            cache = Path(folder) / f"cache-{its_seed}" if cached else None
            found = ended(place, number, its_seed, cache)
            name = f"{case}, seed {its_seed}"
            figures[name] = found
            if "digest" not in found:
                wrong.append(f"{name}: {found['error']}")
                continue
            threads[number].add(found["threads"])
            first = next(figure for other, figure in figures.items() if other.endswith(f", seed {its_seed}"))
            same = found["digest"] == first.get("digest")
            counts["the same bits" if same else "OTHER BITS"] += 1
            if not same:
                wrong.append(f"{name}: other bits than the first of this seed")
            if cached and not any(cache.iterdir() if cache and cache.exists() else ()):
                wrong.append(f"{name}: nothing is in the cache")
    if shared := (threads[1] & threads[2]) - {0}:  # 0: a jaxlib that names them otherwise
        wrong.append(f"one and two threads: both processes have {shared} threads, so nothing was compared")
    return Found("bits", tries, dict(counts), wrong, figures)


def ended(place: Path, threads: int, seed: int, cache: Path | None) -> dict[str, Any]:
    """What the process of one case says of its end."""
    # Without PYTHONSAFEPATH, which tests set, the child finds the modules beside this one.
    environment = {name: value for name, value in os.environ.items() if name not in (CACHE, "PYTHONSAFEPATH")}
    if cache is not None:
        environment |= {
            CACHE: str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    command = [sys.executable, __file__, "--child", str(place), "--threads", str(threads), "--seed", str(seed)]
    environment |= {"PJRT_NPROC": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        return {"error": f"ended with {done.returncode}: {done.stderr[-500:]}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run(place: Path, threads: int, seed: int) -> dict[str, Any]:
    """A run in this process, on so many processors: the digest of its end, its verdicts, and XLA's threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from ev3x import wrong_sums

    wrong_sums.spare()  # before JAX starts, as the command line does
    from children import digest

    from ev3x import config
    from ev3x.run import session

    summary = session.run(config.loads(CONFIG.format(seed=seed), "bits"), place)
    names = [path.read_text(encoding="utf-8") for path in Path("/proc/self/task").glob("*/comm")]
    threads = sum("XLAEigen" in name for name in names)  # others come and go with compiling
    return {"digest": digest(place), "promotions": summary["promotions"], "threads": threads}


def main() -> None:
    """The outcome as JSON, or as a child that of one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run(given.child, given.threads, given.seed)))
        return
    found = attack(given.tries, given.seed)
    print(json.dumps(dataclasses.asdict(found), indent=2))
    raise SystemExit(bool(found.wrong))


if __name__ == "__main__":
    main()
