"""`ev3x cache list` and `clear`."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from ..text import shown, why
from .console import InputError, out

app = typer.Typer(help="What ev3x keeps between runs, all of which it can make again.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the files of the cache: bytes, when each was made, and whether it is what its digest says."""
    from .. import cache
    from . import tables

    rows = []
    for path in cache.files():
        try:
            facts = path.lstat()
            made = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts.st_mtime))
            rows.append((str(path.relative_to(cache.directory())), f"{facts.st_size:,}", made, _state(path)))
        except OSError as error:
            rows.append((path.name, "", "", why(error)))
    out(str(cache.directory()))
    if rows:
        tables.console().print(tables.table(("file", "bytes", "made", "state"), rows))
    else:
        out("nothing is kept there")


@app.command("clear")
def clear() -> None:
    """Delete the files that `ev3x cache list` lists; others in the folder stay."""
    from .. import cache

    count = 0
    for path in cache.files():
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{shown(path)}: cannot be deleted: {why(error)}") from error
        count += 1
    out(f"{count} file{'' if count == 1 else 's'} deleted from {cache.directory()}")


def _state(path: Path) -> str:
    from .. import cache

    if path.suffix != cache.ENDING:
        return "a note, or of an earlier or unfinished process"
    try:
        cache.read(path)
    except ValueError as error:
        return f"not used: {error}"
    return "good"
