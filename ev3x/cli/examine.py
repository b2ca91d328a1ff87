"""Looks at one plugin in a process of its own, which it may crash or hang.

`python -m ev3x.cli.examine PLUGIN FILE TIER N SEED`; the tier is "none", "quick" or "all", an N of 0 means all
components. Findings are appended to the file as they are made, a JSON object each, so that those before a crash are
kept.
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
from typing import Literal, cast

from ..component import Component, OptionError
from ..devices import backend_is_up
from ..host.host import ROLES, Host, PluginError

Tier = Literal["none", "quick", "all"]
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


def examine(name: str, findings: Findings, tier: Tier = "all", n: int = 0, seed: int = 0) -> None:
    """Loads the plugin, tries out its native code, and puts its components through the kit of `ev3x.testing`.

    Of a role with more than n components (0: no limit), n are drawn by the seed.
    """
    import jax  # noqa: F401, so that no plugin is charged for its time

    host, said = Host(), io.StringIO()
    logging.getLogger("ev3x.plugins").addHandler(handler := logging.StreamHandler(said))
    handler.setLevel(logging.INFO)
    logging.getLogger("ev3x.plugins").setLevel(logging.INFO)
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
                for use, kind in _drawn(role, offers, n, seed, findings).items():
                    _build(use, kind, components, findings, kit=tier != "none")
        if tier != "none":
            _through_the_kit(components, findings, quick=tier == "quick")
    for line in said.getvalue().splitlines():
        findings.add("while it was loaded", None, line)
    findings.add(END, True, "")


def _drawn(
    role: str, offers: Mapping[str, type[Component]], n: int, seed: int, findings: Findings
) -> Mapping[str, type[Component]]:
    """The components that are looked at; a note says which they are where not all are."""
    if not 0 < n < len(offers):
        return offers
    from ..testing import sample

    drawn = sample(offers, n, seed)
    text = f"{n} of {len(offers)} {role}s, drawn by --seed {seed}: {', '.join(drawn)}"
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
    plugin, file, tier, n, seed = sys.argv[1:]
    examine(plugin, Findings(Path(file)), cast(Tier, tier), int(n), int(seed))
