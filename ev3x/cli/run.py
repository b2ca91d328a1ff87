"""`ev3x run`, `ev3x resume` and `ev3x export`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import text
from ..run import interrupts
from .console import INTERRUPTED, InputError, out, quietly, say, usable
from .hosting import Files, Locked, NoPlugins, Strict, hosting

if TYPE_CHECKING:
    from ..config import Override
    from ..run.setup import Setup

Target = Annotated[
    str | None, typer.Argument(metavar="[TASK|CONFIG.toml]", help="A task or a config; by default distill-mnist1d.")
]
Rounds = Annotated[int | None, typer.Option(help="Stop after so many rounds.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Override one option of the config; a table or a list replaces all of it."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", callback=usable, help="The directory of a run.")]


def run(
    target: Target = None,
    rounds: Rounds = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds of rounds.")] = None,
    gradient_steps: Annotated[int | None, typer.Option(help="Stop after so many gradient steps.")] = None,
    goal: Annotated[
        float | None, typer.Option("--target", help="Stop when a promoted model's confirmed score is this.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random comes from it.")] = None,
    out_: Annotated[
        Path | None,
        typer.Option("--out", callback=usable, help="The directory for the run; by default the next free runs/TASK-N."),
    ] = None,
    set_: Set = None,
    plugin: Files = None,
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    locked: Locked = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress and no table.")] = False,
) -> None:
    """Run a task with the default method, or what a config says."""
    limits = {"rounds": rounds, "seconds": seconds, "gradient_steps": gradient_steps, "target": goal}

    def start() -> dict[str, Any]:
        from .. import config
        from ..run import session

        path, overrides = read(target, set_)
        for name, value in {**limits, "seed": seed}.items():
            if value is not None:
                overrides.append(config.Override(f"--{name.replace('_', '-')} {value}", name, value))
        setup = config.load(path, overrides, hosting(plugin, no_plugins, strict_plugins, locked).host())
        return session.run(_hushed(setup) if quiet else setup, out_ or _free(setup.task_id))

    _report(start, as_json, quiet)


def resume(
    directory: RunDirectory,
    rounds: Rounds = None,
    plugin: Files = None,
    strict_plugins: Strict = False,
    locked: Locked = False,
    drop_plugin_state: Annotated[
        bool, typer.Option("--drop-plugin-state", help="Plugins that cannot read their saved state start anew.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go on with a run from its last checkpoint, to the bits of a run that was never interrupted."""

    def start() -> dict[str, Any]:
        from .. import config
        from ..run import session
        from ..run.directory import CONFIG, check_run

        check_run(directory)
        more = [] if rounds is None else [config.Override(f"--rounds {rounds}", "rounds", rounds)]
        setup = config.load(directory / CONFIG, more, hosting(plugin, strict=strict_plugins, locked=locked).host())
        return session.resume(setup, directory, drop_plugin_state=drop_plugin_state)

    _report(start, as_json, quiet=False)


def export(
    directory: RunDirectory,
    to: Annotated[
        Path | None, typer.Option(callback=usable, help="The file to write; by default RUN/weights.npz.")
    ] = None,
) -> None:
    """Write the weights of a run's incumbent to an .npz file that numpy alone can read."""
    with quietly():
        from ..run import session

        out(str(session.export(directory, to)))


def read(target: str | None, set_: list[str] | None) -> tuple[Path | None, list[Override]]:
    """The config file, if the target is one, and the overrides; else the target is a task, the first override."""
    from ..config import Override

    overrides = [Override.parse(_argument("--set", given)) for given in set_ or ()]
    if target is None:
        return None, overrides
    if target.endswith(".toml") or os.path.isfile(target):  # False for a name that the system cannot take
        usable(Path(target))
        return Path(target), overrides
    return None, [Override(text.shown(target), "task", _argument("TASK", target)), *overrides]


def _argument(name: str, given: str) -> str:
    try:
        return text.utf8(given)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def _report(start: Callable[[], dict[str, Any]], as_json: bool, quiet: bool) -> None:
    """Run, and print the summary."""
    with quietly(stdout=as_json) as stdout:
        summary = start()
    if as_json:
        print(text.json_text(summary), file=stdout, flush=True)
    elif not quiet:
        from . import tables

        tables.summary(summary)
        if said := text.lost():  # summary.json has it all: the run did not fail
            say(said, style="yellow")
    if summary["outcome"] == "interrupted":
        raise typer.Exit(interrupts.exit_code() or INTERRUPTED)


def _hushed(setup: Setup) -> Setup:
    import dataclasses

    kept = tuple((label, o) for label, o in setup.observers if setup.ids[label] != "ev3:progress")
    return dataclasses.replace(setup, observers=kept)


def _free(task_id: str) -> Path:
    """The first of runs/TASK-1, runs/TASK-2, ... that does not exist."""
    name = task_id.rpartition(":")[2]
    return next(p for i in itertools.count(1) if not os.path.lexists(p := Path("runs") / f"{name}-{i}"))
