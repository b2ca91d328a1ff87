"""A new distribution, written whole or not at all, or one more component for one that is there."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..host.local_files import named
from ..text import draft, shown, why
from .bindings import BINDINGS, Native
from .contents import Contents, of_file, of_kinds, uses
from .join import joined
from .kinds import STARTS, Kind, run_arguments
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
    kind: Kind | Sequence[Kind] | None = None,
    native: Native | None = None,
    source: Path | None = None,
    into: Path = Path(),
    add: bool = False,
) -> Written:
    """Writes the distribution ev3x-NAME into a new folder of that name in `into`.

    It begins with a component of each kind (by default a proposer); the first gets an operation in C++ if `native` says
    how to bind it. Or it is made of the one-file plugin `source`, whose name it takes. With `add`, the folder is there,
    and gets the components as modules of their own. Raises ScaffoldError, or the PluginError of such a file; then
    nothing has been written.
    """
    kinds = [kind] if isinstance(kind, str) else list(kind or ())
    for option, values, known in (("--kind", kinds, STARTS), ("--native", [native] if native else [], BINDINGS)):
        for value in values:
            if value not in known:
                raise ScaffoldError(f"{option} must be one of {', '.join(known)}, got {value!r}")
    if len(set(kinds)) < len(kinds):
        raise ScaffoldError(f"--kind must name each kind once, got {', '.join(kinds)}")
    names = Names(_name(name, kinds, native, source, add))
    folder = into / names.distribution
    if add:
        return _added(names, folder, kinds)
    if os.path.lexists(folder):
        raise ScaffoldError(
            f"{shown(folder)} exists: remove it, choose another name, or another folder with --into, or let --add put "
            "a component into it"
        )
    if not os.path.isdir(into):
        raise ScaffoldError(f"--into must be an existing folder, got {shown(into)}")
    if source is not None:
        contents = of_file(names, source)
    else:
        kinds = kinds or ["proposer"]
        contents = _several(names, of_kinds(names, kinds, native), kinds[1:])
    _write(folder, contents)
    return Written(names.name, folder, tuple(map(folder.joinpath, contents.files)), contents.run, contents.notes)


def _several(names: Names, contents: Contents, kinds: Sequence[Kind]) -> Contents:
    """The distribution with components of these kinds, too."""
    files, notes = dict(contents.files), list(contents.notes)
    for kind in kinds:
        changed, more = joined(names, files, kind)
        files |= changed
        notes += more
    return dataclasses.replace(contents, files=files, notes=tuple(notes))


def _added(names: Names, folder: Path, kinds: Sequence[Kind]) -> Written:
    """What is new or changed in the folder of a distribution that gets components of these kinds."""
    if not os.path.isdir(folder):
        raise ScaffoldError(f"--add needs a distribution to add to, but there is no folder {shown(folder)}")
    before = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _sources(folder)}
    after = _several(names, Contents(before, run_arguments(uses(names, kinds))), kinds)
    changed = {name: text for name, text in after.files.items() if before.get(name) != text}
    written: list[Path] = []
    try:
        for name, text in sorted(changed.items(), key=lambda item: item[0] in before):  # what is new comes first
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft(path, follow=True) as new:
                new.write_bytes(text)
            written.append(path)
    except OSError as error:
        _put_back(folder, written, before)
        raise ScaffoldError(f"{shown(folder)} cannot be written: {why(error)}") from error
    return Written(names.name, folder, tuple(folder / name for name in changed), after.run, after.notes)


def _sources(folder: Path) -> list[Path]:
    """The files of a distribution that adding a component may read or change."""
    found = [*folder.glob("pyproject.toml"), *folder.glob("src/**/*.py"), *folder.glob("tests/**/*.py")]
    return [path for path in found if path.is_file()]


def _put_back(folder: Path, written: Sequence[Path], before: Mapping[str, bytes]) -> None:
    """Leave the folder as it was."""
    for path in written:
        name = path.relative_to(folder).as_posix()
        if name in before:
            path.write_bytes(before[name])
        else:
            path.unlink(missing_ok=True)


def _name(name: str | None, kinds: Sequence[str], native: str | None, source: Path | None, add: bool) -> str:
    """The name that was given, or that of the file."""
    if add and (name is None or not kinds or native is not None or source is not None):
        raise ScaffoldError("--add puts components into ev3x-NAME: give NAME and --kind, not --native or --from")
    if source is None:
        if name is None:
            raise ScaffoldError("a new plugin needs a NAME, or --from FILE.py")
        return name
    given = [option for option, value in (("--kind", kinds), ("--native", native)) if value]
    if given:
        raise ScaffoldError(f"--from takes the file as it is: leave out {' and '.join(given)}")
    plugin = named(source)
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
