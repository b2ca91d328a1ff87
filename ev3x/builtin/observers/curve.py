"""A picture of the run: what was confirmed, what was promoted, and what became of it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...observe import Observer, Progress, RunInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
NAN = float("nan")
COLORS = {"better": "#1b7f4d", "equivalent": "#3b6fb6", "undecided": "#9a9a9a", "worse": "#c8442e"}
INK, TEST = "#222222", "#b07a17"


@dataclasses.dataclass
class History:
    """What the picture needs of a run so far."""

    run: RunInfo
    points: list[Point]


@dataclasses.dataclass(frozen=True)
class Point:
    """One round with a winner: its confirmed score with interval, and the incumbent's on the same examples."""

    round: int
    score: float
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
        """The points of the rounds before a resume."""
        return History(run, _points(run, rows))

    def rounds(self, handle: History, rows: Sequence[Row], progress: Progress) -> None:
        """More points."""
        handle.points += _points(handle.run, rows)

    def end(self, handle: History, summary: dict[str, Any]) -> None:
        """Draw, or say in one line why not."""
        if handle.run.directory is None or not handle.points:
            return
        try:
            import matplotlib  # noqa: F401
        except ModuleNotFoundError:
            print('curve.png not drawn: pip install "ev3x[examples]"', file=sys.stderr)
            return
        _draw(handle, summary, handle.run.directory / "curve.png")


def _draw(history: History, summary: dict[str, Any], path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric = history.run.metrics[0]
    with rc_context({"font.size": 9, "axes.edgecolor": "#bbbbbb", "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(9, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _rounds(axes, history.points)
        _tests(axes, summary, metric)
        axes.set_xlabel("round")
        axes.set_ylabel(f"{metric} on the decide split")
        axes.set_title(_title(history.run, summary), loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e8e8e8", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        figure.savefig(path, dpi=150)


def _points(run: RunInfo, rows: Sequence[Row]) -> list[Point]:
    metric = run.metrics[0]

    def number(x: float | None) -> float:
        return NAN if x is None else x

    points = []
    for row in rows:
        if row["winner"] is None:
            continue
        confirm = row["confirm"]
        score, lower, upper = (number(confirm["winner"][k][metric]) for k in ("mean", "lower", "upper"))
        points.append(
            Point(
                round=row["round"] + 1,
                score=score,
                lower=lower,
                upper=upper,
                incumbent=number(confirm["incumbent"][metric]),
                verdict=row["verdict"],
                promoted=row["promoted"],
                restored=row["move"] == "restore",
            )
        )
    return points


def _rounds(axes: Axes, points: list[Point]) -> None:
    """The incumbent as a line; every winner as a point with its interval, coloured by its verdict."""
    axes.step(
        [p.round for p in points],
        [p.incumbent for p in points],
        where="mid",
        color=INK,
        linewidth=1.0,
        label="incumbent, on the same examples",
    )
    small = 3.0 if len(points) > 150 else 4.5
    for verdict, color in COLORS.items():
        some = [p for p in points if p.verdict == verdict]
        if some:
            x, y = [p.round for p in some], [p.score for p in some]
            axes.vlines(x, [p.lower for p in some], [p.upper for p in some], color=color, alpha=0.4, linewidth=1.4)
            axes.plot(x, y, "o", color=color, markersize=small, label=f"winner: {verdict}")
    _mark(axes, [p for p in points if p.promoted], "*", COLORS["better"], "promoted")
    _mark(axes, [p for p in points if p.restored], "x", COLORS["worse"], "rolled back to the incumbent")


def _mark(axes: Axes, points: list[Point], marker: str, color: str, label: str) -> None:
    if points:
        x, y = [p.round for p in points], [p.score for p in points]
        axes.plot(x, y, marker, color=color, markersize=11, markeredgewidth=1.2, label=label, zorder=5)


def _tests(axes: Axes, summary: dict[str, Any], metric: str) -> None:
    """The test scores of the model at the start and of the final incumbent."""
    for key, style, words in (("baseline", ":", "start"), ("test", "--", "final incumbent")):
        score = summary.get(key, {}).get(metric)
        if score is not None:
            axes.axhline(score, color=TEST, linestyle=style, linewidth=1.3, label=f"test set, {words}: {score:.4g}")


def _title(run: RunInfo, summary: dict[str, Any]) -> str:
    rounds, promotions = summary["rounds"], summary["promotions"]
    return f"{run.task}, seed {run.seed}: {promotions} promotion{'' if promotions == 1 else 's'} in {rounds} rounds"
