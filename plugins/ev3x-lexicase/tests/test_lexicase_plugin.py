"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import ev3x_lexicase
import pytest

import ev3x
import ev3x.config

PACKAGE = Path(ev3x_lexicase.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
ROOT = Path(__file__).parents[1]


def test_the_plugin_is_found_through_its_entry_point():
    plugin = ev3x.Host().index.plugins["lexicase"]
    assert plugin.value == "ev3x_lexicase.plugin" and plugin.distribution == "ev3x-lexicase"
    points = importlib.metadata.distribution("ev3x-lexicase").entry_points
    assert [(p.name, p.value) for p in points if p.group == "ev3x.api"] == [("lexicase", "v1")]


def test_listing_plugins_imports_nothing_of_it_and_no_jax():
    code = """
import sys, ev3x
assert "lexicase" in ev3x.Host().index.plugins
assert not [n for n in sys.modules if n.split(".")[0] in ("ev3x_lexicase", "jax")]
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_assessor_is_offered_and_every_option_says_what_it_is():
    host = ev3x.Host()
    assert host.offers("assessor", "lexicase") == {"lexicase": ev3x_lexicase.Lexicase}
    for role in ("proposer", "adapter", "budget", "task", "observer"):
        assert host.offers(role, "lexicase") == {}
    assert ev3x_lexicase.Lexicase.__doc__
    assert all(option.help for option in ev3x_lexicase.Lexicase.options())


def test_native_code_is_offered_for_the_cpu_alone():
    host = ev3x.Host()
    assert [t.name for t in host.targets("lexicase", "cpu")] in ([], ["ev3x_lexicase_votes"])
    assert host.targets("lexicase", "CUDA") == []


EXAMPLE = (ROOT / "examples" / "lexicase.toml").read_text()


def test_the_config_builds_the_assessor():
    setup = ev3x.config.loads(EXAMPLE)
    assert setup.method.select == ev3x_lexicase.Lexicase(block=300, tournaments=1024)


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        ('"lexicase:lexicase"', '"lexicase:lexicas"', r"unknown assessor 'lexicase:lexicas'; did you mean"),
        ("tournaments = 1024", "tournament = 1024", r"tournament.*did you mean 'tournaments'"),
        ("tournaments = 1024", "tournaments = 0", r"tournaments.*greater than or equal to 1, got 0"),
    ],
)
def test_a_config_with_a_mistake_is_refused(good, bad, text):
    with pytest.raises(ev3x.config.ConfigError, match=text):
        ev3x.config.loads(EXAMPLE.replace(good, bad))


def imported(path):
    """What a file imports of ev3x: pairs of a module and a name of it, or None."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "ev3x")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "ev3x":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_public_names_of_ev3x_are_imported(path):
    for module, name in imported(path):
        _, _, inner = module.partition(".")
        assert not inner or inner in ev3x.__all__, f"{module} is not public"
        assert inner or name is None or name in ev3x.__all__, f"{module}.{name} is not public"
        assert not (name or "").startswith("_")


def test_what_the_package_names_it_has():
    assert all(hasattr(ev3x_lexicase, name) for name in ev3x_lexicase.__all__)
    assert (PACKAGE / "py.typed").exists()


def test_the_native_build_takes_the_headers_of_the_oldest_jaxlib_that_is_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (oldest,) = (d.removeprefix("jax>=") for d in project["project"]["dependencies"] if d.startswith("jax>="))
    built, *_ = (r for r in project["tool"]["scikit-build"]["build"]["requires"] if r.startswith("jaxlib"))
    assert built.split(";")[0] == f"jaxlib=={oldest}.0"
