"""The ways to hand a native operation to Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from .kinds import Imports

Native = Literal["ctypes", "nanobind", "pybind11"]


@dataclasses.dataclass(frozen=True)
class Binding:
    """How the library is built and found: `templates/library_*.cmake.txt` and `templates/targets_*.py.txt`.

    `include` begins the C++ file, `module` is the template that ends it.
    """

    target: str
    components: str
    standard: Imports
    targets: str
    requires: str = ""
    tag: str = ""
    include: str = ""
    module: str | None = None


def _extension(name: str, requirement: str) -> Binding:
    return Binding(
        target="_native",
        components="Interpreter Development.Module",
        standard=("import importlib", "import importlib.util"),
        targets="targets_module.py",
        requires=f'  "{requirement}",\n',
        include=f"#include <{name}/{name}.h>\n\n",
        module=f"module_{name}.cc",
    )


BINDINGS: Mapping[Native, Binding] = {
    "ctypes": Binding(
        target="native",
        components="Interpreter",
        standard=("import ctypes", "import importlib.resources"),
        targets="targets_ctypes.py",
        tag='# No Python in the library: one wheel for all of them.\nwheel.py-api = "py3"\n',
    ),
    "nanobind": _extension("nanobind", "nanobind>=2.4"),
    "pybind11": _extension("pybind11", "pybind11>=2.13"),
}
