"""`ev3x plugins check`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ..text import json_text, shown, shown_lines
from .console import DEBUG, InputError, debugging, out

if TYPE_CHECKING:
    import subprocess

    from ..host.discovery import Index, PluginInfo

FAILED = 1
_SIGNS = {True: "ok", False: "FAULT", None: "note"}


def check(
    distribution: Annotated[str, typer.Argument(metavar="DIST", help="The distribution, as pip calls it.")],
    timeout: Annotated[float, typer.Option(help="Seconds without a finding after which it is taken to hang.")] = 120.0,
    no_kit: Annotated[bool, typer.Option("--no-kit", help="Do not put its components through the kit.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the long checks: child processes and simulations.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="Check N components of each role, drawn by the seed; 0: all.")
    ] = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="What draws them; the same seed draws the same ones.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Check the plugins of a distribution, in a process that they may crash; exit code 1 if anything is wrong."""
    from ..host.discovery import discover, normalized

    if not timeout > 0:
        raise InputError(f"--timeout must be a number of seconds above 0, got {timeout:g}")
    index = discover()
    found = index.of(distribution)
    findings = list(_metadata(index, normalized(distribution), found))
    for plugin in found:
        if not plugin.incompatible and plugin.name not in index.conflicts:
            tier = "none" if no_kit else "quick" if quick else "all"
            findings += _loaded(plugin, timeout, [tier, sample, seed, *[DEBUG] * debugging()])
    if as_json:
        out(json_text({"distribution": distribution, "findings": findings}))
    else:
        for finding in findings:
            out(shown_lines(f"{_SIGNS[finding['good']]:5} {shown(finding['what'])}: {finding['text']}"))
    if any(finding["good"] is False for finding in findings):
        raise typer.Exit(FAILED)


def _metadata(index: Index, distribution: str, found: list[PluginInfo]) -> Iterator[dict[str, Any]]:
    """The findings in the metadata, without importing anything."""
    from ..host.discovery import claimed

    if not found:
        near = [fault for fault in index.faults if distribution.replace("-", "_") in fault.lower()]
        text = "; ".join(near) or "no installed distribution of that name brings plugins; `ev3x plugins list` shows all"
        yield {"what": distribution, "good": False, "text": text}
    for plugin in found:
        yield {"what": "metadata", "good": not plugin.incompatible, "text": plugin.incompatible or str(plugin)}
        if plugin.name in index.conflicts:
            yield {"what": "name", "good": False, "text": claimed(plugin.name, index.conflicts[plugin.name])}
    if copies := index.copies.get(distribution):
        first, *others = map(str, copies)
        text = f"installed more than once: {first} is used, {', '.join(others)} is not"
        yield {"what": "copies", "good": False, "text": text}


def _loaded(plugin: PluginInfo, timeout: float, options: list[str | int]) -> list[dict[str, Any]]:
    """The findings of a process that loads the plugin, and how that process ended."""
    import subprocess
    import tempfile

    from ..host.side_effects import forget
    from .examine import END

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "findings"
        file.touch()
        # It must import what this process imports: with -P it ignores a folder `ev3x` or a jax.py in this directory.
        command = [sys.executable, "-P", "-m", "ev3x.cli.examine", plugin.name, str(file), *map(str, options)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        with (Path(folder) / "stderr").open("w+b") as stderr:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment)
            try:
                end = _end(plugin, _finished(process, file, timeout), stderr)
            except subprocess.TimeoutExpired:
                end = f"{plugin} came to nothing for {timeout:g} s (--timeout)"
            finally:
                process.kill()
                process.wait()
                forget(process.pid)
        findings = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    complete = bool(findings) and findings[-1]["what"] == END
    findings = findings[: len(findings) - complete]
    if not complete and not end:
        end = f"{plugin} ended the process that loaded it, as if all were well (exit code 0)"
    if end:
        after = findings[-1]["what"] if findings else "its import began"
        findings.append({"what": "process", "good": False, "text": f"{end}; this was after: {after}"})
    return findings


def _finished(process: subprocess.Popen[bytes], file: Path, timeout: float) -> int:
    """The exit code of a process; raises TimeoutExpired if it writes nothing to the file for `timeout` seconds."""
    import subprocess

    seen = -1
    while True:
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            if (size := file.stat().st_size) == seen:
                raise
            seen = size


def _end(plugin: PluginInfo, code: int, stderr: IO[bytes]) -> str | None:
    """How a process ended, if not normally; None if normally."""
    import signal

    if code == 0:
        return None
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    stderr.seek(0)
    last = stderr.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"{plugin} ended the process that loaded it ({how}){': ' if last else ''}{''.join(last)}"
