"""Kills a run of distill-mnist1d with SIGKILL at seeded uniform times, resumes it, and compares the bits of its end.

    python benchmarks/kills.py

Every run is one process of its own, killed once at a time drawn from the whole length of an undisturbed run (imports
and compilation included), then resumed by a second process. Times are those of the process, its processor seconds:
on a machine with other work, wall time would put most kills into the start. Every run saves after every chunk of
rounds, so that many kills fall into a save. Compared are all leaves of the last checkpoint, with the records of all
rounds, and rounds.jsonl.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from measure import write

import ev3x
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D
from ev3x.core.observe import Limits
from ev3x.run import session
from ev3x.run.checkpoint import load
from ev3x.run.setup import Setup

CHUNK_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Kill:
    """What became of one killed and resumed run."""

    after: float  # processor seconds of the process
    wall: float  # seconds since its start
    stood_at: int | None  # the round of the last checkpoint, None before the first
    noted: int  # rows in rounds.jsonl
    during: str  # what was being written
    same: bool

    def __str__(self) -> str:
        where = "before any checkpoint" if self.stood_at is None else f"checkpoint at {self.stood_at}"
        return (
            f"killed after {self.after:5.1f} s ({self.wall:5.1f} s of wall)  {self.noted:3} rounds noted  {where}  "
            f"{self.during or 'rounds'}  {'same bits' if self.same else 'DIFFERENT'}"
        )


def setup(rounds: int) -> Setup:
    """Two losses × two optimizers, as `ev3x run` does it, saved after every chunk."""
    optimizers = [ev3x.Optimizer("adamw", learning_rate=1e-3), ev3x.Optimizer("sgd", learning_rate=0.1, momentum=0.9)]
    ids = {"trajectories": "ev3:trajectories", "promote": "ev3:promote", "budget": "ev3:over_run"}
    return Setup(
        task_id="ev3:distill-mnist1d",
        task=DistillMnist1D(),
        method=ev3x.methods.ev3(["kl", "labels"], optimizers),
        layout=ev3x.Layout(),
        limits=Limits(rounds=rounds),
        seed=0,
        observers=(),
        ids=ids,
        save_every=0.0,
        config="# built by benchmarks/kills.py\n",
    )


def work(directory: Path, rounds: int) -> None:
    """Run, or go on with, the run in this directory."""
    session.CHUNK_SECONDS = CHUNK_SECONDS
    begin = session.resume if (directory / "config.toml").exists() else session.run
    begin(setup(rounds), directory)


def start(directory: Path, rounds: int) -> subprocess.Popen[bytes]:
    """A process that does the work."""
    command = [sys.executable, __file__, "--rounds", str(rounds), "--work", str(directory)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def finish(directory: Path, rounds: int) -> tuple[float, float]:
    """Work to the end; the seconds and processor seconds that it took."""
    began = time.monotonic()
    _, status, used = os.wait4(start(directory, rounds).pid, 0)
    if status:
        raise RuntimeError(f"{directory}: exit code {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def used(pid: int) -> float:
    """The processor seconds that a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def digest(directory: Path) -> str:
    """A hash of where a run ended: every leaf of its last checkpoint, and its rows."""
    saved = load(directory / "checkpoints")
    assert saved is not None
    found = hashlib.sha256((directory / "rounds.jsonl").read_bytes())
    trees = (saved.run, saved.plugins, saved.streams, saved.records)
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def kill(directory: Path, rounds: int, after: float, expected: str) -> Kill | None:
    """Kill a run after so many processor seconds and resume it; None when it had ended before."""
    process, began = start(directory, rounds), time.monotonic()
    while process.poll() is None and used(process.pid) < after:
        time.sleep(0.005)
    wall = time.monotonic() - began
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return None
    steps = sorted(int(path.name) for path in directory.glob("checkpoints/*") if path.name.isdecimal())
    rows = directory / "rounds.jsonl"
    noted = rows.read_text(encoding="utf-8").count("\n") if rows.exists() else 0
    during = _during(directory, steps)
    finish(directory, rounds)
    return Kill(
        round(after, 2), round(wall, 2), steps[-1] if steps else None, noted, during, digest(directory) == expected
    )


def _during(directory: Path, steps: list[int]) -> str:
    if any(directory.glob("checkpoints/*tmp*")):
        return "save"
    if len(steps) > 2:
        return "removal of an old checkpoint"
    return "" if steps else "start"


def main(kills: int, rounds: int, seed: int) -> None:
    """Undisturbed runs, then the killed ones, two at a time."""
    place = Path(tempfile.mkdtemp(prefix="ev3x-kills-"))
    draws = np.random.default_rng(seed)
    with ThreadPoolExecutor(2) as pool:
        whole = [place / "whole-0", place / "whole-1"]
        took = list(pool.map(lambda path: finish(path, rounds), whole))
        expected = digest(whole[0])
        print(f"undisturbed: {rounds} rounds in {took[0][0]:.1f} and {took[1][0]:.1f} s", flush=True)
        if digest(whole[1]) != expected:
            raise SystemExit("two undisturbed runs differ")
        found: list[Kill] = []
        for batch in itertools.count():
            times = draws.uniform(0, min(own for _, own in took), min(2, kills - len(found)))
            paths = [place / f"{batch}-{i}" for i in range(len(times))]
            for one in pool.map(lambda path, t: kill(path, rounds, t, expected), paths, times.tolist()):
                if one is not None:
                    found.append(one)
                    print(f"{len(found):3}  {one}", flush=True)
            for path in paths:
                shutil.rmtree(path, ignore_errors=True)
            if len(found) == kills:
                break
    same, saves = sum(k.same for k in found), sum(k.during not in ("", "start") for k in found)
    print(f"{same} of {kills} resumed runs end in the same bits; {saves} of the kills fell into a save")
    write(
        "kills",
        {
            "rounds": rounds,
            "seed": seed,
            "undisturbed_seconds": [round(wall, 1) for wall, _ in took],
            "undisturbed_processor_seconds": [round(own, 1) for _, own in took],
            "same": same,
            "during_a_save": saves,
            "kills": [dataclasses.asdict(k) for k in found],
        },
    )
    shutil.rmtree(place)
    raise SystemExit(same < kills)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.rounds)
    else:
        main(given.kills, given.rounds, given.seed)
