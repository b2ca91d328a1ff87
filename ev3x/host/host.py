"""The plugin host: imports the plugins that a run names, contains their faults, and builds their components.

The host passes native code that a loaded plugin offers to the registry of this process, which registers it with XLA.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pluggy

from ..component import Component, unfit, unknown
from ..ffi import PLATFORMS, FfiTarget
from ..text import shown, why
from . import entry_points, hookspecs, local_files
from .discovery import BUILTIN, GROUP, Index, PluginInfo, claimed, discover, normalized, unreadable
from .faults import cause
from .hookspecs import Offer
from .policy import PluginPolicy, from_environment
from .side_effects import watched

ROLES = ("proposer", "assessor", "adapter", "budget", "task", "observer")
HOOKS = (*(f"ev3x_{role}s" for role in ROLES), "ev3x_ffi_targets")


class PluginError(Exception):
    """A plugin cannot be used; the text names plugin, distribution, version, cause and what to do."""


class Host:
    """Turns `plugin:component` and options into components. Each host has a plugin manager of its own.

    `index` lists what is installed when the host is made; `policy` says which of it may be used. The environment can
    only narrow the policy.
    """

    def __init__(self, index: Index | None = None, policy: PluginPolicy | None = None) -> None:
        self.index = discover() if index is None else index
        self._policies: tuple[PluginPolicy, ...] = (policy or PluginPolicy(), from_environment())
        self._registered: dict[str, PluginInfo] = {}
        self._failed: dict[str, PluginError] = {}
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)

    def narrowed(self, *policies: PluginPolicy) -> Host:
        """A host with further policies, which shares what this one has loaded."""
        host = copy.copy(self)
        host._policies = (*self._policies, *policies)
        return host

    @property
    def strict(self) -> bool:
        """Whether a fault of a plugin ends a run that could go on without the plugin."""
        return any(policy.strict for policy in self._policies)

    @property
    def plugins(self) -> dict[str, PluginInfo]:
        """The plugins that may be used, by name; only loading shows whether they work."""
        usable = [p for p in (*self.index.all, *self._registered.values()) if self.refusal(p) is None]
        names = [p.name for p in usable]
        return {p.name: p for p in usable if names.count(p.name) == 1}

    def forbidden(self, plugin: PluginInfo) -> str | None:
        """Why the policies do not allow a plugin, None if they do."""
        if plugin.name == BUILTIN or not plugin.distribution:
            return None
        said = (policy.refusal(plugin.distribution) for policy in self._policies)
        return next(filter(None, said), None)

    def refusal(self, plugin: PluginInfo) -> str | None:
        """Why a plugin may not be loaded here (not allowed, or made for another ev3x); None if it may."""
        return self.forbidden(plugin) or plugin.incompatible

    def resolve(self, name: str) -> PluginInfo:
        """The plugin of this name, not loaded; PluginError says why it may not be used."""
        if name in self._registered:
            return self._registered[name]
        if name in self.index.conflicts:
            claims = tuple(p for p in self.index.conflicts[name] if self.refusal(p) is None)
            if len(claims) != 1:
                raise PluginError(claimed(name, claims or self.index.conflicts[name]))
            return claims[0]
        if name in self.index.broken:
            raise PluginError(f"plugin {name!r} cannot be used: {self.index.broken[name]}")
        if name not in self.index.plugins:
            raise PluginError(
                f"{unknown('plugin', name, self.plugins)}; `ev3x plugins list` shows what is installed; "
                "pip installs more, --plugin FILE.py takes a file"
            )
        plugin = self.index.plugins[name]
        if refusal := self.refusal(plugin):
            raise PluginError(f"{plugin} cannot be used: {refusal}")
        return plugin

    def load(self, name: str) -> PluginInfo:
        """The plugin, imported and registered; PluginError says why not, in the same words at every call."""
        plugin = self.resolve(name)
        if _key(plugin) in self._failed:
            raise self._failed[_key(plugin)]
        if not self._manager.has_plugin(_key(plugin)):
            with self._guarded(plugin, "cannot be loaded", keep=True):
                _check_there(plugin)
                self._adopt(plugin, _imported(plugin))
        return plugin

    def register(self, name: str, plugin: object) -> PluginInfo:
        """Registers a module or an instance with hooks by hand, as the plugin of this name; idempotent.

        Raises PluginError when `plugin` has no hooks or wrong ones, or when the name is taken.
        """
        value = getattr(plugin, "__name__", type(plugin).__name__)
        return self._register(PluginInfo(name, value, "", "(registered)"), plugin)

    def register_file(self, path: Path) -> PluginInfo:
        """Registers a local Python file, or the `plugin` in it, under its name; PluginError: why not."""
        name = local_files.named(path)
        try:
            source = path.read_bytes()
        except OSError as error:
            raise PluginError(f"{shown(path)}: cannot be read: {why(error)}") from error
        if path.suffix != ".py" or shown(name) != name:
            raise PluginError(f"{shown(path)}: must be a Python file, with the ending .py and a name in UTF-8")
        digest = hashlib.sha256(source).hexdigest()
        plugin = PluginInfo(name, str(path), "", f"(sha256 {digest[:12]})", location=path.resolve())
        with self._guarded(plugin, "cannot be loaded"):
            module = local_files.imported(path, source, digest[:12])
            attribute, content = local_files.held(module) or ("", module)
        return self._register(dataclasses.replace(plugin, attribute=attribute), content)

    def offers(self, role: str, name: str) -> dict[str, type[Component]]:
        """The components of one role that a plugin offers, by name."""
        with self._guarded(self.load(name), f"cannot offer its {role}s"):
            offers = [_checked(role, offer) for offer in self._made(role, name)]
            _once([(offer.name, _named(offer.component)) for offer in offers])
            return {offer.name: offer.component for offer in offers}

    def targets(self, name: str, platform: str) -> list[FfiTarget]:
        """The native targets that a plugin offers for a platform; XLA does not know them yet."""
        return [target for target in self._offered_targets(name, platform) if target.platform == platform]

    def _offered_targets(self, name: str, platform: str) -> list[FfiTarget]:
        """All targets that a plugin returns when asked for a platform; some may be for other platforms."""
        plugin = self.load(name)
        hook: Any = self._manager.hook.ev3x_ffi_targets
        with self._guarded(plugin, "cannot offer its native targets"):
            impls = [impl for impl in hook.get_hookimpls() if impl.plugin_name == _key(plugin)]
            made = [t for impl in impls for t in _listed(impl.function(*[platform][: len(impl.argnames)]))]
            targets = [_checked_target(plugin, target) for target in made]
            _once([((t.name, t.platform), f"a target for {t.platform} with {_named(t.self_test)}") for t in targets])
            return targets

    def find(self, role: str, use: str) -> tuple[str, type[Component]]:
        """The full id and the class of a component; a name without a plugin means a built-in one."""
        plugin, _, name = use.rpartition(":")
        plugin = plugin or BUILTIN
        offers = self.offers(role, plugin)
        if name in offers:
            return f"{plugin}:{name}", offers[name]
        known = [f"{plugin}:{n}" if ":" in use else n for n in offers]
        versions = [n for n in known if n.partition("@")[0] == use.partition("@")[0]]
        if versions:
            raise PluginError(f"{plugin!r} offers no {role} {use!r}, but {', '.join(sorted(versions))}")
        if elsewhere := self._elsewhere(role, plugin, name):
            raise PluginError(f"unknown {role} {use!r}: {elsewhere}")
        others = [f"'{p}:...'" for p in self.plugins if p != plugin]
        hint = f" (installed plugins: {', '.join(others)})" if ":" not in use and others else ""
        raise PluginError(unknown(role, use, known) + hint)

    def _elsewhere(self, role: str, plugin: str, name: str) -> str:
        """The sentence for a component that a plugin offers in another role; "" if it does not offer it."""
        for other in ROLES:
            info = self.load(plugin)
            with contextlib.suppress(PluginError), self._guarded(info, f"cannot offer its {other}s"):
                for offer in self._made(other, plugin):
                    if isinstance(offer, Offer) and offer.name == name:
                        own, mine = getattr(offer.component, "role", ""), _named(offer.component)
                        right = f"; its class {mine} is {_a(own)}: offer it by ev3x_{own}s" if own != other else ""
                        return f"{info} offers it as {_a(other)}, by ev3x_{other}s{right}"
        return ""

    def _made(self, role: str, name: str) -> list[Any]:
        """What the plugin's hook of a role returns, not checked yet."""
        hook, key = getattr(self._manager.hook, f"ev3x_{role}s"), _key(self.load(name))
        return [o for impl in hook.get_hookimpls() if impl.plugin_name == key for o in _listed(impl.function())]

    def build(self, role: str, use: str, options: Mapping[str, Any] | None = None) -> Component:
        """The component with these options; raises PluginError or OptionError."""
        return self.find(role, use)[1].build(options or {})

    def _register(self, plugin: PluginInfo, content: object) -> PluginInfo:
        name = plugin.name
        if name in self._registered and self._manager.get_plugin(_key(plugin)) is content:
            return self._registered[name]
        if name in self._registered or name in self.index.names:
            other = self._registered.get(name) or self.index.plugins.get(name) or f"plugin {name!r}"
            raise PluginError(f"{plugin} cannot be registered: its name is that of {other}")
        with self._guarded(plugin, "cannot be registered"):
            self._adopt(plugin, content)
        self._registered[name] = plugin
        return plugin

    def _adopt(self, plugin: PluginInfo, content: object) -> None:
        """Registers a plugin with the manager, all of it or nothing."""
        _check_hooks(content)
        self._manager.register(content, _key(plugin))
        if hasattr(content, "ev3x_ffi_targets"):
            from ..ops import native

            owner = f"{plugin.distribution or plugin.value} {plugin.version}".rstrip()
            offers = native.Offers(str(plugin), owner, lambda platform: self._offered_targets(plugin.name, platform))
            native.registry.attach(offers)

    @contextlib.contextmanager
    def _guarded(self, plugin: PluginInfo, what: str, *, keep: bool = False) -> Iterator[None]:
        """Turns whatever a plugin's code raises into a PluginError; with `keep`, later loads raise the same one."""
        try:
            if plugin.name == BUILTIN:
                yield
            else:
                with watched(str(plugin)):
                    yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            stranger = unreadable(error, self.index)
            text = stranger or cause(error, plugin) + _way(plugin)
            fault = PluginError(f"{plugin} {what}: {text}")
            if keep:
                self._failed[_key(plugin)] = fault
            raise fault from error


def _key(plugin: PluginInfo) -> str:
    """A key of this plugin: under other policies, another distribution's plugin may have the same name."""
    return f"{plugin.name} of {plugin.distribution}" if plugin.distribution else plugin.name


def _way(plugin: PluginInfo) -> str:
    """How to go on without the plugin; "" for the built-in one, and for whoever works on the plugin."""
    if plugin.name == BUILTIN or entry_points.is_authors(plugin):
        return ""
    return f"; to go on without it: {sys.executable} -m pip uninstall {plugin.distribution}"


def _check_there(plugin: PluginInfo) -> None:
    """Raises RuntimeError if the plugin changed since the index was made: modules of two versions would mix."""
    if plugin.location is not None and not plugin.location.exists():
        raise RuntimeError(
            f"{plugin.distribution} was removed or upgraded after this process had begun ({plugin.location} is gone); "
            "start it again"
        )


def _imported(plugin: PluginInfo) -> object:
    """The module, or the object in it, that the entry point of a plugin names."""
    module, colon, path = (part.strip() for part in plugin.value.partition(":"))
    parts = [part.strip() for part in path.split(".")] if colon else []
    if not all(part.isidentifier() for part in (*module.split("."), *parts)):
        raise ValueError(f"must name `module` or `module:object`: {entry_points.mend(plugin)}")
    found: Any = importlib.import_module(module)
    for part in parts:
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            owner = f"module {module!r}" if inspect.ismodule(found) else repr(found)
            raise AttributeError(f"{owner} has no attribute {part!r}{hint}; {entry_points.mend(plugin)}")
        found = getattr(found, part)
    return found


def _check_hooks(content: object) -> None:
    """Raises TypeError for hooks that pluggy would ignore, or accept only in part, without an error."""
    if inspect.isclass(content):
        raise TypeError(f"{content.__name__} is a class, an instance is expected: have you forgotten the ()?")
    defaults = vars(hookspecs.Plugin)
    names = [n for n in dir(content) if n.startswith("ev3x_") and callable(getattr(content, n))]
    found = [n for n in names if getattr(getattr(content, n), "__func__", None) is not defaults.get(n, content)]
    if not found:
        raise TypeError(local_files.bare(content))
    for name in found:
        hook: Any = getattr(content, name)
        if name not in HOOKS:
            raise TypeError(unknown("hook", name, HOOKS))
        marks = getattr(hook, f"{GROUP}_impl", None)
        if marks is None:
            raise TypeError(f"{name} lacks the decorator @ev3x.hookimpl")
        if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook):
            raise TypeError(f"{name} is async: hooks are called, not awaited; write a plain function")
        if marks["hookwrapper"] or marks["wrapper"]:
            raise TypeError(f"{name} is a wrapper: hooks return what a plugin offers, there is nothing to wrap")


def _once(offers: list[tuple[Any, str]]) -> None:
    """Raises ValueError for what is offered under one key more than once; the pairs are keys and what is offered."""
    for key, _ in offers:
        if len(twice := [what for other, what in offers if other == key]) > 1:
            name = key if isinstance(key, str) else key[0]
            raise ValueError(f"offered more than once: {name}, by {' and by '.join(twice)}; give each its own name")


def _named(kind: Any) -> str:
    """A class or a function by its full name, anything else as it shows itself."""
    return f"{kind.__module__}.{kind.__qualname__}" if hasattr(kind, "__qualname__") else repr(kind)


def _a(role: str) -> str:
    return f"{'an' if role[:1] in 'ao' else 'a'} {role}"


def _listed(result: Any) -> list[Any]:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("a hook returned a coroutine: hooks are called, not awaited")
    if not isinstance(result, Iterable) or isinstance(result, str):
        raise TypeError(f"a hook must return a list of its records, got {result!r}: return [...], or [] for none")
    return list(result)


def _checked(role: str, offer: Any) -> Offer:
    if not isinstance(offer, Offer):
        raise TypeError(f"ev3x_{role}s must return Offer(name, component) records, got {offer!r}")
    if not isinstance(offer.name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*(@[1-9]\d*)?", offer.name):
        raise ValueError(f"the name of a component must be a word such as 'mine' or 'mine@2', got {offer.name!r}")
    kind = offer.component
    if not (isinstance(kind, type) and issubclass(kind, Component)):
        raise TypeError(f"{offer.name!r} must offer a subclass of ev3x.Component, got {kind!r}")
    if kind.role != role:
        its, right = _a(kind.role) if kind.role else "a bare Component", f"ev3x_{kind.role}s"
        way = f"offer it by {right}" if right in HOOKS else "derive it from the base class of its role"
        raise TypeError(f"{offer.name!r} is offered as {role} but its class {_named(kind)} is {its}: {way}")
    if not kind.__dataclass_params__.frozen or "__dataclass_fields__" not in vars(kind):  # type: ignore[attr-defined]
        raise TypeError(f"{offer.name!r}: {kind.__name__} must be decorated with @dataclasses.dataclass(frozen=True)")
    if not kind.__dataclass_params__.eq:  # type: ignore[attr-defined]
        raise TypeError(f"{offer.name!r}: {kind.__name__} must be compared by its options: leave out eq=False")
    if missing := sorted(kind.__abstractmethods__):
        raise TypeError(f"{offer.name!r}: {kind.__name__} lacks {', '.join(missing)}")
    if wrong := unfit(kind):
        raise TypeError(f"{offer.name!r}: {kind.__name__}: option {'; '.join(map(str, wrong))}")
    kind.options()  # makes the defaults: what they raise is told of the offer, and not to whoever lists options
    return offer


def _checked_target(plugin: PluginInfo, target: Any) -> FfiTarget:
    if not isinstance(target, FfiTarget):
        raise TypeError(f"ev3x_ffi_targets must return FfiTarget(name, handler, self_test) records, got {target!r}")
    prefix = normalized(plugin.distribution or f"ev3x-{plugin.name}").replace("-", "_")
    if target.name != prefix and not target.name.startswith(f"{prefix}_"):
        raise ValueError(f"the names of its targets must begin with {prefix + '_'!r}, got {target.name!r}")
    if target.platform not in PLATFORMS:
        raise ValueError(f"{target.name!r}: platform must be one of {PLATFORMS}, got {target.platform!r}")
    if not callable(target.self_test):
        raise TypeError(f"{target.name!r}: self_test must be a function of the target's name, got {target.self_test!r}")
    return target
