"""Comparing pytrees leaf by leaf; every answer is a sentence about the first leaf that differs, or None."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ..core.types import PyTree

TOLERANCE = 1e-4  # of max(1, |value|): what two compilations of one float32 program may differ by


def unlike(a: PyTree, b: PyTree) -> str | None:
    """Where structure, shape or dtype of b differ from those of a."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (a, b)]
    if structures[0] != structures[1]:
        return f"the structure {structures[1]} instead of {structures[0]}"
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        if _kind(x) != _kind(y):
            return f"{_at(path)} as {_kind(y)} instead of {_kind(x)}"
    return None


def differ(a: PyTree, b: PyTree) -> str | None:
    """Where b does not hold the bits of a (NaN equals NaN)."""
    return unlike(a, b) or _first(a, b, lambda x, y: ~((x == y) | _both_nan(x, y)))


def far(a: PyTree, b: PyTree, tolerance: float = TOLERANCE) -> str | None:
    """Where b is further from a than the tolerance, relative to max(1, |a|); what is not inexact must be equal."""

    def beyond(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return np.asarray(x != y)
        wide = np.complex128 if jnp.issubdtype(x.dtype, jnp.complexfloating) else np.float64
        x, y = x.astype(wide), y.astype(wide)
        finite = np.isfinite(x) & np.isfinite(y)
        gap = np.abs(np.where(finite, x, 0) - np.where(finite, y, 0))
        close = gap <= tolerance * np.maximum(1.0, np.abs(np.where(finite, x, 0)))
        return ~np.where(finite, close, (x == y) | _both_nan(x, y))

    return unlike(a, b) or _first(a, b, beyond)


def poisoned(sound: PyTree, other: PyTree) -> str | None:
    """Where `other` is not finite although `sound` is."""

    def spoilt(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return np.zeros(x.shape, bool)
        return np.isfinite(x.astype(np.complex128)) & ~np.isfinite(y.astype(np.complex128))

    return unlike(sound, other) or _first(sound, other, spoilt)


def plain(leaf: Any) -> npt.NDArray[Any]:
    """The leaf as a numpy array; of a key, its data."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def inexact(f: Any, tree: PyTree) -> PyTree:
    """The tree with f of every leaf that holds floating-point numbers."""
    return jax.tree.map(lambda x: f(x) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x, tree)


def rebuilt(tree: PyTree) -> PyTree:
    """The same leaves in containers of their own."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, leaves)


def stack(trees: list[PyTree]) -> PyTree:
    """The trees on a new leading axis."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def row(tree: PyTree, i: int) -> PyTree:
    """Entry i of the leading axis."""
    return jax.tree.map(lambda x: x[i], tree)


def _first(a: PyTree, b: PyTree, wrong: Any) -> str | None:
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = plain(x), plain(y)
        found = wrong(x, y)
        if found.any():
            place = tuple(int(i) for i in np.argwhere(found)[0])
            index = str(list(place)) if place else ""
            return f"{_at(path)}{index} = {y[place]} instead of {x[place]}"
    return None


def _both_nan(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Any:
    return (x != x) & (y != y)


def _kind(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _at(path: Any) -> str:
    return jax.tree_util.keystr(path) or "the value"
