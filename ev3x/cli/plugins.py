"""`ev3x plugins list` and `ev3x plugins show`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

import typer

from . import tables
from .console import quietly, say

if TYPE_CHECKING:
    from ..component import Component
    from ..host import Host

app = typer.Typer(help="What is installed, and what it offers.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List the installed plugins from their metadata; none is imported."""
    from ..host import discover

    index = discover()
    rows = [(p.name, p.distribution, p.version, p.module) for p in index.plugins.values()]
    tables.console().print(tables.table(("plugin", "distribution", "version", "module"), rows))
    for name, claims in index.conflicts.items():
        who = " and ".join(f"{p.distribution} {p.version}" for p in claims)
        say(f"plugin name {name!r} is claimed by {who}; uninstall one of them", style="red")
    for fault in index.faults:
        say(fault, style="yellow")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="PLUGIN[:COMPONENT]", help="ev3, ev3:paired, or paired alone.")],
) -> None:
    """Show the components of a plugin, or the options of a component."""
    from ..host import BUILTIN, Host, PluginError

    with quietly():
        host = Host()
        plugin, _, component = name.partition(":")
        installed = {*host.index.plugins, *host.index.conflicts}
        if not component and plugin not in installed and _find(host, BUILTIN, plugin):
            plugin, component = BUILTIN, plugin
        if not component:
            _components(host, plugin)
            return
        found = _find(host, plugin, component)
        if not found:
            from ..component import unknown

            raise PluginError(unknown("component", name, _names(host, plugin)))
        for role, cls in found:
            _options(f"{plugin}:{component}", role, cls)


def _find(host: Host, plugin: str, component: str) -> list[tuple[str, type[Component]]]:
    """The components of that name, in all roles."""
    from ..host import ROLES

    offers = ((role, host.offers(role, plugin)) for role in ROLES)
    return [(role, offer[component]) for role, offer in offers if component in offer]


def _names(host: Host, plugin: str) -> list[str]:
    from ..host import ROLES

    return [f"{plugin}:{name}" for role in ROLES for name in host.offers(role, plugin)]


def _components(host: Host, plugin: str) -> None:
    from ..host import ROLES

    info = host.load(plugin)
    screen = tables.console()
    screen.print(f"{info} ({info.module})", markup=False, soft_wrap=True)
    rows = [
        (role, f"{plugin}:{name}", (inspect.getdoc(cls) or "").partition("\n")[0])
        for role in ROLES
        for name, cls in host.offers(role, plugin).items()
    ]
    screen.print(tables.table(("role", "component", "what it is"), rows))


def _options(name: str, role: str, cls: type[Component]) -> None:
    screen = tables.console()
    screen.print(f"{name}, {'an' if role[0] in 'ao' else 'a'} {role}", markup=False, style="bold")
    screen.print(inspect.getdoc(cls) or "", markup=False, soft_wrap=True)
    rows = [(o.name, o.type, "required" if o.required else o.default, o.help) for o in cls.options()]
    screen.print(tables.table(("option", "type", "default", "help"), rows) if rows else "\nno options", markup=False)
