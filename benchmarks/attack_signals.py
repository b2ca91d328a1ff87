"""Sends SIGINT, SIGTERM and SIGHUP to runs at seeded moments, once and twice, resumes them, and compares their ends.

    python benchmarks/faults.py --only signals

A try is a run of `distill-digits` that saves after every chunk, one in four with a model that grows. One in three
begins as users begin it, and is sent the signal after so many processor seconds, drawn over those of an undisturbed
one: start and imports included. The others are forked: the signal comes at one of their operations on the run's files,
or after so many processor seconds, compilation included. Half of them get a second one, of any kind, up to .3 s later.
The exit code, as a shell shows it, must be 128 + a number that was sent (0 for a run that had ended), without a
traceback; after one signal every row is in the last checkpoint; and the resumed run comes to the same bits.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from attack import Found
from children import (
    Children,
    Ended,
    Strike,
    children,
    configs,
    ended_well,
    lines,
    pooled,
    steps,
    undisturbed,
    words,
)

TRIES = 60
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def attack(tries: int, seed: int) -> Found:
    """So many runs that got signals."""
    began, place = time.monotonic(), Path(tempfile.mkdtemp(prefix="ev3x-signals-"))
    files, again, begun = configs(place), place / "again", place / "begun"
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    with children(place / "undisturbed") as first:
        whole = {name: undisturbed(first, place / name, file) for name, file in files.items()}
        took = first.fork(again, *words(again, files["plain"])).seconds
        real = first.fork(begun, *words(begun, files["plain"]), begun=True).seconds

    def one(mine: Children, i: int) -> None:
        draws = np.random.default_rng([seed, i])
        name = "growing" if draws.random() < 0.25 else "plain"
        directory, (expected, touches) = place / f"try-{i}", whole[name]
        sent = [NUMBERS[i // 3 % 3], *([NUMBERS[draws.integers(3)]] if draws.random() < 0.5 else [])]
        act = _send(sent, float(draws.uniform(0, 0.3)))
        command = words(directory, files[name])
        if i % 3 == 0:
            strike = Strike(act, after=float(draws.uniform(0, real)))
            ended = mine.fork(directory, *command, strike=strike, begun=True)
        elif draws.random() < 0.5:
            ended = mine.fork(directory, *command, strike=Strike(act, after=float(draws.uniform(0, took))))
        else:
            ended = mine.fork(directory, *command, strike=Strike(act, touch=int(draws.integers(touches)) + 1))
        outcome = _outcome(directory)
        at = steps(directory)[-1:] or [0]
        rounds = len(lines(directory))
        starting = ended.code < 0 and not (directory / "config.toml").exists()
        faults = _wrong(ended, sent, outcome, starting)
        if len(sent) == 1 and ended.struck and rounds > at[0]:
            faults.append(f"{rounds} rows, checkpoint at {at[0]}")
        if outcome != "finished":
            last = mine.fork(directory, *words(directory, files[name]))
            if last.code:
                faults.append(f"not resumed: exit code {last.code}: {last.said}")
        if not faults and (fault := ended_well(directory, expected)):
            faults.append(fault)
        before = "while Python starts" if starting else "before the first round"
        when = "had ended" if ended.shell == 0 else "rounds" if rounds else before
        counts[f"{'twice' if len(sent) > 1 else 'once'}: {when}{', begun' if i % 3 == 0 else ''}"] += 1
        print(f"signal {i}: {[n.name for n in sent]}, {when}: {faults or 'the same bits'}", file=sys.stderr, flush=True)
        if faults:
            wrong.append(
                f"try {i} ({name}, {'begun' if i % 3 == 0 else 'forked'}, {sent}, {when}): {'; '.join(faults)}"
            )
        else:
            shutil.rmtree(directory)

    pooled(one, tries, place)
    if not wrong:
        shutil.rmtree(place)
    return Found("signals", tries, dict(counts), wrong, {"seconds": round(time.monotonic() - began)})


def _wrong(ended: Ended, sent: list[signal.Signals], outcome: str, starting: bool) -> list[str]:
    """What is wrong with how a process ended that got these signals; while it starts, Python tells of SIGINT itself."""
    faults = []
    came_too_late = ended.shell == 0 and outcome == "finished"
    if ended.struck and not came_too_late and ended.shell not in [128 + number for number in sent]:
        faults.append(f"exit code {ended.shell} ({outcome or 'no summary'}): {ended.said}")
    if "Traceback" in ended.said and not (starting and ended.said.endswith("KeyboardInterrupt\n")):
        faults.append(f"traceback: {ended.said}")
    return faults


def _outcome(directory: Path) -> str:
    """How the run ended, as its summary says; empty when there is none."""
    summary = directory / "summary.json"
    if not summary.exists():
        return ""
    return str(json.loads(summary.read_text(encoding="utf-8"))["outcome"])


def _send(numbers: list[signal.Signals], gap: float) -> Callable[[int], None]:
    """Sends these signals, so many seconds one after the other."""

    def send(pid: int) -> None:
        for i, number in enumerate(numbers):
            if i:
                time.sleep(gap)
            os.kill(pid, number)  # it was not waited for: the id is still its own

    return send
