"""Versions and file digests of plugins: written to a lock file, and compared across the processes of a run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import draft, why
from . import imported
from .discovery import BUILTIN, PluginInfo, claimed, normalized
from .policy import PluginPolicy

if TYPE_CHECKING:
    from .host import Host

FILE = Path("ev3x-plugins.lock")
_HEAD = "# The plugins of this project. Written by `ev3x plugins lock`, held to by `ev3x run --locked`.\n"
# Files that installers add to a distribution's own.
_BY_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}


@dataclasses.dataclass(frozen=True)
class Pin:
    """One distribution: its version, and the SHA-256 of all its files."""

    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.version} (sha256 {self.sha256[:12]})"


class LockError(Exception):
    """The plugins differ from the locked ones, or between processes; the text names every difference."""


def pins(plugins: Iterable[PluginInfo]) -> dict[str, Pin]:
    """The pin of every distribution, or registered file, that brings these plugins, sorted by name."""
    found: dict[str, list[PluginInfo]] = {}
    for plugin in plugins:
        name = normalized(plugin.distribution) if plugin.distribution else Path(plugin.value).name
        found.setdefault(name, []).append(plugin)
    return {name: Pin(found[name][0].version, _digest(found[name])) for name in sorted(found)}


def write(host: Host, path: Path = FILE) -> dict[str, Pin]:
    """Writes the pins of all plugins that the host may use to a TOML file, and returns them; LockError if it cannot."""
    for name, claims in host.index.conflicts.items():
        if len([p for p in claims if host.forbidden(p) is None]) > 1:
            raise LockError(claimed(name, claims))
    made = pins(host.plugins.values())
    q = functools.partial(json.dumps, ensure_ascii=False)  # strings of JSON are strings of TOML
    tables = [f"\n[{q(n)}]\nversion = {q(pin.version)}\nsha256 = {q(pin.sha256)}\n" for n, pin in made.items()]
    try:
        with draft(path, follow=True) as new:
            new.write_text(_HEAD + "".join(tables), encoding="utf-8")
    except OSError as error:
        raise LockError(f"{path}: cannot be written: {why(error)}") from error
    return made


def policy(host: Host, path: Path = FILE) -> PluginPolicy:
    """The policy that allows only what is locked; LockError when the installed plugins differ from the lock."""
    wanted = _read(path)
    here = pins(p for p in host.plugins.values() if normalized(p.distribution) in wanted)
    if differences := _differences(wanted, here, "locked", "here"):
        raise LockError(f"{path}: {'; '.join(differences)}; `ev3x plugins lock` locks what is here")
    for plugin in host.plugins.values():
        if plugin.name != BUILTIN and normalized(plugin.distribution) in wanted:
            imported.from_source(imported.tops(importlib.metadata.distribution(plugin.distribution), [plugin.value]))
    return PluginPolicy(allow=wanted, origin=str(path))


def agree(plugins: Iterable[PluginInfo], problem: str = "") -> None:
    """Returns if all processes of a multi-process run have the same plugins, else raises LockError in all of them.

    Every process calls it once, before the run. A process that cannot begin passes the reason as `problem`.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    try:
        mine = {name: (pin.version, pin.sha256) for name, pin in pins(plugins).items()}
    except Exception as error:  # whatever it is, the other processes must know
        mine, problem = {}, f"{type(error).__name__}: {error}"
    message = json.dumps({"pins": mine, "problem": problem}).encode()
    sizes = multihost_utils.process_allgather(np.array([len(message)], np.int32)).ravel()
    padded = np.frombuffer(message.ljust(sizes.max()), np.uint8)
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    said = [json.loads(bytes(row.tobytes())) for row in rows.astype(np.uint8)]
    troubles = [f"process {i} cannot begin: {s['problem']}" for i, s in enumerate(said) if s["problem"]]
    first, *others = [{name: Pin(*pin) for name, pin in s["pins"].items()} for s in said]
    for i, other in enumerate(others, 1):
        if not troubles:
            troubles += _differences(first, other, "in process 0", f"in process {i}")
    if troubles:
        raise LockError(f"the processes of this run do not have the same plugins: {'; '.join(troubles)}")


def _differences(a: Mapping[str, Pin], b: Mapping[str, Pin], first: str, second: str) -> list[str]:
    return [
        f"{name} is {a.get(name, 'missing')} {first}, {b.get(name, 'missing')} {second}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def _read(path: Path) -> dict[str, Pin]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return {normalized(name): Pin(str(t["version"]), str(t["sha256"])) for name, t in tables.items()}
    except OSError as error:
        raise LockError(f"{path}: cannot be read ({why(error)}); `ev3x plugins lock` writes it") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LockError(f"{path}: is no lock file ({error}); `ev3x plugins lock` writes it anew") from error


def _digest(plugins: list[PluginInfo]) -> str:
    """The SHA-256 over the names and contents of all files of a distribution, in the order of the names."""
    total = hashlib.sha256()
    for name, path in sorted(dict(_files(plugins)).items()):
        if not imported.is_cached(path) and path.is_file():
            total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _files(plugins: list[PluginInfo]) -> Iterator[tuple[str, Path]]:
    """The files of a distribution, without those that its installer added, and whatever else Python would import."""
    first = plugins[0]
    if not first.distribution:
        yield "", first.location or Path(first.value)
        return
    distribution = importlib.metadata.distribution(first.distribution)
    for file in distribution.files or ():
        if file.name not in _BY_INSTALLERS and ".." not in file.parts:
            yield str(file), Path(str(distribution.locate_file(file)))
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    editable = distribution.files is None or bool(origin.get("dir_info", {}).get("editable"))
    names = imported.tops(distribution, (p.value for p in plugins))
    yield from imported.unlisted(distribution, names, everything=editable)
