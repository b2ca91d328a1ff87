"""Which devices this process has."""

from __future__ import annotations

import sys
from typing import Any


def backend_is_up() -> bool:
    """Whether this process has started a backend of JAX, after which JAX ignores changes of many settings."""
    bridge: Any = sys.modules.get("jax._src.xla_bridge")  # JAX has no public name for it
    return bridge is not None and bool(bridge.backends_are_initialized())
