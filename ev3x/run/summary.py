"""The result of a run: totals over its rounds, what it promised, and how good its models are."""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax

from ..core.contract import BoundaryError, Who
from ..core.data import Arrays, Decide
from ..core.loop import count
from ..core.observe import Row
from ..core.plan import Method
from ..core.task import Data, Task
from ..core.types import PyTree, State, Variables
from ..ops import native
from .evaluate import evaluate
from .fates import fates
from .rows import number
from .setup import Setup

READ_AGAIN = "; it does not hold for rounds that read decide examples again (`uses` in their records)"


@dataclasses.dataclass(frozen=True)
class Totals:
    """Totals over the rounds of a run, which checkpoints save."""

    seconds: float = 0.0
    promotions: int = 0
    transitions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    gradient_steps: int = 0
    examples: int = 0

    def plus(self, new: Sequence[Row], seconds: float) -> Totals:
        return Totals(
            self.seconds + seconds,
            self.promotions + sum(r["promoted"] for r in new),
            dict(Counter(self.transitions) + Counter(what for r in new for what in r["calls"].values())),
            self.gradient_steps + sum(r["gradient_steps"] for r in new),
            self.examples + sum(r["select_examples"] + r["confirm"]["examples"] for r in new),
        )


def versions() -> dict[str, str]:
    """Versions that can change a run's exact numbers."""
    packages = {name: version(name) for name in ("ev3x", "jax", "jaxlib", "optax", "numpy")}
    here = {"python": platform.python_version(), "backend": jax.default_backend(), "native": native.version()}
    return packages | here


def scores(task: Task, variables: Variables, examples: Arrays) -> dict[str, float | None]:
    """The value of each metric on these examples; None where it is not finite, since JSON has no such numbers."""
    return {name: number(value) for name, value in evaluate(task, variables, examples).items()}


def holdout(decide: Any, rows: Sequence[Row]) -> dict[str, int | None]:
    """How many decide examples were read, how many there are (None: no end), and the most reads of one example."""
    size = decide.source.blocks(1) if isinstance(decide, Decide) else None
    read = [row["confirm"] for row in rows if row["confirm"]["examples"]]
    uses = max((c["uses"] + 1 for c in read), default=0)
    return {"read": sum(c["examples"] for c in read), "size": size, "uses": uses}


def kept_models(method: Method, states: Mapping[str, PyTree], test: Arrays) -> dict[str, dict[str, Any]]:
    """The size and the test results of each model that an adapter keeps beside the incumbent."""
    return {
        f"{label}/{name}": {"parameters": count(variables), "test": scores(task, variables, test)}
        for label, adapter in method.adapters
        for name, (task, variables) in adapter.keeps(states[label]).items()
    }


def promise(method: Method, decide: Any) -> str:
    """The budget's promise at the level of the confirmation, in words; BoundaryError when `words` is not a sentence.

    `decide` is the split of the data, a stream, or None where neither is known.
    """
    if method.confirm.promise >= 1:
        return "this confirmation states no error level"
    words = method.budget.words
    try:
        words = words.format(level=method.confirm.promise)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        text = f"words must be a sentence with {{level}} and no other field, got {words!r}"
        who = Who("budget", kind=type(method.budget))
        raise BoundaryError(who, "words", text, "write {{ and }} for braces") from error
    if isinstance(decide, Decide) and decide.reuse and decide.source.blocks(1) is not None:
        words += READ_AGAIN
    return words


def of_records(setup: Setup, rows: Sequence[Row], totals: Totals) -> dict[str, Any]:
    """The part of a run's result that follows from its records; `replay` derives it again."""
    return {
        "task": setup.task_id,
        "seed": setup.seed,
        "rounds": len(rows),
        "promotions": totals.promotions,
        "in_shadow": sum(row["shadow"]["promoted"] for row in rows if "shadow" in row),
        "transitions": totals.transitions,
        "gradient_steps": totals.gradient_steps,
        "examples": totals.examples,
        "proposers": fates(rows),
        "seconds": round(totals.seconds, 3),
        "assumes": list(setup.method.confirm.assumes(setup.task.metrics)),
        "ledger": rows[-1]["ledger"] if rows else {},
    }


def summary(setup: Setup, data: Data, task: Task, state: State, rows: Sequence[Row], totals: Totals) -> dict[str, Any]:
    """The result of a run in plain JSON values; `task` is the incumbent's task, which may have grown."""
    incumbent = state.model.incumbent
    return {
        **of_records(setup, rows, totals),
        "test": scores(task, incumbent, data.test),
        "parameters": count(incumbent),
        "kept": kept_models(setup.method, state.adapters, data.test),
        "promise": promise(setup.method, data.splits.decide),
        "holdout": holdout(data.splits.decide, rows),
        "about": data.about,
    }
