"""A picture of how a model grew: its size over the rounds, and every growth, undone growth, pass and promotion."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.observe import Observer, Progress, Row, RunInfo
from ...text import shown
from .picture import INK, drawable, picture, plain, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STUDENT, PROMOTED = "#3b6fb6", "#1b7f4d"
MARKS = {
    "grow": ("^", "grown"),
    "undo": ("v", "growth undone"),
    "pass": ("D", "new pass"),
    "done": ("s", "last pass over"),
}
OTHER = ("P", "other transition")


@dataclasses.dataclass
class History:
    """The run and its rows so far."""

    run: RunInfo
    rows: list[Row]


@dataclasses.dataclass(frozen=True)
class Lineage(Observer):
    """Draws `lineage.png` into the run directory when the run ends, if its model ever grew.

    Needs matplotlib: `pip install "ev3x[examples]"`.
    """

    def start(self, run: RunInfo, rows: Sequence[Row]) -> History:
        """The handle, with the rounds before a resume."""
        return History(run, list(rows))

    def rounds(self, handle: History, rows: Sequence[Row], progress: Progress) -> None:
        """Add new rounds."""
        handle.rows += rows

    def end(self, handle: History, summary: dict[str, Any]) -> None:
        """Draw the picture, or say in one line why there is none."""
        if handle.run.directory is None or not any(row["calls"] for row in handle.rows):
            return
        path = handle.run.directory / "lineage.png"
        if drawable(path):
            _draw(handle, summary, path)


def _draw(history: History, summary: dict[str, Any], path: Path) -> None:
    rows, metric = history.rows, history.run.metrics[0]
    with picture(path, (9, 4.6), history.run.about) as figure:
        axes = figure.subplots()
        rounds = [row["round"] for row in rows]
        for who, color, width in (("candidates", STUDENT, 2.4), ("incumbent", INK, 1.0)):
            sizes = [row["parameters"][who] for row in rows]
            axes.step(rounds, sizes, where="mid", color=color, linewidth=width, label=who)
        _events(axes, rows)
        _promotions(axes, rows, metric)
        axes.set_yscale("log")
        seen = sorted({n for row in rows for n in row["parameters"].values()})
        axes.set_yticks(seen, [f"{n:,}" for n in seen])
        axes.set_yticks([], minor=True)
        axes.margins(y=0.18)
        axes.set_title(title(history.run, summary), loc="left", fontsize=10)
        axes.set_ylabel("parameters")
        axes.set_xlabel(shown(f"round (at promotions: confirmed {metric})"))
        plain(axes)


def _events(axes: Axes, rows: Sequence[Row]) -> None:
    """Mark every host transition, at the size that the model had before it."""
    events: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in rows:
        for word in row["calls"].values():
            events.setdefault(MARKS.get(word, OTHER), []).append((row["round"], row["parameters"]["candidates"]))
    for (marker, words), places in events.items():
        axes.plot(*zip(*places, strict=True), marker, color=STUDENT, markeredgecolor="white", markersize=8, label=words)


def _promotions(axes: Axes, rows: Sequence[Row], metric: str) -> None:
    """Mark every promotion; write the confirmed score at the first and last one of each size."""
    promoted = [row for row in rows if row["promoted"]]
    if not promoted:
        return
    places = [(row["round"], row["parameters"]["candidates"]) for row in promoted]
    axes.plot(*zip(*places, strict=True), "*", color=PROMOTED, markeredgecolor="white", markersize=11, label="promoted")
    for i, (row, place) in enumerate(zip(promoted, places, strict=True)):
        same = [p[1] == place[1] for p in (*places[i - 1 : i], *places[i + 1 : i + 2])]
        score = row["confirm"]["winner"]["mean"][metric]
        if score is not None and not (len(same) == 2 and all(same)):
            axes.annotate(f"{score:.3g}", place, xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8)
