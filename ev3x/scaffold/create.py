"""A new distribution, written whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from ..text import shown, why
from .bindings import BINDINGS, Native
from .contents import Contents, of_file, of_kind
from .kinds import STARTS, Kind
from .names import Names, ScaffoldError


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written: `files` lie in `folder`. `run` are the arguments of `ev3x` for a first run."""

    name: str
    folder: Path
    files: tuple[Path, ...]
    run: tuple[str, ...]
    notes: tuple[str, ...]


def create(
    name: str | None = None,
    kind: Kind | None = None,
    native: Native | None = None,
    source: Path | None = None,
    into: Path = Path(),
) -> Written:
    """Writes the distribution ev3x-NAME into a new folder of that name in `into`.

    It begins with a component of the kind (by default a proposer), with an operation in C++ if `native` says how to
    bind it; or it is made of the one-file plugin `source`, whose name it takes. Raises ScaffoldError, or the
    PluginError of such a file; then nothing has been written.
    """
    for option, value, known in (("--kind", kind, STARTS), ("--native", native, BINDINGS)):
        if value is not None and value not in known:
            raise ScaffoldError(f"{option} must be one of {', '.join(known)}, got {value!r}")
    names = Names(_name(name, kind, native, source))
    folder = into / names.distribution
    if os.path.lexists(folder):
        raise ScaffoldError(f"{shown(folder)} exists: remove it, or choose another name, or another folder with --into")
    if not os.path.isdir(into):
        raise ScaffoldError(f"--into must be an existing folder, got {shown(into)}")
    contents = of_kind(names, kind or "proposer", native) if source is None else of_file(names, source)
    _write(folder, contents)
    return Written(names.name, folder, tuple(map(folder.joinpath, contents.files)), contents.run, contents.notes)


def _name(name: str | None, kind: str | None, native: str | None, source: Path | None) -> str:
    """The name that was given, or that of the file."""
    if source is None:
        if name is None:
            raise ScaffoldError("a new plugin needs a NAME, or --from FILE.py")
        return name
    given = [option for option, value in (("--kind", kind), ("--native", native)) if value is not None]
    if given:
        raise ScaffoldError(f"--from takes the file as it is: leave out {' and '.join(given)}")
    plugin = source.stem.replace("_", "-")
    if name not in (None, plugin):
        raise ScaffoldError(
            f"{shown(source)} is the plugin {plugin!r}, and configs name it so: leave out {name!r}, or rename the file "
            "first"
        )
    return plugin


def _write(folder: Path, contents: Contents) -> None:
    """Writes all files beside the folder, and then gives them its name."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / folder.name
            for name, text in contents.files.items():
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
            made.rename(folder)
    except OSError as error:
        raise ScaffoldError(f"{shown(folder)} cannot be written: {why(error)}") from error
