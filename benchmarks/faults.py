"""Damages the files of a run, one at a time at seeded places, and counts what is named, harmless, and silent.

    python benchmarks/faults.py --tries 2000

A small run of `distill-digits` is made once, with weights and a picture. Each try draws a kind of file, then a place in
its files uniformly, and does one damage: one flipped bit; every tenth try instead cuts the file, deletes it, or puts
another of the run in its place. Then the file is used, in this process, by what uses it: `load` for checkpoints (as
`resume`, `export` and `replay` do), `replay` for rows, summary and config; and `verify` looks at the whole directory.
Afterwards the file is put back.

    named      the use ended with an error or a difference
    harmless   every value that was read is the same, or the use reads no such file (weights, pictures, the manifest)
    on purpose the config says something else, but only what may be changed (limits, observers)
    verify     `verify` names this file
    SILENT     a changed value that the use does not name
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import tomllib
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measure import write

from ev3x import config
from ev3x.run import session
from ev3x.run.checkpoint import Saved, load
from ev3x.run.identity import FREE
from ev3x.run.manifest import verify
from ev3x.run.replay import replay

CONFIG = """
task = "distill-digits"
rounds = 4
[[propose]]
use = "trajectories"
length = 2
losses = ["labels"]
optimizers = [{ name = "sgd", learning_rate = 0.1 }]
[confirm]
use = "published"
block = 64
[select]
use = "mean_bounds"
block = 64
[[observe]]
use = "curve"
"""
OUTCOMES = ("named", "harmless", "on purpose", "verify", "SILENT")


def make(directory: Path) -> dict[str, list[Path]]:
    """The files of a new run by kind."""
    session.run(config.loads(CONFIG, "faults"), directory)
    session.export(directory)
    steps = sorted((directory / "checkpoints").iterdir(), key=lambda path: int(path.name))
    inside = {step: sorted(path for path in step.rglob("*") if path.is_file()) for step in steps}
    kinds = {
        "last checkpoint": [path for path in inside[steps[-1]] if "meta" not in path.parts],
        "its metadata": [path for path in inside[steps[-1]] if "meta" in path.parts],
        "older checkpoint": [path for step in steps[:-1] for path in inside[step]],
    }
    names = {"rows": "rounds.jsonl", "summary": "summary.json", "config": "config.toml", "weights": "weights.npz"}
    kinds |= {kind: [directory / name] for kind, name in names.items()}
    kinds |= {"pictures": sorted(directory.glob("*.png")), "manifest": [directory / "manifest.json"]}
    return {kind: files for kind, files in kinds.items() if files}


def damage(path: Path, others: list[Path], draws: np.random.Generator, flip: bool) -> str:
    """What was done to the file."""
    whole = bytearray(path.read_bytes())
    if flip and whole:
        bit = int(draws.integers(8 * len(whole)))
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        return f"bit {bit} flipped"
    what = draws.choice(["cut", "deleted", "swapped"])
    if what == "cut":
        path.write_bytes(whole[: int(draws.integers(len(whole) + 1))])
    elif what == "deleted":
        path.unlink()
    else:
        path.write_bytes(others[int(draws.integers(len(others)))].read_bytes())
    return str(what)


def values(saved: Saved | None) -> Any:
    """All that a checkpoint holds, for comparison."""
    if saved is None:
        return None
    trees = (saved.run, saved.plugins, saved.streams, saved.records)
    leaves = jax.tree_util.tree_leaves_with_path(trees)
    return [(jax.tree_util.keystr(p), str(np.asarray(x).dtype), np.asarray(x).tobytes()) for p, x in leaves], saved.meta


def used(kind: str, path: Path, directory: Path, whole: Any, before: bytes) -> str:
    """The outcome of using the file."""
    if kind in ("weights", "pictures", "manifest", "older checkpoint"):
        return "harmless"
    try:
        if "checkpoint" in kind or kind == "its metadata":
            return "harmless" if values(load(directory / "checkpoints")) == whole else "SILENT"
        if replay(config.load(directory / "config.toml"), directory).differences:
            return "named"
    except Exception as error:
        if not type(error).__module__.startswith("ev3x."):
            raise
        return "named"
    after = path.read_bytes() if path.exists() else b""
    if kind == "config":
        then, now = (tomllib.loads(text.decode()) for text in (before, after))
        changed = {name for name in {**then, **now} if then.get(name) != now.get(name)}
        return "harmless" if not changed else "on purpose" if changed <= FREE else "SILENT"
    return "harmless" if path.exists() and _parsed(before) == _parsed(after) else "SILENT"


def _parsed(text: bytes) -> list[Any]:
    lines = text.decode().splitlines() if text.startswith(b'{"round"') else [text.decode()]
    return [json.loads(line) for line in lines]


def main(tries: int, seed: int, seconds: float) -> None:
    """The table and the JSON of so many tries, or of those that fit into so many seconds."""
    warnings.simplefilter("ignore")
    place = Path(tempfile.mkdtemp(prefix="ev3x-faults-"))
    directory, draws = place / "run", np.random.default_rng(seed)
    kinds = make(directory)
    whole = values(load(directory / "checkpoints"))
    everything = sorted(path for files in kinds.values() for path in files)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    bad: list[dict[str, str]] = []
    began = time.monotonic()
    for i in range(tries):
        if time.monotonic() - began > seconds:
            break
        kind = str(draws.choice(list(kinds)))
        sizes = np.array([path.stat().st_size for path in kinds[kind]], float)
        path = kinds[kind][int(draws.choice(len(sizes), p=sizes / sizes.sum()))]
        before = path.read_bytes()
        what = damage(path, everything, draws, flip=i % 10 > 0)
        same = path.exists() and path.read_bytes() == before
        try:
            outcome = "harmless" if same else used(kind, path, directory, whole, before)
            name = str(path.relative_to(directory))
            told = same or any(fault.file == name for fault in verify(directory).faults)
        except Exception as error:
            outcome, told = "SILENT", False
            what += f": {type(error).__name__}: {error}"
        told = told or (kind == "manifest" and not path.exists())  # then `verify` says that there is none
        if outcome == "SILENT" or not told:
            bad.append({"file": str(path.relative_to(directory)), "damage": what, "outcome": outcome})
        counts[kind].update(["tries", outcome] + ["verify"] * told)
        path.write_bytes(before)
    done = sum(c["tries"] for c in counts.values())
    print(f"{'':18}{'tries':>8}" + "".join(f"{name:>12}" for name in OUTCOMES))
    for kind, count in counts.items():
        print(f"{kind:18}{count['tries']:8}" + "".join(f"{count[name]:12}" for name in OUTCOMES))
    print(f"{done} tries in {time.monotonic() - began:.0f} s, {len(bad)} bad")
    for one in bad[:10]:
        print(one)
    table = {kind: {name: count[name] for name in ("tries", *OUTCOMES)} for kind, count in counts.items()}
    write("faults", {"seed": seed, "tries": done, "kinds": table, "bad": bad})
    shutil.rmtree(place)
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Stop after so many.")
    main(**vars(parser.parse_args()))
