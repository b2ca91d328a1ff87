"""A run from beginning to end: chunks of rounds, observers in between, everything saved so that it can go on."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import loop
from ..core.adapt import TransformError
from ..core.data import Splits
from ..core.loop import Limit
from ..core.observe import Progress, Row, RunInfo
from ..core.streams import Feed, Position, StreamEnded, StreamFault
from ..core.types import Record, State
from ..evolver import Evolver
from ..host import lock
from ..host.discovery import BUILTIN
from ..ops import native
from .blame import blaming, in_words
from .checkpoint import Checkpoints, Saved, load
from .directory import (
    CHECKPOINTS,
    CONFIG,
    LOCK,
    alone,
    append_rows,
    check_run,
    claim,
    draft,
    write,
    write_rows,
    write_summary,
)
from .directory import RunError as RunError
from .fates import Alarm
from .interrupts import interrupts
from .rows import rows
from .setup import Setup
from .summary import Totals, promise, scores, summary, versions
from .watchers import Watchers

CHUNK_SECONDS = 1.0
CAPACITY = 128


@dataclasses.dataclass(frozen=True)
class _Point:
    """The point that a run reached after a chunk. It is replaced as a whole, so saved values always belong together."""

    state: State
    history: Record | None
    streams: Position
    totals: Totals


def run(setup: Setup, directory: Path | None) -> dict[str, Any]:
    """The summary of a new run. `directory`, if given, must not exist or be empty, and then holds the run."""
    lock.agree(setup.plugins)
    if directory is None:
        with _natively(setup), blaming(setup):
            session = _Session(setup, None)
        return session.go()
    claim(directory)
    with alone(directory):
        write(directory / CONFIG, setup.config)
        try:
            with _natively(setup), blaming(setup):
                session = _Session(setup, directory)
        except BaseException:  # nothing was run: the next try can have the directory
            (directory / CONFIG).unlink()
            (directory / LOCK).unlink(missing_ok=True)
            raise
        return session.go()


def resume(setup: Setup, directory: Path, *, drop_plugin_state: bool = False) -> dict[str, Any]:
    """The summary of a run that goes on from its last checkpoint, with the same bits as a run without a break.

    A run that was killed before its first checkpoint starts again. With `drop_plugin_state`, plugins that can no longer
    read their saved states start anew, instead of raising CheckpointError.
    """
    check_run(directory)
    lock.agree(setup.plugins)
    with alone(directory):
        saved = load(directory / CHECKPOINTS)
        with _natively(setup), blaming(setup):
            session = _Session(setup, directory)
            if saved:
                session.restore(saved, drop=drop_plugin_state)
        return session.go()


def export(directory: Path, to: Path | None = None) -> Path:
    """The file with the incumbent's weights: an .npz of arrays by path, for numpy alone."""
    check_run(directory)
    saved = load(directory / CHECKPOINTS)
    if saved is None:
        raise RunError(f"{directory} ended before its first checkpoint: `ev3x resume {directory}` starts it again")
    to = to or directory / "weights.npz"
    try:
        with draft(to) as new, new.open("wb") as file:
            np.savez(file, allow_pickle=False, **saved.incumbent())
    except OSError as error:
        raise RunError(f"cannot write {to}: {error.strerror}") from error
    return to


class _Session:
    def __init__(self, setup: Setup, directory: Path | None) -> None:
        """Finds everything that can be wrong with a run, before anything is trained or written."""
        self.setup, self.directory = setup, directory
        self.data = setup.task.load(setup.seed)
        self.evolver = Evolver(setup.task, setup.method, self.data.splits, setup.layout, setup.native)
        self.rows: list[Row] = []
        self.alarm = Alarm(setup.whose)
        self.watchers = Watchers(setup.observers, {label: setup.whose(label) for label in setup.ids}, setup.strict)
        self.meta: dict[str, Any] = {
            "task": setup.task_id,
            "data": self.data.fingerprint(),
            "versions": versions() | {p.distribution or p.value: p.version for p in setup.plugins if p.name != BUILTIN},
        }
        state = _strong(self.evolver.init(setup.seed))
        self.point = _Point(state, None, self._position(), Totals())
        if isinstance(self.data.splits, Splits):
            self._record(self.data.splits)
        self.baseline = scores(setup.task, state.model.incumbent, self.data.test)
        self.store = Checkpoints(directory / CHECKPOINTS, setup.homes()) if directory else None

    def restore(self, saved: Saved, *, drop: bool) -> None:
        """Take over the state of the checkpoint."""
        self._same(saved)
        splits = self.data.splits
        try:
            record = self._record(splits.next(self.point.state.spent) if isinstance(splits, Feed) else splits)
            if isinstance(splits, Feed):
                splits.seek(saved.streams)
        except (StreamEnded, StreamFault) as error:
            raise RunError(f"{self.directory} cannot go on: {error}") from error
        history = saved.history(record)
        if history is not None:
            self.rows = rows(self.evolver.plan, history)
            self._grow(history)
        state = saved.state(self.point.state, self.setup.homes(), drop=drop)
        self.point = _Point(state, history, saved.streams, Totals(**saved.meta["totals"]))

    def go(self) -> dict[str, Any]:
        """The summary, after running to the end, whatever ends the run."""
        with blaming(self.setup, self._kept):
            return self._go()

    def _go(self) -> dict[str, Any]:
        plan, setup = self.evolver.plan, self.setup
        info = RunInfo(
            task=setup.task_id,
            seed=setup.seed,
            metrics=tuple(m.name for m in setup.task.metrics),
            candidates=plan.labels(),
            promise=promise(setup.method, self.data),
            about=self.data.about,
            limits=setup.limits,
            directory=self.directory,
            resumed_at=len(self.rows),
        )
        self._save()
        if self.directory:  # rows of rounds after the checkpoint are cut off: these rounds run again
            write_rows(self.directory, self.rows)
        try:
            self.watchers.start(info, self.rows)
            with _natively(setup):
                with interrupts() as interrupted:
                    try:
                        outcome, reason = self._rounds(interrupted)
                    finally:
                        self._save()
                came_to = self._came_to(outcome, reason)
            if self.directory:
                write_summary(self.directory, came_to)
        except BaseException as error:
            self.watchers.fail(str(error) or type(error).__name__)
            raise
        self.watchers.end(came_to)
        return came_to

    def _rounds(self, interrupted: list[int]) -> tuple[str, str]:
        """How the run ended, and why in words; runs chunks of about a second until something ends it."""
        size, saved_at = 1, time.monotonic()
        for chunk in itertools.count():
            if end := self._ended(interrupted):
                return end
            began = time.monotonic()
            try:
                state, records = self.evolver.chunk(self.point.state, self._limit(size), capacity=CAPACITY)
                records = jax.device_get(records)
            except StreamEnded as error:
                return "stopped", str(error)
            except TransformError as error:
                raise RunError(
                    f"{error} ({len(self.rows)} rounds are kept, those since are lost; a resumed run ends here again)"
                ) from error
            except Exception as error:
                if not isinstance(error, StreamFault | jax.errors.JaxRuntimeError) and "Callback" not in str(error):
                    raise
                raise RunError(f"{in_words(error)}; {self._kept()}") from error
            seconds, done = time.monotonic() - began, len(records.round)
            self._note(_strong(state), records, seconds)
            # The first call compiles: its time does not predict the next one's.
            size = 1 if chunk == 0 else max(1, min(CAPACITY, int(CHUNK_SECONDS * done / max(seconds, 1e-6))))
            if time.monotonic() - saved_at >= self.setup.save_every:
                self._save()
                saved_at = time.monotonic()
        raise AssertionError("unreachable")

    def _ended(self, interrupted: list[int]) -> tuple[str, str] | None:
        limits, totals = self.setup.limits, self.point.totals
        if interrupted:
            return "interrupted", f"interrupted; {self._kept()}"
        if limits.target is not None and self._reached(limits.target):
            return "finished", f"the target of {limits.target:g} was reached on the decide split"
        if limits.rounds is not None and len(self.rows) >= limits.rounds:
            return "finished", f"{len(self.rows)} rounds"
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
            steps = min(steps, limits.gradient_steps - self.point.totals.gradient_steps)
        target = math.nan if limits.target is None else limits.target
        return Limit(jnp.int32(rounds), jnp.int32(steps), jnp.float32(target))

    def _note(self, state: State, records: Record, seconds: float) -> None:
        """Add rows and totals of new rounds, in memory and in the file, and pass them to the observers."""
        new = rows(self.evolver.plan, records)
        totals, history = self.point.totals.plus(new, seconds), self.point.history
        if history is not None:
            records = jax.tree.map(lambda a, b: np.concatenate([a, b]), history, records)
        self.point = _Point(state, records, self._position(), totals)
        self.rows += new
        self.alarm.look(self.rows)
        if self.directory:
            append_rows(self.directory, new)
        limits, left, each = self.setup.limits, [], seconds / len(new)
        if limits.rounds is not None:
            left.append((limits.rounds - len(self.rows)) * each)
        if limits.seconds is not None:
            left.append(limits.seconds - totals.seconds)
        if limits.gradient_steps is not None and new[-1]["gradient_steps"]:
            left.append((limits.gradient_steps - totals.gradient_steps) / new[-1]["gradient_steps"] * each)
        progress = Progress(
            rounds=len(self.rows),
            left=max(0.0, min(left)) if left else None,
            **dataclasses.asdict(totals),
        )
        self.watchers.rounds(new, progress)

    def _save(self) -> None:
        if self.store:
            point = self.point
            meta = {**self.meta, "totals": dataclasses.asdict(point.totals)}
            self.store.save(point.state, point.history, point.streams, meta)

    def _position(self) -> Position:
        """The positions of the streams after the last finished chunk, without what a running chunk has taken."""
        return self.data.splits.position() if isinstance(self.data.splits, Feed) else {}

    def _record(self, splits: Splits) -> Record:
        """The shapes of one round's record. Traces the round, so that parts that do not fit together raise here."""
        return jax.eval_shape(loop.round_, self.evolver.plan, splits, self.point.state)[1]

    def _came_to(self, outcome: str, reason: str) -> dict[str, Any]:
        """The summary of the run, with how and why it ended."""
        task, point = self.evolver.plan.incumbent_site.task, self.point
        self.alarm.look(self.rows, ended=True)
        return {
            **summary(self.setup, self.data, task, point.state, self.rows, point.totals),
            "baseline": self.baseline,
            "outcome": outcome,
            "reason": reason,
            "observer_faults": self.watchers.faults,
            "versions": self.meta["versions"],
            "directory": str(self.directory) if self.directory else None,
        }

    def _same(self, saved: Saved) -> None:
        """Raise RunError when the data have changed; warn when versions have."""
        if saved.meta["data"] != self.meta["data"]:
            raise RunError(
                f"{self.directory}: the data of this run have changed since it was saved "
                f"(digest {saved.meta['data'][:12]} then, {self.meta['data'][:12]} now): "
                "it cannot go on to the same result"
            )
        then, now = saved.meta["versions"], self.meta["versions"]
        if changed := [f"{n} {then.get(n)} -> {now[n]}" for n in now if then.get(n) != now[n]]:
            warnings.warn(f"resumed with other versions, bits may differ: {', '.join(changed)}", stacklevel=2)

    def _grow(self, history: Record) -> None:
        """Repeat the host transitions of earlier rounds, on which the shapes of saved arrays depend."""
        for i, done in enumerate(history.round):
            decision = jax.tree.map(lambda x, i=i: x[i], history.decision)
            if bool(loop.called(self.evolver.plan, decision)):
                state = dataclasses.replace(self.point.state, round=jnp.int32(done + 1))
                self.evolver.plan, state = loop.transition(self.evolver.plan, state, decision)
                self.point = dataclasses.replace(self.point, state=state)

    def _reached(self, target: float) -> bool:
        metric = self.setup.task.metrics[0]
        scores = [np.float32(r["confirm"]["winner"]["mean"][metric.name]) for r in self.rows if r["promoted"]]
        goal = np.float32(target)  # float32, as on the device
        return any(bool(s >= goal if metric.maximize else s <= goal) for s in scores)

    def _kept(self) -> str:
        rounds = f"{len(self.rows)} rounds"
        return f"{rounds} are kept, `ev3x resume {self.directory}` goes on" if self.directory else f"after {rounds}"


@contextmanager
def _natively(setup: Setup) -> Iterator[None]:
    """Traces the body with native code as the setup says; RunError names the config's line if that is impossible."""
    try:
        with native.using(setup.native):
            yield
    except native.NativeError as error:
        said = setup.native == "require" and setup.native_origin
        raise RunError(f"{setup.native_origin}: {error}" if said else str(error)) from error


def _strong(state: State) -> State:
    """The state without weak types: checkpoints cannot keep them, and with bfloat16 they change the result of a sum."""
    return jax.tree.map(lambda x: x.astype(x.dtype) if getattr(x, "weak_type", False) else x, state)
