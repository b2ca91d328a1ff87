"""Observe: what watches a run from the host, between chunks of rounds. Observers see; they decide nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .component import Component


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a run stops: whichever comes first. `target` is a confirmed score of the first metric."""

    rounds: int | None = None
    seconds: float | None = None
    gradient_steps: int | None = None
    target: float | None = None


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What a run is, before its first round."""

    task: str
    seed: int
    metrics: tuple[str, ...]
    candidates: tuple[str, ...]
    promise: str
    about: str
    limits: Limits
    directory: Path | None
    resumed_at: int


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is. `seconds` counts all of its sessions, `left` is the estimate in seconds (None: unknown)."""

    rounds: int
    promotions: int
    transitions: Mapping[str, int]  # how often adapters asked the host for what: grow, undo
    gradient_steps: int
    examples: int
    seconds: float
    left: float | None


@dataclasses.dataclass(frozen=True)
class Observer(Component):
    """Watches a run. What `start` returns is handed back to the other two; nothing is kept on the observer."""

    role: ClassVar[str] = "observer"

    def start(self, run: RunInfo, rows: Sequence[dict[str, Any]]) -> Any:
        """A handle of the observer's own; `rows` are the rounds before a resume."""
        return None

    def rounds(self, handle: Any, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        """The rounds since the last call, as in rounds.jsonl."""

    def end(self, handle: Any, summary: dict[str, Any]) -> None:
        """The run ended; `summary` is what summary.json holds."""


class Watchers:
    """The observers of a run. One that raises is counted, and left out after three faults in a row."""

    MOST_FAULTS = 3

    def __init__(self, observers: Sequence[tuple[str, Observer]]) -> None:
        self._observers = dict(observers)
        self._handles: dict[str, Any] = {}
        self._in_a_row = dict.fromkeys(self._observers, 0)
        self.faults: dict[str, int] = {}

    def start(self, run: RunInfo, rows: Sequence[dict[str, Any]]) -> None:
        """Tell everyone that the run begins."""
        for label, observer in self._observers.items():
            with self._guarded(label):
                self._handles[label] = observer.start(run, rows)

    def rounds(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Tell everyone who started of new rounds."""
        for label in list(self._handles):
            if self._in_a_row[label] < self.MOST_FAULTS:
                with self._guarded(label):
                    self._observers[label].rounds(self._handles[label], rows, progress)

    def end(self, summary: dict[str, Any]) -> None:
        """Tell everyone who started that the run ended."""
        for label, handle in self._handles.items():
            with self._guarded(label):
                self._observers[label].end(handle, summary)

    @contextlib.contextmanager
    def _guarded(self, label: str) -> Iterator[None]:
        try:
            yield
            self._in_a_row[label] = 0
        except (Exception, SystemExit) as error:
            self._in_a_row[label] += 1
            self.faults[label] = self.faults.get(label, 0) + 1
            out = "; it is left out from now on" if self._in_a_row[label] == self.MOST_FAULTS else ""
            warnings.warn(f"observer {label!r} failed: {type(error).__name__}: {error}{out}", stacklevel=3)
