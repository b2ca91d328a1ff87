"""The kinds of component that a new plugin can begin with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

Kind = Literal["proposer", "assessor", "adapter", "budget", "task", "observer"]
Imports = tuple[str, ...]

_TYPING = ("from typing_extensions import Doc, override",)
_ARRAYS = ("import ev3x", "import jax", "import jax.numpy as jnp", *_TYPING)


@dataclasses.dataclass(frozen=True)
class Start:
    """A component to begin with: `templates/KIND.py.txt`, and its test, `templates/test_KIND.py.txt`.

    `offers` says what its hook gives. `sums` are what it adds up over rows: in plain jax, and as a call of the native
    operation; None if there is nothing that native code could do for it.
    """

    class_name: str
    component: str
    about: str
    offers: str
    standard: Imports
    packages: Imports
    test_standard: Imports
    test_packages: Imports
    sums: tuple[str, str] | None = None


STARTS: Mapping[Kind, Start] = {
    "proposer": Start(
        "RandomSteps",
        "steps",
        "Random steps around the current model",
        "Random steps",
        ("import dataclasses", "from typing import Annotated, Any"),
        (*_ARRAYS, "from ev3x.component import Count, Positive", "from jax.flatten_util import ravel_pytree"),
        (),
        ("import ev3x", "import jax", "import numpy as np", "from ev3x.testing import TinyTask, splits"),
        ("jnp.square(steps).sum(-1)", "row_dots(steps, steps)"),
    ),
    "assessor": Start(
        "MedianOfMeans",
        "median",
        "Selection by the median of block means",
        "Selection by medians",
        ("import dataclasses", "from typing import Annotated"),
        (*_ARRAYS, "from ev3x.component import Count"),
        (),
        ("import ev3x", "import jax", "import jax.numpy as jnp", "import numpy as np"),
        ("(weights * scores).sum(-1)", "row_dots(weights, scores)"),
    ),
    "adapter": Start(
        "Patient",
        "patient",
        "Promotion with patience",
        "Promotion with patience",
        ("import dataclasses", "from typing import Annotated"),
        (*_ARRAYS, "from ev3x.component import Count"),
        (),
        ("import ev3x", "import jax.numpy as jnp", "from ev3x import Decision, Move, Outcome"),
    ),
    "budget": Start(
        "Halves",
        "halves",
        "Half of what is left of the error level for each confirmation",
        "Halves of the level",
        ("import dataclasses", "from typing import Annotated"),
        (*_ARRAYS, "from annotated_types import Gt, Lt", "from ev3x.component import Real"),
        ("from typing import Any",),
        ("import jax.numpy as jnp", "import numpy as np"),
    ),
    "task": Start(
        "Rings",
        "rings",
        "Two rings of points to tell apart",
        "Two rings",
        ("import dataclasses", "from collections.abc import Mapping", "from typing import Annotated, Any"),
        (*_ARRAYS, "from ev3x.component import Count"),
        ("from typing import Any",),
        ("import ev3x", "import jax", "import pytest"),
    ),
    "observer": Start(
        "CsvLog",
        "csv",
        "A CSV file of a run",
        "A CSV file",
        (
            "import csv",
            "import dataclasses",
            "from collections.abc import Sequence",
            "from pathlib import Path",
            "from typing import Annotated, Any",
        ),
        ("import ev3x", *_TYPING),
        ("from pathlib import Path",),
        ("import ev3x",),
    ),
}


_SECTIONS = {"proposer": "propose", "assessor": "select", "adapter": "adapt", "observer": "observe"}
_LISTED = ("proposer", "adapter", "observer")


def run_arguments(uses: Mapping[str, str], *, alone: bool = True) -> tuple[str, ...]:
    """What `ev3x` is called with, for two rounds with these components, by role, in their places.

    `alone` says that an adapter needs no other before it.
    """
    before = {"adapter": "" if alone else '"promote", ', "observer": '"progress", '}
    sets: list[str] = []
    for role, use in uses.items():
        if role != "task":
            value = f'[{before.get(role, "")}"{use}"]' if role in _LISTED else use
            sets += ["--set", f"{_SECTIONS.get(role, role)}={value}"]
    return ("run", uses.get("task", "distill-mnist1d"), "--rounds", "2", *sets)


def about(kinds: Sequence[Kind]) -> str:
    """What a distribution with components of these kinds is about, in a line."""
    first, *others = (STARTS[kind].about for kind in kinds)
    said = [first, *(f"{text[0].lower()}{text[1:]}" for text in others)]
    return said[0] if not others else f"{', '.join(said[:-1])} and {said[-1]}"


def config_line(role: str, use: str) -> str:
    """The line of a config that puts this component in its place."""
    return f"{_SECTIONS.get(role, role)} = " + (f'["{use}"]' if role in _LISTED else f'"{use}"')
