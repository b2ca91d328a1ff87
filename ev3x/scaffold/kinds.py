"""The kinds of component that a new plugin can begin with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

Kind = Literal["proposer", "assessor", "adapter", "task", "observer"]
Imports = tuple[str, ...]

_TYPING = ("from typing_extensions import Doc, override",)


@dataclasses.dataclass(frozen=True)
class Start:
    """A component to begin with: `templates/KIND.py.txt`, and its test, `templates/test_KIND.py.txt`.

    `sums` are what it adds up over rows: in plain jax, and as a call of the native operation; None if there is nothing
    that native code could do for it.
    """

    class_name: str
    component: str
    about: str
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
        ("import dataclasses", "from typing import Annotated, Any"),
        (
            "import ev3x",
            "import jax",
            "import jax.numpy as jnp",
            "from ev3x.component import Count, Positive",
            "from jax.flatten_util import ravel_pytree",
            *_TYPING,
        ),
        (),
        (
            "import ev3x",
            "import jax",
            "import numpy as np",
            "from ev3x.testing import TinyTask, check_proposer, splits",
        ),
        ("jnp.square(steps).sum(-1)", "row_dots(steps, steps)"),
    ),
    "assessor": Start(
        "MedianOfMeans",
        "median",
        "Selection by the median of block means",
        ("import dataclasses", "from typing import Annotated"),
        ("import ev3x", "import jax", "import jax.numpy as jnp", "from ev3x.component import Count", *_TYPING),
        (),
        (
            "import ev3x",
            "import jax",
            "import jax.numpy as jnp",
            "import numpy as np",
            "from ev3x.testing import check_assessor",
        ),
        ("(weights * block.scores).sum(-1)", "row_dots(weights, block.scores)"),
    ),
    "adapter": Start(
        "Patient",
        "patient",
        "Promotion with patience",
        ("import dataclasses", "from typing import Annotated"),
        ("import ev3x", "import jax", "import jax.numpy as jnp", "from ev3x.component import Count", *_TYPING),
        (),
        (
            "import ev3x",
            "import jax.numpy as jnp",
            "from ev3x import Decision, Move, Outcome",
            "from ev3x.testing import check_adapter",
        ),
    ),
    "task": Start(
        "Rings",
        "rings",
        "Two rings of points to tell apart",
        ("import dataclasses", "from collections.abc import Mapping", "from typing import Annotated, Any"),
        ("import ev3x", "import jax", "import jax.numpy as jnp", "from ev3x.component import Count", *_TYPING),
        ("from typing import Any",),
        ("import ev3x", "import jax", "import pytest", "from ev3x.testing import check_task"),
    ),
    "observer": Start(
        "CsvLog",
        "csv",
        "A CSV file of a run",
        (
            "import csv",
            "import dataclasses",
            "from collections.abc import Sequence",
            "from pathlib import Path",
            "from typing import Annotated, Any",
        ),
        ("import ev3x", *_TYPING),
        ("from pathlib import Path",),
        (
            "import ev3x",
            "from ev3x.testing import check_observer",
        ),
    ),
}


def run_arguments(role: str, use: str, *, alone: bool = True) -> tuple[str, ...]:
    """What `ev3x` is called with, for two rounds with this component in its place.

    `alone` says that an adapter needs no other before it.
    """
    if role == "task":
        return ("run", use, "--rounds", "2")
    before = "" if alone else '"promote", '
    choice = {
        "proposer": f'propose=["{use}"]',
        "assessor": f"select={use}",
        "adapter": f'adapt=[{before}"{use}"]',
        "budget": f"budget={use}",
        "observer": f'observe=["progress", "{use}"]',
    }
    return ("run", "distill-mnist1d", "--rounds", "2", "--set", choice[role])
