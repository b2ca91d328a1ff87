"""The files of a new plugin, filled in from `templates/`."""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from .bindings import BINDINGS, Binding, Native
from .kinds import STARTS, Imports, Kind, Start, about, config_line, run_arguments
from .names import Names, ScaffoldError
from .requirements import imported, requirements

if TYPE_CHECKING:
    from .local_file import Found

Values = Mapping[str, str]


WORKFLOW = ".github/workflows/test.yml"


@dataclasses.dataclass(frozen=True)
class More:
    """Files of one more component, the hook that offers it, and what it needs."""

    files: Mapping[str, str]
    hook: str
    needed: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The files by their place in the distribution, the arguments of `ev3x` for a first run, and notes for people."""

    files: Mapping[str, bytes]
    run: tuple[str, ...]
    notes: tuple[str, ...] = ()


def of_kinds(names: Names, kinds: Sequence[Kind], native: Native | None) -> Contents:
    """A component of the first kind, its tests, and its native operation if there is to be one; others are to come."""
    kind = kinds[0]
    start = STARTS[kind]
    if native is not None and start.sums is None:
        able = " or ".join(k for k, s in STARTS.items() if s.sums is not None)
        raise ScaffoldError(f"--native is for what computes on arrays in a round, --kind {able}, not for {kind}")
    binding = None if native is None else BINDINGS[native]
    run = run_arguments(uses(names, kinds))
    values = _values(names, kind)
    values["strict"] = _filled("strict.toml", values)
    needed, _ = requirements(line.split()[1] for line in _packages(start, binding))
    where = f"`src/{names.package}/__init__.py` holds the component: edit its methods."
    if len(kinds) > 1:
        where = f"`src/{names.package}/` holds the components, the first in `__init__.py`: edit their methods."
    hook = _filled("hook.py", values, override="    @override\n", fetch="")
    plugin = _filled("plugin.py", values, hook=hook, targets=_filled(binding.targets, values) if binding else "")
    files = {
        "pyproject.toml": _pyproject(values, about(kinds), needed, f"{names.package}:plugin", binding),
        "README.md": _readme(values, about(kinds), run, where, native),
        f"src/{names.package}/__init__.py": _component(values, kind, binding) + plugin,
        f"tests/test_{names.package}.py": _test(values, kind, binding is not None),
        WORKFLOW: _filled("workflow.yml", values),
    }
    if binding is not None:
        files["CMakeLists.txt"] = _filled(
            "CMakeLists.txt",
            values,
            target=binding.target,
            components=binding.components,
            library=_filled(f"library_{native}.cmake", values).rstrip(),
        )
        module = _filled(binding.module, values) if binding.module else ""
        files["csrc/row_dots.cc"] = _filled("row_dots.cc", values, include=binding.include, module=module)
    return Contents(_encoded(files), run)


def more(names: Names, kind: Kind, *, override: bool) -> More:
    """One more component of this kind, in a module of its own, with a test of what it is for.

    `override` says that the module of the plugin has the decorator of that name.
    """
    start, values = STARTS[kind], _values(names, kind)
    fetch = f"        from {names.package}.{start.component} import {start.class_name}\n\n"
    decorator = "    @override\n" if override else ""
    test = _filled(
        "test_more.py",
        values,
        imports=_imports(
            start.test_standard,
            start.test_packages,
            [f"from {names.package}.{start.component} import {start.class_name}"],
        ),
        behaviour=_filled(f"test_{kind}.py", values).rstrip(),
    )
    files = {
        f"src/{names.package}/{start.component}.py": _component(values, kind, None),
        f"tests/test_{names.package}_{start.component}.py": test,
    }
    needed, _ = requirements(line.split()[1] for line in _packages(start, None))
    return More(files, _filled("hook.py", values, override=decorator, fetch=fetch), tuple(needed))


def of_file(names: Names, source: Path) -> Contents:
    """A one-file plugin as it is, and a test of the contract for each of its components.

    The run is with the first of them that needs no options. Raises PluginError as a run with that file would.
    """
    from .local_file import found  # imports jax, which nothing else here needs

    attribute, offers = found(source)
    if not offers:
        raise ScaffoldError(f"{source} offers no components: there is nothing to package")
    content = source.read_bytes()
    needed, unknown = requirements(imported(content))
    values = names.values()
    values["strict"] = _filled("strict.toml", values)
    told = f"The plugin {names.name}"
    ready = next((offer for offer in offers if offer.lacks is None), None)
    run: tuple[str, ...] = ("plugins", "show", names.name)
    if ready is not None:
        run = run_arguments({ready.role: f"{names.name}:{ready.name}"}, alone=ready.alone)
    notes = [f"{o.role} {o.name!r}: its test is skipped: {o.lacks}" for o in offers if o.lacks is not None]
    notes += [f"add what brings {module!r} to `dependencies` in pyproject.toml" for module in unknown]
    where = f"`src/{names.package}/__init__.py` is what was {source.name}."
    files = {
        "pyproject.toml": _pyproject(values, told, needed, ":".join(filter(None, (names.package, attribute))), None),
        "README.md": _readme(values, told, run, where, None),
        f"tests/test_{names.package}.py": _contracts(values, offers),
        WORKFLOW: _filled("workflow.yml", values),
    }
    return Contents({**_encoded(files), f"src/{names.package}/__init__.py": content}, run, tuple(notes))


def uses(names: Names, kinds: Sequence[Kind]) -> dict[str, str]:
    """The components of these kinds as configs name them, by role."""
    return {kind: f"{names.name}:{STARTS[kind].component}" for kind in kinds}


def _values(names: Names, kind: Kind) -> dict[str, str]:
    start = STARTS[kind]
    own = {"kind": kind, "class_name": start.class_name, "component": start.component, "offers": start.offers}
    return {**names.values(), **own}


def _packages(start: Start, binding: Binding | None) -> Imports:
    return start.packages if binding is None else (*start.packages, "import numpy as np")


def _component(values: Values, kind: Kind, binding: Binding | None) -> str:
    """The module that holds a component of this kind."""
    start = STARTS[kind]
    return _filled(
        f"{kind}.py",
        values,
        imports=_imports([*start.standard, *(binding.standard if binding else ())], _packages(start, binding)),
        sums=start.sums[binding is not None] if start.sums else "",
        native=_filled("native.py", values) if binding else "",
    )


def _test(values: Values, kind: Kind, native: bool) -> str:
    """The tests of a component of this kind."""
    start = STARTS[kind]
    own = start.class_name
    packages = (*start.test_packages, "from ev3x.testing.distribution import DistributionTests, Offers")
    if native:
        packages = (*packages, "import ev3x", "import pytest", "from ev3x.ops import native")
        own = f"{own}, plugin, row_dots"
    return _filled(
        "test.py",
        values,
        imports=_imports(start.test_standard, {*packages}, [f"from {values['package']} import {own}"]),
        config=config_line(kind, f"{values['name']}:{start.component}"),
        behaviour=_filled(f"test_{kind}.py", values).rstrip(),
        native=_filled("test_native.py", values).rstrip() if native else "",
    )


def _contracts(values: Values, offers: Sequence[Found]) -> str:
    """A test for every check of every component; a component that cannot be tried yet has a test that is skipped."""
    ready = [offer for offer in offers if offer.lacks is None]
    tests = ""
    if ready:
        lines = [f'    "{o.role} {o.name}": kind("{o.role}", "{o.name}"),\n' for o in ready]
        tests = _filled("test_offer.py", values, ready="".join(lines))
    for o in offers:
        if o.lacks is not None:
            word = re.sub(r"\W", "_", o.name)
            tests += _filled("test_skipped.py", values, role=o.role, component=o.name, word=word, why=repr(o.lacks))
    standard = ["from typing import Any", *(["from collections.abc import Callable"] if ready else [])]
    packages = ["import ev3x", "from ev3x.testing import " + ", ".join(_used(offers))]
    packages += ["import pytest"] if len(ready) < len(offers) else []
    return _filled("test_file.py", values, imports=_imports(standard, packages), tests=tests)


def _used(offers: Sequence[Found]) -> list[str]:
    """The names of ev3x.testing that the tests of a file need."""
    lacking = [offer for offer in offers if offer.lacks is not None]
    return [*(["check_component"] if lacking else []), *(["each_check"] if len(lacking) < len(offers) else [])]


def _pyproject(values: Values, about: str, needed: list[str], value: str, binding: Binding | None) -> str:
    backend, build, scikit = "hatchling>=1.27", "hatchling.build", ""
    if binding is not None:
        backend, build = "scikit-build-core>=1.0", "scikit_build_core.build"
        scikit = _filled("scikit.toml", values, requires=binding.requires, tag=binding.tag)
    dependencies = ", ".join(f'"{requirement}"' for requirement in needed)
    return _filled(
        "pyproject.toml",
        values,
        backend=backend,
        build=build,
        scikit=scikit,
        about=about,
        value=value,
        dependencies=dependencies,
    )


def _readme(values: Values, about: str, run: tuple[str, ...], where: str, native: Native | None) -> str:
    if native is not None:
        where += (
            f" `csrc/row_dots.cc` is its native operation; `{values['variable']}=OFF` at installation leaves it out."
        )
    return _filled("README.md", values, about=about, run=shlex.join(("ev3x", *run)), where=where)


def _imports(*sections: Iterable[str]) -> str:
    """Sections of import lines, each sorted as linters want them."""
    made = ["\n".join(sorted(lines, key=lambda line: (line.startswith("from"), line))) for lines in sections]
    return "\n\n".join(filter(None, made))


def _filled(template: str, values: Values, **more: str) -> str:
    text = importlib.resources.files(__package__).joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values, **more)


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()}
