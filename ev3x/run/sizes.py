"""How much a checkpoint would take once it is read, from its metadata alone: a small file can unpack to any size."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from .directory import MOST, on_disk

FREE = 2**29  # bytes of arrays that any checkpoint may have
TEXTS = 2**24  # bytes of all that is not an array


def too_large(checkpoint: Path) -> str | None:
    """Why this checkpoint cannot be one that was saved; None if it can. Reads shapes, and no array."""
    disk = 0
    for folder, _, names in os.walk(checkpoint):
        for name in names:
            facts = os.lstat(os.path.join(folder, name))
            size = facts.st_size
            disk += on_disk(facts)
            if size > TEXTS and name.lower().lstrip("_").endswith("metadata"):
                return f"{name} has {size:,} bytes, more than {TEXTS:,}"
    shapes = ocp.StandardCheckpointHandler().metadata(checkpoint.absolute() / "tree").tree
    arrays = sum(map(_bytes, jax.tree.leaves(shapes)))
    if arrays > max(FREE, MOST * disk):
        return f"its {disk:,} bytes would become {arrays:,} in memory"
    return None


def _bytes(array: Any) -> int:
    """The memory for reading an array: a chunk of it is read as a whole."""
    whole = getattr(getattr(array, "storage", None), "chunk_shape", None) or ()
    return max(math.prod(map(int, shape)) for shape in (array.shape, whole)) * np.dtype(array.dtype).itemsize
