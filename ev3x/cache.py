"""Where files are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """$EV3X_CACHE, else $XDG_CACHE_HOME/ev3x, else ~/.cache/ev3x. It need not exist, nor be writable."""
    own, shared = os.environ.get("EV3X_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "ev3x"
