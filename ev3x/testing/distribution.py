"""What the tests of a plugin's distribution share: strict JAX in all of them, and the tests that every one must pass.

In the top conftest.py, `pytest_plugins = ["ev3x.testing.distribution"]` lets JAX refuse in every test to broadcast
between ranks and to convert between types where that was not asked for. What mixes types on purpose is marked
`loose_types(reason)`; the fixture `ev3x_x64` gives a test 64-bit types. A test file then says what is offered:

    class TestDistribution(ev3x.testing.distribution.DistributionTests):
        config = 'rounds = 2\\npropose = ["rule:steps"]'
        mistakes = (("rule:steps", "rule:stops", "did you mean 'rule:steps'"),)

        def offers(self):
            return {"proposer": {"steps": RandomSteps}}

Among these tests is the conformance kit: every check of every component that is offered is an item of its own.
"""

from __future__ import annotations

import abc
import ast
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import jax
import pytest

from ..component import Component
from ..config import ConfigError, loads
from ..config.override import MANY, ONE
from ..host.discovery import API_GROUP, GROUP
from ..host.host import ROLES, Host
from .items import Item, items, param

Mistake = tuple[str, str, str]
Offers = Mapping[str, Mapping[str, type[Component]]]


def pytest_configure(config: pytest.Config) -> None:
    """Make ranks strict, and know the marker."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    config.addinivalue_line(
        "markers", 'long: takes long: child processes and simulations; `-m "not long"` leaves it out'
    )
    config.addinivalue_line("markers", "loose_types(reason): runs without jax_numpy_dtype_promotion='strict'")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test, its fixtures included, with strict types."""
    with jax.numpy_dtype_promotion("standard" if item.get_closest_marker("loose_types") else "strict"):
        return (yield)


@pytest.fixture
def ev3x_x64() -> Iterator[None]:
    """64-bit types for one test."""
    if not hasattr(jax, "enable_x64"):
        pytest.skip("this jax has no jax.enable_x64 to switch on for a while")
    with jax.enable_x64(True):
        yield


class DistributionTests(abc.ABC):
    """The distribution as a plugin: it is found without being imported, and offers what it says.

    The distribution is that of the pyproject.toml above the test file; what is tested is what is installed of it.
    """

    config: ClassVar[str]
    """A config that names components of the plugin, and loads."""
    mistakes: ClassVar[tuple[Mistake, ...]]
    """What makes it a bad one: a part of it, what stands there by mistake, and what the error must match."""
    heavy: ClassVar[tuple[str, ...]] = ()
    """Packages besides jax and its own that a list of the installed plugins must not import."""

    @abc.abstractmethod
    def offers(self) -> Offers:
        """The classes that are offered, by role and name."""

    def tried(self) -> Mapping[str, Component | type[Component]]:
        """What the conformance kit tries, by name: all that is offered, each as its class says by `kit`.

        A distribution with many components of one kind may give a `sample` of them, or components of its choice.
        """
        found: dict[str, Component | type[Component]] = {}
        for role, offers in self.offers().items():
            found |= {f"{role} {name}" if name in found else name: kind for name, kind in offers.items()}
        return found

    @property
    def project(self) -> dict[str, Any]:
        """The table [project] of pyproject.toml."""
        above = (folder / "pyproject.toml" for folder in Path(inspect.getfile(type(self))).parents)
        return dict(tomllib.loads(next(filter(Path.is_file, above)).read_text(encoding="utf-8"))["project"])

    @property
    def plugin(self) -> str:
        """The name of the plugin; a class for a distribution that brings several must say which."""
        (name,) = self.project["entry-points"][GROUP]
        return str(name)

    @property
    def package(self) -> str:
        """The package that its entry point lies in."""
        return re.split("[.:]", self.project["entry-points"][GROUP][self.plugin])[0]

    def test_it_is_found_through_its_entry_points(self) -> None:
        """Installed is what pyproject.toml says, and this ev3x takes it."""
        project, found = self.project, Host().index.plugins[self.plugin]
        points = [project["entry-points"][group].get(self.plugin) for group in (GROUP, API_GROUP)]
        assert [found.distribution, found.value, found.api] == [project["name"], *points], "install it anew"
        assert found.version == importlib.metadata.version(project["name"]) and found.incompatible is None

    def test_a_list_of_plugins_imports_nothing_of_it_and_no_jax(self) -> None:
        """Who never names a plugin does not pay for it."""
        code = f"""
import sys, ev3x
assert {self.plugin!r} in ev3x.Host().index.plugins
print(*{{name.partition(".")[0] for name in sys.modules}} & {{*{[self.package, "jax", *self.heavy]}}})
"""
        command = [sys.executable, "-P", "-W", "error", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=120)
        assert not done.returncode and not done.stdout.strip(), done.stdout + done.stderr

    def test_it_offers_what_it_says_and_nothing_else(self) -> None:
        """The hooks of the plugin give `offers`."""
        host = Host()
        assert {role: found for role in ROLES if (found := host.offers(role, self.plugin))} == self.offers()

    def test_every_component_and_every_option_says_what_it_is(self) -> None:
        """`ev3x plugins show` shows docstrings of classes and the `Doc` of each option."""
        for kind in (kind for offers in self.offers().values() for kind in offers.values()):
            assert kind.__doc__, f"{kind.__name__} needs a docstring"
            bare = [option.name for option in kind.options() if not option.help]
            assert not bare, f"options of {kind.__name__} need Annotated[..., Doc(...)]"

    def test_the_command_line_shows_them(self) -> None:
        """`ev3x plugins show` lists every component by the name that configs use."""
        from .fixtures import command

        done = command("plugins", "show", self.plugin)
        assert not done.exit_code, done.stderr
        names = [f"{self.plugin}:{name}" for offers in self.offers().values() for name in offers]
        assert [name for name in names if name not in done.stdout] == []

    def test_a_config_can_name_them(self) -> None:
        """`config` loads, with at least one of the components in its place."""
        setup = loads(self.config)
        used = {use.partition(":")[0] for use in (setup.task_id, *setup.ids.values())}
        assert self.plugin in used, "let `config` name a component of the plugin"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A test for each mistake, and for each check of each component."""
        if "mistake" in metafunc.fixturenames:
            metafunc.parametrize("mistake", self.mistakes, ids=[bad for _, bad, _ in self.mistakes])
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", [param(name, item) for name, item in items(self.tried())])

    def test_it_keeps_the_contract(self, check: Item) -> None:
        """A check of the conformance kit; `-k one_trace` runs one, `-m "not long"` all that are quick."""
        check()

    def test_a_config_with_a_mistake_is_refused(self, mistake: Mistake) -> None:
        """Each of `mistakes` is told in words that match."""
        good, bad, text = mistake
        assert good in self.config
        with pytest.raises(ConfigError, match=text):
            loads(self.config.replace(good, bad))

    def test_only_public_names_of_ev3x_are_imported(self) -> None:
        """The package stands on what ev3x promises to keep."""
        file = Path(inspect.getfile(importlib.import_module(self.package)))
        files = file.parent.rglob("*.py") if file.name == "__init__.py" else [file]
        found = {name for path in files for name in imported(path)}
        assert found, "a plugin needs ev3x.hookimpl"
        public = {"ev3x", *(f"ev3x.{name}" for name in importlib.import_module("ev3x").__all__)}
        assert sorted(n for n in found if ".".join(n.split(".")[:2]) not in public or "._" in n) == []

    def test_what_the_package_names_it_has(self) -> None:
        """All of `__all__` is there, and py.typed where the metadata say that it is typed."""
        package = importlib.import_module(self.package)
        assert [name for name in getattr(package, "__all__", ()) if not hasattr(package, name)] == []
        typed = Path(inspect.getfile(package)).with_name("py.typed").exists()
        assert typed or "Typing :: Typed" not in self.project.get("classifiers", ())


def imported(path: Path) -> Iterator[str]:
    """What a file imports of ev3x: modules, and names of modules behind a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ev3x")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "ev3x":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def snippets(page: Path, language: str) -> list[str]:
    """The blocks of code in this language on a page in Markdown."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def built(text: str) -> dict[str, Component]:
    """The components that the tables of a config name, by that name; each is built of its table alone."""
    tables = [
        (section, t) for section, said in tomllib.loads(text).items() for t in (said if section in MANY else [said])
    ]
    return {(use := table.pop("use")): Host().build({**ONE, **MANY}[section], use, table) for section, table in tables}
