"""What the processes of a test session share: they import the same, and compile a program once."""

import os
import subprocess
import sys
from pathlib import Path

import jax

from ev3x.testing import child


def test_the_kits_child_is_not_led_astray_by_what_lies_about(tmp_path, monkeypatch):
    (tmp_path / "ev3x").mkdir()
    for name in ("ev3x/__init__.py", "jax.py"):
        (tmp_path / name).write_text("raise ImportError('sources, not what is installed')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(child, "_answers", {})
    assert child.ask(child.Import("sound")) == [{"printed": "", "changes": [], "backend": False}]


def test_a_child_finds_the_programs_that_its_parent_compiled(tmp_path):
    code = f"""
import jax, jax.numpy as jnp
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
@jax.jit
def program(x):
    return jnp.sin(x) + {os.getpid()}
program(1.0).block_until_ready()
print("hit" if "/jax/compilation_cache/cache_hits" in found else "miss")
"""
    command = [sys.executable, "-c", code]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert said == ["miss\n", "hit\n"]
    assert jax.config.jax_compilation_cache_dir == os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert any(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).iterdir())
