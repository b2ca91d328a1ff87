"""Replay: a saved run is derived again from its records, and its files are compared with them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import jax

from ..core.observe import Row
from ..core.plan import Method, Plan
from ..ops import native
from ..text import shown
from .blame import blaming
from .checkpoint import CheckpointError, Saved, of_run
from .directory import (
    CHECKPOINTS,
    CONFIG,
    ROUNDS,
    SUMMARY,
    RunError,
    check_run,
    count_lines,
    resuming,
    rows_as_they_are,
    summary_as_it_is,
)
from .identity import NONE, another, apart, identity, said
from .manifest import altered, sealed
from .rederive import Derivation, Difference, history
from .rows import rows
from .setup import Setup
from .sizes import of_state
from .summary import READ_AGAIN, Totals, holdout, of_records, promise

ROWS = 100  # after the last that was derived, which are told one by one


@dataclasses.dataclass(frozen=True)
class Replayed:
    """How many rounds were derived again, which values differ, and in `notes` what could not be derived."""

    rounds: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def replay(setup: Setup, directory: Path) -> Replayed:
    """The findings of deriving a run again, up to its last checkpoint. Loads no data and writes nothing.

    Integers and truth values must be equal, floats to a relative 1e-5, because another program or another machine may
    round in another way. The files must hold exactly what the records say. Raises RunError for a directory without a
    run or without a checkpoint, and CheckpointError where the records cannot come from this configuration.
    """
    check_run(directory)
    with _derives(setup):
        plan = Plan(setup.task, setup.method, setup.layout)
        size = of_state(plan)
    saved = of_run(directory / CHECKPOINTS, size)
    if saved is None:
        raise RunError(
            f"{shown(directory)} ended before its first checkpoint, there is nothing to replay: "
            f"`{resuming(directory)}` starts it again"
        )
    try:
        with _derives(setup):
            derivation, records = Derivation(plan, setup.seed), history(plan, saved)
            derived = rows(plan, records) if records is not None else []
            for i in range(len(derived)):
                derivation.round(jax.tree.map(lambda x, i=i: x[i], records))
            derivation.end(saved)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {shown(directory / CONFIG)} must be as it was when the run began") from error
    lines, count, summary = rows_as_they_are(directory), count_lines(directory), summary_as_it_is(directory)
    now = identity(setup, saved.meta["data"])  # no data are loaded
    notes = [*derivation.notes, *_versions(saved.meta["versions"], now["versions"])]
    notes += [f"changed on purpose {change}" for change in saved.meta["changes"]]
    n = len(derived)
    differ = list(_rows(lines, derived))
    if count > n and not sealed(directory):
        which = f"round {n} is" if count == n + 1 else f"rounds {n} to {count - 1} are"
        notes.append(
            f"{which} in rounds.jsonl, but came after the last checkpoint: no evidence of them was saved; "
            f"`{resuming(directory)}` runs them again"
        )
    elif count > n:
        differ += [
            Difference(i, "rounds.jsonl: the row", said(row), None) for i, row in enumerate(islice(lines, ROWS), n)
        ]
        if more := max(0, count - n - ROWS):
            differ.append(Difference(n + ROWS, f"rounds.jsonl: the row, and {more - 1:,} after it", "there", None))
    found = [Difference(None, f"{CONFIG}: {path}", a, b) for path, a, b in another(saved.meta, now)]
    found += [*derivation.differences, *differ, *_totals("checkpoint", saved.meta["totals"], derived)]
    if summary is not None or not sealed(directory):  # else it is altered
        found += _summary(summary, setup, saved, derived, count, notes)
    for name in altered(directory, (ROUNDS, SUMMARY)):  # what replay takes as given may differ, too
        if not any(difference.what.startswith(name) for difference in found):
            found.append(Difference(None, name, "altered or gone", "as the run left it"))
    found.sort(key=lambda d: math.inf if d.round is None else d.round)
    return Replayed(len(derived), tuple(found), tuple(notes))


@contextmanager
def _derives(setup: Setup) -> Iterator[None]:
    """Traces the body as the setup says, with native code where there is any; its faults are told with their owner."""
    try:
        with native.using("off" if setup.native == "off" else "auto"), blaming(setup):
            yield
    except native.NativeError as error:
        raise RunError(str(error)) from error


def _versions(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """A note when the run was made with other versions."""
    if changed := [f"{n} {then.get(n)} -> {now.get(n)}" for n in {**then, **now} if then.get(n) != now.get(n)]:
        yield f"the run was made with other versions, which may be why values differ: {', '.join(changed)}"


def _rows(lines: Iterator[Any], derived: Sequence[Row]) -> Iterator[Difference]:
    """Where the rows of the file differ from those of the records; takes so many lines."""
    for i, row in enumerate(derived):
        recorded = next(lines, None)
        for path, a, b in apart("", recorded, json.loads(json.dumps(row))):
            yield Difference(i, f"rounds.jsonl: {path or 'the row'}", a, b)


def _totals(where: str, recorded: Mapping[str, Any], derived: Sequence[Row]) -> Iterator[Difference]:
    """Where totals differ from those of the rows; seconds are left out, because rows have none."""
    totals = dataclasses.asdict(Totals().plus(list(derived), 0.0))
    del totals["seconds"]
    for path, a, b in apart("", {name: recorded.get(name) for name in totals}, totals):
        yield Difference(None, f"{where}: {path}", a, b)


def _summary(
    summary: Any, setup: Setup, saved: Saved, derived: Sequence[Row], rounds: int, notes: list[str]
) -> Iterator[Difference]:
    """Where the summary differs from its rounds; `notes` gets what cannot be compared."""
    if summary is None:
        notes.append("summary.json is not there: the run was killed, or is under way")
        return
    if not isinstance(summary, dict) or not isinstance(summary.get("rounds"), int):
        yield Difference(None, "summary.json", summary, "a summary of the run")
        return
    n = summary["rounds"]
    if len(derived) < n <= rounds:
        notes.append(f"summary.json is of {n} rounds, more than the last checkpoint has: it was not compared")
        return
    if not 0 <= n <= len(derived):
        yield Difference(None, "summary.json: rounds", n, len(derived))
        return
    if n < len(derived):
        notes.append(f"summary.json is of an earlier end, after {n} rounds: the run went on, and was killed or goes on")
    made = json.loads(json.dumps(_follows(summary, setup, saved, derived[:n], whole=n == len(derived))))
    recorded = {name: summary.get(name, NONE) for name in made}
    if isinstance(recorded["holdout"], dict):
        made["holdout"] = {"size": recorded["holdout"].get("size", NONE)} | made["holdout"]  # it follows from the data
    for path, a, b in apart("", recorded, made):
        yield Difference(None, f"summary.json: {path}", a, b)


def _follows(
    summary: Mapping[str, Any], setup: Setup, saved: Saved, derived: Sequence[Row], *, whole: bool
) -> dict[str, Any]:
    """What this summary of these rounds must hold; `whole`: they are all that the checkpoint has."""
    made = of_records(setup, derived, Totals().plus(list(derived), saved.meta["totals"]["seconds"]))
    if whole:
        sizes = [x.size for path, x in saved.incumbent().items() if path.partition("/")[0] == "params"]
        made["parameters"] = sum(sizes)
    else:
        del made["seconds"]
    made["promise"] = _promise(summary, setup.method, derived)
    return made | {"holdout": {name: x for name, x in holdout(None, derived).items() if name != "size"}}


def _promise(summary: Mapping[str, Any], method: Method, derived: Sequence[Row]) -> str:
    """The promise of these rounds. Whether examples may be read again follows from data; if some were, it says so."""
    words, split = promise(method, None), summary.get("holdout")
    finite = isinstance(split, dict) and split.get("size") is not None
    again = summary.get("promise") == words + READ_AGAIN or any(row["confirm"]["uses"] for row in derived)
    return words + READ_AGAIN if finite and again and method.confirm.promise < 1 else words
