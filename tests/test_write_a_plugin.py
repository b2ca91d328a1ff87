"""docs/write-a-plugin.md is true: a reader who does what it says, block by block, sees what it shows."""

import importlib.util
import os
import re
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'```(\w+)(?: title="([^"]+)")?\n(.*?)```', PAGE, re.DOTALL)
# The page installs over the network; here the same builds use what is installed already.
OFFLINE = "pip install --quiet --no-index --no-deps --no-build-isolation"


@pytest.fixture
def reader(tmp_path):
    """A folder for the reader's files, and the environment of a shell in which ev3x is installed.

    Its Python is one of its own, into which plugins can be installed; it sees the packages of the one that runs this.
    """
    home = tmp_path / "venv"
    venv.create(home)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    seen = [*site.getsitepackages(), sysconfig.get_path("purelib"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(filter(None, seen))]
    (packages / "seen.pth").write_text("\n".join(lines) + "\n")
    for command, module in (("ev3x", "ev3x.cli"), ("pip", "pip"), ("pytest", "pytest")):
        script = home / "bin" / command
        script.write_text(f'#!/bin/sh\nexec "{home}/bin/python" -m {module} "$@"\n')
        script.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EV3X_NATIVE", "PYTEST_"))}
    # Most of the time is compilation; its programs are short, and several commands have the same.
    environment |= {
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip(),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    folder = tmp_path / "reader"
    folder.mkdir()
    return folder, environment


def test_the_page_is_what_this_test_takes_it_for():
    kinds = [kind for kind, _, _ in BLOCKS]
    assert kinds.count("sh") >= 8 and PAGE.count("```") == 2 * len(BLOCKS)
    assert all(title for kind, title, _ in BLOCKS if kind == "python")


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="its commands are for a POSIX shell")
@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip, which environments of uv lack")
def test_what_the_page_says_happens(reader):
    folder, environment = reader
    said = ""
    for kind, title, text in BLOCKS:
        if title:
            (folder / title).write_text(text, encoding="utf-8")
        elif kind == "sh":
            said = shell(text, folder, environment)
        elif kind == "text":
            shown = [line for line in text.splitlines() if " ".join(line.split()) not in said]
            assert not shown, f"the page shows {shown}, but this was said: {said}"
        else:
            written = (folder / "ev3x-rule" / "pyproject.toml").read_text(encoding="utf-8")
            assert uncommented(text) in uncommented(written)
    assert (folder / "runs" / "second" / "summary.json").exists()


def shell(text, folder, environment):
    """What the commands of a block print, blanks made one; each must end as the page says (`!`: not well)."""
    text = re.sub(r"pip install -e '\./ev3x-rule\[test\]'", f"{OFFLINE} -e ./ev3x-rule", text)
    script = re.sub(r"^! (.*)$", r"if \1; then echo 'this should have failed'; exit 1; fi", text, flags=re.MULTILINE)
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return " ".join(done.stdout.split())


def uncommented(text):
    """The lines that are no comments."""
    return "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
