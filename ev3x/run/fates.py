"""What kept candidates from winning, and which proposers never have one that could: counted from the rows of a run."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from ..core.observe import Row

# After so many rounds in a row without a candidate that could win, a run warns of the proposer.
PATIENCE = 5
NAMES, OTHERS = 1000, "(others)"  # so many are told apart
NOT_FINITE, NOT_ELIGIBLE, IDLE, NO_SCORE = "not finite", "not eligible", "idle", "no finite score"
WHY = {
    NOT_FINITE: "with NaN or infinity (lower its learning rate, or look at its loss)",
    NOT_ELIGIBLE: "not `eligible` by its own word (a method that waits on purpose says so: `idles = True`)",
    IDLE: "waiting by design",
    NO_SCORE: "without a finite score (look at the metrics)",
}


def fates(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """For each proposer: its candidates in these rounds, and how many of them could not win, by the reason.

    `rounds_without` counts the rounds in which none of them could.
    """
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for name, reasons in _round(row).items():
            counts = found.setdefault(told_apart(name, found), Counter(candidates=0, rounds_without=0))
            counts["candidates"] += len(reasons)
            counts["rounds_without"] += None not in reasons
            counts.update(_key(reason) for reason in reasons if reason)
    return {name: dict(counts) for name, counts in found.items()}


def told_apart(name: str, known: Collection[str]) -> str:
    """The name under which this one is counted: its own, unless there are more than any run can have."""
    return name if name in known or len(known) < NAMES else OTHERS


def starved(rows: Sequence[Row], *, ended: bool = False) -> dict[str, str]:
    """The proposers none of whose candidates could win for `PATIENCE` rounds, up to the last one, and why, in words.

    Once the run has `ended`, fewer rounds are enough if it had no others. Who waits by design is left out.
    """
    last = [_round(row) for row in rows[-PATIENCE:]]
    if len(last) < PATIENCE and not (ended and last):
        return {}
    found = {}
    for name in last[-1]:
        reasons = [reason for at in last for reason in at.get(name, [None])]
        if None not in reasons and not all(reason == IDLE for reason in reasons):
            found[name] = _words(name, len(last), Counter(map(str, reasons)))
    return found


class Alarm:
    """Warns of proposers that have no candidate that could win, once of each; `whose` gives the plugin of a label."""

    def __init__(self, whose: Callable[[str], object | None]) -> None:
        self._whose = whose
        self._told: set[str] = set()

    def look(self, rows: Sequence[Row], *, ended: bool = False) -> None:
        """Warn of what these rows, all of the run so far, show and was not told yet."""
        for name, words in starved(rows, ended=ended).items():
            if name not in self._told:
                self._told.add(name)
                owner = f" ({plugin})" if (plugin := self._whose(name)) else ""
                warnings.warn(f"{words}{owner}", stacklevel=3)


def in_words(counts: Mapping[str, int]) -> str:
    """What became of a proposer's candidates, in words; empty if all of them could win."""
    lost = {reason: counts[_key(reason)] for reason in WHY if counts.get(_key(reason))}
    said = ", ".join(f"{n:,} {reason}" for reason, n in lost.items())
    return f"{sum(lost.values()):,} of {counts['candidates']:,} candidates could not win: {said}" if lost else ""


def _words(name: str, rounds: int, reasons: Counter[str]) -> str:
    said = "; ".join(f"{n} {WHY[reason]}" for reason, n in reasons.most_common())
    many = f"{rounds} rounds in a row" if rounds > 1 else "the only round"
    return f"proposer {name!r}: in {many} none of its candidates could win: of {reasons.total()}, {said}"


def _round(row: Row) -> dict[str, list[str | None]]:
    """The reasons of one round, by proposer; None for a candidate that could win."""
    found: dict[str, list[str | None]] = {}
    for candidate in row["candidates"]:
        found.setdefault(candidate["name"].partition("/")[0], []).append(candidate.get("barred"))
    return found


def _key(reason: str) -> str:
    return reason.replace(" ", "_")
