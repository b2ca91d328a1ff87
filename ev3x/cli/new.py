"""`ev3x plugins new`."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..text import shown
from .console import out, quietly, say, usable


def new(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The plugin's name: ev3x-NAME is its distribution.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="proposer|assessor|adapter|budget|task|observer",
            help="What to begin with, a proposer if not said; again for one more component.",
        ),
    ] = None,
    native: Annotated[
        str | None,
        typer.Option(
            metavar="ctypes|nanobind|pybind11", help="Give a proposer or an assessor an operation in C++, too."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE.py",
            callback=usable,
            help="Package this file, as --plugin takes it, under its own name.",
        ),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Put the components into the folder ev3x-NAME, which exists.")
    ] = False,
    into: Annotated[
        Path, typer.Option(metavar="DIR", callback=usable, help="Where the folder ev3x-NAME goes.")
    ] = Path(),
) -> None:
    """Write a plugin that works at once, with its tests and a workflow for CI, and say what to do next."""
    from .. import scaffold

    chosen: Any = {"kind": kind, "native": native}
    with quietly():
        written = scaffold.create(name, source=source, into=into, add=add, **chosen)
    out(f"{shown(written.folder)}: {', '.join(str(file.relative_to(written.folder)) for file in written.files)}")
    for note in written.notes:
        say(f"note: {note}", style="yellow")
    out("Next:")
    out(f"  {_command('pip')} install -e {shlex.quote(f'{_local(written.folder)}[test]')}")
    out(f"  {_command('pytest')} {shlex.quote(str(written.folder))}")
    out(f"  {_command('ev3x')} {shlex.join(written.run)}")


def _command(tool: str) -> str:
    """The command for a tool of this Python: its bare name if a shell would find this very tool."""
    found = shutil.which(tool)
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return tool
    return shlex.join([sys.executable, "-m", {"ev3x": "ev3x.cli"}.get(tool, tool)])


def _local(folder: Path) -> str:
    """The folder in a form that pip takes for a folder, not for the name of a distribution."""
    return str(folder) if folder.is_absolute() or folder.parts[0] == ".." else f"./{folder}"
