"""What is tested is what users get: the installed wheel, whole, and not the sources of the clone beside it."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ev3x
from ev3x.ops import native

ROOT = Path(__file__).parents[1]
DISTRIBUTION = importlib.metadata.distribution("ev3x")


@pytest.fixture
def wheel():
    """The paths in the installed wheel's package; an editable install has none of its own."""
    origin = json.loads(DISTRIBUTION.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("an editable install: the sources are what is imported")
    return {str(path) for path in DISTRIBUTION.files if path.parts[0] == "ev3x" and path.suffix != ".pyc"}


def test_the_wheel_is_imported_and_not_the_sources(wheel):
    assert Path(ev3x.__file__) == Path(DISTRIBUTION.locate_file("ev3x/__init__.py"))
    assert not Path(ev3x.__file__).is_relative_to(ROOT / "ev3x")


def test_the_wheel_has_every_file_of_the_package_as_it_is_and_the_native_module(wheel):
    sources = {p.relative_to(ROOT).as_posix(): p for p in (ROOT / "ev3x").rglob("*") if p.is_file()}
    sources = {name: p for name, p in sources.items() if p.suffix not in (".pyc", ".so", ".pyd", ".dylib")}
    assert sources.keys() <= wheel
    stale = [name for name, p in sources.items() if DISTRIBUTION.locate_file(name).read_bytes() != p.read_bytes()]
    assert stale == [], "install it anew: pip install ."
    found = importlib.util.find_spec(native.MODULE)
    built = {Path(found.origin).relative_to(DISTRIBUTION.locate_file("")).as_posix()} if found else set()
    assert wheel - sources.keys() == built


@pytest.mark.parametrize("way", [["-c", "import show"], ["-m", "show"], ["here.py"]], ids=["-c", "-m", "file"])
def test_a_child_in_a_clone_imports_what_its_parent_does(way, tmp_path, monkeypatch):
    (tmp_path / "ev3x").mkdir()
    (tmp_path / "ev3x" / "__init__.py").touch()
    (tmp_path / "elsewhere").mkdir()
    for path in ("here.py", "elsewhere/show.py"):
        (tmp_path / path).write_text("import ev3x; print(ev3x.__file__)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    done = subprocess.run([sys.executable, *way], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ev3x.__file__
