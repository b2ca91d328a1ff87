"""A run from beginning to end: chunks of rounds, observers in between, everything saved so that it can go on."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import loop
from ..core.adapt import TransformError
from ..core.contract import Who, returned
from ..core.data import Splits
from ..core.observe import Progress, Row, RunInfo
from ..core.plan import Plan
from ..core.streams import Feed, Position, StreamEnded, StreamFault
from ..core.task import Data
from ..core.types import Record, State
from ..evolver import Evolver
from ..host import lock
from ..ops import native
from ..text import shown
from . import limits
from .blame import blaming, in_words
from .checkpoint import CheckpointError, Checkpoints, PlaceError, Saved, of_run
from .directory import (
    CHECKPOINTS,
    CONFIG,
    LOCK,
    alone,
    append_rows,
    check_run,
    claim,
    resuming,
    write,
    write_rows,
    write_summary,
)
from .directory import RunError as RunError
from .export import export as export
from .fates import Alarm
from .identity import belongs, changes, identity, same_data
from .interrupts import interrupts
from .manifest import seal, unseal
from .rows import rows
from .setup import Setup
from .sizes import of_state
from .summary import Totals, promise, scores, summary
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
        try:
            write(directory / CONFIG, setup.config)
            with _natively(setup), blaming(setup):
                session = _Session(setup, directory)
        except BaseException:  # nothing was run: the next try can have the directory
            (directory / CONFIG).unlink(missing_ok=True)
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
        with _natively(setup), blaming(setup):
            size = of_state(Plan(setup.task, setup.method, setup.layout, native=setup.native))
        saved = of_run(directory / CHECKPOINTS, size)
        if saved:
            belongs(saved.meta, setup, directory)
        with _natively(setup), blaming(setup):
            session = _Session(setup, directory)
            if saved:
                session.restore(saved, drop=drop_plugin_state)
        return session.go()


class _Session:
    def __init__(self, setup: Setup, directory: Path | None) -> None:
        """Finds everything that can be wrong with a run, before anything is trained or written."""
        self.setup, self.directory = setup, directory
        loaded, task = setup.task.load(setup.seed), Who("task", kind=type(setup.task))
        self.data: Data = returned(task, "load", loaded, Data, "return ev3x.Data(splits, test, about)")
        self.evolver = Evolver(setup.task, setup.method, self.data.splits, setup.layout, setup.native)
        self.rows: list[Row] = []
        self.alarm = Alarm(setup.whose)
        self.watchers = Watchers(setup.observers, {label: setup.whose(label) for label in setup.ids}, setup.strict)
        self.meta = identity(setup, self.data.fingerprint())
        self.changes: list[str] = []  # on purpose, in resumed runs
        state = _strong(self.evolver.init(setup.seed))
        self.point = _Point(state, None, self._position(), Totals())
        self.saved = 0  # rounds in the last checkpoint
        if isinstance(self.data.splits, Splits):
            self._record(self.data.splits)
        self.baseline = scores(setup.task, state.model.incumbent, self.data.test)
        self.store = Checkpoints(directory / CHECKPOINTS, setup.homes()) if directory else None

    def restore(self, saved: Saved, *, drop: bool) -> None:
        """Take over the state of the checkpoint."""
        same_data(saved.meta, self.meta, self.directory)
        splits = self.data.splits
        try:
            record = self._record(splits.next(self.point.state.spent) if isinstance(splits, Feed) else splits)
            if isinstance(splits, Feed):
                splits.seek(saved.streams)
        except (StreamEnded, StreamFault) as error:
            raise RunError(f"{shown(self.directory)} cannot go on: {error}") from error
        history = saved.history(record)
        if history is not None:
            self.rows = rows(self.evolver.plan, history)
            self._grow(history)
        homes = self.setup.homes()
        self.changes = list(saved.meta["changes"])
        anew = [f"started anew: {text}" for text in saved.misfits(self.point.state, homes).values() if drop]
        self.changes += [f"before round {len(self.rows)}: {text}" for text in changes(saved.meta, self.meta) + anew]
        state = saved.state(self.point.state, homes, drop=drop)
        self.point = _Point(state, history, saved.streams, Totals(**saved.meta["totals"]))
        self.saved = len(self.rows)
        if self.store:
            self.store.goes_on(saved)

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
            promise=promise(setup.method, self.data.splits.decide),
            about=self.data.about,
            limits=setup.limits,
            directory=self.directory,
            resumed_at=len(self.rows),
        )
        self._save()
        if self.directory:  # rows of rounds after the checkpoint are cut off: these rounds run again
            unseal(self.directory)
            write_rows(self.directory, self.rows)
        try:
            self.watchers.start(info, self.rows)
            with _natively(setup):
                with interrupts() as interrupted:
                    outcome, reason = self._rounds_saved(interrupted)
                came_to = self._came_to(outcome, reason)
            self._conclude(came_to)
        except BaseException as error:
            self.watchers.fail(str(error) or type(error).__name__)
            raise
        try:
            self.watchers.end(came_to)
        finally:
            if self.watchers.faults != came_to["observer_faults"]:  # the summary tells of faults at the end, too
                came_to["observer_faults"] = dict(self.watchers.faults)
                self._conclude(came_to)
        if self.directory:  # last of all, when no file changes any more
            with self._told():
                seal(self.directory)
        return came_to

    def _conclude(self, came_to: dict[str, Any]) -> None:
        if self.directory:
            with self._told():
                write_summary(self.directory, came_to)

    def _rounds_saved(self, interrupted: list[int]) -> tuple[str, str]:
        """What `_rounds` returns; the rounds are saved, whatever ends them, if they can be."""
        try:
            outcome, reason = self._rounds(interrupted)
        except BaseException as error:
            try:
                self._save()
            except CheckpointError as unsaved:  # must not hide what ended the run
                error.add_note(str(unsaved))
            raise
        self._save()
        return outcome, reason

    def _rounds(self, interrupted: list[int]) -> tuple[str, str]:
        """How the run ended, and why in words; runs chunks of about a second until something ends it."""
        size, saved_at = 1, time.monotonic()
        for chunk in itertools.count():
            if end := self._ended(interrupted):
                return end
            began = time.monotonic()
            try:
                limit = limits.of_chunk(self.setup.limits, self.point.totals, len(self.rows), size)
                state, records = self.evolver.chunk(self.point.state, limit, capacity=CAPACITY)
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
        if interrupted:
            return "interrupted", f"interrupted; {self._kept()}"
        task, totals = self.setup.task, self.point.totals
        reason = limits.reached(self.setup.limits, task.metrics[0], totals, self.rows)
        return None if reason is None else ("finished", reason)

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
            with self._told():
                append_rows(self.directory, new)
        progress = Progress(
            rounds=len(self.rows),
            left=limits.left(self.setup.limits, totals, len(self.rows), new, seconds),
            **dataclasses.asdict(totals),
        )
        self.watchers.rounds(new, progress)

    def _save(self) -> None:
        if self.store:
            point = self.point
            meta = {**self.meta, "totals": dataclasses.asdict(point.totals), "changes": self.changes}
            try:
                self.store.save(point.state, point.history, point.streams, meta)
            except PlaceError:
                raise
            except CheckpointError as error:
                then = f"goes on after {_count(self.saved)}" if self.saved else "starts it again"
                raise CheckpointError(f"{error}: `{resuming(self.directory)}` {then}") from error
            self.saved = 0 if point.history is None else len(point.history.round)

    def _position(self) -> Position:
        """The positions of the streams after the last finished chunk, without what a running chunk has taken."""
        return self.data.splits.position() if isinstance(self.data.splits, Feed) else {}

    def _record(self, splits: Splits) -> Record:
        """The shapes of one round's record. Traces the round, so that parts that do not fit together raise here."""
        return jax.eval_shape(loop.round_.of(self.evolver.plan), splits, self.point.state)[1]

    def _came_to(self, outcome: str, reason: str) -> dict[str, Any]:
        """The summary of the run, with how and why it ended."""
        task, point = self.evolver.plan.incumbent_site.task, self.point
        self.alarm.look(self.rows, ended=True)
        return {
            **summary(self.setup, self.data, task, point.state, self.rows, point.totals),
            "baseline": self.baseline,
            "outcome": outcome,
            "reason": reason,
            "observer_faults": dict(self.watchers.faults),
            "versions": self.meta["versions"],
            "changes": self.changes,
            "directory": str(self.directory) if self.directory else None,
        }

    def _grow(self, history: Record) -> None:
        """Repeat the host transitions of earlier rounds, on which the shapes of saved arrays depend."""
        for i, done in enumerate(history.round):
            decision = jax.tree.map(lambda x, i=i: x[i], history.decision)
            if bool(loop.called(self.evolver.plan, decision)):
                state = dataclasses.replace(self.point.state, round=jnp.int32(done + 1))
                self.evolver.plan, state = loop.transition(self.evolver.plan, state, decision)
                self.point = dataclasses.replace(self.point, state=state)

    def _kept(self) -> str:
        """What is kept of the rounds so far, in words. They are saved first, as far as that is possible."""
        if self.directory is None:
            return f"after {_count(len(self.rows))}"
        try:
            self._save()
        except CheckpointError as error:
            return str(error)
        n = len(self.rows)
        return f"{_count(n)} {'is' if n == 1 else 'are'} kept, `{resuming(self.directory)}` goes on"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Adds to a RunError of the body what is kept."""
        try:
            yield
        except RunError as error:
            raise RunError(f"{error}; {self._kept()}") from error


@contextmanager
def _natively(setup: Setup) -> Iterator[None]:
    """Traces the body with native code as the setup says; RunError names the config's line if that is impossible."""
    try:
        with native.using(setup.native):
            yield
    except native.NativeError as error:
        said = setup.native == "require" and setup.native_origin
        raise RunError(f"{setup.native_origin}: {error}" if said else str(error)) from error


def _count(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"


def _strong(state: State) -> State:
    """The state without weak types: checkpoints cannot keep them, and with bfloat16 they change the result of a sum."""
    return jax.tree.map(lambda x: x.astype(x.dtype) if getattr(x, "weak_type", False) else x, state)
