"""What a check is, and how those of a component are tried: each once, after those that it builds on."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..component import unknown
from ..core.contract import BoundaryError
from ..host.faults import remedy
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

    Those named in `after` come first: when one of them failed, this one is not run. The quick tier leaves out what is
    `long`: child processes and simulations.
    """

    run: Callable[[Any], str | None]
    after: tuple[str, ...]
    long: bool = False

    @property
    def name(self) -> str:
        """The name that reports and excuses use: that of the function."""
        return self.run.__name__

    @property
    def demand(self) -> str:
        """What it demands and why: the docstring of the function, on one line."""
        return " ".join((inspect.getdoc(self.run) or "").split())


def check(*after: str, long: bool = False) -> Callable[[Callable[[Any], str | None]], Check]:
    """The check made of a function, which is run unless one of these failed."""
    return lambda run: Check(run, after, long)


def demand(met: object, expected: str, got: object, do: str) -> None:
    """Raise Unmet unless the demand is met."""
    if not met:
        raise Unmet(expected, got, do)


class Trial:
    """One component on its bench: what became of each check, which is run when it is asked for, and once.

    What the checks share is compiled once. `make` puts the component on the bench; `least` is how many checks must run,
    whatever is excused. ValueError for an excuse that no check has, or that gives no reason.
    """

    def __init__(self, make: Callable[[], Any], checks: Sequence[Check], least: int, excuse: Mapping[str, str]) -> None:
        self.checks = {check.name: check for check in checks}
        self.least = least
        self.excuse = excuse
        self.findings: dict[str, Finding] = {}
        self.told: set[str] = set()  # by items of their own
        self._make = make
        self._bench: Any = None
        for name, reason in excuse.items():
            if name not in self.checks:
                raise ValueError(f"excuse: {unknown('check', name, self.checks)}")
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"excuse: {name!r} needs a reason in words, got {reason!r}")

    @property
    def bench(self) -> Any:
        """The bench, made when it is first needed."""
        if self._bench is None:
            self._bench = self._make()
        return self._bench

    def finding(self, name: str) -> Finding:
        """What became of this check; those that it builds on are run before it."""
        if name not in self.findings:
            self.findings[name] = self._tried(self.checks[name])
        return self.findings[name]

    def root(self, name: str) -> Finding:
        """The failed check because of which this one was not run."""
        broken = next(a for a in self._before(name) if self.finding(a).status in ("failed", "blocked"))
        return self.root(broken) if self.finding(broken).status == "blocked" else self.finding(broken)

    def report(self, *, quick: bool = False) -> Report:
        """The report on all checks, or on those of the quick tier; ConformanceError when any failed."""
        later = [check.name for check in self.checks.values() if quick and check.long and check.name not in self.excuse]
        records = tuple(Finding(n, "later", "") if n in later else self.finding(n) for n in self.checks)
        report = Report(self.bench.role, type(self.bench.component).__name__, records)
        faults = [f"  {r.name}: {r.detail}" for r in report.having("failed")]
        least = self.least - sum(check.long for check in self.checks.values() if quick)
        if not faults and report.ran < least:
            faults = [f"  only {report.ran} of {len(self.checks)} checks ran, at least {least} must: excuse fewer"]
        if faults:
            blocked = [r.name for r in report.having("blocked")]
            more = [f"  not run before that is mended: {', '.join(blocked)}"] if blocked else []
            ran = f"({report.ran} of {len(self.checks)} checks ran):"
            raise ConformanceError(
                report,
                "\n".join([f"{report.role} {report.component} does not keep the contract {ran}", *faults, *more]),
            )
        return report

    def forget(self) -> None:
        """Free the bench and its programs; findings stay."""
        self._bench = None

    def _before(self, name: str) -> Iterable[str]:
        return (a for a in self.checks[name].after if a in self.checks)

    def _tried(self, one: Check) -> Finding:
        if one.name in self.excuse:
            return Finding(one.name, "excused", self.excuse[one.name].strip())
        broken = [a for a in self._before(one.name) if self.finding(a).status in ("failed", "blocked")]
        if broken:
            return Finding(one.name, "blocked", f"after {broken[0]}")
        bench = self.bench
        try:
            note = one.run(bench)
        except Unmet as unmet:
            return Finding(one.name, "failed", str(unmet))
        except BoundaryError as error:  # the words of a run
            return Finding(one.name, "failed", str(Unmet("what a round takes", error, "a run would end with this")))
        except NothingToCheck as reason:
            return Finding(one.name, "excused", str(reason))
        except Exception as error:
            logging.getLogger("ev3x.faults").debug("check %s", one.name, exc_info=error)
            do = remedy(error) or "mend what raises it"
            return Finding(one.name, "failed", f"expected no exception; got {_told(error)}; {do}")
        finally:
            bench.before.restore()
        return Finding(one.name, "passed", note or "")


def _told(error: Exception) -> str:
    """The exception in a line, with the last place outside the kit that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename] or frames
    outside = [f for f in own if not Path(f.filename).is_relative_to(HERE)] or own
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text} ({Path(outside[-1].filename).name}, line {outside[-1].lineno})"
