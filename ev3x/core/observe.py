"""Observe: observers watch a run from the host, between chunks of rounds. They decide nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..component import Component
from ..values import number, plain

Row = dict[str, Any]  # one round as plain JSON values, a line of rounds.jsonl


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a run stops: at the first limit that it reaches. `target` is a confirmed score of the first metric."""

    rounds: int | None = None
    seconds: float | None = None
    gradient_steps: int | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        for field in ("rounds", "gradient_steps"):
            value = plain(getattr(self, field))
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f"limits: {field} must be None or an integer from 0 on, got {value!r}")
            object.__setattr__(self, field, value)
        if self.seconds is not None:
            object.__setattr__(self, "seconds", number("limits: seconds", self.seconds, infinite=True))
            if not self.seconds > 0:
                raise ValueError(f"limits: seconds must be above 0, got {self.seconds!r}")
        if self.target is not None:
            object.__setattr__(self, "target", number("limits: target", self.target))


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
    """How far a run is. `seconds` counts all of its sessions; `left` estimates the seconds to go (None: unknown)."""

    rounds: int
    promotions: int
    transitions: Mapping[str, int]  # how often each transition was asked of the host: grow, undo
    gradient_steps: int
    examples: int
    seconds: float
    left: float | None


@dataclasses.dataclass(frozen=True)
class Observer(Component):
    """Watches a run. The other methods get the handle that `start` returned; the observer itself keeps nothing."""

    role: ClassVar[str] = "observer"

    def start(self, run: RunInfo, rows: Sequence[Row]) -> Any:
        """The handle, any object of the observer's own; `rows` are the rounds before a resume."""
        return None

    def rounds(self, handle: Any, rows: Sequence[Row], progress: Progress) -> None:
        """Receive the rounds since the last call; each row is a line of rounds.jsonl."""

    def end(self, handle: Any, summary: dict[str, Any]) -> None:
        """Receive the end of the run; `summary` is what summary.json holds."""

    def fail(self, handle: Any, reason: str) -> None:
        """Receive the reason why the run failed, in words: there is no summary, and `end` is not called."""
