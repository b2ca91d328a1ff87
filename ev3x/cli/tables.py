"""Tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .. import text

LONGEST, SIGNS, ROWS = 4000, 2**19, 5000  # of a cell, and of a table
WIDTH = 160  # where there is no terminal: wide, so that lines are not broken


def console() -> Console:
    """Standard output, which shows text as it is."""
    stream = text.Stream(sys.stdout) if sys.stdout is not None else text.standard("stdout")
    return text.console(stream, width=None if stream.isatty() else WIDTH)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without a frame."""
    made = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def cell(content: str) -> Text:
    """The text as it is shown; of a very long one, the beginning."""
    more = f"... ({len(content) - LONGEST:,} more signs)" if len(content) > LONGEST else ""
    return Text(text.shown(content[:LONGEST] + more))


def fitting(rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    """The first of these rows, at least one, as many as a table is made of in some two seconds."""
    found: list[Sequence[str]] = []
    signs = 0
    for row in rows:
        signs += sum(min(len(cell), LONGEST) for cell in row)
        if found and (signs > SIGNS or len(found) == ROWS):
            break
        found.append(row)
    return found


def summary(s: dict[str, Any]) -> None:
    """Print the summary of a run: test metrics of the first model and of the last incumbent, and what it cost."""
    from ..run.fates import in_words

    screen = console()
    title = f"{s['task']}, seed {s['seed']}: {s['reason']}"
    screen.print(Text(text.shown(title), style="bold" if s["outcome"] == "finished" else "bold yellow"), soft_wrap=True)
    scores = [(name, _score(s["baseline"][name]), _score(value)) for name, value in s["test"].items()]
    screen.print(table(("test set", "start", "final incumbent"), scores))
    facts = {
        "rounds": f"{s['rounds']} with {_count(s['promotions'], 'promotion')}",
        "spent": f"{s['gradient_steps']:,} gradient steps in {s['seconds']:.1f} s",
        "promise": s["promise"],
        "budget": _ledger(s["ledger"]),
        "holdout": _holdout(s["holdout"]),
        "data": s["about"] or "not described",
        "files": s["directory"] or "none",
    }
    if changes := s.get("changes"):
        facts["changed"] = "; ".join(changes)
    if s["in_shadow"]:
        facts["rounds"] += f"; in the shadow, {s['in_shadow']} would have been"
    for what, times in s["transitions"].items():
        facts["rounds"] += f", {times} x {what}"
    for name, model in s["kept"].items():
        results = ", ".join(f"{metric} {_score(value)}" for metric, value in model["test"].items())
        facts[name] = f"{model['parameters']:,} parameters, on the test set {results}"
    for name, counts in s.get("proposers", {}).items():
        if counts["rounds_without"]:
            rounds = f"in {counts['rounds_without']:,} of {s['rounds']:,} rounds none could win"
            facts[name] = f"{rounds}; {in_words(counts)}"
    if faults := s["observer_faults"]:
        facts["faults"] = ", ".join(f"observer {name!r} failed {_count(n, 'time')}" for name, n in faults.items())
    wide = max(8, *(len(name) + 2 for name in facts))
    for name, fact in facts.items():
        screen.print(Text(text.shown(f"{name:{wide}}{fact}")), soft_wrap=True)


def _ledger(figures: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items() if value is not None) or "no figures"


def _holdout(h: dict[str, int | None]) -> str:
    read = f"{h['read']:,} decide examples read"
    if h["size"] is None:
        return f"{read}, none twice"
    return f"{read} of {h['size']:,}, " + ("none twice" if (h["uses"] or 0) <= 1 else f"some {h['uses']} times")


def _score(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
