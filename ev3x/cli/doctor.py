"""`ev3x doctor`."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..text import json_text
from .console import quietly, say

if TYPE_CHECKING:
    from ..ops.native import TargetStatus

PACKAGES = ("ev3x", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "flax", "pluggy")
SICK = 1


def doctor(
    plugin: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Look at the native code of this plugin, too.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Look at all installed plugins; this imports them.")] = False,
    require: Annotated[bool, typer.Option("--require", help="Fail if any native target is not in use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Show versions, platforms and native code, and try out every native target; exit code 1 if anything is broken."""
    with quietly(stdout=as_json) as stdout:
        report, targets = _look(plugin or (), all_)
    if as_json:
        print(json_text(report | {"targets": [dataclasses.asdict(t) for t in targets]}), file=stdout, flush=True)
    else:
        _show(report, targets)
    broken = report["faults"] or any(t.fault for t in targets)
    usable = [t for t in targets if t.platform in report["devices"]]
    if broken or (require and any(t.state != "native" for t in usable)):
        raise typer.Exit(SICK)


def _look(plugins: Iterable[str], everything: bool) -> tuple[dict[str, Any], list[TargetStatus]]:
    """Versions, devices and faults of whole plugins, and the status of every target."""
    import jax

    from .. import wrong_sums
    from ..ffi import PLATFORMS
    from ..host.discovery import BUILTIN
    from ..host.host import Host, PluginError
    from ..host.side_effects import last_words
    from ..ops import native

    wrong = [f"sums are computed wrongly on CPUs: {wrong_sums.advice()}"] if wrong_sums.wrong() else []
    died = [f"a process died while it was loading {who}" for who in last_words()]
    faults = []
    host = Host()
    installed = [name for name in host.index.names if name != BUILTIN]
    for name in installed if everything else plugins:
        try:
            host.load(name)
        except PluginError as error:
            faults.append(str(error))
    targets = native.status()
    report = {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": f"{platform.system()} {platform.machine()}",
        "devices": {p: [str(d) for d in jax.local_devices(backend=p.lower())] for p in PLATFORMS if native.here(p)},
        "jaxlib_ffi": _dotted(native.runtime_ffi_version()),
        "native": _module(),
        "faults": [*wrong, *faults, *native.registry.faults, *died],
    }
    return report, targets


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _module() -> dict[str, Any]:
    """How the bundled native module was built and which of it runs here, or why nothing does."""
    from ..ops import native

    if os.environ.get("EV3X_NATIVE", "").lower() == "off":
        return {"problem": "EV3X_NATIVE=off"}
    try:
        library = native.registry.library()
    except Exception as error:  # whatever stops a shared library from loading
        return {"problem": str(error)}
    spec = find_spec(native.MODULE)
    return {
        "file": spec and spec.origin,
        "compiler": library.compiler,
        "ffi": _dotted(library.ffi_version),
        "isa": library.isa,
        "isas": list(library.isas),
    }


def _dotted(ffi_version: tuple[int, int]) -> str:
    return ".".join(map(str, ffi_version))


def _show(report: dict[str, Any], targets: list[TargetStatus]) -> None:
    from . import tables

    screen, module = tables.console(), report["native"]
    facts = [*report["versions"].items(), ("machine", report["machine"])]
    facts += [(p, ", ".join(devices)) for p, devices in report["devices"].items()]
    facts.append(("XLA FFI", f"{report['jaxlib_ffi']} in jaxlib"))
    if "problem" in module:
        facts.append(("native code", f"none: {module['problem']}"))
    else:
        facts[-1] = ("XLA FFI", f"{report['jaxlib_ffi']} in jaxlib, {module['ffi']} in the headers of the build")
        facts.append(("native code", str(module["file"])))
        facts.append(("compiler", module["compiler"]))
        facts.append(("instructions", f"{module['isa']} (built in: {', '.join(module['isas'])})"))
    screen.print(tables.table(("what", "which"), facts))
    rows = [(t.target, t.owner, t.platform, t.state, _time(t.seconds), t.reason) for t in targets]
    made = tables.table(("target", "of", "platform", "state", "self-test", "reason"), rows)
    for column in made.columns[:-1]:
        column.no_wrap = True
    screen.print(made)
    for fault in report["faults"]:
        say(fault, style="red")


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.0f} ms"
