"""`ev3x verify`."""

from __future__ import annotations

import dataclasses

import typer

from ..text import command, json_text
from .console import DIFFERS, out, say
from .run import Json, RunDirectory

SHOWN = 100


def verify(directory: RunDirectory, as_json: Json = False) -> None:
    """Check every file of a run that has ended against its manifest; ends with 3 when any is not as it was.

    Needs no plugin and loads nothing. Whether the results follow from the records is what `ev3x replay` checks.
    """
    from ..run.directory import RunError
    from ..run.manifest import MANIFEST
    from ..run.manifest import verify as check

    found = check(directory)
    if found.digest is None and not found.faults:
        raise RunError(
            f"{directory} has no {MANIFEST}: the run has not ended, or was resumed since; "
            f"`{command('ev3x', 'replay', directory)}` checks its last checkpoint and its rows"
        )
    if as_json:
        out(json_text(dataclasses.asdict(found)))
    else:
        for fault in found.faults[:SHOWN]:
            say(f"{fault.file}: {fault.what}", style="red")
        if (more := len(found.faults) - SHOWN) > 0:
            say(f"and {more:,} more (--json has all)", style="red")
        out(f"{found.sound} file{'' if found.sound == 1 else 's'} as the run left them, {len(found.faults)} not")
        if found.digest:
            out(f"digest of the manifest: {found.digest}")
    if found.faults:
        raise typer.Exit(DIFFERS)
