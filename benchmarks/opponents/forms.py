"""The forms of one piece of work, by where they come from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jax import Array, lax

Form = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Forms:
    """All forms of one piece of work; the names stand in tables."""

    natural: Mapping[str, Form]
    """as anyone would write it"""
    known: Mapping[str, Form]
    """tuned; the goals are ratios to the best of these, as a prototype measured them"""
    found: Mapping[str, Form] = dataclasses.field(default_factory=dict)
    """tuned; thought of since"""

    def every(self) -> dict[str, Form]:
        """All of them by name."""
        return {**self.natural, **self.known, **self.found}


def mapped(form: Form, batch: int) -> Form:
    """The form for a few candidates at a time: a lax.map over the first argument's first axis."""

    @functools.wraps(form)
    def run(x: Array, *others: Array) -> Any:
        return lax.map(lambda row: form(row, *others), x, batch_size=None if batch == 1 else batch)

    return run


def layouts(forms: Mapping[str, Form], batches: tuple[int, ...] = (1, 8)) -> dict[str, Form]:
    """Every form for all candidates at once, and for so many at a time."""
    every = {}
    for name, form in forms.items():
        every[name] = form
        every |= {f"{name}, map {b}": mapped(form, b) for b in batches}
    return every
