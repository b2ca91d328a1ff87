"""Episodes as data: what one is made of, an endless stream of them, finitely many of them, and their checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ...core.contract import BoundaryError, Who
from ...core.data import Arrays
from ...core.programs import compiled
from ...core.types import Array, Batch

PARTS = ("support", "query")


class Drawing(Protocol):
    """Anything that draws an episode: a family."""

    def episode(self, key: Array, pool: Batch, /) -> Batch:
        """One episode."""


class Pools(NamedTuple):
    """The real data of each split and of the final test, that episodes are drawn from; None: there are none.

    Each is a pytree of arrays with one leading axis of rows (`ev3x.Generated`, `pool`). No two may share a row.
    """

    explore: Batch = None
    assess: Batch = None
    decide: Batch = None
    test: Batch = None


@dataclasses.dataclass(frozen=True)
class Episodes:
    """The `make` of `ev3x.Generated` that draws episodes of a family; equal for equal families."""

    family: Drawing

    def __call__(self, key: Array, n: int, pool: Batch = None) -> Batch:
        """n episodes."""
        return _drawn(self.family, key, n, pool)


# Jitted for calls outside of a program, where each operation would be compiled by itself.
@compiled("n")
def _drawn(family: Drawing, key: Array, n: int, pool: Batch) -> Batch:
    return jax.vmap(lambda k: family.episode(k, pool))(jax.random.split(key, n))


def episode(x: Any, y: Any, *, support: int) -> dict[str, Any]:
    """The episode of these points, {"x": x, "y": y}, of which the first `support` are its support set."""
    points = {"x": x, "y": y}
    return {
        "support": jax.tree.map(lambda a: a[:support], points),
        "query": jax.tree.map(lambda a: a[support:], points),
    }


def stacked(episodes: Sequence[Batch]) -> Arrays:
    """Finitely many episodes as data: each is one example; ValueError for episodes of unequal shapes."""
    if not episodes:
        raise ValueError("stacked: must have at least one episode, got none")
    forms = [jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), e) for e in episodes]
    for i, form in enumerate(forms):
        if form != forms[0]:
            text = f"episode {i} has shapes {form}, episode 0 has {forms[0]}"
            do = "draw as many points from each, or leave out those that have too few"
            raise ValueError(f"stacked: all episodes must have the shapes of the first, but {text}: {do}")
    return Arrays(jax.tree.map(lambda *x: jnp.stack(x), *episodes))


def checked(who: Who, batch: Batch) -> dict[str, Any]:
    """The support and the query sets of a batch of episodes; BoundaryError says what is wrong with them."""

    def fault(text: str, do: str) -> BoundaryError:
        return BoundaryError(who, "episode", text, do)

    form = '{"support": {"x": ..., "y": ...}, "query": {"x": ..., "y": ...}}'
    if not isinstance(batch, Mapping) or not all(isinstance(batch.get(part), Mapping) for part in PARTS):
        got = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise fault(f"an episode must be {form}, got {got}", "return what episode(x, y, support=...) makes")
    shapes = {part: jax.tree.map(jnp.shape, dict(batch[part])) for part in PARTS}
    trailing = {}
    for part in PARTS:
        leaves = jax.tree.leaves(shapes[part], is_leaf=lambda s: isinstance(s, tuple))
        counts = {shape[1:2] for shape in leaves}
        if "x" not in batch[part] or len(counts) != 1 or () in counts:
            text = f'the {part} set must hold "x" and other entries with one axis of points, got {shapes[part]}'
            raise fault(text, "give all its entries as many points")
        if counts == {(0,)}:
            raise fault(f"the {part} set is empty", "give it at least one point: nothing can be learned from none")
        trailing[part] = jax.tree.map(lambda s: s[2:], shapes[part], is_leaf=lambda s: isinstance(s, tuple))
    if trailing["support"] != trailing["query"]:
        text = f"points of support and query must be alike, got {trailing['support']} and {trailing['query']}"
        raise fault(text, "give both the same entries, of the same shapes")
    return {part: batch[part] for part in PARTS}
