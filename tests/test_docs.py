"""What the docs show as Python runs as it stands there; the files and tests that they name exist."""

import dataclasses
import importlib
import importlib.util
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

import ev3x
from ev3x.host.host import HOOKS
from ev3x.ops import native
from ev3x.testing import check_component

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
# Blocks with a title are files of a reader's own: test_write_a_plugin.py puts them there. Those of the hooks' pages run
# rounds, and one of them is enough for a quick session.
BLOCKS = [
    pytest.param(
        page.name,
        block,
        id=f"{page.stem}-{i}",
        marks=[pytest.mark.long] if page.parent.name == "hooks" and (page.stem, i) != ("proposers", 0) else [],
    )
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


HANDED = (
    *(ev3x.Assessment, ev3x.Block, ev3x.Candidates, ev3x.Decision, ev3x.Feedback, ev3x.Form, ev3x.Model, ev3x.Question),
    *(ev3x.State, ev3x.Kit, ev3x.component.Fault, ev3x.Move, ev3x.Outcome),
)


@pytest.fixture(autouse=True)
def _by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's environment asks for nothing; CI asks for native code everywhere."""
    monkeypatch.delenv("EV3X_NATIVE", raising=False)


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_runs(page, block, monkeypatch):
    """With a JAX as strict as it is in the tests of plugins: authors begin with these."""
    if "FfiTarget(" in block:  # what it offers is nobody else's
        monkeypatch.setattr(native, "registry", native.Registry())
    exec(compile(block, page, "exec"), {"__name__": "docs"})


CLASSES = [
    pytest.param(page.name, block, name, id=name)
    for page in PAGES
    for block in re.findall(r"```python(?: title=[^\n]*)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in re.findall(r"^@dataclasses\.dataclass\(frozen=True\)\nclass (\w+)\(ev3x\.", block, re.MULTILINE)
]


@pytest.mark.long
@pytest.mark.parametrize(("page", "block", "name"), CLASSES)
def test_the_component_of_an_example_keeps_the_contract(page, block, name):
    assert len(CLASSES) > 10
    head = block.partition("\nhost = ")[0]  # what comes behind are rounds with it
    known = {"__name__": "docs"}
    exec(compile(head, page, "exec"), known)
    kind = known[name]
    assert not check_component(kind.build(kind.kit.options), quick=True).failed


def test_the_page_on_the_paper_names_tests_that_are_there():
    text = (ROOT / "docs" / "ev3.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 20 and [name for name in sorted(named) if f"def {name}(" not in sources] == []
    files = set(re.findall(r"`((?:\w+/)*test_\w+\.py)`", text))
    assert len(files) > 5 and [name for name in sorted(files) if not (ROOT / "tests" / name).exists()] == []


def test_every_hook_has_a_page_and_every_link_a_target():
    folder = ROOT / "docs" / "hooks"
    pages = {page.stem: page.read_text() for page in folder.glob("*.md")}
    assert {f"ev3x_{name}" for name in pages if name != "index"} == set(HOOKS)
    assert [hook for hook in HOOKS if f"[`{hook}`]({hook.removeprefix('ev3x_')}.md)" not in pages["index"]] == []
    links = [(name, link) for name, text in pages.items() for link in re.findall(r"\]\(([^):#]+)[)#]", text)]
    sources = Path(ev3x.__file__).parent  # not beside the docs where the installed package is tested
    homes = {True: sources, False: folder}
    found = [(homes[link.startswith("../../ev3x/")] / link.removeprefix("../../ev3x/")).exists() for _, link in links]
    assert len(links) > 20 and [link for link, there in zip(links, found, strict=True) if not there] == []


@pytest.mark.parametrize("kind", HANDED, ids=lambda kind: kind.__name__)
def test_what_components_are_handed_says_each_field_where_help_shows_it(kind):
    text = inspect.getdoc(kind)
    fields = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else [m.name for m in kind]
    assert [name for name in fields if not re.search(rf"^ *{name}: |`{name}`|\b{name}(:|,)", text, re.MULTILINE)] == []


@pytest.mark.skipif(not (ROOT / "plugins").exists(), reason="an sdist has no plugins")
def test_the_table_of_bundled_plugins_is_that_of_their_metadata():
    spec = importlib.util.spec_from_file_location("table", ROOT / "plugins" / "table.py")
    assert spec is not None and spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    text = (ROOT / "plugins" / "README.md").read_text()
    assert table.table().count("](ev3x-") > 0
    assert table.rewritten(text) == text, "python plugins/table.py rewrites it"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.loose_types("a user's JAX is not strict")
def test_the_native_plugin_of_the_docs_works_from_source_to_use(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "native.md").read_text()
    (cpp,), (export, python) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("cpp", "python"))
    exec(export, {})
    package, info = tmp_path / "ev3x_halve", tmp_path / "ev3x_halve-1.0.dist-info"
    package.mkdir(), info.mkdir()
    (package / "__init__.py").write_text(python)
    (package / "halve.cc").write_text(cpp)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ev3x-halve\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ev3x]\nhalve = ev3x_halve\n[ev3x.api]\nhalve = v1\n")
    build = ["g++", "-O2", "-std=c++17", "-shared", "-fPIC", "-isystem", jax.ffi.include_dir()]
    subprocess.run([*build, "halve.cc", "-o", "halve.so"], cwd=package, check=True)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(native, "registry", native.Registry())
    host = ev3x.Host()
    host.load("halve")
    halve = importlib.import_module("ev3x_halve").halve
    with native.using("require"):
        assert "ev3x_halve_f32" in jax.jit(halve).lower(jax.numpy.ones(3)).as_text()
        assert jax.vmap(halve)(jax.numpy.arange(4.0).reshape(2, 2)).tolist() == [[0.0, 0.5], [1.0, 1.5]]
    (record,) = native.status()
    assert (record.target, record.state, record.owner) == ("ev3x_halve_f32", "native", "ev3x-halve 1.0")
