"""Observe: what watches a run from the host, between chunks of rounds. Observers see; they decide nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .component import Component
from .discovery import PluginInfo
from .watch import cause


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

    def fail(self, handle: Any, reason: str) -> None:
        """The run ended with an error, in words: there is no summary, and `end` is not called."""


class ObserverError(Exception):
    """Observers have failed in a run that allows no fault; its cause is the group of what they raised."""


class Watchers:
    """The observers of a run. One that raises is counted, and left out after three faults in a row.

    `owners` says of which plugin they are, by label. With `strict`, a fault ends the run instead, when all have been
    told.
    """

    MOST_FAULTS = 3

    def __init__(
        self,
        observers: Sequence[tuple[str, Observer]],
        owners: Mapping[str, PluginInfo | None] | None = None,
        strict: bool = False,
    ) -> None:
        self._observers = dict(observers)
        self._owners = owners or {}
        self._strict = strict
        self._handles: dict[str, Any] = {}
        self._in_a_row = dict.fromkeys(self._observers, 0)
        self.faults: dict[str, int] = {}

    def start(self, run: RunInfo, rows: Sequence[dict[str, Any]]) -> None:
        """Tell everyone that the run begins."""

        def tell(label: str, observer: Observer) -> None:
            self._handles[label] = observer.start(run, rows)

        self._tell(self._observers, tell)

    def rounds(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Tell everyone who started, and is not left out, of new rounds."""
        awake = [label for label in self._handles if self._in_a_row[label] < self.MOST_FAULTS]
        self._tell(awake, lambda label, observer: observer.rounds(self._handles[label], rows, progress))

    def end(self, summary: dict[str, Any]) -> None:
        """Tell everyone who started that the run ended."""
        self._tell(self._handles, lambda label, observer: observer.end(self._handles[label], summary))

    def fail(self, reason: str) -> None:
        """Tell everyone who started that the run ended with an error, which what they raise must not hide."""
        with contextlib.suppress(ObserverError, Warning):
            self._tell(self._handles, lambda label, observer: observer.fail(self._handles[label], reason))

    def _tell(self, labels: Iterable[str], tell: Callable[[str, Observer], None]) -> None:
        """Tell one after the other, whatever the others do."""
        errors, texts = [], []
        for label in list(labels):
            try:
                tell(label, self._observers[label])
                self._in_a_row[label] = 0
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # sys.exit, and whatever else an observer comes up with
                errors.append(error)
                texts.append(self._count(label, error))
        if errors and self._strict:
            raise ObserverError(f"--strict-plugins: {'; '.join(texts)}") from BaseExceptionGroup("observers", errors)
        for text in texts:
            warnings.warn(text, stacklevel=3)

    def _count(self, label: str, error: BaseException) -> str:
        self._in_a_row[label] += 1
        self.faults[label] = self.faults.get(label, 0) + 1
        out = "; it is left out from now on" if self._in_a_row[label] == self.MOST_FAULTS else ""
        owner = f" ({plugin})" if (plugin := self._owners.get(label)) else ""
        return f"observer {label!r}{owner} failed: {cause(error)}{out}"
