"""Digests of what a checkpoint holds: one of every array, and one of all that is not an array."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_PARTS = {"round", "arrays", "meta", "digest"}


def seal(step: int, tree: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """What is saved beside the arrays of `tree`: their digests, the round, `meta`, and a digest of all this."""
    sealed = {"round": step, "arrays": {path: _array(x) for path, x in _flat(tree)}, "meta": dict(meta)}
    return {**sealed, "digest": _text(sealed)}


def broken(step: int, tree: Mapping[str, Any], sealed: Any) -> str | None:
    """Why these arrays and what was sealed are not what was saved as this checkpoint; None when they are."""
    if not isinstance(sealed, dict) or sealed.keys() != _PARTS:
        return "it has no digests, so nothing shows that it is whole (earlier versions of ev3x saved none)"
    if _text({name: x for name, x in sealed.items() if name != "digest"}) != sealed["digest"]:
        return "its metadata are not what was saved"
    found = dict(_flat(tree))
    if others := sorted(found.keys() ^ sealed["arrays"].keys()):
        return f"{others[0]} {'was not saved with it' if others[0] in found else 'is missing'}"
    if damaged := [path for path, x in found.items() if _array(x) != sealed["arrays"][path]]:
        more = f" (nor are {len(damaged) - 1} others)" if damaged[1:] else ""
        return f"{damaged[0]} is not what was saved{more}"
    held = int(tree["run"]["round"])
    return None if step == held == sealed["round"] else f"it holds the state after {held} rounds"


def _flat(tree: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for name, x in tree.items():
        if isinstance(x, Mapping):
            yield from _flat(x, f"{head}{name}/")
        else:
            yield head + name, x


def _array(x: Any) -> str:
    """The digest of an array, its type and its shape."""
    array = np.asarray(x)
    found = hashlib.sha256(f"{array.dtype.name}{list(array.shape)}".encode())
    found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _text(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
