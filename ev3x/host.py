"""The plugin host: finds plugins without importing them, imports the ones that a run names, and builds components.

What a loaded plugin offers as native code is handed to the registry of this process, which registers it with XLA.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pluggy

from . import hookspecs
from .component import Component, unknown
from .ffi import PLATFORMS, FfiTarget
from .hookspecs import GROUP, Offer

BUILTIN = "ev3"
ROLES = ("proposer", "assessor", "adapter", "budget", "task", "observer")


class PluginError(Exception):
    """A plugin that cannot be used; the text names plugin, distribution, version, cause and the way to go on."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """An installed plugin, as its metadata tell; nothing of it has been imported."""

    name: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.name!r} of {self.distribution} {self.version}"


@dataclasses.dataclass(frozen=True)
class Index:
    """What is installed: plugins by name, names that several distributions claim, and metadata that cannot be read."""

    plugins: Mapping[str, Plugin]
    conflicts: Mapping[str, tuple[Plugin, ...]]
    faults: tuple[str, ...]


def discover() -> Index:
    """The index of the entry-point group `ev3x`, from metadata alone; one broken distribution spoils no other."""
    found: dict[str, dict[str, Plugin]] = {}
    faults = []
    for distribution in importlib.metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.version
            points = [p for p in distribution.entry_points if p.group == GROUP]
        except Exception as error:  # a stranger's broken metadata
            faults.append(f"{getattr(distribution, '_path', distribution)}: unreadable metadata ({error}); skipped")
            continue
        for point in points:
            # The first of several copies on sys.path is the one that Python would import.
            found.setdefault(point.name, {}).setdefault(name, Plugin(point.name, point.value, name, version))
    builtin = found.pop(BUILTIN, {})
    version = builtin["ev3x"].version if "ev3x" in builtin else "source"
    plugins = {BUILTIN: Plugin(BUILTIN, "ev3x.builtin.plugin", "ev3x", version)}
    plugins |= {name: next(iter(claims.values())) for name, claims in sorted(found.items()) if len(claims) == 1}
    conflicts = {name: tuple(claims.values()) for name, claims in found.items() if len(claims) > 1}
    faults += [f"{p} claims the name of the built-in plugin; ignored" for d, p in builtin.items() if d != "ev3x"]
    return Index(plugins, conflicts, tuple(faults))


class Host:
    """Turns `plugin:component` and options into components. Each host has a plugin manager of its own."""

    def __init__(self, index: Index | None = None) -> None:
        self.index = discover() if index is None else index
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._failed: dict[str, PluginError] = {}

    def load(self, name: str) -> Plugin:
        """The plugin, imported and registered; PluginError says why not, the same each time it is asked for."""
        if name in self._failed:
            raise self._failed[name]
        if name in self.index.conflicts:
            claims = " and ".join(f"{p.distribution} {p.version}" for p in self.index.conflicts[name])
            raise PluginError(f"plugin name {name!r} is claimed by {claims}; uninstall one of them")
        if name not in self.index.plugins:
            raise PluginError(
                f"{unknown('plugin', name, self.index.plugins)}; `ev3x plugins list` shows what is installed"
            )
        plugin = self.index.plugins[name]
        if not self._manager.has_plugin(name):
            try:
                module = importlib.import_module(plugin.module)
                self._register(plugin, module)
            except (Exception, SystemExit) as error:
                self._failed[name] = _fault(plugin, "cannot be loaded", error)
                raise self._failed[name] from error
            self._attach(plugin, module)
        return plugin

    def offers(self, role: str, name: str) -> dict[str, type[Component]]:
        """The components of one role that a plugin offers, by name."""
        plugin = self.load(name)
        hook = getattr(self._manager.hook, f"ev3x_{role}s")
        try:
            made = [o for impl in hook.get_hookimpls() if impl.plugin_name == name for o in impl.function()]
            offers = [_checked(role, offer) for offer in made]
            if twice := {o.name for o in offers if [p.name for p in offers].count(o.name) > 1}:
                raise ValueError(f"offered more than once: {', '.join(sorted(twice))}")
            return {offer.name: offer.component for offer in offers}
        except (Exception, SystemExit) as error:
            raise _fault(plugin, f"cannot offer its {role}s", error) from error

    def targets(self, name: str, platform: str) -> list[FfiTarget]:
        """The native targets that a plugin offers for a platform; nothing of them is known to XLA yet."""
        plugin = self.load(name)
        hook: Any = self._manager.hook.ev3x_ffi_targets
        try:
            impls = [impl for impl in hook.get_hookimpls() if impl.plugin_name == name]
            made = [t for impl in impls for t in impl.function(*[platform][: len(impl.argnames)])]
            targets = [_checked_target(plugin, target) for target in made]
            keys = [(t.name, t.platform) for t in targets]
            if twice := {n for n, p in keys if keys.count((n, p)) > 1}:
                raise ValueError(f"offered more than once: {', '.join(sorted(twice))}")
            return [target for target in targets if target.platform == platform]
        except (Exception, SystemExit) as error:
            raise _fault(plugin, "cannot offer its native targets", error) from error

    def find(self, role: str, use: str) -> tuple[str, type[Component]]:
        """The full id and the class of a component; a name without a plugin means a built-in one."""
        plugin, _, name = use.rpartition(":")
        plugin = plugin or BUILTIN
        offers = self.offers(role, plugin)
        if name not in offers:
            known = [f"{plugin}:{n}" if ":" in use else n for n in offers]
            others = [f"'{p}:...'" for p in self.index.plugins if p != plugin]
            hint = f" (installed plugins: {', '.join(others)})" if ":" not in use and others else ""
            raise PluginError(unknown(role, use, known) + hint)
        return f"{plugin}:{name}", offers[name]

    def build(self, role: str, use: str, options: Mapping[str, Any] | None = None) -> Component:
        """The component with these options; raises PluginError or OptionError."""
        return self.find(role, use)[1].build(options or {})

    def _register(self, plugin: Plugin, module: ModuleType) -> None:
        if not any(n.startswith("ev3x_") for n, _ in inspect.getmembers(module, callable)):
            raise ValueError(f"module {plugin.module} has no ev3x_ hooks")
        self._manager.register(module, plugin.name)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError:
            self._manager.unregister(module)
            raise

    def _attach(self, plugin: Plugin, module: ModuleType) -> None:
        """Lets the process's registry ask this plugin for native targets, when it comes to that."""
        if not hasattr(module, "ev3x_ffi_targets"):
            return
        from .ops import native

        owner = f"{plugin.distribution} {plugin.version}"
        native.registry.attach(native.Source(str(plugin), owner, lambda platform: self.targets(plugin.name, platform)))


def _checked(role: str, offer: Any) -> Offer:
    if not isinstance(offer, Offer):
        raise TypeError(f"ev3x_{role}s must return Offer(name, component) records, got {offer!r}")
    kind = offer.component
    if not (isinstance(kind, type) and issubclass(kind, Component)):
        raise TypeError(f"{offer.name!r} must offer a subclass of ev3x.Component, got {kind!r}")
    if kind.role != role:
        raise TypeError(f"{offer.name!r} is offered as {role} but its class is a {kind.role or 'bare Component'}")
    if not kind.__dataclass_params__.frozen or "__dataclass_fields__" not in vars(kind):  # type: ignore[attr-defined]
        raise TypeError(f"{offer.name!r}: {kind.__name__} must be decorated with @dataclasses.dataclass(frozen=True)")
    return offer


def _checked_target(plugin: Plugin, target: Any) -> FfiTarget:
    if not isinstance(target, FfiTarget):
        raise TypeError(f"ev3x_ffi_targets must return FfiTarget(name, handler, self_test) records, got {target!r}")
    prefix = re.sub(r"[-_.]+", "_", plugin.distribution).lower()
    if target.name != prefix and not target.name.startswith(f"{prefix}_"):
        raise ValueError(f"the names of its targets must begin with {prefix + '_'!r}, got {target.name!r}")
    if target.platform not in PLATFORMS:
        raise ValueError(f"{target.name!r}: platform must be one of {PLATFORMS}, got {target.platform!r}")
    if not callable(target.self_test):
        raise TypeError(f"{target.name!r}: self_test must be a function of the target's name, got {target.self_test!r}")
    return target


def _fault(plugin: Plugin, what: str, error: BaseException) -> PluginError:
    cause = (
        f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    )
    way = (
        ""
        if plugin.name == BUILTIN
        else f"; to go on without it: {sys.executable} -m pip uninstall {plugin.distribution}"
    )
    return PluginError(f"{plugin} {what}: {cause}{way}")
