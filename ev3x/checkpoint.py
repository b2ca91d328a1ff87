"""Saving and restoring a whole run as one Orbax tree: arrays by name, no pickle, no code.

    run/      key, round, spent, aims, totals
    model/    current and incumbent variables, as the task nests them
    plugins/  `plugin@API version` / role / label / path of the leaf
    data/     positions of streams
    history/  the records of all rounds
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from .hookspecs import API_VERSION
from .types import Model, PyTree, Record, State

Tree = dict[str, Any]


class CheckpointError(Exception):
    """A checkpoint that cannot be read, or does not belong to this run."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A run as it was saved."""

    state: State
    history: Record | None
    positions: Mapping[str, np.ndarray[Any, Any]]
    meta: Mapping[str, Any]
