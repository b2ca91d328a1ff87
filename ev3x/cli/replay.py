"""`ev3x replay`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import typer

from ..text import json_text
from .console import DIFFERS, out, quietly, say
from .hosting import Files, Locked, Strict, hosting
from .run import Json, RunDirectory

if TYPE_CHECKING:
    from ..run.rederive import Difference
    from ..run.replay import Replayed

SHOWN = 40


def replay(
    directory: RunDirectory,
    plugin: Files = None,
    strict_plugins: Strict = False,
    locked: Locked = False,
    as_json: Json = False,
) -> None:
    """Derive every verdict of a run again from its recorded evidence; ends with 3 when anything comes out otherwise.

    No data are loaded and nothing is trained. Rounds are derived up to the last checkpoint.
    """
    with quietly(stdout=as_json) as stdout:
        from .. import config
        from ..run.directory import CONFIG, check_run
        from ..run.replay import replay as derive

        check_run(directory)
        setup = config.load(directory / CONFIG, [], hosting(plugin, strict=strict_plugins, locked=locked).host())
        found = derive(setup, directory)
    if as_json:
        print(json_text(dataclasses.asdict(found)), file=stdout, flush=True)
    else:
        _tell(found)
    if found.differences:
        raise typer.Exit(DIFFERS)


def _tell(found: Replayed) -> None:
    """Print the differences, or that there are none; then what could not be derived."""
    rounds = f"{found.rounds} round{'' if found.rounds == 1 else 's'} replayed"
    if found.differences:
        from . import tables

        shown = found.differences[:SHOWN]
        rows = [(_round(d), d.what, _value(d.recorded), _value(d.derived)) for d in shown]
        tables.console().print(tables.table(("round", "value", "recorded", "derived"), rows))
        more = f", {SHOWN} of them shown (--json has all)" if len(found.differences) > SHOWN else ""
        n = len(found.differences)
        out(f"{rounds}: {n} value{' does' if n == 1 else 's do'} not follow from what is recorded{more}")
        out("if config.toml was changed since the run began, replay it as it was then")
    else:
        out(f"{rounds}: every verdict follows from its evidence")
    for note in found.notes:
        say(f"note: {note}", style="yellow")


def _round(difference: Difference) -> str:
    return "run" if difference.round is None else str(difference.round)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
