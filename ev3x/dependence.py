"""Which results of a function hang on which of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Literal


def dependent(f: Callable[..., Any], arguments: Sequence[Any], marked: Sequence[bool]) -> list[bool]:
    """Which leaves of f(*arguments) may hang on marked leaves of the arguments, without calling it.

    Never too few: what a function within f returns counts as hanging on all that it is given.
    """
    jaxpr = jax.make_jaxpr(f)(*arguments).jaxpr
    reached = {v for v, mark in zip(jaxpr.invars, marked, strict=True) if mark}
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in equation.invars):
            reached.update(equation.outvars)
    return [not isinstance(v, Literal) and v in reached for v in jaxpr.outvars]
