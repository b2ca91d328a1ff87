"""How much a checkpoint would take once it is read, from its metadata alone: a small file can unpack to any size.

Who has the task of a run compares that with the shapes of its state. Others, such as `export`, which runs no code of
plugins, know what is on disk alone.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from ..core import loop
from ..core.plan import Plan
from .directory import ROUNDS as ROWS
from .directory import on_disk

FREE = 2**27  # bytes of arrays that any checkpoint may have
BESIDE = 2**24  # bytes of arrays beside a state whose size is known: records of the first rounds
MOST = 16  # bytes of arrays for each one on disk, beyond that: trained weights hardly shrink
ROUNDS, ROUND = 1000, 8  # rounds of any checkpoint; bytes on disk for each one beyond that, its row included
TEXTS = 2**24  # bytes of all that is not an array


def of_state(plan: Plan) -> int | None:
    """The bytes of all arrays of a run's state; None where they grow with it. Traces, and computes nothing."""
    if any(adapter.grows for _, adapter in plan.method.adapters):
        return None
    shapes = jax.eval_shape(lambda: loop.init(plan, jax.random.key(0)))
    return sum(map(_size, jax.tree.leaves(shapes)))


def too_large(checkpoint: Path, state: int | None = None) -> str | None:
    """Why this checkpoint cannot be one that was saved; None if it can. Reads shapes, and no array.

    `state` is what `of_state` says, or None where it is not known. What is on disk includes the rows of the run, where
    there are any: records of rounds that are all alike (no candidate is finite, say) shrink to 3 bytes, rows do not.
    """
    disk = _of_rows(checkpoint.parent.parent / ROWS)
    for folder, _, names in os.walk(checkpoint):
        for name in names:
            facts = os.lstat(path := os.path.join(folder, name))
            size = facts.st_size
            disk += on_disk(path, facts)
            if size > TEXTS and name.lower().lstrip("_").endswith("metadata"):
                return f"{name} has {size:,} bytes, more than {TEXTS:,}"
    shapes = ocp.StandardCheckpointHandler().metadata(checkpoint.absolute() / "tree").tree
    rounds = max((x.shape[0] for x in jax.tree.leaves(shapes.get("history", {})) if x.shape), default=0)
    if rounds > ROUNDS + disk // ROUND:
        return f"its {disk:,} bytes cannot hold the records of {rounds:,} rounds"
    arrays = sum(map(_bytes, jax.tree.leaves(shapes)))
    if arrays <= max(FREE if state is None else state + BESIDE, MOST * disk):
        return None
    of = "" if state is None else f", the state of this run has {state:,}"
    return f"its {disk:,} bytes would become {arrays:,} in memory{of}"


def _of_rows(path: Path) -> int:
    try:
        return on_disk(path, os.lstat(path))
    except OSError:  # not there, most of the time
        return 0


def _size(array: Any) -> int:
    itemsize = 8 if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else np.dtype(array.dtype).itemsize
    return math.prod(array.shape) * itemsize


def _bytes(array: Any) -> int:
    """The memory for reading an array: a chunk of it is read as a whole."""
    whole = getattr(getattr(array, "storage", None), "chunk_shape", None) or ()
    return max(math.prod(map(int, shape)) for shape in (array.shape, whole)) * np.dtype(array.dtype).itemsize
