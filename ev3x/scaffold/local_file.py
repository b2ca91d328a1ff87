"""What a one-file plugin offers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..component import Component, OptionError
from ..core.adapt import Adapter
from ..core.task import Task
from ..host.discovery import BUILTIN, Index, builtin
from ..host.host import ROLES, Host


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


def found(path: Path) -> tuple[str, list[Found]]:
    """The name of what has the hooks in the file ("": itself), and all it offers. Raises PluginError as a run would."""
    host = Host(Index({BUILTIN: builtin()}))
    plugin = host.register_file(path)
    offers = [(role, offer, kind) for role in ROLES for offer, kind in host.offers(role, plugin.name).items()]
    return plugin.attribute, [Found(role, offer, kind, _lacks(kind)) for role, offer, kind in offers]


def _lacks(kind: type[Component]) -> str | None:
    try:
        kind.build(kind.kit.options)
    except OptionError as error:
        return f"{error}; let the class say kit = ev3x.Kit(options={{...}})"
    if issubclass(kind, Task) and kind.load is Task.load and "splits" not in kind.kit.given():
        return "it brings no data: hand over splits"
    return None
