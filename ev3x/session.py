"""A run from beginning to end: chunks of rounds, observers in between, everything saved so that it can go on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import platform
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import loop
from .checkpoint import Checkpoints, Saved
from .data import Splits
from .evaluate import evaluate
from .evolver import Evolver
from .loop import Limit, Method
from .observe import Limits, Observer, Progress, RunInfo, Watchers
from .propose import Layout
from .report import Row, rows
from .streams import Feed, StreamEnded, StreamFault
from .task import Task
from .types import Record

CHUNK_SECONDS = 1.0
CAPACITY = 128


class RunError(Exception):
    """A run that cannot begin or go on; the text says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that a config says, as components. `ids` gives the `plugin:component` of every label."""

    task_id: str
    task: Task
    method: Method
    layout: Layout
    limits: Limits
    seed: int
    observers: tuple[tuple[str, Observer], ...]
    ids: Mapping[str, str]
    save_every: float
    config: str


@dataclasses.dataclass
class _Totals:
    """What adds up over a run, and is saved with it."""

    seconds: float = 0.0
    promotions: int = 0
    growths: int = 0
    gradient_steps: int = 0
    examples: int = 0

    def add(self, new: list[Row]) -> None:
        self.promotions += sum(r["promoted"] for r in new)
        self.growths += sum(len(r["calls"]) for r in new)
        self.gradient_steps += sum(r["gradient_steps"] for r in new)
        self.examples += sum(r["select_examples"] + r["confirm"]["examples"] for r in new)


def run(setup: Setup, directory: Path | None) -> dict[str, Any]:
    """The summary of a new run. `directory`, if given, must not exist or be empty, and then holds the run."""
    if directory is not None:
        _claim(directory)
    session = _Session(setup, directory)
    if directory is not None:
        _write(directory / "config.toml", setup.config)
    return session.go()


def resume(setup: Setup, directory: Path) -> dict[str, Any]:
    """The summary of a run that goes on where its last checkpoint stands, to the bits of the undisturbed run."""
    saved = _saved(directory)
    session = _Session(setup, directory)
    session.restore(saved)
    return session.go()


def export(directory: Path, to: Path | None = None) -> Path:
    """The file with the incumbent's weights: an .npz of arrays by path, for numpy alone."""
    to = to or directory / "weights.npz"
    weights = _saved(directory).incumbent()
    try:
        with to.open("wb") as file:
            np.savez(file, allow_pickle=False, **weights)
    except OSError as error:
        raise RunError(f"cannot write {to}: {error.strerror}") from error
    return to


class _Session:
    def __init__(self, setup: Setup, directory: Path | None) -> None:
        self.setup, self.directory = setup, directory
        self.data = setup.task.load(setup.seed)
        self.evolver = Evolver(setup.task, setup.method, self.data.splits, setup.layout)
        self.state = self.evolver.init(setup.seed)
        self.first = self.state.model.incumbent
        self.history: Record | None = None
        self.rows: list[Row] = []
        self.totals = _Totals()
        self.watchers = Watchers(setup.observers)
        self.store = Checkpoints(directory / "checkpoints", setup.ids) if directory else None

    def restore(self, saved: Saved) -> None:
        """Go to where the checkpoint stands; rows of later rounds are cut off their file."""
        self._same(saved)
        plan = self.evolver.plan
        record = jax.eval_shape(loop.round_, plan, self._peek(), self.state)[1]
        self.history = saved.history(record)
        if self.history is not None:
            self.rows = rows(plan, self.history)
            self._grow(self.history)
        self.state = saved.state(self.state, self.setup.ids)
        if isinstance(self.data.splits, Feed):
            self.data.splits.seek(saved.streams)
        self.totals = _Totals(**saved.meta["totals"])
        if self.directory:
            _write(self.directory / "rounds.jsonl", "".join(map(_line, self.rows)))

    def go(self) -> dict[str, Any]:
        """Run to the end, whatever ends it, and say what came of it."""
        plan, setup = self.evolver.plan, self.setup
        info = RunInfo(
            task=setup.task_id,
            seed=setup.seed,
            metrics=tuple(m.name for m in setup.task.metrics),
            candidates=plan.labels(),
            promise=self._promise(),
            about=self.data.about,
            limits=setup.limits,
            directory=self.directory,
            resumed_at=len(self.rows),
        )
        self._save()
        self.watchers.start(info, self.rows)
        with _interrupts() as interrupted:
            try:
                outcome, reason = self._rounds(interrupted)
            finally:
                self._save()
        summary = self._summary(outcome, reason)
        if self.directory:
            _write(self.directory / "summary.json", json.dumps(summary, indent=2) + "\n")
        self.watchers.end(summary)
        return summary

    def _rounds(self, interrupted: list[int]) -> tuple[str, str]:
        """Chunks of about a second until something ends the run: how, and why in words."""
        size, saved_at = 1, time.monotonic()
        for chunk in itertools.count():
            if end := self._ended(interrupted):
                return end
            began = time.monotonic()
            try:
                self.state, records = self.evolver.chunk(self.state, self._limit(size), capacity=CAPACITY)
                done = len(records.round)
            except StreamEnded as error:
                return "stopped", str(error)
            except StreamFault as error:
                self._save()
                raise RunError(f"{error}; {self._kept()}") from error
            seconds = time.monotonic() - began
            self.totals.seconds += seconds
            if not done:
                return "stopped", "the decide split is spent: no fresh examples are left to confirm on"
            self._note(records, seconds / done)
            # The first call compiles; its time says nothing about the next.
            size = 1 if chunk == 0 else max(1, min(CAPACITY, int(CHUNK_SECONDS * done / max(seconds, 1e-6))))
            if time.monotonic() - saved_at >= self.setup.save_every:
                self._save()
                saved_at = time.monotonic()
        raise AssertionError("unreachable")

    def _ended(self, interrupted: list[int]) -> tuple[str, str] | None:
        limits, totals = self.setup.limits, self.totals
        if interrupted:
            return "interrupted", f"interrupted; {self._kept()}"
        if limits.target is not None and self._reached(limits.target):
            return "finished", f"the target of {limits.target:g} was reached on the decide split"
        if limits.rounds is not None and len(self.rows) >= limits.rounds:
            return "finished", f"{limits.rounds} rounds"
        if limits.gradient_steps is not None and totals.gradient_steps >= limits.gradient_steps:
            return "finished", f"{totals.gradient_steps} gradient steps"
        if limits.seconds is not None and totals.seconds >= limits.seconds:
            return "finished", f"{totals.seconds:.0f} seconds"
        return None

    def _limit(self, size: int) -> Limit:
        limits = self.setup.limits
        rounds = size if limits.rounds is None else min(size, limits.rounds - len(self.rows))
        steps = 2**31 - 1
        if limits.gradient_steps is not None:
            steps = min(steps, limits.gradient_steps - self.totals.gradient_steps)
        target = math.nan if limits.target is None else limits.target
        return Limit(jnp.int32(rounds), jnp.int32(steps), jnp.float32(target))

    def _note(self, records: Record, seconds_per_round: float) -> None:
        """Rows and totals of new rounds, in memory, in their file, and for the observers."""
        host = jax.tree.map(np.asarray, records)
        self.history = (
            host if self.history is None else jax.tree.map(lambda a, b: np.concatenate([a, b]), self.history, host)
        )
        new = rows(self.evolver.plan, host)
        self.rows += new
        self.totals.add(new)
        if self.directory:
            with (self.directory / "rounds.jsonl").open("a") as file:
                file.writelines(map(_line, new))
        limits, left = self.setup.limits, []
        if limits.rounds is not None:
            left.append((limits.rounds - len(self.rows)) * seconds_per_round)
        if limits.seconds is not None:
            left.append(limits.seconds - self.totals.seconds)
        if limits.gradient_steps is not None and new[-1]["gradient_steps"]:
            missing = limits.gradient_steps - self.totals.gradient_steps
            left.append(missing / new[-1]["gradient_steps"] * seconds_per_round)
        progress = Progress(
            rounds=len(self.rows),
            left=max(0.0, min(left)) if left else None,
            **dataclasses.asdict(self.totals),
        )
        self.watchers.rounds(new, progress)

    def _save(self) -> None:
        if self.store:
            streams = self.data.splits.position() if isinstance(self.data.splits, Feed) else {}
            meta = {
                "task": self.setup.task_id,
                "data": self.data.fingerprint(),
                "versions": versions(),
                "totals": dataclasses.asdict(self.totals),
            }
            self.store.save(self.state, self.history, streams, meta)

    def _summary(self, outcome: str, reason: str) -> dict[str, Any]:
        plan, totals = self.evolver.plan, self.totals
        return {
            "task": self.setup.task_id,
            "seed": self.setup.seed,
            "rounds": len(self.rows),
            "promotions": totals.promotions,
            "growths": totals.growths,
            "gradient_steps": totals.gradient_steps,
            "examples": totals.examples,
            "seconds": round(totals.seconds, 3),
            "test": evaluate(plan.task, self.state.model.incumbent, self.data.test),
            "baseline": evaluate(self.setup.task, self.first, self.data.test),
            "outcome": outcome,
            "reason": reason,
            "promise": self._promise(),
            "about": self.data.about,
            "observer_faults": self.watchers.faults,
            "versions": versions(),
            "directory": str(self.directory) if self.directory else None,
        }

    def _same(self, saved: Saved) -> None:
        """Raise RunError when the data have changed; warn when versions have."""
        if saved.meta["data"] != self.data.fingerprint():
            raise RunError(
                f"{self.directory}: the data of this run have changed since it was saved "
                f"(digest {saved.meta['data'][:12]} then, {self.data.fingerprint()[:12]} now): "
                "it cannot go on to the same result"
            )
        then, now = saved.meta["versions"], versions()
        if changed := [f"{n} {then.get(n)} -> {now[n]}" for n in now if then.get(n) != now[n]]:
            warnings.warn(f"resumed with other versions, bits may differ: {', '.join(changed)}", stacklevel=2)

    def _peek(self) -> Splits:
        """Splits of the shapes that rounds will see."""
        splits = self.data.splits
        return splits.next(self.state.spent) if isinstance(splits, Feed) else splits

    def _grow(self, history: Record) -> None:
        """Repeat the host transitions of earlier rounds, which decide the shapes of what was saved."""
        for i in np.flatnonzero(history.decision.calls.any(axis=-1)):
            state = dataclasses.replace(self.state, round=jnp.int32(history.round[i] + 1))
            calls = history.decision.calls[i]
            self.evolver.plan, self.state = loop.transition(self.evolver.plan, state, calls)

    def _reached(self, target: float) -> bool:
        metric = self.setup.task.metrics[0]
        scores = [r["confirm"]["winner"]["mean"][metric.name] for r in self.rows if r["promoted"]]
        return any(s >= target if metric.maximize else s <= target for s in scores)

    def _promise(self) -> str:
        method = self.setup.method
        if method.confirm.promise >= 1:
            return "this confirmation states no error level"
        return method.budget.words.format(level=method.confirm.promise)

    def _kept(self) -> str:
        rounds = f"{len(self.rows)} rounds"
        return f"{rounds} are kept, `ev3x resume {self.directory}` goes on" if self.directory else f"after {rounds}"


def versions() -> dict[str, str]:
    """What the bits of a run depend on."""
    packages = {name: version(name) for name in ("ev3x", "jax", "jaxlib", "optax", "numpy")}
    return {**packages, "python": platform.python_version(), "backend": jax.default_backend()}


def _saved(directory: Path) -> Saved:
    if not (directory / "checkpoints").is_dir():
        raise RunError(f"{directory} is no run directory: it has no checkpoints/")
    return Checkpoints(directory / "checkpoints", {}).load()


def _claim(directory: Path) -> None:
    """Make the directory ready for a new run, or raise RunError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise RunError(
                f"{directory} is not empty: choose another --out, or `ev3x resume {directory}` if it is a run"
            )
        _write(directory / "config.toml", "")
    except OSError as error:
        raise RunError(f"cannot write to {directory}: {error.strerror}; choose another --out") from error


def _write(path: Path, text: str) -> None:
    """Write a whole file or leave it as it was."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    os.replace(draft, path)


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that Ctrl-C (or SIGTERM) fills, so that the chunk under way can end; a second one ends at once."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
