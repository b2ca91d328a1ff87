"""One component for each strategy of the installed evosax, with the options of its constructor."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Annotated, Any

from typing_extensions import Doc

from ev3x import Kit, Optimizer
from ev3x.component import Count, unknown

from . import strategies
from .options import Schedule
from .proposer import Strategy
from .strategies import GIVEN, Kind

Field = tuple[str, Any, Any]
NUMBERS = {"int": Count, "bool": bool, "int | None": Count | None}
POPULATIONS = 2
HELP = {
    "optimizer": "of the mean; none: evosax's",
    "std_schedule": "factor on std by generation; none: evosax's, which is mostly 1",
    "num_populations": "how many populations, each with a mean of its own",
    "subspace_dims": "dimensions of the subspace of recent gradients",
    "use_antithetic_sampling": "whether every perturbation comes with its mirror image",
    "num_diff": "difference vectors that are added",
    "num_groups": "groups with a mutation rate each; population - 1 must be a multiple",
    "num_generations": "generations in which noise becomes solutions",
    "num_latent_dims": "dimensions in which distances are measured; none: all",
    "m": "evolution paths that are kept",
    "max_context_len": "generations that it looks back on",
}


@functools.cache
def components() -> dict[str, type[Strategy]]:
    """The components by name, for every strategy that the installed evosax registers.

    A strategy that cannot be built from options is among them: its component says why when it is asked for.
    """
    return {name: _component(kind) for name, kind in sorted(strategies.kinds().items())}


def component(name: str) -> type[Strategy]:
    """The component of one strategy; ValueError names the nearest when there is none."""
    if name not in components():
        raise ValueError(unknown("strategy", name, components()))
    return components()[name]


def __getattr__(name: str) -> type[Strategy]:
    """The component made for evosax's class of this name: pickles say `registry.CMA_ES`."""
    for made in components().values():
        if made.__name__ == name:
            return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _component(kind: Kind) -> type[Strategy]:
    fields, lacking = [], []
    for name, parameter in inspect.signature(kind).parameters.items():
        field = None if name in GIVEN else _field(name, parameter)
        if field:
            fields.append(field)
        elif name not in GIVEN and parameter.default is parameter.empty:
            lacking.append(name)
    about = (inspect.getdoc(kind) or kind.__name__).partition("\n")[0]
    refused = ""
    if lacking:
        refused = f"evosax's {kind.__name__} needs {', '.join(lacking)}, which no option can say"
        about = f"Cannot be used: {refused}."
    namespace: dict[str, Any] = {
        "__doc__": f"{about}\n\n{inspect.getdoc(Strategy)}",
        "kind": kind,
        "constructor": tuple(name for name, _, _ in fields),
        "refused": refused,
    }
    if refused:
        namespace["kit"] = Kit()  # there is nothing to try
    made = dataclasses.make_dataclass(kind.__name__, fields, bases=(Strategy,), namespace=namespace, frozen=True)
    made.__module__ = __name__
    return made


def _field(name: str, parameter: inspect.Parameter) -> Field | None:
    """The option for an argument of a constructor, None when it is neither a number, an optimizer nor a schedule."""
    default = None if parameter.default is parameter.empty else parameter.default
    hint: Any
    if name == "optimizer":
        hint, default = Optimizer | None, None
    elif name == "std_schedule":
        hint, default = Schedule | None, None
    elif name == "num_populations":
        hint, default = Count, POPULATIONS
    else:
        hint = NUMBERS.get(getattr(parameter.annotation, "__name__", None) or str(parameter.annotation))
        if hint is None or parameter.default is parameter.empty:
            return None
    return name, Annotated[hint, Doc(HELP.get(name, f"{name} of evosax's constructor"))], default
