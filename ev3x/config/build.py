"""Builds components from the values of a config, and reports everything that is wrong with them at once."""

from __future__ import annotations

import contextlib
import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeVar

import jax
from packaging.requirements import Requirement

from ..component import Component, Fault, OptionError, unknown
from ..core import contract
from ..core.adapt import Adapter, misplaced
from ..core.assess import Assessor
from ..core.budget import Budget
from ..core.layout import Layout, Site
from ..core.objectives import Amounts, aims
from ..core.observe import Limits, Observer
from ..core.plan import Method
from ..core.propose import Proposer
from ..core.task import Task, check_names
from ..host.discovery import BUILTIN, PluginInfo, normalized, unreadable
from ..host.faults import cause, innermost
from ..host.host import Host, PluginError
from ..host.policy import PluginPolicy
from ..run.setup import Setup
from . import losses
from .override import MANY, ONE, ConfigError, Override, apply
from .resolved import Part, render
from .sections import Plugins, Run
from .source import Document, at, exact
from .toml_lines import Path as Key

C = TypeVar("C", bound=Component)
LAST = 10**9  # problems with overrides are sorted behind those with lines


class Builder:
    def __init__(self, source: Document, overrides: Sequence[Override], host: Host) -> None:
        self.source, self.host = source, host
        self.tree = copy.deepcopy(source.tree)
        self.problems: list[tuple[int, str]] = []
        self.ids: dict[str, str] = {}
        self.parts: list[Part] = []
        self.empty: list[Part] = []
        self.changed: set[Key] = set()
        self.required: set[str] = set()
        self.owners: dict[type, tuple[Key, PluginInfo]] = {}
        for override in overrides:
            try:
                path = apply(self.tree, override)
            except ConfigError as error:
                self.problems += [(LAST, text) for text in error.problems]
            else:
                self.changed.add(path)
                source.origins = {p: w for p, w in source.origins.items() if p[: len(path)] != path}
                source.origins[path] = (LAST, override.origin)

    def build(self) -> tuple[Setup, list[Part]]:
        """The setup, and its parts; ConfigError lists all that is wrong, faults in the code of plugins included."""
        try:
            return self._build()
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            if (found := self._culprit(error)) is None:
                raise
            path, plugin = found
            self._problem(path, f"{plugin} failed: {cause(error, plugin)}")
            raise self._all() from error

    def _build(self) -> tuple[Setup, list[Part]]:
        plugins = self._options(Plugins, ("plugins",), self.tree.get("plugins", {}))
        if plugins is None:  # import nothing while the rules are unreadable
            raise self._all()
        self._narrow(plugins)
        run = self._options(Run, (), self._top())
        task = self._one("task", Task)
        self._default_losses(task)
        proposers = self._many("propose", Proposer)
        select, confirm = self._one("select", Assessor), self._one("confirm", Assessor)
        adapters, budget = self._many("adapt", Adapter), self._one("budget", Budget)
        observers = self._many("observe", Observer)
        layout = self._options(Layout, ("layout",), self.tree.get("layout", {}))
        if task is not None:
            if run is not None and task.metrics:
                self._weigh(run.weights, task, select, adapters)
            self._fit(task, layout or Layout(), proposers, {"select": select, "confirm": confirm}, adapters)
        if not (run and task and select and confirm and budget and layout and not self.problems):
            raise self._all()
        ends = [Part("[layout]", None, layout), Part("[plugins]", None, plugins)]
        parts = [Part("", None, run), *self.empty, *self.parts, *ends]
        used = {use.partition(":")[0] for use in self.ids.values()}
        setup = Setup(
            task_id=self.ids.pop("task"),
            task=task,
            method=Method(
                [p for p in proposers if p], select, confirm, [a for a in adapters if a], budget, run.weights
            ),
            layout=layout,
            limits=Limits(run.rounds, run.seconds, run.gradient_steps, run.target),
            seed=run.seed,
            observers=tuple(o for o in observers if o),
            ids=self.ids,
            save_every=run.save_every,
            config=render(parts),
            native=run.native,
            native_origin=self.source.where(("native",))[1],
            plugins=tuple(self.host.load(name) for name in sorted(used | self.required)),
            strict=self.host.strict,
        )
        return setup, parts

    def _narrow(self, plugins: Plugins) -> None:
        """Restrict the host to the plugins that the config enables, and load those that it requires."""
        installed = self.host.index.distributions
        for option in ("enable", "disable"):
            for i, name in enumerate(getattr(plugins, option) or ()):
                near = difflib.get_close_matches(normalized(name), installed, n=1)
                if name in self.host.index.plugins and normalized(name) not in installed:
                    near = [self.host.index.plugins[name].distribution]
                if near and normalized(name) != near[0]:
                    text = f"must name a distribution: {name!r} is none that brings plugins; did you mean {near[0]!r}?"
                    self._problem(("plugins", option, i), text)
        for i, name in enumerate(plugins.enable or ()):
            refusals = filter(None, map(self.host.forbidden, self.host.index.of(name)))
            if refusal := next(refusals, None):
                self._problem(("plugins", "enable", i), f"cannot widen what is allowed: {refusal}")
        where = self.source.where(("plugins", "enable"))[1], self.source.where(("plugins", "disable"))[1]
        self.host = self.host.narrowed(
            PluginPolicy(allow=plugins.enable, origin=where[0]), PluginPolicy(disable=plugins.disable, origin=where[1])
        )
        if self.host.strict and self.host.index.faults:
            self.problems += [(LAST, f"--strict-plugins: {fault}") for fault in self.host.index.faults]
        for i, text in enumerate(plugins.require):
            with self._told_by_plugins(("plugins", "require", i)):
                self._require(text)

    def _require(self, text: str) -> None:
        """Loads the plugins of a distribution; raises PluginError when there are none, or not in that version."""
        wanted = Requirement(text)
        found = self.host.index.of(wanted.name)
        if not found:
            raise PluginError(f"{wanted.name} is not installed, or brings no plugin; pip install {text!r}")
        for plugin in found:
            if not wanted.specifier.contains(plugin.version, prereleases=True):
                raise PluginError(f"{plugin} is not {wanted.specifier}; pip install {text!r}")
            self.required.add(self.host.load(plugin.name).name)

    def _all(self) -> ConfigError:
        """Everything that is wrong, in the order of the lines."""
        return ConfigError([text for _, text in sorted(self.problems)])

    def _culprit(self, error: BaseException) -> tuple[Key, PluginInfo] | None:
        """Where the config names the plugin whose component is innermost in an error's traceback, and the plugin."""

        def owner(frame: FrameType, found: tuple[Key, PluginInfo] | None) -> tuple[Key, PluginInfo] | None:
            for value in (frame.f_locals.get("self"), frame.f_locals.get("cls")):
                found = self.owners.get(value if isinstance(value, type) else type(value), found)
            return found

        return innermost(error, owner)

    def _top(self) -> dict[str, Any]:
        """The options outside of sections; each unknown name is a problem."""
        sections = {*ONE, *MANY, "layout", "plugins"}
        known = {o.name for o in Run.options()}
        for name in self.tree.keys() - sections - known:
            self._problem((name,), unknown("option or section", name, sections | known))
        return {name: value for name, value in self.tree.items() if name in known}

    def _one(self, section: str, kind: type[C]) -> C | None:
        """The component of a section that has exactly one."""
        table = self.tree[section]
        if not isinstance(table, dict):
            self._problem((section,), f"must be one table: write [{section}], got {type(table).__name__}")
            return None
        found = self._component(ONE[section], (section,), table, kind)
        if found is None:
            return None
        self.ids[section] = found[0]
        self.parts.append(Part(f"[{section}]", *found))
        return found[1]

    def _many(self, section: str, kind: type[C]) -> list[tuple[str, C] | None]:
        """The components of a section that may have several, under their labels; None for those with problems."""
        tables = self.tree[section]
        if not isinstance(tables, list):
            self._problem((section,), f"must be a list of tables: write [[{section}]], got {type(tables).__name__}")
            return []
        components: list[tuple[str, C] | None] = []
        for i, table in enumerate(tables):
            found = self._component(MANY[section], (section, i), table, kind)
            if found is not None:
                label = self._label(found[0].rpartition(":")[2])
                self.ids[label] = found[0]
                self.parts.append(Part(f"[[{section}]]", *found))
            components.append((label, found[1]) if found else None)
        if not tables and section == "propose":
            self._problem((section,), "needs at least one proposer, got none")
        if not tables:
            self.empty.append(Part(f"{section} = []"))
        return components

    def _label(self, name: str) -> str:
        """This name, with a number added if another component of the method has it already."""
        taken = {*self.ids, *ONE}
        return next(n for n in (name, *(f"{name}#{i}" for i in range(2, len(taken) + 3))) if n not in taken)

    def _component(self, role: str, path: Key, table: Any, kind: type[C]) -> tuple[str, C] | None:
        """The full id and the component that a table names."""
        if not isinstance(table, dict):
            self._problem(path, f"must be a table with use = ..., got {table!r}")
            return None
        options = dict(table)
        use = options.pop("use", None)
        if not isinstance(use, str):
            known = ", ".join(self.host.offers(role, BUILTIN))
            came = "" if use is None else f", got {use!r}"
            self._problem((*path, "use"), f"must name the {role}, such as one of: {known}{came}")
            return None
        found = None
        with self._told_by_plugins((*path, "use")):
            found = self.host.find(role, use)
        if found is None:
            return None
        full, cls = found
        plugin = self.host.load(full.partition(":")[0])
        if plugin.name != BUILTIN:
            self.owners[cls] = path, plugin
        component = self._options(cls, path, options)
        return (full, component) if isinstance(component, kind) else None

    def _options(self, cls: type[C], path: Key, options: Any) -> C | None:
        """The component of this class with these options; None if they have problems."""
        if not isinstance(options, dict):
            self._problem(path, f"must be a table, got {options!r}")
            return None
        try:
            return cls.build(options)
        except OptionError as error:
            for fault in error.faults:
                self._problem((*path, *exact(options, fault.path, fault.text)), fault.text)
            return None

    def _default_losses(self, task: Task | None) -> None:
        """For a task other than the default one, give default proposers the losses that the task has."""
        if task is None or "propose" not in self.source.defaulted:
            return
        for i, table in enumerate(self.tree["propose"] if isinstance(self.tree["propose"], list) else ()):
            if any(path[:1] == ("propose",) and path[2:] in ((), ("losses",)) for path in self.changed):
                continue
            self.tree["propose"][i]["losses"] = losses.known(task, table["losses"])

    def _fit(
        self,
        task: Task,
        layout: Layout,
        proposers: Sequence[tuple[str, Proposer] | None],
        assessors: Mapping[str, Assessor | None],
        adapters: Sequence[tuple[str, Adapter] | None],
    ) -> None:
        """Whether the components suit the task, as far as that is known without its data."""
        before = len(self.problems)
        with self._told(("task",)):
            check_names(task)
        if len(self.problems) > before:
            return
        for section, assessor in assessors.items():
            if assessor is not None:
                with self._told((section,)):
                    assessor.accept(task.metrics)
        chain = [labelled for labelled in adapters if labelled is not None]
        if len(chain) == len(adapters) and (fault := misplaced(chain)):
            self._problem(("adapt", fault[0]), fault[1])
        for i, labelled in enumerate(adapters):
            if labelled is not None:
                with self._told(("adapt", i)):
                    jax.eval_shape(lambda a=labelled[1]: a.init(Site(task, layout), task.metrics))
        current = None
        with self._told(("task",)):
            current = jax.eval_shape(task.init, jax.eval_shape(lambda: jax.random.key(0)))
        for i, pair in enumerate(proposers):
            if pair is None or self._bad_losses(task, ("propose", i), pair[1]) or current is None:
                continue
            site, (label, proposer) = Site(task, layout), pair
            with self._told(("propose", i)):
                jax.eval_shape(lambda k, v, p=proposer, s=site: p.init(s, k, v), jax.random.key(0), current)
                if not contract.names(contract.Who(label, "proposer", type(proposer)), proposer.labels(site)):
                    self._problem(("propose", i), "makes no candidates (K = 0)")

    def _weigh(
        self,
        weights: Amounts | None,
        task: Task,
        select: Assessor | None,
        adapters: Sequence[tuple[str, Adapter] | None],
    ) -> None:
        """Whether the weights suit the task and the selection, and whether the adapters suit the weights."""
        with self._told(("weights",)):
            first = aims(weights, task.metrics, select)
            for i, labelled in enumerate(adapters):
                if labelled is not None:
                    with self._told(("adapt", i)):
                        labelled[1].accept(task.metrics, first)

    def _bad_losses(self, task: Task, path: Key, proposer: Proposer) -> bool:
        """Whether a proposer asks for losses that the task does not have; each is a problem."""
        before = len(self.problems)
        for option, text in losses.faults(task, proposer):
            self._problem((*path, *exact(at(self.tree, path), option, text)), text)
        return len(self.problems) > before

    @contextlib.contextmanager
    def _told(self, path: Key) -> Iterator[None]:
        """Turns errors that components raise about their inputs into problems at this path."""
        try:
            yield
        except ValueError as error:
            if unreadable(error, self.host.index):  # not of this component: JAX met a stranger's metadata
                raise
            self._problem(exact(self.tree, path, str(error)), str(error).removeprefix(f"{path[0]}: "))
        except ModuleNotFoundError as error:
            self._problem(
                path, f'needs the package {error.name!r}, which is not installed: pip install "ev3x[examples]"'
            )

    @contextlib.contextmanager
    def _told_by_plugins(self, path: Key) -> Iterator[None]:
        """Turns faults of plugins into problems at the place where the config names the plugin."""
        try:
            yield
        except PluginError as error:
            self._problem(path, str(error))

    def _problem(self, path: Key, text: str) -> None:
        line, where = self.source.where(path)
        option = Fault(path, text)
        self.problems.append((line, f"{where}: {option}"))
