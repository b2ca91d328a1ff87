"""Building native code in tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skips without a compiler, or without x86-64 Linux. CI sets EV3X_NATIVE=require: there, nothing may be missing."""
    missing = [tool for tool in ("cmake", "ninja", "g++", *tools) if shutil.which(tool) is None]
    missing += [] if (ROOT / "csrc").is_dir() else ["csrc"]
    here = sys.platform == "linux" and os.uname().machine == "x86_64"
    skip = not here or (bool(missing) and os.environ.get("EV3X_NATIVE") != "require")
    return pytest.mark.skipif(skip, reason=f"without {missing or 'x86-64 Linux'}")


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)


def passes(command: Sequence[str | Path], *, cwd: Path | None = None, **environment: str) -> str:
    done = run(command, cwd=cwd, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def build(folder: Path, *options: str) -> None:
    """The module, with the headers of the jaxlib that runs: no other needs to load it."""
    passes(["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}", *options])
    passes(["cmake", "--build", folder])
