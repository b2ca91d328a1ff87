"""A config as components, from which a run starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..component import Component
from ..core.layout import Layout
from ..core.observe import Limits, Observer
from ..core.plan import Method
from ..core.task import Task
from ..host.discovery import API_VERSION, BUILTIN, PluginInfo
from ..ops import native


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that a config says, as components. `ids` gives the `plugin:component` of every label.

    `plugins` are the plugins of the components, and those that the config requires besides; with `strict`, a failing
    observer is an error. `native_origin` is the place of `native` in the config, for messages.
    """

    task_id: str
    task: Task
    method: Method
    layout: Layout
    limits: Limits
    seed: int
    observers: tuple[tuple[str, Observer], ...]
    ids: Mapping[str, str]
    save_every: float
    config: str
    native: native.Mode = "auto"
    native_origin: str = dataclasses.field(default="", compare=False)
    plugins: tuple[PluginInfo, ...] = ()
    strict: bool = False

    def whose(self, label: str) -> PluginInfo | None:
        """The plugin of the component with this label; None for a built-in component."""
        name = (self.task_id if label == "task" else self.ids.get(label, "")).partition(":")[0]
        return next((p for p in self.plugins if p.name == name != BUILTIN), None)

    def homes(self) -> dict[str, str]:
        """The branch of a checkpoint, `plugin@API version`, that holds the state of each label."""
        apis = {p.name: p.api for p in self.plugins}
        names = {label: use.partition(":")[0] for label, use in self.ids.items()}
        return {label: f"{name}@{apis.get(name, f'v{API_VERSION}')}" for label, name in names.items()}

    def components(self) -> dict[str, Component]:
        """The components that decide, by label."""
        method = self.method
        one = {"task": self.task, "select": method.select, "confirm": method.confirm, "budget": method.budget}
        return {**dict(method.proposers), **dict(method.adapters), **one}
