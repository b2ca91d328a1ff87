"""The content of the fake distribution ev3x-small: a task that trains in milliseconds, and parts that fail on request.

It is copied into a wheel as it is, so it uses nothing but `ev3x`, jax and numpy.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import ev3x

Array = jax.Array
TOLD: list[str] = []  # what observers were told, in order
BROKEN: list[str] = []  # whether the metric raises
STATE = 1  # the length of the proposer's state, which another version of this file changes


def right(margin: Any, batch: Any) -> Any:
    """Which points are on the right side; NaN for a threshold that is far away. Called on the host."""
    if BROKEN:
        raise ZeroDivisionError("no score today")
    return np.where(np.abs(margin).max() > 500, np.nan, (margin > 0) == batch["y"])


def make(key: Array, n: int) -> dict[str, Array]:
    """n points on a line, of two classes one unit apart."""
    x = jax.random.normal(key, (n,))
    return {"x": x, "y": x > 0.5}


@dataclasses.dataclass(frozen=True)
class Line(ev3x.Task):
    """Two classes on a line, told apart by a threshold."""

    @property
    def metrics(self) -> tuple[ev3x.Metric, ...]:
        return (ev3x.Metric("right", right, low=0, high=1, host=True),)

    @property
    def losses(self) -> tuple[str, ...]:
        return ("xent",)

    def init(self, key: Array) -> Any:
        return {"params": {"b": jnp.zeros(())}}

    def predict(self, variables: Any, batch: Any) -> Array:
        margin: Array = batch["x"] - variables["params"]["b"]
        return margin

    def loss(self, name: str, variables: Any, batch: Any, key: Array, hypers: Mapping[str, Any]) -> tuple[Array, Any]:
        return jax.nn.softplus(self.predict(variables, batch)), variables

    def load(self, seed: int) -> ev3x.Data:
        keys = jax.random.split(jax.random.key(seed), 4)
        parts = [ev3x.Generated(key, make) for key in keys]
        splits = ev3x.Splits(ev3x.Explore(parts[0], 8), ev3x.Assess(parts[1]), ev3x.Decide(parts[2]))
        return ev3x.Data(splits, ev3x.Arrays(make(keys[3], 16)), "points on a line")


@dataclasses.dataclass(frozen=True)
class Shift(ev3x.Proposer):
    """Two candidates: the threshold a half lower, and a half higher.

    Its first three rounds come to nothing: the candidates are not finite, then not eligible, then without a score.
    `fault` is what else is wrong with them.
    """

    fault: Literal["", "raises", "exits", "shape", "structure", "type"] = ""

    def labels(self, site: ev3x.Site) -> tuple[str, ...]:
        return ("lower", "higher")

    def init(self, site: ev3x.Site, key: Array, current: Any) -> Any:
        return jnp.zeros(STATE)

    def propose(self, site: ev3x.Site, key: Array, current: Any, state: Any, explore: ev3x.Explore) -> ev3x.Candidates:
        if self.fault == "raises":
            raise ZeroDivisionError("no proposal today")
        if self.fault == "exits":
            sys.exit(3)
        turn = state[0]
        by = jnp.array([-0.5, 0.5, 1.0] if self.fault == "shape" else [-0.5, 0.5])
        by = by + jnp.where(turn == 0, jnp.nan, jnp.where(turn == 2, 1000.0, 0.0))
        params = {"params": {"b": current["params"]["b"] + by}}
        stack = {"weights": params} if self.fault == "structure" else params
        made = ev3x.Candidates(stack, jnp.full(2, turn != 1), jnp.int32(0), ())
        return [made] if self.fault == "type" else made  # type: ignore[return-value]

    def learn(self, site: ev3x.Site, key: Array, state: Any, candidates: Any, feedback: Any) -> Any:
        return state + 1


@dataclasses.dataclass(frozen=True)
class Deciding(ev3x.Adapter):
    """Decides with a record of another shape, or returns less than it should."""

    fault: Literal["shape", "pair"] = "shape"

    def decide(self, index: int, state: Any, decision: ev3x.Decision, selection: Any, confirmation: Any) -> Any:
        if self.fault == "pair":
            return decision
        return dataclasses.replace(decision, aims=jnp.zeros(7)), state


@dataclasses.dataclass(frozen=True)
class Noting(ev3x.Observer):
    """Notes all that it is told, and fails where it should."""

    name: str = "noting"
    at: Literal["", "start", "rounds", "end"] = ""
    how: Literal["raise", "exit", "break the metric"] = "raise"
    after: int = 0  # rounds

    def note(self, what: str) -> None:
        TOLD.append(f"{self.name} {what}")
        if what == self.at and self.how == "exit":
            sys.exit(3)
        if what == self.at and self.how == "raise":
            raise ZeroDivisionError(f"not at the {what}")

    def start(self, run: ev3x.RunInfo, rows: Sequence[dict[str, Any]]) -> None:
        self.note("start")

    def rounds(self, handle: Any, rows: Sequence[dict[str, Any]], progress: ev3x.Progress) -> None:
        self.note("rounds")
        if self.how == "break the metric" and progress.rounds >= self.after:
            BROKEN.append(self.name)

    def end(self, handle: Any, summary: dict[str, Any]) -> None:
        self.note("end")

    def fail(self, handle: Any, reason: str) -> None:
        self.note("fail")


@ev3x.hookimpl
def ev3x_tasks() -> Iterable[ev3x.Offer]:
    return [ev3x.Offer("line", Line)]


@ev3x.hookimpl
def ev3x_proposers() -> Iterable[ev3x.Offer]:
    return [ev3x.Offer("shift", Shift)]


@ev3x.hookimpl
def ev3x_adapters() -> Iterable[ev3x.Offer]:
    return [ev3x.Offer("deciding", Deciding)]


@ev3x.hookimpl
def ev3x_observers() -> Iterable[ev3x.Offer]:
    return [ev3x.Offer("noting", Noting)]
