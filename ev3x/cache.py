"""Where files are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """$EV3X_CACHE, else $XDG_CACHE_HOME/ev3x, else ~/.cache/ev3x. It need not exist, nor be writable.

    A user without a home, as in many containers, has a path where nothing can be: reading finds nothing there, and
    writing is an OSError.
    """
    if own := os.environ.get("EV3X_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ev3x"
    try:
        return Path.home() / ".cache" / "ev3x"
    except RuntimeError:
        return Path(os.devnull) / "ev3x"
