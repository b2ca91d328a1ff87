"""Replay: a saved run is derived again from its records, and its files are compared with them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ..core.observe import Row
from ..core.plan import Plan
from ..host.discovery import BUILTIN
from ..ops import native
from ..text import shown
from .blame import blaming
from .checkpoint import CheckpointError, of_run
from .directory import CHECKPOINTS, CONFIG, RunError, check_run, read_as_it_is, resuming
from .rederive import Derivation, Difference, history
from .rows import rows
from .setup import Setup
from .summary import Totals, versions

_NONE = "(not there)"


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
    saved = of_run(directory / CHECKPOINTS)
    if saved is None:
        raise RunError(
            f"{shown(directory)} ended before its first checkpoint, there is nothing to replay: "
            f"`{resuming(directory)}` starts it again"
        )
    try:
        with native.using("off" if setup.native == "off" else "auto"), blaming(setup):
            plan = Plan(setup.task, setup.method, setup.layout)
            derivation, records = Derivation(plan, setup.seed), history(plan, saved)
            derived = rows(plan, records) if records is not None else []
            for i in range(len(derived)):
                derivation.round(jax.tree.map(lambda x, i=i: x[i], records))
            derivation.end(saved)
    except native.NativeError as error:
        raise RunError(str(error)) from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {shown(directory / CONFIG)} must be as it was when the run began") from error
    lines, summary = read_as_it_is(directory)
    notes = [*derivation.notes, *_versions(setup, saved.meta["versions"])]
    if beyond := len(lines) - len(derived[: len(lines)]):
        which = f"round {len(derived)} is" if beyond == 1 else f"rounds {len(derived)} to {len(lines) - 1} are"
        notes.append(
            f"{which} in rounds.jsonl, but came after the last checkpoint: no evidence of them was saved; "
            f"`{resuming(directory)}` runs them again"
        )
    found = [*derivation.differences, *_rows(lines, derived), *_totals("checkpoint", saved.meta["totals"], derived)]
    found += _summary(summary, setup, derived, len(lines), notes)
    found.sort(key=lambda d: math.inf if d.round is None else d.round)
    return Replayed(len(derived), tuple(found), tuple(notes))


def _versions(setup: Setup, then: Mapping[str, str]) -> Iterator[str]:
    """A note when the run was made with other versions."""
    now = versions() | {p.distribution or p.value: p.version for p in setup.plugins if p.name != BUILTIN}
    if changed := [f"{n} {then.get(n)} -> {now.get(n)}" for n in {**then, **now} if then.get(n) != now.get(n)]:
        yield f"the run was made with other versions, which may be why values differ: {', '.join(changed)}"


def _rows(lines: Sequence[Any], derived: Sequence[Row]) -> Iterator[Difference]:
    """Where the rows of the file differ from those of the records."""
    for i, row in enumerate(derived):
        recorded = lines[i] if i < len(lines) else None
        for path, a, b in _apart("", recorded, json.loads(json.dumps(row))):
            yield Difference(i, f"rounds.jsonl: {path or 'the row'}", a, b)


def _totals(where: str, recorded: Mapping[str, Any], derived: Sequence[Row]) -> Iterator[Difference]:
    """Where totals differ from those of the rows; seconds are left out, because rows have none."""
    totals = dataclasses.asdict(Totals().plus(list(derived), 0.0))
    del totals["seconds"]
    for path, a, b in _apart("", {name: recorded.get(name) for name in totals}, totals):
        yield Difference(None, f"{where}: {path}", a, b)


def _summary(summary: Any, setup: Setup, derived: Sequence[Row], rounds: int, notes: list[str]) -> Iterator[Difference]:
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
    for name, value in (("task", setup.task_id), ("seed", setup.seed)):
        if summary.get(name) != value:
            yield Difference(None, f"summary.json: {name}", summary.get(name), value)
    yield from _totals("summary.json", summary, derived[:n])


def _apart(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the path, and the value of each there."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in {**a, **b}:
            yield from _apart(f"{path}.{name}".lstrip("."), a.get(name, _NONE), b.get(name, _NONE))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from _apart(f"{path}[{i}]", *pair)
    elif type(a) is not type(b) or a != b:
        yield path, a, b
