"""Calls the observers of a run one after the other, and leaves out those that keep failing."""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..core.observe import Observer, Progress, Row, RunInfo
from ..host.discovery import PluginInfo
from ..host.faults import cause


class ObserverError(Exception):
    """Observers failed in a run that allows no fault; the cause is the group of what they raised."""


class Watchers:
    """The observers of a run. Faults of an observer are counted; after three in a row it is left out.

    `owners` gives the plugin of each observer, by label. With `strict`, a fault ends the run instead, after all
    observers were called.
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

    def start(self, run: RunInfo, rows: Sequence[Row]) -> None:
        """Call `start` of every observer."""
        own = self._copies(rows)

        def tell(label: str, observer: Observer) -> None:
            self._handles[label] = observer.start(run, own())

        self._tell(self._observers, tell)

    def rounds(self, rows: Sequence[Row], progress: Progress) -> None:
        """Pass new rounds to every observer that started and is not left out."""
        own = self._copies(rows)
        awake = [label for label in self._handles if self._in_a_row[label] < self.MOST_FAULTS]
        self._tell(awake, lambda label, observer: observer.rounds(self._handles[label], own(), progress))

    def end(self, summary: dict[str, Any]) -> None:
        """Call `end` of every observer that started."""
        own = self._copies(summary)
        self._tell(self._handles, lambda label, observer: observer.end(self._handles[label], own()))

    def fail(self, reason: str) -> None:
        """Call `fail` of every observer that started; errors of observers must not hide the run's own error."""
        with contextlib.suppress(ObserverError, Warning):
            self._tell(self._handles, lambda label, observer: observer.fail(self._handles[label], reason))

    def _copies(self, plain: Any) -> Callable[[], Any]:
        """Makes copies of plain values, one for each observer: what it does to its own changes no file and no other."""
        kept = pickle.dumps(plain) if self._observers else b""
        return lambda: pickle.loads(kept)

    def _tell(self, labels: Iterable[str], tell: Callable[[str, Observer], None]) -> None:
        """Call one observer after the other, even if some raise."""
        errors, texts = [], []
        for label in list(labels):
            try:
                with _staying():
                    tell(label, self._observers[label])
                self._in_a_row[label] = 0
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer may raise anything, SystemExit too
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


@contextlib.contextmanager
def _staying() -> Iterator[None]:
    """Goes back to the working directory after the body: the run's own paths may begin there."""
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = None
    try:
        yield
    finally:
        if here is not None:
            os.chdir(here)
