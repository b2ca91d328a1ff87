"""What a check is, and how those of a component are run: one after another, one fault under one name."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..component import unknown
from .report import ConformanceError, Finding, Report

HERE = Path(__file__).parent


class Unmet(Exception):
    """What a check expected, what it got, and what to do about it."""

    def __init__(self, expected: str, got: object, do: str) -> None:
        super().__init__(f"expected {expected}; got {' '.join(str(got).split())}; {do}")


class NothingToCheck(Exception):
    """Why there is nothing to check in this component."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One demand: `run(bench)` raises `Unmet` when it is not met, and may return a note for the report.

    Those named in `after` come first: when one of them failed, this one is not run.
    """

    run: Callable[[Any], str | None]
    after: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name that reports and excuses use: that of the function."""
        return self.run.__name__

    @property
    def demand(self) -> str:
        """What it demands and why: the docstring of the function, on one line."""
        return " ".join((inspect.getdoc(self.run) or "").split())


def check(*after: str) -> Callable[[Callable[[Any], str | None]], Check]:
    """The check made of a function, which is run unless one of these failed."""
    return lambda run: Check(run, after)


def demand(met: object, expected: str, got: object, do: str) -> None:
    """Raise Unmet unless the demand is met."""
    if not met:
        raise Unmet(expected, got, do)


def run(bench: Any, checks: Sequence[Check], least: int, excuse: Mapping[str, str]) -> Report:
    """The report on a component whose checks all passed or are excused; ConformanceError otherwise.

    The excuses are checked first: ValueError for a name that no check has, and for an empty reason.
    """
    names = [c.name for c in checks]
    for name, reason in excuse.items():
        if name not in names:
            raise ValueError(f"excuse: {unknown('check', name, names)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"excuse: {name!r} needs a reason in words, got {reason!r}")
    records: dict[str, Finding] = {}
    try:
        for one in checks:
            records[one.name] = _record(one, bench, records, excuse)
    finally:
        bench.before.restore()
    report = Report(bench.role, type(bench.component).__name__, tuple(records.values()))
    faults = [f"  {r.name}: {r.detail}" for r in report.having("failed")]
    if not faults and report.ran < least:
        faults = [f"  only {report.ran} of {len(checks)} checks ran, at least {least} must: excuse fewer"]
    if faults:
        blocked = [r.name for r in report.having("blocked")]
        more = [f"  not run before that is mended: {', '.join(blocked)}"] if blocked else []
        head = f"{bench.role} {report.component} does not keep the contract ({report.ran} of {len(checks)} checks ran):"
        raise ConformanceError(report, "\n".join([head, *faults, *more]))
    print(report, flush=True)
    return report


def _record(one: Check, bench: Any, records: Mapping[str, Finding], excuse: Mapping[str, str]) -> Finding:
    if one.name in excuse:
        return Finding(one.name, "excused", excuse[one.name].strip())
    broken = [a for a in one.after if a in records and records[a].status in ("failed", "blocked")]
    if broken:
        return Finding(one.name, "blocked", f"after {broken[0]}")
    try:
        note = one.run(bench)
    except Unmet as unmet:
        return Finding(one.name, "failed", str(unmet))
    except NothingToCheck as reason:
        return Finding(one.name, "excused", str(reason))
    except Exception as error:
        logging.getLogger("ev3x.faults").debug("check %s", one.name, exc_info=error)
        return Finding(one.name, "failed", f"expected no exception; got {_told(error)}; mend what raises it")
    return Finding(one.name, "passed", note or "")


def _told(error: Exception) -> str:
    """The exception in a line, with the last place outside the kit that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    outside = [f for f in own if not Path(f.filename).is_relative_to(HERE)] or own
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text} ({Path(outside[-1].filename).name}, line {outside[-1].lineno})"
