"""New plugins: every kind and binding is written whole, is clean, and works as it is."""

import importlib
import itertools
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from building import needs, passes, run
from typer.testing import CliRunner

from ev3x import Host, PluginError
from ev3x.cli import app
from ev3x.scaffold import ScaffoldError, create
from ev3x.scaffold.bindings import BINDINGS
from ev3x.scaffold.kinds import STARTS
from ev3x.testing import ask_ahead, check_component

NATIVE = [kind for kind, start in STARTS.items() if start.sums]
VARIANTS = [(kind, None) for kind in STARTS] + list(itertools.product(NATIVE, BINDINGS))
ONE_FILE = """
import dataclasses
from typing import Annotated

import jax.numpy as jnp
import numpy
import ev3x

@dataclasses.dataclass(frozen=True)
class Again(ev3x.Proposer):
    '''The current model, so many times.'''
    count: int = 2
    def labels(self, site):
        return tuple(map(str, range(self.count)))
    def propose(self, site, key, current, state, explore):
        stack = site.each(lambda i: current, jnp.arange(self.count))
        return ev3x.Candidates(stack, eligible=jnp.ones(self.count, bool), steps=jnp.int32(0), memo=())

@dataclasses.dataclass(frozen=True)
class Level(ev3x.Budget):
    '''A level that must be given.'''
    share: float
    words = "{level}"
    def offer(self, state, level):
        return level * self.share

@ev3x.hookimpl
def ev3x_proposers():
    return [ev3x.Offer("again@2", Again)]

@ev3x.hookimpl
def ev3x_budgets():
    return [ev3x.Offer("level", Level)]
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """All variants, each under a name of its own, in one folder."""
    into = tmp_path_factory.mktemp("written")
    return {(k, n): create(f"new-{k}-{n}".lower(), k, n, into=into) for k, n in VARIANTS}


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """`installed(folder)`: the distribution is found as after `pip install -e`; returns the folder of its metadata."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def install(folder):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        package = project["name"].replace("-", "_")
        info = tmp_path / f"{package}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        groups = [(group, points) for group, points in project["entry-points"].items()]
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(folder / "src")
        modules.append(package)
        importlib.invalidate_caches()
        return tmp_path

    yield install
    for name in modules:
        sys.modules.pop(name, None)


def invoke(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def arguments(run):
    """What `ev3x config explain` takes of the arguments of a first run."""
    return [a for a in run[1:] if a not in ("--rounds", "2")]


@pytest.mark.parametrize(("kind", "native"), VARIANTS)
def test_what_is_written(written, kind, native):
    made = written[kind, native]
    assert {p for p in made.folder.rglob("*") if p.is_file()} == set(made.files)
    assert len(made.files) == (4 if native is None else 6)
    package = made.folder.name.replace("-", "_")
    for path in made.files:
        text = path.read_text()
        assert "$" not in text.replace("${", "").replace('off|0)$"', "") and text.endswith("\n")
        if path.suffix == ".py":
            compile(text, path, "exec")
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]
    assert points == {"ev3x": {made.name: f"{package}:plugin"}, "ev3x.api": {made.name: "v1"}}
    assert project["build-system"]["build-backend"].startswith("hatchling" if native is None else "scikit_build_core")
    readme = (made.folder / "README.md").read_text()
    assert f"{made.name}:{STARTS[kind].component}" in readme


def test_linters_and_types_find_nothing(written, tmp_path):
    folder = written["proposer", None].folder.parent
    for command in (["check"], ["format", "--check"]):
        passes([sys.executable, "-m", "ruff", *command, "--no-cache", folder])
    sources = [p for made in written.values() for p in made.files if p.suffix == ".py"]
    settings = written["proposer", "ctypes"].folder / "pyproject.toml"
    # Not in a clone: mypy looks into the working directory first, and ev3x's sources are not what is installed.
    mypy = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path, "--config-file", settings]
    passes([*mypy, *sources], cwd=tmp_path)
    misspelt = tmp_path / "misspelt.py"
    text = written["observer", None].files[2].read_text()
    misspelt.write_text(text.replace("def ev3x_observers", "def ev3x_observer"))
    done = run([*mypy, misspelt], cwd=tmp_path)
    assert done.returncode == 1 and '"ev3x_observer" is marked as an override, but no base method' in done.stdout


@pytest.mark.parametrize("kind", STARTS)
def test_a_config_can_name_it(written, installed, kind):
    made = written[kind, None]
    installed(made.folder)
    result = invoke("config", "explain", *arguments(made.run))
    assert result.exit_code == 0, result.stderr
    assert f'"{made.name}:{STARTS[kind].component}"' in result.stdout


@pytest.mark.parametrize("kinds", [["observer"], pytest.param([*STARTS], marks=pytest.mark.long)], ids=["one", "all"])
def test_all_kinds_keep_the_contract(written, installed, kinds):
    components = []
    for kind, start in ((kind, STARTS[kind]) for kind in kinds):
        made = written[kind, None]
        installed(made.folder)
        components.append(Host().build(kind, f"{made.name}:{start.component}"))
    ask_ahead(components)
    for component in components:
        check_component(component)


@needs()
def test_its_own_tests_pass_with_native_code(written, installed, tmp_path):
    made = written["proposer", "ctypes"]
    folder = shutil.copytree(made.folder, tmp_path / "built")
    site = installed(folder)
    package = made.folder.name.replace("-", "_")
    passes(["cmake", "-S", folder, "-B", tmp_path / "b", "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}"])
    passes(["cmake", "--build", tmp_path / "b"])
    shutil.copy(tmp_path / "b" / "native.so", folder / "src" / package)
    paths = [str(p) for p in (site, folder / "src", *filter(None, sys.path))]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error"]
    said = passes(
        [*command, "-k", "not contract", "--rootdir", folder, folder],
        PYTHONPATH=":".join(paths),
        EV3X_NATIVE="require",
    )
    assert "11 passed, 1 deselected" in said


@pytest.fixture
def one_file(tmp_path):
    path = tmp_path / "my_rule.py"
    path.write_text(ONE_FILE)
    return path


def test_a_one_file_plugin_is_packaged_as_it_is(one_file, installed, tmp_path):
    made = create(source=one_file, into=tmp_path)
    assert made.name == "my-rule" and made.folder == tmp_path / "ev3x-my-rule"
    assert (made.folder / "src/ev3x_my_rule/__init__.py").read_bytes() == one_file.read_bytes()
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["ev3x>=0.1", "jax>=0.7", "numpy>=1.26"]
    tests = (made.folder / "tests/test_ev3x_my_rule.py").read_text()
    assert 'check_proposer(built("proposer", "again@2"))' in tests and 'check_budget(built("budget", "level"))' in tests
    assert tests.count("@pytest.mark.skip(") == 1
    assert len(made.notes) == 1 and "budget 'level'" in made.notes[0] and "share: is required" in made.notes[0]
    passes([sys.executable, "-m", "ruff", "check", "--no-cache", made.folder / "tests"])

    installed(made.folder)
    assert Host().find("proposer", "my-rule:again@2")[1].__name__ == "Again"
    result = invoke("config", "explain", *arguments(made.run))
    assert result.exit_code == 0 and '"my-rule:again@2"' in result.stdout


def test_modules_of_no_distribution_are_named(one_file, tmp_path, monkeypatch):
    (tmp_path / "helper_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    one_file.write_text("import helper_of_mine\nimport scipy.stats\n" + ONE_FILE)
    made = create(source=one_file, into=tmp_path)
    assert "add what brings 'helper_of_mine' to `dependencies` in pyproject.toml" in made.notes
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["ev3x>=0.1", "jax>=0.7", "numpy>=1.26", "scipy"]


def test_the_command_says_what_to_do_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    result = invoke("plugins", "new", "calm", "--kind", "observer")
    python = sys.executable
    assert result.exit_code == 0 and result.stdout.splitlines() == [
        "ev3x-calm: pyproject.toml, README.md, src/ev3x_calm/__init__.py, tests/test_ev3x_calm.py",
        "Next:",
        f"  {python} -m pip install -e './ev3x-calm[test]'",
        f"  {python} -m pytest ev3x-calm",
        f'  {python} -m ev3x.cli run distill-mnist1d --rounds 2 --set \'observe=["progress", "calm:csv"]\'',
    ]


def test_short_commands_where_the_shell_finds_those_of_this_python(tmp_path, monkeypatch):
    for tool in ("python", "pip", "pytest", "ev3x"):
        (tmp_path / tool).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    result = invoke("plugins", "new", "calm", "--into", tmp_path)
    assert result.stdout.splitlines()[2:4] == [
        f"  pip install -e '{tmp_path}/ev3x-calm[test]'",
        f"  pytest {tmp_path}/ev3x-calm",
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "Calm"}, "must be words of lower-case letters and digits, joined by hyphens, .* got 'Calm'"),
        ({"name": "a--b"}, "got 'a--b'"),
        ({"name": "calm\n"}, "got 'calm"),
        ({"name": "a" * 41}, "of 40 characters at most"),
        ({"name": "ev3"}, "'ev3' is the name of the built-in plugin"),
        ({}, "needs a NAME, or --from FILE.py"),
        ({"name": "calm", "kind": "budget"}, "--kind must be one of proposer, assessor, .* got 'budget'"),
        ({"name": "calm", "native": "swig"}, "--native must be one of ctypes, nanobind, pybind11, got 'swig'"),
        ({"name": "calm", "kind": "task", "native": "ctypes"}, "--kind proposer or assessor, not for task"),
        ({"source": "my_rule.py", "native": "ctypes"}, "--from takes the file as it is: leave out --native"),
        ({"source": "my_rule.py", "kind": "task", "native": "ctypes"}, "leave out --kind and --native"),
        ({"source": "my_rule.py", "name": "other"}, "is the plugin 'my-rule', .* leave out 'other', or rename"),
        ({"name": "there"}, "ev3x-there exists: remove it"),
        ({"name": "calm", "into": "nowhere"}, "--into must be an existing folder, got .*nowhere"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(one_file, tmp_path, options, text):
    (tmp_path / "ev3x-there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    places = {k: tmp_path / v for k, v in options.items() if k in ("source", "into")}
    with pytest.raises(ScaffoldError, match=text):
        create(**{"into": tmp_path, **options, **places})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_another_distribution_has(tmp_path, installed):
    made = create("calm", "observer", into=tmp_path)
    project = made.folder / "pyproject.toml"
    project.write_text(project.read_text().replace('name = "ev3x-calm"', 'name = "ev3x-other"'))
    installed(made.folder)
    with pytest.raises(ScaffoldError, match=r"plugin 'calm' of ev3x-other 0\.1\.0 is installed, and has that name"):
        create("calm", into=tmp_path)


def test_a_file_that_a_run_would_not_take(tmp_path):
    path = tmp_path / "rule.py"
    path.write_text("import ev3x\n\n@ev3x.hookimpl\ndef ev3x_proposers():\n    return []\n")
    with pytest.raises(ScaffoldError, match="offers no components"):
        create(source=path, into=tmp_path)
    path.write_text("x = 1\n")
    with pytest.raises(PluginError, match="has no ev3x_ hooks"):
        create(source=path, into=tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["rule.py"]


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    write, count = Path.write_bytes, itertools.count()

    def full(path, data):
        if next(count) == 2:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ScaffoldError, match="ev3x-calm cannot be written: No space left on device"):
        create("calm", into=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_one_message(tmp_path):
    result = invoke("plugins", "new", "ev3", "--into", tmp_path)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr == "'ev3' is the name of the built-in plugin: choose another\n"
