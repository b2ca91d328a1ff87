"""A picture of the run: confirmed scores, verdicts and promotions over the rounds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.observe import Observer, Progress, Row, RunInfo
from ...text import shown
from .picture import INK, drawable, picture, plain, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAN = float("nan")
COLORS = {"better": "#1b7f4d", "equivalent": "#3b6fb6", "undecided": "#9a9a9a", "worse": "#c8442e"}
TEST = "#b07a17"


@dataclasses.dataclass
class History:
    """The run and the points of its rounds so far."""

    run: RunInfo
    points: list[Point]


@dataclasses.dataclass(frozen=True)
class Point:
    """One round with a winner: its confirmed score, its gain with an interval, the incumbent on the same examples."""

    round: int
    score: float
    gain: float
    lower: float
    upper: float
    incumbent: float
    verdict: str
    promoted: bool
    restored: bool


@dataclasses.dataclass(frozen=True)
class Curve(Observer):
    """Draws `curve.png` into the run directory when the run ends: confirmed scores, verdicts, promotions, rollbacks.

    Needs matplotlib: `pip install "ev3x[examples]"`.
    """

    def start(self, run: RunInfo, rows: Sequence[Row]) -> History:
        """The handle, with the points of the rounds before a resume."""
        return History(run, _points(run, rows))

    def rounds(self, handle: History, rows: Sequence[Row], progress: Progress) -> None:
        """Add the points of new rounds."""
        handle.points += _points(handle.run, rows)

    def end(self, handle: History, summary: dict[str, Any]) -> None:
        """Draw the picture, or say in one line why there is none."""
        if handle.run.directory is None or not handle.points:
            return
        path = handle.run.directory / "curve.png"
        if drawable(path):
            _draw(handle, summary, path)


def _draw(history: History, summary: dict[str, Any], path: Path) -> None:
    """Draw the scores above, and below them the differences on which the verdicts are based."""
    metric = history.run.metrics[0]
    with picture(path, (9, 6.4), history.run.about) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _scores(above, history.points)
        _tests(above, summary, metric)
        _differences(below, history.points)
        above.set_title(title(history.run, summary), loc="left", fontsize=10)
        above.set_ylabel(shown(f"{metric} on the decide split"))
        below.set_ylabel("winner less incumbent")
        below.set_xlabel("round")
        plain(above)
        plain(below)
        figure.align_ylabels()


def _points(run: RunInfo, rows: Sequence[Row]) -> list[Point]:
    metric = run.metrics[0]

    def number(values: dict[str, float | None]) -> float:
        return NAN if values[metric] is None else values[metric]  # type: ignore[return-value]

    return [
        Point(
            round=row["round"],
            score=number(row["confirm"]["winner"]["mean"]),
            gain=number(row["confirm"]["winner"]["difference"]),
            lower=number(row["confirm"]["winner"]["difference_lower"]),
            upper=number(row["confirm"]["winner"]["difference_upper"]),
            incumbent=number(row["confirm"]["incumbent"]),
            verdict=row["verdict"],
            promoted=row["promoted"],
            restored=row["move"] == "restore",
        )
        for row in rows
        if row["winner"] is not None and row["verdict"] != "spent"
    ]


def _scores(axes: Axes, points: list[Point]) -> None:
    """Draw the incumbent as a line and every winner as a point; mark promotions and rollbacks."""
    x, y = [p.round for p in points], [p.incumbent for p in points]
    axes.step(x, y, where="mid", color=INK, linewidth=1.0, label="incumbent, on the same examples")
    for verdict, some in _by_verdict(points):
        x, y = [p.round for p in some], [p.score for p in some]
        axes.plot(x, y, "o", color=COLORS[verdict], markersize=_size(points), label=f"winner: {verdict}")
    _mark(axes, [p for p in points if p.promoted], "*", "white", COLORS["better"], "promoted")
    _mark(axes, [p for p in points if p.restored], "X", "white", COLORS["worse"], "rolled back to the incumbent")


def _mark(axes: Axes, points: list[Point], marker: str, edge: str, color: str, label: str) -> None:
    if points:
        x, y = [p.round for p in points], [p.score for p in points]
        style: dict[str, Any] = {"markeredgecolor": edge, "markeredgewidth": 0.6, "markersize": 2.6 * _size(points)}
        axes.plot(x, y, marker, color=color, label=label, zorder=5, **style)


def _differences(axes: Axes, points: list[Point]) -> None:
    """Draw every winner's gain with its interval; an unusually large one is an arrow at the edge."""
    edge = _usual([max(abs(p.lower), abs(p.upper)) for p in points])
    axes.axhline(0, color=INK, linewidth=1.0)
    for verdict, some in _by_verdict(points):
        color, inside = COLORS[verdict], [p for p in some if abs(p.gain) <= edge]
        x = [p.round for p in inside]
        axes.vlines(x, [p.lower for p in inside], [p.upper for p in inside], color=color, alpha=0.55, linewidth=1.6)
        axes.plot(x, [p.gain for p in inside], "o", color=color, markersize=_size(points))
        for marker, sign in (("^", 1), ("v", -1)):
            x = [p.round for p in some if sign * p.gain > edge]
            axes.plot(x, [sign * edge] * len(x), marker, color=color, markersize=1.3 * _size(points))
    lowest = min((p.lower for p in points if p.lower == p.lower), default=-edge)
    axes.set_ylim(1.08 * max(-edge, min(lowest, -edge / 4)), 1.08 * edge)


def _usual(sizes: list[float]) -> float:
    """A bound that nine of ten of these sizes do not exceed."""
    finite = sorted(x for x in sizes if math.isfinite(x))
    return finite[math.ceil(0.9 * len(finite)) - 1] or 1.0 if finite else 1.0


def _by_verdict(points: list[Point]) -> list[tuple[str, list[Point]]]:
    groups = ((verdict, [p for p in points if p.verdict == verdict]) for verdict in COLORS)
    return [(verdict, some) for verdict, some in groups if some]


def _size(points: list[Point]) -> float:
    return 4.5 if len(points) <= 150 else 3.0


def _tests(axes: Axes, summary: dict[str, Any], metric: str) -> None:
    """Draw the test scores of the first model and of the final incumbent, where they are finite."""
    for key, style, words in (("baseline", ":", "start"), ("test", "--", "final incumbent")):
        score = summary[key][metric]
        if score is not None:
            axes.axhline(score, color=TEST, linestyle=style, linewidth=1.3, label=f"test set, {words}: {score:.4g}")
