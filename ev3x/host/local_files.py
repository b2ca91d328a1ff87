"""Plugins in local files: their name, their module, and what in it has the hooks."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from . import hookspecs

_PREFIX = "ev3x_file_"


def named(path: Path) -> str:
    """The name of the plugin in a file: that of the file, or NAME for `ev3x_NAME/__init__.py`."""
    stem = path.resolve().parent.name.removeprefix("ev3x_") if path.stem == "__init__" else path.stem
    return stem.replace("_", "-")


def imported(path: Path, source: bytes, digest: str) -> ModuleType:
    """The source of the file as a module, under a name of its own: what was read for the digest, no compiled file."""
    spec = importlib.util.spec_from_file_location(f"{_PREFIX}{digest}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the types of fields there
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def held(module: ModuleType) -> tuple[str, hookspecs.Plugin] | None:
    """The plugin in a module that has no hooks itself, and its name there: `plugin`, or the only one. None: no such."""
    if any(name.startswith("ev3x_") and callable(x) for name, x in vars(module).items()):
        return None
    found = {name: x for name, x in vars(module).items() if isinstance(x, hookspecs.Plugin)}
    name = next(iter(found)) if len(found) == 1 else "plugin"
    return (name, found[name]) if name in found else None


def bare(content: object) -> str:
    """What to say of something without hooks: what was found, and what to write."""
    name = str(getattr(content, "__name__", repr(content)))
    what = f"{'the file' if name.startswith(_PREFIX) else name} has no ev3x_ hooks"
    if not inspect.ismodule(content):
        return f"{what}: write methods such as ev3x_proposers with @ev3x.hookimpl"
    if one := held(content):
        return f"{what}, its `{one[0]}` has: name that, as in `{name}:{one[0]}`"
    if several := [n for n, x in vars(content).items() if isinstance(x, hookspecs.Plugin)]:
        return f"{what}, but several plugins, {', '.join(several)}: call the one that is meant `plugin`"
    if made := [n for n, x in vars(content).items() if inspect.isclass(x) and hookspecs.Plugin in x.__mro__[1:]]:
        return f"{what}, but the class {made[-1]}: add `plugin = {made[-1]}()`"
    return (
        f"{what}: write functions such as ev3x_proposers with @ev3x.hookimpl, or `plugin = Plugin()` of a class of them"
    )
