"""Progress of a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import dataclasses
import math
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
from ...text import Stream, console, shown, standard

STYLES = {"better": "bold green", "equivalent": "cyan", "undecided": "dim", "worse": "red", "none": "red"}


@dataclasses.dataclass
class Screen:
    """The output on which a run is shown: standard error as it was when the run began."""

    run: RunInfo
    stream: Stream
    console: Console
    live: Live | None
    shown: float = -float("inf")
    last: Row | None = None

    def print(self, text: Text, style: str = "") -> None:
        """Show a line; OSError if it cannot be written, which then counts as a fault of this observer."""
        self.console.print(text, style=style)
        self.stream.check()

    def stop(self) -> None:
        """Remove the live display and give the cursor back, once."""
        live, self.live = self.live, None
        if live is not None:
            atexit.unregister(self.stop)
            live.stop()


@dataclasses.dataclass(frozen=True)
class ShowProgress(Observer):
    """Shows rounds, verdicts, promotions and the time left, on standard error."""

    every: Annotated[Seconds, Ge(0), Doc("seconds between plain lines at least, when there is no terminal")] = 2.0

    def start(self, run: RunInfo, rows: Sequence[Row]) -> Screen:
        """The handle, after the first lines; with a live display if there is a terminal."""
        stream = standard("stderr")
        screen = Screen(run, stream, console(stream, soft_wrap=True), None, last=rows[-1] if rows else None)
        head = f"{run.task}, seed {run.seed}, {len(run.candidates)} candidates a round"
        screen.console.print(_plain(head, style="bold"))
        if run.about:
            screen.console.print(_plain(run.about, style="dim"))
        if run.resumed_at:
            screen.console.print(Text(f"resumed after {_count(run.resumed_at, 'round')}"))
        if screen.console.is_terminal and not screen.console.is_dumb_terminal:
            screen.live = Live(console=screen.console, auto_refresh=False, transient=True)
            screen.live.start()
            atexit.register(screen.stop)  # whatever ends the process
            screen.live.update(Text("compiling the first round ...", style="dim"), refresh=True)
        return screen

    def rounds(self, handle: Screen, rows: Sequence[Row], progress: Progress) -> None:
        """Show the promotions among new rounds, and how far the run is."""
        metric = handle.run.metrics[0]
        for row in (row for row in rows if row["promoted"]):
            handle.print(_promotion(row, metric))
        handle.last = rows[-1] if rows else handle.last
        if handle.last is None:
            return
        if handle.live is not None:
            handle.live.update(_display(handle.run, handle.last, progress), refresh=True)
            handle.stream.check()
        elif time.monotonic() - handle.shown >= self.every:
            handle.shown = time.monotonic()
            handle.print(_line(handle.run, handle.last, progress))

    def end(self, handle: Screen, summary: dict[str, Any]) -> None:
        """Remove the live display, and say why the run ended."""
        handle.stop()
        handle.print(_plain(f"{summary['outcome']}: {summary['reason']}"))


def _promotion(row: Row, metric: str) -> Text:
    text = Text(f"round {row['round']}: promoted ", style="green")
    text.append(shown(row["winner"]), style="bold")
    return text.append(shown(f"  {metric} {_score(row, metric)}  {_p_value(row)}".rstrip()))


def _line(run: RunInfo, row: Row, progress: Progress) -> Text:
    """One plain line: how many rounds are done, and about the last of them."""
    metric = run.metrics[0]
    parts = [
        _done(progress.rounds, run.limits.rounds),
        f"best {row['winner']} {metric} {_score(row, metric)}" if row["winner"] else "no winner",
        row["verdict"],
        _count(progress.promotions, "promotion"),
        f"{progress.gradient_steps:,} steps",
        f"{progress.examples:,} examples",
        f"{_clock(progress.seconds)} run",
        *([f"{_clock(progress.left)} left"] if _known(progress.left) else []),
    ]
    return _plain(", ".join(parts))


def _display(run: RunInfo, row: Row, progress: Progress) -> Table:
    """The live display after a chunk."""
    metric = run.metrics[0]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("", ProgressBar(total=1.0, completed=_share(run.limits, progress), width=60))
    left = f", about {_clock(progress.left)} left" if _known(progress.left) else ""
    done = _done(progress.rounds, run.limits.rounds)
    grid.add_row("run", Text(f"{done}, {_clock(progress.seconds)}{left}"))
    grid.add_row("best", _plain(row["winner"] or "none: no candidate could win"))
    if row["winner"]:
        incumbent = _number(row["confirm"]["incumbent"][metric])
        grid.add_row(_plain(metric), Text(f"{_score(row, metric)}, incumbent {incumbent}"))
    verdict = _plain(row["verdict"], style=STYLES.get(row["verdict"], ""))
    grid.add_row("verdict", verdict.append(shown(f"  {row['why']}"), style="not bold not dim default"))
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


def _plain(text: str, style: str = "") -> Text:
    """User text as it is."""
    return Text(shown(text), style=style)


def _done(rounds: int, limit: int | None) -> str:
    """How many rounds are done. A number of one round counts from 0, as in the records."""
    return _count(rounds, "round") if limit is None else f"{rounds} of {_count(limit, 'round')}"


def _known(seconds: float | None) -> bool:
    """Whether a time is one that a clock can show."""
    return seconds is not None and math.isfinite(seconds)


def _number(x: float | None) -> str:
    return "not finite" if x is None else f"{x:.4g}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _clock(seconds: float | None) -> str:
    minutes, rest = divmod(round(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
