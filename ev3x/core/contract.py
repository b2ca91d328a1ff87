"""Checks of what components return, at trace time; each error names the component."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .types import Array, Assessment, Candidates, Decision, Variables

_Field = tuple[str, tuple[int, ...]]
_KINDS = {"f": jnp.floating, "i": jnp.integer, "b": jnp.bool_}
_BY_METRIC = ("mean", "lower", "upper", "difference", "difference_lower", "difference_upper", "p_values")
_OTHERS: dict[str, _Field] = {"winner": ("i", ()), "examples": ("i", ())}
_WORDS = {"f": "floats", "i": "integers", "b": "bools"}


@dataclasses.dataclass(frozen=True)
class Who:
    """A component of a run, by its label; messages add the `role` where a run may have several of it."""

    label: str
    role: str = ""

    def __str__(self) -> str:
        return f"{self.role} {self.label!r}" if self.role else self.label


class BoundaryError(ValueError):
    """A component returned something that breaks its contract; `who` is the component."""

    def __init__(self, who: Who, text: str) -> None:
        super().__init__(f"{who}: {text}")
        self.who = who


def assessment(who: Who, got: Any, k: int, m: int) -> Assessment:
    """This assessment of k contenders by m metrics, omitted fields filled in; BoundaryError names a wrong field."""
    if not isinstance(got, Assessment):
        raise BoundaryError(who, f"conclude must return an Assessment, got {type(got).__name__}")
    gaps = {"difference_lower": got.difference, "difference_upper": got.difference}
    gaps["futile"] = jnp.zeros(jnp.shape(got.outcome), bool)
    got = dataclasses.replace(got, **{name: x for name, x in gaps.items() if getattr(got, name) is None})
    fields: dict[str, _Field] = dict.fromkeys(_BY_METRIC, ("f", (k, m)))
    fields |= {"value": ("f", (k,)), "p_value": ("f", (k,)), "reference": ("f", (m,))}
    _check(who, "assessment", got, fields | _OTHERS | {"outcome": ("i", (k,)), "futile": ("b", (k,))})
    return got


def pair(who: Who, got: Any) -> tuple[Any, Any]:
    """The pair that an adapter's `decide` returned: a decision and the next state, neither checked yet."""
    if not isinstance(got, tuple) or len(got) != 2:
        raise BoundaryError(who, f"decide must return a Decision and the next state, got {type(got).__name__}")
    return got


def decision(who: Who, got: Any, m: int, adapters: int) -> Decision:
    """This decision about m metrics by one of the adapters; BoundaryError names a wrong field."""
    if not isinstance(got, Decision):
        raise BoundaryError(who, f"decide must return a Decision and the next state, got {type(got).__name__}")
    _check(
        who,
        "decision",
        got,
        {
            "move": ("i", ()),
            "promote": ("b", ()),
            "applied": ("b", ()),
            "aims": ("f", (m,)),
            "calls": ("i", (adapters,)),
        },
    )
    return got


def state(who: Who, after: Any, before: Any) -> Any:
    """The state `after`; BoundaryError says where its structure, a shape or a dtype differs from `before`."""
    old_structure: Any = jax.tree.structure(before)
    if old_structure != (structure := jax.tree.structure(after)):
        text = f"the next state must have the structure of the last, {old_structure}, got {structure}"
        raise BoundaryError(who, text)
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        want, got = (f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in (old, new))
        if want != got:
            text = f"the next state{jax.tree_util.keystr(path)} must be {want} as before, got {got}"
            raise BoundaryError(who, text)
    return after


def _check(who: Who, what: str, got: Any, fields: Mapping[str, _Field]) -> None:
    for name, (kind, shape) in fields.items():
        value: Array = getattr(got, name)
        if jnp.shape(value) != shape or not jnp.issubdtype(jnp.result_type(value), _KINDS[kind]):
            raise BoundaryError(
                who,
                f"{what}.{name} must be {_WORDS[kind]} of shape {shape}, "
                f"got {jnp.result_type(value)} of shape {jnp.shape(value)}",
            )


def checked(label: str, made: Any, current: Variables, k: int) -> Candidates:
    """These candidates, non-finite ones made ineligible; BoundaryError says where they do not match the model."""
    who = Who(label, "proposer")
    if not isinstance(made, Candidates):
        raise BoundaryError(who, f"propose must return Candidates, got {type(made).__name__}")
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct((k, *x.shape), x.dtype), current)
    got = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), made.variables)
    wanted: Any = jax.tree.structure(expected)
    structure: Any = jax.tree.structure(got)
    if wanted != structure:
        raise BoundaryError(who, f"the candidates must have the model's structure {wanted}, got {structure}")
    for (path, want), have in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            raise BoundaryError(
                who,
                f"candidates{jax.tree_util.keystr(path)} must be {want.dtype}{list(want.shape)} "
                f"({k} candidates on the leading axis), got {have.dtype}{list(have.shape)}",
            )
    if jnp.shape(made.eligible) != (k,) or jnp.result_type(made.eligible) != jnp.bool_:
        text = f"eligible must be bools of shape ({k},), got {jnp.result_type(made.eligible)} of shape "
        raise BoundaryError(who, text + str(jnp.shape(made.eligible)))
    return dataclasses.replace(made, eligible=made.eligible & _finite(made.variables, k))


def _finite(stack: Variables, k: int) -> Array:
    """Which candidates hold finite numbers only: bool[k]."""
    flags = [
        jnp.isfinite(x).reshape(k, -1).all(axis=1)
        for x in jax.tree.leaves(stack)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.stack([jnp.ones(k, bool), *flags]).all(axis=0)
