"""What the kit reports: a record for every check, a line for people, and an error that lists all that failed."""

from __future__ import annotations

import dataclasses
from typing import Literal

Status = Literal["passed", "failed", "excused", "blocked", "later"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What became of one check.

    `blocked`: it was not run because one that it builds on failed, so that one fault is reported once. `excused`: by
    the author, or because there is nothing to check; `detail` says why.
    """

    name: str
    status: Status
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """The records of all checks of one component, in the order in which they stand in the kit."""

    role: str
    component: str
    records: tuple[Finding, ...]

    def having(self, *status: Status) -> tuple[Finding, ...]:
        """The records with one of these statuses."""
        return tuple(record for record in self.records if record.status in status)

    @property
    def ran(self) -> int:
        """How many checks ran, whatever they found."""
        return len(self.having("passed", "failed"))

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(record.name for record in self.having("failed"))

    def __str__(self) -> str:
        text = f"{self.role} {self.component}: {self.ran} checks ran"
        if self.failed:
            text += f", {len(self.failed)} failed ({', '.join(self.failed)})"
        excused = self.having("excused")
        if excused:
            text += f", {len(excused)} excused ({'; '.join(f'{r.name}: {r.detail}' for r in excused)})"
        if later := self.having("later"):
            text += f", {len(later)} left to the whole kit ({', '.join(r.name for r in later)})"
        notes = [f"{r.name}: {r.detail}" for r in self.having("passed") if r.detail]
        return "\n".join([text, *(f"  {note}" for note in notes)])


class ConformanceError(AssertionError):
    """A component that does not keep the contract; the text lists every failed check, `report` holds all of them."""

    def __init__(self, report: Report, text: str) -> None:
        super().__init__(text)
        self.report = report
