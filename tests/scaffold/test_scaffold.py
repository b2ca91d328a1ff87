"""New plugins: every kind and binding is written whole, is clean, and works as it is."""

import importlib
import itertools
import re
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
    """All variants, each under a name of its own, in one folder, and all kinds at once."""
    into = tmp_path_factory.mktemp("written")
    made = {(k, n): create(f"new-{k}-{n}".lower(), k, n, into=into) for k, n in VARIANTS}
    return made | {("several", None): create("several", [*STARTS], into=into)}


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
    assert len(made.files) == (5 if native is None else 7)
    workflow = (made.folder / ".github" / "workflows" / "test.yml").read_text()
    assert f"ev3x plugins check {made.folder.name}\n" in workflow and 'pytest -m ""' in workflow
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


@pytest.mark.long
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


def names_of(path):
    """The names that a package's offers have, by role, without a host."""
    return re.findall(r'ev3x\.Offer\("(\w+)"', path.read_text())


def test_several_kinds_at_once(written, installed):
    """The components are there, offered, tested and needed."""
    made = written["several", None]
    package = made.folder / "src" / "ev3x_several"
    others = [start.component for kind, start in STARTS.items() if kind != "proposer"]
    assert {p.stem for p in package.iterdir()} == {"__init__", *others} and not made.notes
    assert names_of(package / "__init__.py") == ["steps", *others]
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())["project"]
    assert "annotated-types>=0.6" in project["dependencies"] and "jax>=0.7" in project["dependencies"]
    assert {p.name for p in made.folder.glob("tests/*_*_*_*.py")} == {f"test_ev3x_several_{c}.py" for c in others}
    installed(made.folder)
    for text in (project["description"], (made.folder / "README.md").read_text()):
        assert text.count("andom steps") == text.count("romotion with patience") == 1, text
    offers = {kind: {start.component} for kind, start in STARTS.items()}
    host = Host()
    assert {kind: {*host.offers(kind, "several")} for kind in STARTS} == offers
    sys.path.insert(0, str(made.folder / "tests"))
    try:
        tests = importlib.import_module("test_ev3x_several").TestDistribution()
    finally:
        sys.path.pop(0)
    assert {kind: {*found} for kind, found in tests.offers().items()} == offers
    tests.test_it_offers_what_it_says_and_nothing_else()
    said = invoke("config", "explain", *arguments(made.run))
    assert said.exit_code == 0 and all(f"several:{start.component}" in said.stdout for start in STARTS.values()), said


def test_a_component_is_added_to_a_distribution_whose_author_has_worked_on_it(tmp_path):
    made = create("calm", "observer", into=tmp_path)
    home, test = (made.folder / p for p in ("src/ev3x_calm/__init__.py", "tests/test_ev3x_calm.py"))
    home.write_text(home.read_text().replace('"""A CSV file."""', '"""A CSV file.\n\n        Mine."""'))
    added = create("calm", ["budget", "adapter"], into=tmp_path, add=True)
    new = {"halves", "patient"}
    assert {p.relative_to(made.folder).as_posix() for p in added.files} == {
        *(f"src/ev3x_calm/{c}.py" for c in new),
        *(f"tests/test_ev3x_calm_{c}.py" for c in new),
        "src/ev3x_calm/__init__.py",
        "tests/test_ev3x_calm.py",
        "pyproject.toml",
    }
    assert added.notes == () and "budget=calm:halves" in added.run
    assert "Mine." in home.read_text() and names_of(home) == ["csv", "halves", "patient"]
    for text in ('"observer": {"csv": CsvLog}', '"budget": {"halves": Halves}', '"adapter": {"patient": Patient}'):
        assert text in test.read_text()
    passes([sys.executable, "-m", "ruff", "check", "--no-cache", made.folder])
    passes([sys.executable, "-m", "ruff", "format", "--check", "--no-cache", made.folder])
    with pytest.raises(ScaffoldError, match=r"halves\.py exists: there is such a component already"):
        create("calm", "budget", into=tmp_path, add=True)


def test_a_second_component_of_a_role_joins_the_first(tmp_path):
    made = create("calm", into=tmp_path)
    home, test = (made.folder / p for p in ("src/ev3x_calm/__init__.py", "tests/test_ev3x_calm.py"))
    for path in (home, test):
        path.write_text(path.read_text().replace("RandomSteps", "Mine").replace('"steps"', '"mine"'))
    assert create("calm", "proposer", into=tmp_path, add=True).notes == ()
    assert '[ev3x.Offer("mine", Mine), ev3x.Offer("steps", RandomSteps)]' in home.read_text()
    assert '"proposer": {"mine": Mine, "steps": RandomSteps},' in test.read_text()
    passes([sys.executable, "-m", "ruff", "check", "--no-cache", made.folder])


def test_what_cannot_be_put_in_is_said(tmp_path):
    made = create("calm", into=tmp_path)
    home, test = (made.folder / p for p in ("src/ev3x_calm/__init__.py", "tests/test_ev3x_calm.py"))
    home.write_text(home.read_text().replace("return [ev3x.Offer", "return [*()] or [ev3x.Offer"))
    test.unlink()
    before = home.read_text()
    notes = create("calm", "proposer", into=tmp_path, add=True).notes
    assert home.read_text() == before
    assert [note.partition(" of ")[0] for note in notes] == ["let `ev3x_proposers`", "let `offers`"]


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


@pytest.mark.long
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
    assert re.search(r"\b11 passed, \d+ deselected", said), said


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
    assert '"proposer again@2": kind("proposer", "again@2"),' in tests
    assert 'check_component(kind("budget", "level")' in tests and tests.count("@pytest.mark.skip(") == 1
    assert len(made.notes) == 1 and "budget 'level'" in made.notes[0] and "share: is required" in made.notes[0]
    assert "let the class say kit = ev3x.Kit(options={...})" in made.notes[0]
    passes([sys.executable, "-m", "ruff", "check", "--no-cache", made.folder / "tests"])

    installed(made.folder)
    assert Host().find("proposer", "my-rule:again@2")[1].__name__ == "Again"
    result = invoke("config", "explain", *arguments(made.run))
    assert result.exit_code == 0 and '"my-rule:again@2"' in result.stdout


def test_a_file_that_holds_a_plugin_is_packaged_as_one_and_its_tests_are_as_strict_as_all(written, tmp_path):
    path = tmp_path / "calm.py"
    own = written["adapter", None].folder
    path.write_text(next(own.glob("src/*/__init__.py")).read_text())
    folder = create(source=path, into=tmp_path).folder
    project, other = (tomllib.loads((f / "pyproject.toml").read_text()) for f in (folder, own))
    assert project["project"]["entry-points"]["ev3x"] == {"calm": "ev3x_calm:plugin"}
    assert project["tool"]["pytest"] == other["tool"]["pytest"]
    assert "ev3x.testing.distribution" in project["tool"]["pytest"]["ini_options"]["addopts"]


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
        "ev3x-calm: pyproject.toml, README.md, src/ev3x_calm/__init__.py, tests/test_ev3x_calm.py, "
        ".github/workflows/test.yml",
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
        ({"name": "calm", "kind": "metric"}, "--kind must be one of proposer, assessor, .* got 'metric'"),
        ({"name": "calm", "kind": ["task", "task"]}, "--kind must name each kind once, got task, task"),
        ({"name": "calm", "add": True}, "--add puts components into ev3x-NAME: give NAME and --kind"),
        ({"name": "calm", "kind": "task", "add": True}, "there is no folder .*ev3x-calm"),
        ({"name": "there", "kind": "task", "add": True}, "ev3x-there has no pyproject.toml"),
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
