"""What makes a run this run: what must be as it was when a checkpoint is used, and what may be changed on purpose."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..host.discovery import BUILTIN
from ..text import shown, toml_too_deep
from .checkpoint import Saved, meta_fault, way_back
from .directory import CHECKPOINTS, CONFIG, RunError
from .setup import Setup
from .summary import versions

# Sections and options that say when a run stops, what it is watched by and which code it runs: they change no result,
# except by rounding (`native`). All others are part of the run: its promise holds for them alone.
FREE = {"rounds", "seconds", "gradient_steps", "target", "save_every", "native", "observe", "plugins"}
LONGEST = 2**20  # signs of a config with all defaults: no more are parsed
NONE, NO_CONFIG = "(not there)", "(no config)"


def identity(setup: Setup, data: str) -> dict[str, Any]:
    """What a checkpoint keeps of its run, to be compared when it is used; `data` is the digest of the data."""
    of_plugins = {p.distribution or p.value: p.version for p in setup.plugins if p.name != BUILTIN}
    own = {"task": setup.task_id, "seed": setup.seed, "config": setup.config}
    return {**own, "data": data, "versions": versions() | of_plugins}


def belongs(then: Mapping[str, Any], setup: Setup, directory: Path) -> None:
    """Raise RunError when the last checkpoint, which keeps this, is that of another run; names the last one of this."""

    def fault(saved: Saved) -> str | None:
        return meta_fault(saved) or ("of another run" if _another(saved.meta, setup) else None)

    if differences := _another(then, setup):
        hint = way_back(directory / CHECKPOINTS, fault) or "put back what was, or begin a new run"
        raise RunError(f"{foreign(directory, differences)}; results of two runs are not mixed: {hint}")


def _another(then: Mapping[str, Any], setup: Setup) -> list[tuple[str, Any, Any]]:
    return another(then, identity(setup, then["data"]))


def same_data(then: Mapping[str, Any], now: Mapping[str, Any], directory: Path | None) -> None:
    """Raise RunError when the data have changed; warn when versions have."""
    if then["data"] != now["data"]:
        raise RunError(
            f"{shown(directory)}: the data of this run have changed since it was saved "
            f"(digest {then['data'][:12]} then, {now['data'][:12]} now): it cannot go on to the same result"
        )
    old, new = then["versions"], now["versions"]
    if changed := [f"{n} {old.get(n)} -> {new[n]}" for n in new if old.get(n) != new[n]]:
        warnings.warn(f"resumed with other versions, bits may differ: {', '.join(changed)}", stacklevel=3)


def another(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What makes these two different runs: the name, and the value in each."""
    found = [(name, then[name], now[name]) for name in ("task", "seed") if then[name] != now[name]]
    updated = then["versions"] != now["versions"]
    for path, a, b in _settings(then, now):
        # Other versions may have options that there were not, with the behaviour of old as default.
        if not _free(path) and path != "seed" and not (updated and a == NONE):
            found.append((path, a, b))
    return found


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two parts of one run and may: options, and versions."""
    found = [*_settings(then, now), *apart("", then["versions"], now["versions"])]
    return [f"{path} {said(a)} -> {said(b)}" for path, a, b in found]


def edited(then: Mapping[str, Any], config: str) -> list[tuple[str, Any, Any]]:
    """Where the text of a run's config is not that of its checkpoint; what it leaves out is not compared."""
    pairs = apart("", _table(then["config"]), _table(config))
    return [(path, a, b) for path, a, b in pairs if b != NONE and not _free(path)]


def foreign(directory: Path, differences: list[tuple[str, Any, Any]]) -> str:
    """The sentence for a run whose checkpoint is not that of its config."""
    head = f"{shown(directory)}: its checkpoint is of another run, or its {CONFIG} was edited"
    return f"{head}: {listed(differences)}"


def listed(differences: list[tuple[str, Any, Any]]) -> str:
    """The differences in words: then, and now."""
    return ", ".join(f"{path} was {said(a)}, is {said(b)}" for path, a, b in differences)


def said(value: Any) -> str:
    """A value in a message."""
    text = value if value == NONE else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def apart(path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the path, and the value of each there."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in {**a, **b}:
            yield from apart(f"{path}.{name}".lstrip("."), a.get(name, NONE), b.get(name, NONE))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, pair in enumerate(zip(a, b, strict=True)):
            yield from apart(f"{path}[{i}]", *pair)
    elif type(a) is not type(b) or a != b:
        yield path, a, b


def _settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    return apart("", _table(then["config"]), _table(now["config"]))


def _table(config: str) -> dict[str, Any]:
    """The values of a config; of what is none, since anyone may have written it, the text."""
    if len(config) <= LONGEST and toml_too_deep(config) is None:
        with contextlib.suppress(ValueError, RecursionError):
            return tomllib.loads(config)
    return {NO_CONFIG: config}


def _free(path: str) -> bool:
    return re.split(r"[.\[]", path, maxsplit=1)[0] in FREE
