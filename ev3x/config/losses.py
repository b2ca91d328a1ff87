"""Whether the losses that a config names are those of its task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.propose import Proposer
from ..core.task import Task
from ..training.losses import Loss
from ..training.steps import check_loss
from .toml_lines import Path


def known(task: Task, tables: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The given losses that the task has; if it has none of them, all of the task's losses."""
    found = [t for t in tables if not check_loss(task, Loss(t["name"], **{n: v for n, v in t.items() if n != "name"}))]
    return found or [{"name": name} for name in task.losses]


def faults(task: Task, proposer: Proposer) -> Iterator[tuple[Path, str]]:
    """Where a proposer's options ask for losses that the task does not have, and what is wrong with each."""
    for field in dataclasses.fields(proposer):
        value = getattr(proposer, field.name)
        for i, entry in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            for term in entry.terms if isinstance(entry, Loss) else ():
                if text := check_loss(task, Loss((term,))):
                    yield (field.name,) if i is None else (field.name, i), text
