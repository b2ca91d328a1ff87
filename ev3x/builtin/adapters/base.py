"""What the adapters that grow a model share."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax
import numpy as np

from ...component import unknown
from ...core import contract
from ...core.adapt import Form, TransformError
from ...core.task import Task
from ...core.types import Array, Batch

_log = logging.getLogger(__name__)


def operations(asker: str, task: Task, how: tuple[str, ...]) -> tuple[str, ...]:
    """The operations in `how`; none: all of the task's. Raises ValueError when the task lacks one or has none."""
    if not task.growths:
        raise ValueError(f"{asker}: the task {type(task).__name__} cannot grow: it has no `growths`")
    for name in how:
        if name not in task.growths:
            raise ValueError(f"{asker}: {unknown('operation', name, task.growths)}")
    return how or task.growths


def enlarged(key: Array, form: Form, how: str, morphism: bool) -> Form:
    """The form with the current model grown (or, without a morphism, drawn anew in the larger shape)."""
    who, grown = contract.Who("task", kind=type(form.task)), form.task.grow(how, key, form.model.current)
    task, current = contract.pair(who, "grow", grown, "the larger task", "its variables")
    if not morphism:
        current = task.init(key)
    model = dataclasses.replace(form.model, current=current)
    return Form(task, form.champion or form.task, model, fresh=not morphism)


def verify(what: str, before: Form, after: Form, probe: Batch, tolerance: float) -> None:
    """Raise TransformError when a growth changed a prediction on the probe, relative to max(1, |prediction|)."""
    predictions = [jax.tree.leaves(form.task.predict(form.model.current, probe)) for form in (before, after)]
    change = max(_change(*(np.asarray(x, np.float64) for x in pair)) for pair in zip(*predictions, strict=True))
    if not change <= tolerance:
        raise TransformError(
            f"{what} of {type(before.task).__name__} is no morphism: it changes a prediction by "
            f"{change:.3g}, more than tolerance = {tolerance:g} (or set morphism = false)"
        )
    _log.info("%s changed predictions by at most %.3g", what, change)


def _change(before: Any, after: Any) -> float:
    """The largest relative change; infinite where only one of them is finite."""
    finite = np.isfinite(before)
    if not np.array_equal(finite, np.isfinite(after)):
        return float("inf")
    gap = np.abs(after - before)[finite] / np.maximum(1.0, np.abs(before[finite]))
    return float(gap.max(initial=0.0))
