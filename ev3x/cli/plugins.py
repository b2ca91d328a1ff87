"""`ev3x plugins list`, `show` and `lock`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

import typer

from ..host.discovery import BUILTIN
from ..text import json_text, shown
from . import check, new
from .console import Quick, QuickGroup, out, quietly, say
from .hosting import Files, hosting
from .run import Json

if TYPE_CHECKING:
    from ..component import Component
    from ..host.host import Host

app = typer.Typer(
    help="What is installed, what it offers, and whether it is sound.", no_args_is_help=True, cls=QuickGroup
)
app.command("check")(check.check)
app.command("new", cls=Quick)(new.new)


@app.command("list", cls=Quick)
def list_(as_json: Json = False) -> None:
    """List the installed plugins from their metadata; none is imported."""
    from ..host.discovery import claimed, discover
    from ..host.policy import from_environment

    index, policy = discover(), from_environment()
    rows = []
    for name in index.names:
        claims = index.conflicts.get(name) or tuple(filter(None, [index.plugins.get(name)]))
        refusals = [None if name == BUILTIN else policy.refusal(p.distribution) or p.incompatible for p in claims]
        clash = claimed(name, claims) if refusals.count(None) > 1 else None
        for p, refusal in zip(claims, refusals, strict=True):
            rows.append((p.name, p.distribution, p.version, p.api or "none", p.value, refusal or clash or "usable"))
    broken = [(name, "", "", "", "", why) for name, why in index.broken.items()]
    if as_json:
        keys = ("plugin", "distribution", "version", "api", "value", "state")
        made = {"plugins": [dict(zip(keys, row, strict=True)) for row in rows + broken], "faults": list(index.faults)}
        out(json_text(made))
        return
    head = ("plugin", "distribution", "version", "API", "state")
    lines = [head, *((r[0], r[1], r[2], r[3], r[5]) for r in rows + broken)]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    for line in lines:
        out(shown("  ".join([*map(str.ljust, line, widths), line[-1]]).rstrip()))
    for fault in index.faults:
        say(fault)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="PLUGIN[:COMPONENT]", help="ev3, ev3:paired, or paired alone.")],
    file: Files = None,
) -> None:
    """Show the components of a plugin, or the options of a component."""
    from ..host.host import PluginError

    with quietly():
        host = hosting(file).host()
        plugin, _, component = name.partition(":")
        if not component and plugin not in {*host.index.names, *host.plugins} and _find(host, BUILTIN, plugin):
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


@app.command("lock")
def lock_() -> None:
    """Write down versions and digests of the plugins that may be used, in ev3x-plugins.lock for `ev3x run --locked`."""
    from ..host import lock
    from ..host.host import Host

    for name, pin in lock.write(Host()).items():
        out(f"{name} {pin}")
    out(f"{lock.FILE}: written")


def _find(host: Host, plugin: str, component: str) -> list[tuple[str, type[Component]]]:
    """The components of that name, in all roles."""
    from ..host.host import ROLES

    offers = ((role, host.offers(role, plugin)) for role in ROLES)
    return [(role, offer[component]) for role, offer in offers if component in offer]


def _names(host: Host, plugin: str) -> list[str]:
    from ..host.host import ROLES

    return [f"{plugin}:{name}" for role in ROLES for name in host.offers(role, plugin)]


def _components(host: Host, plugin: str) -> None:
    from ..host.host import ROLES

    info = host.load(plugin)
    from . import tables

    screen = tables.console()
    screen.print(shown(f"{info} ({info.value})"), soft_wrap=True)
    rows = [
        (role, f"{plugin}:{name}", (inspect.getdoc(cls) or "").partition("\n")[0])
        for role in ROLES
        for name, cls in host.offers(role, plugin).items()
    ]
    screen.print(tables.table(("role", "component", "what it is"), rows))


def _options(name: str, role: str, cls: type[Component]) -> None:
    from . import tables

    screen = tables.console()
    screen.print(f"{name}, {'an' if role[0] in 'ao' else 'a'} {role}", style="bold")
    screen.print(inspect.getdoc(cls) or "", soft_wrap=True)
    rows = [(o.name, o.type, "required" if o.required else o.default, o.help) for o in cls.options()]
    screen.print(tables.table(("option", "type", "default", "help"), rows) if rows else "\nno options")
