"""Looks at one plugin in a process of its own, which it may crash or hang.

`python -m ev3x.cli.examine PLUGIN FILE TIER N SEED [--debug]`, see `Extent`. Findings are appended to the file as they
are made, a JSON object each, so that those before a crash are kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from ..component import Component, OptionError
from ..devices import backend_is_up
from ..host.discovery import unreadable
from ..host.host import ROLES, Host, PluginError
from .console import DEBUG

END = "end"  # the last finding of a process that ended normally


class Findings:
    """A file of findings: the thing examined, whether it is good (None: only a note), and what was seen."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, what: str, good: bool | None, text: str) -> None:
        """Append a finding."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "good": good, "text": text}) + "\n")

    @contextlib.contextmanager
    def under(self, what: str) -> Iterator[None]:
        """Turns a fault of the plugin inside the body into a finding."""
        try:
            yield
        except PluginError as error:
            self.add(what, False, str(error))


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much of the kit is run: a tier, and of a role with more than `n` components (0: no limit) n by the seed."""

    tier: Literal["none", "quick", "all"] = "all"
    n: int = 0
    seed: int = 0


class _Said(logging.Handler):
    """Keeps what is logged: what a plugin does while it is loaded, and with `debug` the tracebacks of its faults."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self.texts: list[str] = []
        logger = logging.getLogger("ev3x" if debug else "ev3x.plugins")
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message and the traceback that comes with it."""
        self.texts += [self.format(record)] if record.exc_info else record.getMessage().splitlines()


def examine(name: str, findings: Findings, extent: Extent = Extent(), *, debug: bool = False) -> None:
    """Loads the plugin, tries out its native code, and puts its components through the kit of `ev3x.testing`."""
    import jax  # noqa: F401, so that no plugin is charged for its time

    host, said = Host(), _Said(debug=debug)
    try:
        _examine(name, host, findings, extent)
    except Exception as error:
        if (stranger := unreadable(error, host.index)) is None:
            raise
        findings.add("environment", False, stranger)
    for text in said.texts:
        findings.add("while it was loaded", None, text)
    findings.add(END, True, "")


def _examine(name: str, host: Host, findings: Findings, extent: Extent) -> None:
    with findings.under("import"):
        began, before = time.perf_counter(), len(sys.modules)
        host.load(name)
        seconds = time.perf_counter() - began
        findings.add("import", True, f"{seconds:.2f} s, {len(sys.modules) - before} modules")
        if backend_is_up():
            findings.add("import", False, "it starts JAX's backends: settings made after it have no effect")
        _native(host, name, findings)
        components: dict[str, Component] = {}
        for role in ROLES:
            with findings.under(f"{role}s"):
                offers = {f"{name}:{offer}": kind for offer, kind in host.offers(role, name).items()}
                for use, kind in _drawn(role, offers, extent, findings).items():
                    _build(use, kind, components, findings, kit=extent.tier != "none")
        if extent.tier != "none":
            _through_the_kit(components, findings, quick=extent.tier == "quick")


def _drawn(
    role: str, offers: Mapping[str, type[Component]], extent: Extent, findings: Findings
) -> Mapping[str, type[Component]]:
    """The components that are looked at; a note says which they are where not all are."""
    if not 0 < extent.n < len(offers):
        return offers
    from ..testing import sample

    drawn = sample(offers, extent.n, extent.seed)
    text = f"{extent.n} of {len(offers)} {role}s, drawn by --seed {extent.seed}: {', '.join(drawn)}"
    findings.add("sample", None, text)
    return drawn


def _build(use: str, kind: type[Component], components: dict[str, Component], findings: Findings, *, kit: bool) -> None:
    """Adds the component as its `kit` says; a fault where that leaves out what it needs, and the kit is asked for."""
    try:
        components[use] = kind.build(kind.kit.options)
    except OptionError as error:
        from ..testing.components import untried

        advice = untried(kind)
        text = f"not put through the kit: it cannot be built ({error})" + (f"; {advice}" if advice else "")
        findings.add(use, False if kit and (advice or kind.kit.options) else None, text)
    else:
        findings.add(use, True, f"{kind.__name__}, {len(kind.options())} options")


def _through_the_kit(components: Mapping[str, Component], findings: Findings, *, quick: bool) -> None:
    from ..testing import ConformanceError, ask_ahead, check_component

    with contextlib.redirect_stdout(io.StringIO()):
        if not quick:
            with contextlib.suppress(Exception):  # each check asks again, and says what is wrong
                ask_ahead(components.values())
        for use, component in components.items():
            try:
                report = check_component(component, quick=quick)
            except ConformanceError as error:
                findings.add(use, False, str(error))
            except Exception as error:  # of the component's code, outside of what a check expects
                logging.getLogger("ev3x.faults").debug("the kit and %s", use, exc_info=error)
                findings.add(use, False, f"the kit could not be run: {type(error).__name__}: {error}")
            else:
                findings.add(use, True, str(report))


def _native(host: Host, name: str, findings: Findings) -> None:
    from ..ffi import PLATFORMS
    from ..ops import native

    with findings.under("native code"):
        for target in (t for platform in filter(native.here, PLATFORMS) for t in host.targets(name, platform)):
            status = native.registry.look(target.name, target.platform)
            good = None if status.state == "jnp" and not status.fault else status.state == "native"
            findings.add(f"target {target.name}", good, f"{status.state} on {target.platform}: {status.reason}")


if __name__ == "__main__":
    plugin, file, tier, n, seed, *rest = sys.argv[1:]
    examine(plugin, Findings(Path(file)), Extent(cast(Any, tier), int(n), int(seed)), debug=DEBUG in rest)
