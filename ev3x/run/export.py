"""The weights of a run's incumbent, for programs without ev3x."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..text import shown
from .checkpoint import load
from .directory import CHECKPOINTS, RunError, check_run, draft, resuming


def export(directory: Path, to: Path | None = None) -> Path:
    """The file with the incumbent's weights: an .npz of arrays by path, for numpy alone."""
    check_run(directory)
    saved = load(directory / CHECKPOINTS)
    if saved is None:
        raise RunError(f"{shown(directory)} ended before its first checkpoint: `{resuming(directory)}` starts it again")
    to = to or directory / "weights.npz"
    with draft(to) as new, new.open("wb") as file:
        np.savez(file, allow_pickle=False, **saved.incumbent())
    return to
