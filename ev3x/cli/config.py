"""`ev3x config check`, `explain` and `schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..text import json_text, shown
from .console import out, quietly, say, usable
from .hosting import Files, Locked, NoPlugins, Strict, hosting
from .run import Set, Target, read

app = typer.Typer(help="Check and explain configs, and what they may hold.", no_args_is_help=True)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="CONFIG.toml", callback=usable, help="The config.")],
    set_: Set = None,
    plugin: Files = None,
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    locked: Locked = False,
) -> None:
    """Say everything that is wrong with a config; exit code 2 if anything is."""
    with quietly():
        from .. import config

        config.load(file, read(None, set_)[1], hosting(plugin, no_plugins, strict_plugins, locked).host())
    out(f"{shown(file)}: good")


@app.command("explain")
def explain(target: Target = None, set_: Set = None, plugin: Files = None) -> None:
    """Print the whole config of a run, all defaults written out, each option with its help."""
    with quietly():
        from .. import config

        text = config.explain(*read(target, set_), hosting(plugin).host())
    out(text.rstrip())


@app.command("schema")
def schema(plugin: Files = None, no_plugins: NoPlugins = False) -> None:
    """Print the JSON schema of configs, with the options of all installed plugins; this imports them."""
    with quietly(stdout=True) as stdout:
        from ..config.schema import schema as made

        found, faults = made(hosting(plugin, no_plugins).host())
    print(json_text(found, indent=2), file=stdout, flush=True)
    for fault in faults:
        say(fault, style="yellow")
