"""The command line: a file for each command, or for a few of a kind. Nothing imports jax at its top."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from .. import text, wrong_sums
from ..host.discovery import discover, unreadable
from ..run import interrupts
from . import cache, config, doctor, explain, plugins, replay, run, verify
from .console import BAD_INPUT, DEBUG, LOST, Guarded, note_everything, out, print_traceback, say

app = typer.Typer(
    cls=Guarded,
    help="Explore, assess, adapt: several ways of updating a model compete on the metric that matters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("resume")(run.resume)
app.command("export")(run.export)
app.command("explain")(explain.explain)
app.command("replay")(replay.replay)
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)
app.add_typer(plugins.app, name="plugins")
app.add_typer(config.app, name="config")
app.add_typer(cache.app, name="cache")


def main() -> None:
    """The console script. Errors from broken metadata of any distribution become messages in words.

    A standard stream that breaks ends no command; only the exit code says that standard output could not be written.
    """
    wrong_sums.spare()
    text.make_lasting()
    try:
        with interrupts.in_words():
            app()
    except SystemExit as end:
        if (code := interrupts.exit_code()) is not None:
            interrupts.no_more()
            if end.code == LOST:  # one that came while the line was parsed
                sys.exit(code)
        if (said := text.lost()) is not None:
            say(said, style="red")
            sys.exit(end.code or LOST)
        raise
    except Exception as error:
        if (said := unreadable(error, discover())) is None:
            raise
        if DEBUG in sys.argv:
            print_traceback(error)
        say(said, style="red")
        sys.exit(BAD_INPUT)


def _version(wanted: bool) -> None:
    if wanted:
        import platform

        out(f"ev3x {version('ev3x')}, jax {version('jax')}, python {platform.python_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show versions and exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what plugins print while they load.")] = False,
    debug: Annotated[
        bool,
        typer.Option(DEBUG, help="Show the full traceback of every fault, too; may stand anywhere on the line."),
    ] = False,
) -> None:
    if verbose:
        note_everything()
