"""Looks at one plugin in a process of its own, which it may crash or hang: `python -m ev3x.cli.examine PLUGIN FILE`.

Findings are appended to the file as they are made, a JSON object each, so that those before a crash are kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

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


def examine(name: str, findings: Findings, *, kit: bool = True, debug: bool = False) -> None:
    """Loads the plugin, tries out its native code, and puts its components through the kit of `ev3x.testing`."""
    import jax  # noqa: F401, so that no plugin is charged for its time

    host, said = Host(), _Said(debug=debug)
    try:
        _examine(name, host, findings, kit=kit)
    except Exception as error:
        if (stranger := unreadable(error, host.index)) is None:
            raise
        findings.add("environment", False, stranger)
    for text in said.texts:
        findings.add("while it was loaded", None, text)
    findings.add(END, True, "")


def _examine(name: str, host: Host, findings: Findings, *, kit: bool) -> None:
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
                for offer, kind in host.offers(role, name).items():
                    _build(f"{name}:{offer}", kind, components, findings)
        if kit:
            _through_the_kit(components, findings)


def _build(use: str, kind: type[Component], components: dict[str, Component], findings: Findings) -> None:
    """Adds the component with its defaults, if every option has one."""
    try:
        components[use] = kind.build({})
    except OptionError as error:
        findings.add(use, None, f"not put through the kit: it cannot be built without options ({error})")
    else:
        findings.add(use, True, f"{kind.__name__}, {len(kind.options())} options")


def _through_the_kit(components: Mapping[str, Component], findings: Findings) -> None:
    from ..testing import ConformanceError, ask_ahead, check_component

    with contextlib.redirect_stdout(io.StringIO()):
        ask_ahead(components.values())
        for use, component in components.items():
            try:
                report = check_component(component)
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
    examine(sys.argv[1], Findings(Path(sys.argv[2])), kit="--no-kit" not in sys.argv, debug=DEBUG in sys.argv)
