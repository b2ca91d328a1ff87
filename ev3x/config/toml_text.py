"""Plain values as TOML text: only the kinds that configs hold. `tomllib` reads the text back."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from ..text import UNSEEN

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNSEEN = re.compile(f"[{UNSEEN}]")  # of these, JSON leaves some as they are


def value(x: Any) -> str:
    """One value; tables are inline, and a list of tables has a line for each."""
    if isinstance(x, bool):
        return "true" if x else "false"
    if isinstance(x, int | float):
        return repr(x)
    if isinstance(x, str):
        return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(x, ensure_ascii=False))
    if isinstance(x, Mapping):
        inside = ", ".join(f"{key(k)} = {_inline(v)}" for k, v in x.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(x, list | tuple):
        if any(isinstance(v, Mapping) for v in x):
            return "[\n" + "".join(f"    {_inline(v)},\n" for v in x) + "]"
        return _inline(x)
    if isinstance(x, datetime.datetime | datetime.date | datetime.time):
        return x.isoformat()
    raise TypeError(f"a config cannot hold {x!r}")


def key(name: str) -> str:
    """The key, quoted where it must be."""
    return name if _BARE.fullmatch(name) else value(name)


def _inline(x: Any) -> str:
    """One value on one line, as inside of inline tables."""
    return f"[{', '.join(map(_inline, x))}]" if isinstance(x, list | tuple) else value(x)
