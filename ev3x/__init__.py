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
    from .adapt import Adapter as Adapter
    from .adapt import Form as Form
    from .adapt import TransformError as TransformError
    from .assess import Assessor as Assessor
    from .budget import Budget as Budget
    from .component import Component as Component
    from .component import OptionError as OptionError
    from .data import Arrays as Arrays
    from .data import Assess as Assess
    from .data import Decide as Decide
    from .data import Explore as Explore
    from .data import Generated as Generated
    from .data import Splits as Splits
    from .data import Teacher as Teacher
    from .data import Varied as Varied
    from .evolver import Evolver as Evolver
    from .ffi import FfiTarget as FfiTarget
    from .hookspecs import Offer as Offer
    from .hookspecs import Plugin as Plugin
    from .hookspecs import hookimpl as hookimpl
    from .host import Host as Host
    from .host import PluginError as PluginError
    from .layout import Layout as Layout
    from .layout import Site as Site
    from .losses import Loss as Loss
    from .observe import Observer as Observer
    from .optimizers import Optimizer as Optimizer
    from .optimizers import Rule as Rule
    from .plan import Method as Method
    from .plan import Plan as Plan
    from .policy import PluginPolicy as PluginPolicy
    from .propose import Proposer as Proposer
    from .ranges import Range as Range
    from .ranges import Ranges as Ranges
    from .streams import Feed as Feed
    from .streams import Stream as Stream
    from .task import Data as Data
    from .task import Metric as Metric
    from .task import Task as Task
    from .task import make_task as make_task
    from .types import Assessment as Assessment
    from .types import Block as Block
    from .types import Candidates as Candidates
    from .types import Decision as Decision
    from .types import Feedback as Feedback
    from .types import Model as Model
    from .types import Move as Move
    from .types import Outcome as Outcome
    from .types import Question as Question
    from .types import Record as Record
    from .types import State as State

# Names are imported when they are first used: `ev3x --version` and plugin metadata need no jax.
_HOMES = {
    "adapt": (
        "Adapter",
        "Form",
        "TransformError",
    ),
    "assess": ("Assessor",),
    "budget": ("Budget",),
    "component": (
        "Component",
        "OptionError",
    ),
    "data": (
        "Arrays",
        "Assess",
        "Decide",
        "Explore",
        "Generated",
        "Splits",
        "Teacher",
        "Varied",
    ),
    "evolver": ("Evolver",),
    "ffi": ("FfiTarget",),
    "hookspecs": (
        "Offer",
        "Plugin",
        "hookimpl",
    ),
    "host": (
        "Host",
        "PluginError",
    ),
    "layout": (
        "Layout",
        "Site",
    ),
    "losses": ("Loss",),
    "observe": ("Observer",),
    "optimizers": (
        "Optimizer",
        "Rule",
    ),
    "plan": (
        "Method",
        "Plan",
    ),
    "policy": ("PluginPolicy",),
    "propose": ("Proposer",),
    "ranges": (
        "Range",
        "Ranges",
    ),
    "streams": (
        "Feed",
        "Stream",
    ),
    "task": (
        "Data",
        "Metric",
        "Task",
        "make_task",
    ),
    "types": (
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
