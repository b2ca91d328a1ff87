"""What a one-file plugin offers, and what it needs, so that it can be packaged."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

from ..adapt import Adapter
from ..component import Component, OptionError
from ..discovery import BUILTIN, Index, builtin
from ..host import ROLES, Host
from ..task import Task

# With the oldest versions that ev3x itself runs with.
REQUIREMENTS = {
    "ev3x": "ev3x>=0.1",
    "jax": "jax>=0.7",
    "numpy": "numpy>=1.26",
    "optax": "optax>=0.2.5",
    "typing_extensions": "typing-extensions>=4.9",
}


@dataclasses.dataclass(frozen=True)
class Found:
    """A component that a file offers; `lacks` says what its test must be given first, None if nothing."""

    role: str
    name: str
    component: type[Component]
    lacks: str | None

    @property
    def alone(self) -> bool:
        """Whether it needs no adapter before it."""
        return not (issubclass(self.component, Adapter) and self.component.follows)


def found(path: Path) -> list[Found]:
    """All components that the file offers. Raises PluginError as a run would."""
    host = Host(Index({BUILTIN: builtin()}))
    name = host.register_file(path).name
    offers = [(role, offer, kind) for role in ROLES for offer, kind in host.offers(role, name).items()]
    return [Found(role, offer, kind, _lacks(kind)) for role, offer, kind in offers]


def requirements(modules: Iterable[str]) -> tuple[list[str], list[str]]:
    """What a distribution must depend on to import these modules, and those that no installed one brings."""
    roots = {"ev3x", *(module.partition(".")[0] for module in modules)} - sys.stdlib_module_names
    others = roots - REQUIREMENTS.keys()
    brought = importlib.metadata.packages_distributions() if others else {}
    found = {REQUIREMENTS[root] for root in roots - others} | {d for root in others for d in brought.get(root, ())}
    return sorted(found), sorted(others - brought.keys())


def imported(source: bytes) -> set[str]:
    """The modules that a source imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def _lacks(kind: type[Component]) -> str | None:
    try:
        kind.build({})
    except OptionError as error:
        return str(error)
    if issubclass(kind, Task) and kind.load is Task.load:
        return "it brings no data: hand over splits"
    return None
