"""`ev3x config check` and `ev3x config explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import out, quietly
from .hosting import Files, hosting
from .run import Set, Target, read

app = typer.Typer(help="Check and explain configs.", no_args_is_help=True)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The config.")],
    set_: Set = None,
    plugin: Files = None,
) -> None:
    """Say everything that is wrong with a config; exit code 2 if anything is."""
    with quietly():
        from .. import config

        config.load(file, read(None, set_)[1], hosting(plugin).host())
    out(f"{file}: good")


@app.command("explain")
def explain(target: Target = None, set_: Set = None, plugin: Files = None) -> None:
    """Print the whole config of a run, all defaults written out, each option with its help."""
    with quietly():
        from .. import config

        text = config.explain(*read(target, set_), hosting(plugin).host())
    out(text.rstrip())
