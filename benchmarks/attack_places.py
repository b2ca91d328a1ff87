"""Takes the place of a run away at seeded moments, brings it back, resumes the run, and compares the bits of its end.

    python benchmarks/faults.py --only places

A try is a run of `distill-digits` that saves after every chunk. From a drawn operation on its files on, its disk is
full, its quota is used up, the place gives errors or has no locks, its files may not be longer, or its directory is
renamed or removed. The process must end in words, or go on, without a traceback; it leaves no torn row, and nothing
where its directory was. Then the cause goes, and the run goes on to the same bits; a removed one begins again.

Full disks are small ones in memory where these can be mounted; other errors come from a preloaded library
(`failing_files.c`) where there is a compiler, and else from a hook of Python's, which reaches Python's operations only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    undisturbed,
    words,
)

TRIES = 60
DISK = 2**22  # bytes of a small disk
FOREVER = 2**60
# What fails, with which error.
FAULTS: dict[str, tuple[str, int]] = {
    "disk full": ("writes", errno.ENOSPC),
    "quota": ("writes", errno.EDQUOT),
    "EIO, writing": ("writes", errno.EIO),
    "EIO, once": ("all", errno.EIO),
    "EIO": ("all", errno.EIO),
    "ENOLCK": ("locks", errno.ENOLCK),
    "ENOTSUP": ("locks", errno.ENOTSUP),
}
KINDS = ("small disk", *FAULTS, "file size", "renamed", "removed")


def attack(tries: int, seed: int) -> Found:
    """So many runs whose place failed."""
    began, place = time.monotonic(), Path(tempfile.mkdtemp(prefix="ev3x-places-"))
    file = configs(place)["plain"]
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    with children(place / "undisturbed", failing=True) as first:
        expected, touches = undisturbed(first, place / "plain", file)
        operations = {kind: touches for kind in KINDS}
        if first.shim:
            for on in {on for on, _ in FAULTS.values()}:
                directory = place / f"counted-{on}"
                counting: dict[str, Any] = {"errno": 0, "on": on, "first": 0, "last": 0}
                seen = first.fork(directory, *words(directory, file), **counting).touches
                operations |= {kind: seen for kind, (which, _) in FAULTS.items() if which == on}
    longest = max(path.stat().st_size for path in (place / "plain").rglob("*") if path.is_file())

    def one(mine: Children, i: int) -> None:
        draws, kind = np.random.default_rng([seed, i]), KINDS[i % len(KINDS)]
        with _disk(place / f"try-{i}", kind) as (home, mounted):
            directory = home / "run"
            moment = int(draws.integers(operations[kind])) + 1
            gone, strike = home / "gone", None
            bent: dict[str, Any] = {}
            if kind in FAULTS:
                last = moment + 1 if kind == "EIO, once" else FOREVER
                on, number = FAULTS[kind]
                first = 1 if on == "locks" and draws.random() < 0.5 else moment
                bent = {"errno": number, "on": on, "first": first, "last": last}
            elif kind == "file size":
                bent = {"longest": int(draws.integers(longest))}
            elif kind == "small disk" and not mounted:
                bent = {"errno": errno.ENOSPC, "on": "writes", "first": moment, "last": FOREVER}
            else:
                left = int(draws.integers(3)) * 4096
                act = _fill(home, left) if kind == "small disk" else _take(directory, gone)
                strike = Strike(act, touch=moment)
            ended = mine.fork(directory, *words(directory, file), strike=strike, **bent)
            faults = _while_it_lasts(ended, directory, away=kind in ("renamed", "removed") and ended.struck)
            (home / "ballast").unlink(missing_ok=True)
            if gone.exists():
                if kind == "renamed" and not directory.exists():
                    gone.rename(directory)
                shutil.rmtree(gone, ignore_errors=True)
            went_on = ended.code == 0 and directory.exists()
            last_one = ended if went_on else mine.fork(directory, *words(directory, file))
            if last_one.code:
                faults.append(f"not resumed: exit code {last_one.code}: {last_one.said}")
            elif fault := ended_well(directory, expected):
                faults.append(fault)
        what = "went on" if ended.code == 0 else "ended in words" if ended.code == 2 else f"exit code {ended.code}"
        counts[f"{kind}: {what}"] += 1
        print(f"place {i}: {kind}, {what}: {faults or 'the same bits'}", file=sys.stderr, flush=True)
        if faults:
            where = {k: v for k, v in bent.items() if v != FOREVER} or f"at operation {moment}"
            wrong.append(f"try {i} ({kind}, {where}): {'; '.join(faults)}")

    pooled(one, tries, place, failing=True)
    if not wrong:
        shutil.rmtree(place)
    by = {"small disks": os.geteuid() == 0, "preloaded library": bool(first.shim)}
    return Found("places", tries, dict(counts), wrong, {"seconds": round(time.monotonic() - began), **by})


def _while_it_lasts(ended: Ended, directory: Path, away: bool) -> list[str]:
    """What is wrong with how a process ended whose place failed."""
    faults = []
    if "Traceback" in ended.said or ended.code not in (0, 2):
        faults.append(f"exit code {ended.code}: {ended.said}")
    elif ended.code and not ended.said.strip():
        faults.append("it ended without a word")
    if away and directory.exists():
        faults.append(f"came back: {sorted(str(path) for path in directory.rglob('*'))[:5]}")
    for row in lines(directory):
        try:
            assert row.endswith(b"\n")
            json.loads(row)
        except (AssertionError, ValueError):
            faults.append(f"torn row: {row[:80]!r}")
    return faults


def _fill(home: Path, left: int) -> Callable[[int], None]:
    """Fills the disk but for some bytes."""

    def fill(pid: int) -> None:
        with contextlib.suppress(OSError), open(home / "ballast", "wb", buffering=0) as file:
            free = os.statvfs(home)
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - left)))

    return fill


def _take(directory: Path, to: Path) -> Callable[[int], None]:
    """Moves the directory away, at one stroke."""

    def take(pid: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            directory.rename(to)

    return take


@contextlib.contextmanager
def _disk(home: Path, kind: str) -> Iterator[tuple[Path, bool]]:
    """A folder for a try, on a small disk of its own if the kind is such and this process may mount it; whether."""
    home.mkdir()
    command: list[Any] = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", home]
    mounted = False
    if kind == "small disk":
        with contextlib.suppress(OSError):
            mounted = subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield home, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", home], check=True)
