"""Which plugins exactly: their versions and the digests of their files, to be locked, and compared across processes."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .discovery import PluginInfo, normalized
from .policy import PluginPolicy

if TYPE_CHECKING:
    from .host import Host

FILE = Path("ev3x-plugins.lock")
_HEAD = "# The plugins of this project. Written by `ev3x plugins lock`, held to by `ev3x run --locked`.\n"
# What installers write beside a distribution's own files.
_BY_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}


@dataclasses.dataclass(frozen=True)
class Pin:
    """One distribution: its version, and the SHA-256 of all its files."""

    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.version} (sha256 {self.sha256[:12]})"


class LockError(Exception):
    """The plugins are not those that they should be; the text names every difference."""


def pins(plugins: Iterable[PluginInfo]) -> dict[str, Pin]:
    """The pin of every distribution, or registered file, that these plugins are of, in the order of the names."""
    found = {normalized(p.distribution) if p.distribution else p.value: p for p in plugins}
    return {name: Pin(found[name].version, _digest(found[name])) for name in sorted(found)}


def write(host: Host, path: Path = FILE) -> dict[str, Pin]:
    """Writes the pins of all plugins that the host may use to a TOML file, and returns them."""
    made = pins(host.plugins.values())
    tables = [f'\n["{name}"]\nversion = "{pin.version}"\nsha256 = "{pin.sha256}"\n' for name, pin in made.items()]
    path.write_text(_HEAD + "".join(tables), encoding="utf-8")
    return made


def policy(host: Host, path: Path = FILE) -> PluginPolicy:
    """The policy that allows what is locked and nothing else; LockError when what is installed differs from it."""
    wanted = _read(path)
    here = pins(p for p in host.plugins.values() if normalized(p.distribution) in wanted)
    if differences := _differences(wanted, here, "locked", "installed"):
        raise LockError(f"{path}: {'; '.join(differences)}; `ev3x plugins lock` locks what is installed")
    return PluginPolicy(allow=wanted, origin=str(path))


def agree(plugins: Iterable[PluginInfo]) -> None:
    """Raises LockError, in every process of a multi-process run, unless all of them have the same plugins."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    mine = "\n".join(f"{name} {pin.version} {pin.sha256}" for name, pin in pins(plugins).items()).encode()
    sizes = multihost_utils.process_allgather(np.array([len(mine)], np.int32)).ravel()
    padded = np.frombuffer(mine.ljust(sizes.max(), b"\n"), np.uint8)
    rows = multihost_utils.process_allgather(padded).reshape(len(sizes), -1)
    first, *others = [_parse(bytes(row.tobytes()).decode()) for row in rows.astype(np.uint8)]
    differences = [
        f"process {i}: {difference}"
        for i, other in enumerate(others, 1)
        for difference in _differences(first, other, "process 0", f"process {i}")
    ]
    if differences:
        raise LockError(f"the processes of this run have different plugins: {'; '.join(differences)}")


def _differences(a: Mapping[str, Pin], b: Mapping[str, Pin], first: str, second: str) -> list[str]:
    return [
        f"{name} is {a.get(name, 'missing')} {first}, {b.get(name, 'missing')} {second}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def _parse(text: str) -> dict[str, Pin]:
    rows = [line.rsplit(" ", 2) for line in text.splitlines() if line]
    return {name: Pin(version, digest) for name, version, digest in rows}


def _read(path: Path) -> dict[str, Pin]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return {normalized(name): Pin(str(t["version"]), str(t["sha256"])) for name, t in tables.items()}
    except OSError as error:
        raise LockError(f"{path}: cannot be read ({error.strerror}); `ev3x plugins lock` writes it") from error
    except (ValueError, TypeError, KeyError) as error:
        raise LockError(f"{path}: is no lock file ({error}); `ev3x plugins lock` writes it anew") from error


def _digest(plugin: PluginInfo) -> str:
    """The SHA-256 over the names and contents of all files, in the order of the names."""
    total = hashlib.sha256()
    for name, path in sorted(_files(plugin)):
        if path.suffix != ".pyc" and path.is_file():
            total.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _files(plugin: PluginInfo) -> Iterator[tuple[str, Path]]:
    """The files of a distribution, without those of its installer; of an editable one those of its package, too."""
    if not plugin.distribution:
        yield "", Path(plugin.value)
        return
    distribution = importlib.metadata.distribution(plugin.distribution)
    record = distribution.files or []
    for file in record:
        if file.name not in _BY_INSTALLERS and ".." not in file.parts:
            yield str(file), Path(str(distribution.locate_file(file)))
    top = plugin.value.partition(":")[0].partition(".")[0]
    if any(file.parts[0] in (top, f"{top}.py") for file in record):
        return
    spec = importlib.util.find_spec(top)
    for folder in map(Path, spec.submodule_search_locations or () if spec else ()):
        yield from ((str(path.relative_to(folder.parent)), path) for path in folder.rglob("*") if path.is_file())
    if spec and spec.origin and not spec.submodule_search_locations:
        yield Path(spec.origin).name, Path(spec.origin)
