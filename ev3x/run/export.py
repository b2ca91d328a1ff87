"""The weights of a run's incumbent, for programs without ev3x."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..text import shown
from .checkpoint import of_run
from .directory import CHECKPOINTS, CONFIG, RunError, check_run, config_text, draft, resuming
from .identity import edited, listed
from .manifest import reseal


def export(directory: Path, to: Path | None = None) -> Path:
    """The file with the incumbent's weights: an .npz of arrays by path, for numpy alone."""
    check_run(directory)
    saved = of_run(directory / CHECKPOINTS)
    if saved is None:
        raise RunError(f"{shown(directory)} ended before its first checkpoint: `{resuming(directory)}` starts it again")
    if differences := edited(saved.meta, config_text(directory)):
        head = f"{shown(directory)}: its checkpoint is of another run, or its {CONFIG} was edited"
        raise RunError(f"{head}: {listed(differences)}")
    to = to or directory / "weights.npz"
    with draft(to) as new, new.open("wb") as file:
        np.savez(file, allow_pickle=False, **saved.incumbent())
    reseal(directory, to)
    return to
