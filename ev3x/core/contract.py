"""Checks of what components return, at trace time; each error names component, method, place, and what to do."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..values import short, twice
from .types import Array, Assessment, Candidates, Decision, Variables

_Field = tuple[str, tuple[int, ...]]
_KINDS = {"f": jnp.floating, "i": jnp.integer, "b": jnp.bool_}
_BY_METRIC = ("mean", "lower", "upper", "difference", "difference_lower", "difference_upper", "p_values")
_OTHERS: dict[str, _Field] = {"winner": ("i", ()), "examples": ("i", ())}
_WORDS = {"f": "floats", "i": "integers", "b": "bools"}


@dataclasses.dataclass(frozen=True)
class Who:
    """A component of a run, by its label; messages add the `role` where a run may have several of it.

    `kind` is its class, from which messages take the place of the method at fault.
    """

    label: str
    role: str = ""
    kind: type | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.label!r}" if self.role else self.label

    def method(self, name: str) -> str:
        """The method with the file and line where it is written, as far as they are known."""
        if self.kind is None:
            return f"`{name}`"
        found: Any = inspect.getattr_static(self.kind, name, None)
        code = getattr(inspect.unwrap(getattr(found, "fget", None) or found), "__code__", None) if found else None
        return f"`{self.kind.__name__}.{name}`" + (f", {code.co_filename}:{code.co_firstlineno}" if code else "")


class BoundaryError(ValueError):
    """A method of a component returned something that breaks its contract; `who` is the component.

    `text` says what was expected and what came, `do` what to do about it.
    """

    def __init__(self, who: Who, method: str, text: str, do: str) -> None:
        super().__init__(f"{who}: {text}; {do} ({who.method(method)})")
        self.who = who


def instance(what: str, got: object, kind: type) -> None:
    """Raises TypeError unless what was given is an instance of this kind; a class alone is told to be called."""
    if not isinstance(got, kind):
        call = f": write {got.__name__}(...)" if isinstance(got, type) and issubclass(got, kind) else ""
        raise TypeError(f"{what} must be an instance of {kind.__name__}, got {short(got)}{call}")


def returned(who: Who, method: str, got: Any, kind: type, do: str) -> Any:
    """What the method returned, if it is of this kind."""
    if not isinstance(got, kind):
        article = "" if kind is Candidates else "an " if kind.__name__[0] in "AEIOU" else "a "
        raise BoundaryError(who, method, f"{method} must return {article}{kind.__name__}, got {_type(got)}", do)
    return got


def pair(who: Who, method: str, got: Any, first: str, second: str) -> tuple[Any, Any]:
    """The pair that a method returned, neither part checked yet."""
    if not isinstance(got, tuple) or len(got) != 2:
        text = f"{method} must return {first} and {second}, got {described(got)}"
        raise BoundaryError(who, method, text, "return both as a tuple")
    return got


def names(who: Who, got: Any) -> tuple[str, ...]:
    """The names of a proposer's candidates, as its `labels` returned them; their number is K."""
    if not isinstance(got, tuple | list) or not all(isinstance(name, str) for name in got):
        text = f"labels must return a tuple of strings, one for each candidate, got {got!r}"
        raise BoundaryError(who, "labels", text, "name every candidate: their number is K")
    if not all(name.strip() for name in got):
        text = f"labels must give every candidate a name with something in it, got {got!r}"
        raise BoundaryError(who, "labels", text, "say what distinguishes it")
    if again := twice(got):
        text = f"labels must give every candidate a name of its own, got {', '.join(map(repr, again))} more than once"
        raise BoundaryError(who, "labels", text, "tell those that differ apart, and leave out those that do not")
    return tuple(got)


def listed(who: Who, method: str, got: Any, of: str) -> tuple[Any, ...]:
    """The entries that a property returned as a tuple or a list; a string would be taken apart into letters."""
    if not isinstance(got, tuple | list):
        do = "make it a property" if inspect.ismethod(got) else "write (one,) for a single one"
        raise BoundaryError(who, method, f"{method} must be a tuple of {of}, got {_type(got)}", do)
    return tuple(got)


def arrays(who: Who, method: str, got: Any, what: str) -> Any:
    """The pytree that a method returned, if its leaves are arrays or numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(got):
        if not _numeric(leaf):
            text = f"{what}{jax.tree_util.keystr(path)} must be an array or a number, got {_type(leaf)}"
            raise BoundaryError(who, method, text, "keep texts, functions and objects in the component, as options")
    return got


def real(got: Any) -> bool:
    """Whether this is an array of real numbers or bools, or one number."""
    return _numeric(got) and any(jnp.issubdtype(jnp.result_type(got), kind) for kind in _KINDS.values())


def number(who: Who, method: str, got: Any, kind: str) -> Any:
    """The scalar of this kind (f, i or b) that a method returned."""
    if not _is(got, kind, ()):
        wanted = {"f": "a float", "i": "an integer", "b": "a bool"}[kind]
        text = f"{method} must return {wanted} of shape (), got {described(got)}"
        raise BoundaryError(who, method, text, "reduce it to one number, and cast with .astype")
    return got


def ledger(who: Who, got: Any) -> dict[str, Array]:
    """The figures that a budget's `account` returned."""
    returned(who, "account", got, dict, "return a dict of scalars by name, {} for none")
    for name, figure in got.items():
        if not isinstance(name, str) or not _numeric(figure) or jnp.shape(figure) != ():
            text = f"account must return scalars by name, got {name!r}: {described(figure)}"
            raise BoundaryError(who, "account", text, "give every figure a name and the shape ()")
    return dict(got)


def assessment(who: Who, got: Any, k: int, m: int) -> Assessment:
    """This assessment of k contenders by m metrics, omitted fields filled in; BoundaryError names a wrong field."""
    returned(who, "conclude", got, Assessment, "return ev3x.Assessment(...)")
    gaps = {"difference_lower": got.difference, "difference_upper": got.difference}
    gaps["futile"] = jnp.zeros(jnp.shape(got.outcome), bool)
    got = dataclasses.replace(got, **{name: x for name, x in gaps.items() if getattr(got, name) is None})
    fields: dict[str, _Field] = dict.fromkeys(_BY_METRIC, ("f", (k, m)))
    fields |= {"value": ("f", (k,)), "p_value": ("f", (k,)), "reference": ("f", (m,))}
    fields |= _OTHERS | {"outcome": ("i", (k,)), "futile": ("b", (k,))}
    do = f"there are K = {k} contenders and M = {m} metrics: broadcast to them, and cast with .astype"
    _check(who, "conclude", "assessment", got, fields, do)
    return got


def decision(who: Who, got: Any, m: int, adapters: int) -> Decision:
    """This decision about m metrics by one of the adapters; BoundaryError names a wrong field."""
    do = "change the decision that it gets, by dataclasses.replace"
    if not isinstance(got, Decision):
        raise BoundaryError(who, "decide", f"decide must return a Decision and the next state, got {_type(got)}", do)
    fields = {"move": ("i", ()), "promote": ("b", ()), "applied": ("b", ()), "aims": ("f", (m,))}
    _check(who, "decide", "decision", got, fields | {"calls": ("i", (adapters,))}, do)
    return got


def state(who: Who, method: str, after: Any, before: Any, what: str = "state", begin: str = "init") -> Any:
    """The state `after`; BoundaryError says where its structure, a shape or a dtype differs from `before`."""
    old_structure: Any = jax.tree.structure(before)
    if old_structure != (structure := jax.tree.structure(after)):
        text = f"the next {what} must have the structure of the last, {old_structure}, got {structure}"
        raise BoundaryError(who, method, text, f"return all that `{begin}` made, under the same names")
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        want, got = (f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in (old, new))
        if want != got:
            text = f"the next {what}{jax.tree_util.keystr(path)} must be {want} as before, got {got}"
            raise BoundaryError(who, method, text, f"keep what `{begin}` made: cast with .astype, or reshape")
    return after


def matched(label: str, made: Any, current: Variables, k: int, kind: type | None = None) -> Candidates:
    """These candidates as they are; BoundaryError says where they do not match the model."""
    who = Who(label, "proposer", kind)
    returned(who, "propose", made, Candidates, "return ev3x.Candidates(...)")
    expected = jax.tree.map(lambda x: jax.ShapeDtypeStruct((k, *x.shape), x.dtype), current)
    got = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), made.variables)
    wanted: Any = jax.tree.structure(expected)
    structure: Any = jax.tree.structure(got)
    if wanted != structure:
        text = f"the candidates must have the model's structure {wanted}, got {structure}"
        raise BoundaryError(who, "propose", text, "return every collection: {**current, 'params': ...}")
    for (path, want), have in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            text = (
                f"candidates{jax.tree_util.keystr(path)} must be {want.dtype}{list(want.shape)} "
                f"({k} candidates on the leading axis), got {have.dtype}{list(have.shape)}"
            )
            raise BoundaryError(who, "propose", text, _about_candidates(who, k, want, have))
    if not _is(made.eligible, "b", (k,)):
        text = f"eligible must be bools of shape ({k},), got {described(made.eligible)}"
        raise BoundaryError(who, "propose", text, f"give one for each candidate; {_named(who, k)}")
    if not _is(made.steps, "i", ()):
        text = f"steps must be an integer of shape (), got {described(made.steps)}"
        raise BoundaryError(who, "propose", text, "count the gradient steps of all candidates: jnp.int32(...)")
    for name, note in made.notes.items():
        if not _numeric(note) or jnp.shape(note)[:1] != (k,):
            text = f"note {name!r} must have a leading axis of {k}, got {described(note)}"
            raise BoundaryError(who, "propose", text, f"note one entry for each candidate; {_named(who, k)}")
    return made


def finite(stack: Variables, k: int) -> Array:
    """Which candidates hold finite numbers only: bool[k]."""
    flags = [
        jnp.isfinite(x).reshape(k, -1).all(axis=1)
        for x in jax.tree.leaves(stack)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    return jnp.stack([jnp.ones(k, bool), *flags]).all(axis=0)


def _about_candidates(who: Who, k: int, want: Any, have: Any) -> str:
    """What to do about candidates of a wrong shape or dtype."""
    if have.shape == want.shape:
        return "cast them with .astype to the dtype of the current variables"
    if have.shape[1:] == want.shape[1:] and len(have.shape) == len(want.shape):
        return f"make as many candidates as there are names; {_named(who, k)}"
    return f"stack the candidates on axis 0, each in the shape of the current variables; {_named(who, k)}"


def _named(who: Who, k: int) -> str:
    return f"K = {k} is the number of names from {who.method('labels')}"


def _check(who: Who, method: str, what: str, got: Any, fields: Mapping[str, _Field], do: str) -> None:
    for name, (kind, shape) in fields.items():
        value: Array = getattr(got, name)
        if not _is(value, kind, shape):
            text = f"{what}.{name} must be {_WORDS[kind]} of shape {shape}, got {described(value)}"
            raise BoundaryError(who, method, text, do)


def _is(value: Any, kind: str, shape: tuple[int, ...]) -> bool:
    """Whether this is an array (or a number) of this kind and shape."""
    return _numeric(value) and jnp.shape(value) == shape and jnp.issubdtype(jnp.result_type(value), _KINDS[kind])


def _numeric(value: Any) -> bool:
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return isinstance(value, bool | int | float)
    return not isinstance(value, np.ndarray) or value.dtype.kind not in "OSUMm"  # objects, texts, dates


def described(value: Any) -> str:
    """Dtype and shape of an array, or the type of anything else."""
    if _numeric(value):
        return f"{jnp.result_type(value)} of shape {jnp.shape(value)}"
    return f"{_type(value)} of {value.dtype}" if hasattr(value, "dtype") else _type(value)


def _type(got: Any) -> str:
    return "None: have you forgotten the `return`?" if got is None else type(got).__name__
