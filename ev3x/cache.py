"""The folder of cached files, all of which can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """The cache folder: $EV3X_CACHE, else $XDG_CACHE_HOME/ev3x, else ~/.cache/ev3x. It may be missing or read-only.

    A user without a home, as in many containers, gets a path that cannot exist: reading finds nothing there, and
    writing raises OSError.
    """
    if own := os.environ.get("EV3X_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ev3x"
    try:
        return Path.home() / ".cache" / "ev3x"
    except RuntimeError:
        return Path(os.devnull) / "ev3x"
