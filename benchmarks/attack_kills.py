"""Kills runs with SIGKILL at seeded moments, half of them twice, resumes them, and compares the bits of their ends.

    python benchmarks/faults.py --only kills

A try is a run of `distill-digits` that saves after every chunk, three in ten with a model that grows and shrinks. It is
killed in a process of its own, half of the resumed ones are killed, too, and the next process goes on to the end. One
process in five begins as users begin it and is killed after so many processor seconds, drawn over those of an
undisturbed one: imports included. The others are forked, and killed up to 20 ms after one of their operations on the
run's files, drawn over all: so most kills fall into a save. Compared are all leaves of the last checkpoint, with the
records of all rounds, and rounds.jsonl; `verify` must find no fault.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from attack import Found
from children import (
    Children,
    Strike,
    children,
    configs,
    ended_well,
    lines,
    pooled,
    send,
    undisturbed,
    words,
)
from children import underway as files_show

TRIES = 200
REAL = 5  # one process in so many is no forked one
REAL_SECONDS = 4.0  # of processor time at least, of an undisturbed one


def attack(tries: int, seed: int) -> Found:
    """So many killed and resumed runs."""
    began, place = time.monotonic(), Path(tempfile.mkdtemp(prefix="ev3x-kills-"))
    files, begun = configs(place), place / "begun"
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    with children(place / "undisturbed") as first:
        whole = {name: undisturbed(first, place / name, file) for name, file in files.items()}
        real = first.fork(begun, *words(begun, files["plain"]), begun=True).seconds if tries >= REAL else REAL_SECONDS
    assert any(b'"grow":' in row for row in lines(place / "growing")), "the model did not grow"

    def one(mine: Children, i: int) -> None:
        draws = np.random.default_rng([seed, i])
        name = "growing" if draws.random() < 0.3 else "plain"
        directory, (expected, touches) = place / f"try-{i}", whole[name]
        double = bool(draws.random() < 0.5)
        fell: list[str] = []
        while len(fell) <= double:
            forked = bool(fell) or i % REAL > 0
            command = words(directory, files[name])
            if forked:
                delay = float(draws.choice([0, draws.uniform(0, 0.02)]))
                most = touches if not fell else touches // 2
                ended = mine.fork(directory, *command, strike=Strike(KILL, int(draws.integers(most)) + 1, delay=delay))
            else:
                strike = Strike(KILL, after=float(draws.uniform(0, real)))
                ended = mine.fork(directory, *command, strike=strike, begun=True)
            if ended.code != -signal.SIGKILL:
                if fell or ended.code:  # a resumed run may have had less left to do
                    break
                shutil.rmtree(directory)
                continue
            fell.append(files_show(directory) + (" of a resumed run" if fell else "") + ("" if forked else ", begun"))
        last = mine.fork(directory, *words(directory, files[name]))
        fault = f"exit code {last.code}: {last.said}" if last.code else ended_well(directory, expected)
        how = f"{'double' if len(fell) > 1 else 'single'}{', growing' if name == 'growing' else ''}"
        counts[f"{how}: {'wrong' if fault else 'the same bits'}"] += 1
        kills.update(fell)
        print(f"kill {i}: {name}, {fell}: {fault or 'the same bits'}", file=sys.stderr, flush=True)
        if fault:
            wrong.append(f"try {i} ({name}, killed in {fell}): {fault}")
        else:
            shutil.rmtree(directory)

    pooled(one, tries, place)
    if not wrong:
        shutil.rmtree(place)
    saves = sum(n for what, n in kills.items() if what.startswith(("save", "removal", "rows")))
    figures = {"seconds": round(time.monotonic() - began), "kills": dict(kills), "kills while writing": saves}
    return Found("kills", tries, dict(counts), wrong, figures)


KILL = send(signal.SIGKILL)
