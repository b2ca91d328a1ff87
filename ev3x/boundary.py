"""What components hand back is checked where it comes back: at trace time, and with the component named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .types import Array, Assessment, Decision

_Field = tuple[str, tuple[int, ...]]
_KINDS = {"f": jnp.floating, "i": jnp.integer, "b": jnp.bool_}
_WORDS = {"f": "floats", "i": "integers", "b": "bools"}


def assessment(who: str, got: Any, k: int, m: int) -> Assessment:
    """This assessment of k contenders by m metrics; ValueError says which field of it is not one."""
    if not isinstance(got, Assessment):
        raise ValueError(f"{who}: conclude must return an Assessment, got {type(got).__name__}")
    fields: dict[str, _Field] = dict.fromkeys(("mean", "lower", "upper", "difference", "p_values"), ("f", (k, m)))
    fields |= {"value": ("f", (k,)), "p_value": ("f", (k,)), "reference": ("f", (m,))}
    _check(f"{who}: assessment", got, fields | {"outcome": ("i", (k,)), "winner": ("i", ()), "examples": ("i", ())})
    return got


def decision(who: str, got: Any, m: int, adapters: int) -> Decision:
    """This decision about m metrics by one of the adapters; ValueError says which field of it is not one."""
    if not isinstance(got, Decision):
        raise ValueError(f"{who}: decide must return a Decision and the next state, got {type(got).__name__}")
    _check(
        f"{who}: decision",
        got,
        {"move": ("i", ()), "promote": ("b", ()), "aims": ("f", (m,)), "calls": ("i", (adapters,))},
    )
    return got


def state(who: str, after: Any, before: Any) -> Any:
    """The state after; ValueError says where its structure, a shape or a dtype is not that of the state before."""
    old_structure: Any = jax.tree.structure(before)
    if old_structure != (structure := jax.tree.structure(after)):
        raise ValueError(f"{who}: the next state must have the structure of the last, {old_structure}, got {structure}")
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        want, got = (f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in (old, new))
        if want != got:
            raise ValueError(f"{who}: the next state{jax.tree_util.keystr(path)} must be {want} as before, got {got}")
    return after


def _check(who: str, got: Any, fields: Mapping[str, _Field]) -> None:
    for name, (kind, shape) in fields.items():
        value: Array = getattr(got, name)
        if jnp.shape(value) != shape or not jnp.issubdtype(jnp.result_type(value), _KINDS[kind]):
            raise ValueError(
                f"{who}.{name} must be {_WORDS[kind]} of shape {shape}, "
                f"got {jnp.result_type(value)} of shape {jnp.shape(value)}"
            )
