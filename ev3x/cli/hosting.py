"""The options of all commands that load plugins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import usable

if TYPE_CHECKING:
    from ..host.host import Host

Files = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", callback=usable, help="Use this local file as a plugin, too."),
]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", help="Use built-in components only.")]
Strict = Annotated[bool, typer.Option("--strict-plugins", help="Any fault of a plugin is an error.")]
Locked = Annotated[
    bool, typer.Option("--locked", help="Use the plugins of ev3x-plugins.lock, as they were locked, and no others.")
]


@dataclasses.dataclass(frozen=True)
class Hosting:
    """Which plugins a command may load."""

    files: tuple[Path, ...] = ()
    none: bool = False
    strict: bool = False
    locked: bool = False

    def host(self) -> Host:
        """The host with these files registered; raises PluginError or LockError."""
        from ..host import lock
        from ..host.host import Host
        from ..host.policy import PluginPolicy

        host = Host(policy=PluginPolicy(allow=() if self.none else None, strict=self.strict, origin="--no-plugins"))
        if self.locked:
            host = host.narrowed(lock.policy(host))
        for file in self.files:
            host.register_file(file)
        return host


def hosting(files: list[Path] | None, none: bool = False, strict: bool = False, locked: bool = False) -> Hosting:
    """The hosting that these options ask for."""
    return Hosting(tuple(files or ()), none, strict, locked)
