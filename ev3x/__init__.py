"""ev3x: explore, assess, adapt. Several ways of updating a model compete on the metric that matters."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import component as component
    from . import methods as methods
    from . import metrics as metrics
    from . import networks as networks
    from . import ops as ops
    from . import training as training
    from .component import Component as Component
    from .component import Kit as Kit
    from .component import OptionError as OptionError
    from .core.adapt import Adapter as Adapter
    from .core.adapt import Form as Form
    from .core.adapt import TransformError as TransformError
    from .core.assess import Assessor as Assessor
    from .core.budget import Budget as Budget
    from .core.data import Arrays as Arrays
    from .core.data import Assess as Assess
    from .core.data import Decide as Decide
    from .core.data import Explore as Explore
    from .core.data import Generated as Generated
    from .core.data import Splits as Splits
    from .core.data import Teacher as Teacher
    from .core.data import Varied as Varied
    from .core.layout import Layout as Layout
    from .core.layout import Site as Site
    from .core.observe import Limits as Limits
    from .core.observe import Observer as Observer
    from .core.observe import Progress as Progress
    from .core.observe import RunInfo as RunInfo
    from .core.plan import Method as Method
    from .core.plan import Plan as Plan
    from .core.propose import Proposer as Proposer
    from .core.streams import Feed as Feed
    from .core.streams import Stream as Stream
    from .core.task import Data as Data
    from .core.task import Metric as Metric
    from .core.task import Task as Task
    from .core.task import make_task as make_task
    from .core.types import Assessment as Assessment
    from .core.types import Block as Block
    from .core.types import Candidates as Candidates
    from .core.types import Decision as Decision
    from .core.types import Feedback as Feedback
    from .core.types import Model as Model
    from .core.types import Move as Move
    from .core.types import Outcome as Outcome
    from .core.types import Question as Question
    from .core.types import Record as Record
    from .core.types import State as State
    from .evolver import Evolver as Evolver
    from .ffi import FfiTarget as FfiTarget
    from .host.hookspecs import Offer as Offer
    from .host.hookspecs import Plugin as Plugin
    from .host.hookspecs import hookimpl as hookimpl
    from .host.host import Host as Host
    from .host.host import PluginError as PluginError
    from .host.policy import PluginPolicy as PluginPolicy
    from .training.losses import Loss as Loss
    from .training.optimizers import Optimizer as Optimizer
    from .training.optimizers import Rule as Rule
    from .training.ranges import Range as Range
    from .training.ranges import Ranges as Ranges

# Names are imported when they are first used: `ev3x --version` and plugin metadata need no jax.
_HOMES = {
    "component": ("Component", "Kit", "OptionError"),
    "core.adapt": ("Adapter", "Form", "TransformError"),
    "core.assess": ("Assessor",),
    "core.budget": ("Budget",),
    "core.data": ("Arrays", "Assess", "Decide", "Explore", "Generated", "Splits", "Teacher", "Varied"),
    "core.layout": ("Layout", "Site"),
    "core.observe": ("Limits", "Observer", "Progress", "RunInfo"),
    "core.plan": ("Method", "Plan"),
    "core.propose": ("Proposer",),
    "core.streams": ("Feed", "Stream"),
    "core.task": ("Data", "Metric", "Task", "make_task"),
    "core.types": (
        "Assessment",
        "Block",
        "Candidates",
        "Decision",
        "Feedback",
        "Model",
        "Move",
        "Outcome",
        "Question",
        "Record",
        "State",
    ),
    "evolver": ("Evolver",),
    "ffi": ("FfiTarget",),
    "host.hookspecs": ("Offer", "Plugin", "hookimpl"),
    "host.host": ("Host", "PluginError"),
    "host.policy": ("PluginPolicy",),
    "training.losses": ("Loss",),
    "training.optimizers": ("Optimizer", "Rule"),
    "training.ranges": ("Range", "Ranges"),
}
_MODULES = ("component", "methods", "metrics", "networks", "ops", "training")
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ev3x")
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'ev3x' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
