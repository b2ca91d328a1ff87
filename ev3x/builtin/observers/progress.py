"""Progress of a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import dataclasses
import time
from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Doc

from ...component import Seconds
from ...core.observe import Limits, Observer, Progress, Row, RunInfo

STYLES = {"better": "bold green", "equivalent": "cyan", "undecided": "dim", "worse": "red", "none": "red"}


@dataclasses.dataclass
class Screen:
    """The output on which a run is shown."""

    run: RunInfo
    console: Console
    live: Live | None
    shown: float = -float("inf")
    last: Row | None = None


@dataclasses.dataclass(frozen=True)
class ShowProgress(Observer):
    """Shows rounds, verdicts, promotions and the time left, on standard error."""

    every: Annotated[Seconds, Ge(0), Doc("seconds between plain lines at least, when there is no terminal")] = 2.0

    def start(self, run: RunInfo, rows: Sequence[Row]) -> Screen:
        """The handle, after the first lines; with a live display if there is a terminal."""
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        screen = Screen(run, console, None, last=rows[-1] if rows else None)
        console.print(Text(f"{run.task}, seed {run.seed}, {len(run.candidates)} candidates a round"), style="bold")
        if run.about:
            console.print(Text(run.about), style="dim")
        if run.resumed_at:
            console.print(Text(f"resumed after {run.resumed_at} rounds"))
        if console.is_terminal and not console.is_dumb_terminal:
            screen.live = Live(console=console, auto_refresh=False, transient=True)
            screen.live.start()
            atexit.register(screen.live.stop)  # gives the cursor back, whatever ends the process
            screen.live.update(Text("compiling the first round ...", style="dim"), refresh=True)
        return screen

    def rounds(self, handle: Screen, rows: Sequence[Row], progress: Progress) -> None:
        """Show the promotions among new rounds, and how far the run is."""
        metric = handle.run.metrics[0]
        for row in (row for row in rows if row["promoted"]):
            handle.console.print(_promotion(row, metric))
        handle.last = rows[-1] if rows else handle.last
        if handle.last is None:
            return
        if handle.live is not None:
            handle.live.update(_display(handle.run, handle.last, progress), refresh=True)
        elif time.monotonic() - handle.shown >= self.every:
            handle.shown = time.monotonic()
            handle.console.print(_line(handle.run, handle.last, progress))

    def end(self, handle: Screen, summary: dict[str, Any]) -> None:
        """Remove the live display, and say why the run ended."""
        if handle.live is not None:
            handle.live.stop()
            atexit.unregister(handle.live.stop)
        handle.console.print(Text(f"{summary['outcome']}: {summary['reason']}"))


def _promotion(row: Row, metric: str) -> Text:
    text = Text(f"round {row['round'] + 1}: promoted ", style="green")
    text.append(str(row["winner"]), style="bold")
    return text.append(f"  {metric} {_score(row, metric)}  {_p_value(row)}".rstrip())


def _line(run: RunInfo, row: Row, progress: Progress) -> Text:
    """One plain line about the last round."""
    metric = run.metrics[0]
    parts = [
        f"round {progress.rounds}{_of(run.limits.rounds)}",
        f"best {row['winner']} {metric} {_score(row, metric)}" if row["winner"] else "no winner",
        row["verdict"],
        _count(progress.promotions, "promotion"),
        f"{progress.gradient_steps:,} steps",
        f"{progress.examples:,} examples",
        f"{_clock(progress.seconds)} run",
    ]
    return Text(", ".join([*parts, f"{_clock(progress.left)} left"] if progress.left is not None else parts))


def _display(run: RunInfo, row: Row, progress: Progress) -> Table:
    """The live display after a chunk."""
    metric = run.metrics[0]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("", ProgressBar(total=1.0, completed=_share(run.limits, progress), width=60))
    left = "" if progress.left is None else f", about {_clock(progress.left)} left"
    grid.add_row("round", Text(f"{progress.rounds}{_of(run.limits.rounds)}, {_clock(progress.seconds)} run{left}"))
    grid.add_row("best", Text(str(row["winner"] or "none: no candidate could win")))
    if row["winner"]:
        grid.add_row(metric, Text(f"{_score(row, metric)}, incumbent {_number(row['confirm']['incumbent'][metric])}"))
    verdict = Text(row["verdict"], style=STYLES.get(row["verdict"], ""))
    grid.add_row("verdict", verdict.append(f"  {row['why']}", style="not bold not dim default"))
    spent = f"{progress.gradient_steps:,} gradient steps, {progress.examples:,} examples to assess and decide"
    grid.add_row("so far", Text(f"{_count(progress.promotions, 'promotion')}, {spent}"))
    return grid


def _share(limits: Limits, progress: Progress) -> float:
    """The finished share of the run, by the limit that it will reach first."""
    used = (
        (progress.rounds, limits.rounds),
        (progress.seconds, limits.seconds),
        (progress.gradient_steps, limits.gradient_steps),
    )
    return min(1.0, max((x / limit for x, limit in used if limit), default=0.0))


def _score(row: Row, metric: str) -> str:
    winner = row["confirm"]["winner"]
    value, lower, upper = (_number(winner[k][metric]) for k in ("mean", "lower", "upper"))
    return f"{value} [{lower}, {upper}]"


def _p_value(row: Row) -> str:
    p = row["confirm"]["p_value"]
    return "" if p is None else f"p = {p:.2g}" if p else "p < 1e-38"


def _of(limit: int | None) -> str:
    return "" if limit is None else f"/{limit}"


def _number(x: float | None) -> str:
    return "not finite" if x is None else f"{x:.4g}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _clock(seconds: float | None) -> str:
    minutes, rest = divmod(round(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
