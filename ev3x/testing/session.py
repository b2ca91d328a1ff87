"""What a session of tests and the processes that it starts share: compiled programs, options of XLA, what they import.

In the top conftest.py: `pytest_plugins = ["ev3x.testing.session"]`. Tests compile many programs and run each a few
times on a few examples, so most of their time is XLA's. What the user has not set in the environment is set there:

- On x86-64, XLA optimises least, which compiles four times faster. The same arithmetic gives the same bits in any
  program, but not those of users' programs: `XLA_FLAGS=--xla_backend_optimization_level=3 pytest` compiles like these.
- One compilation cache, in a temporary folder, serves all workers and child processes of the session.
- A child `python -c`, `python -m` or `python FILE` does not look into the working directory or the file's folder for
  modules: it imports the ev3x that its parent does, not the sources of a clone, which have no compiled module.
"""

from __future__ import annotations

import os
import platform
import tempfile

import jax
import jaxlib.version
import pytest

LEVEL = "--xla_backend_optimization_level"
PARTS = "--xla_cpu_parallel_codegen_split_count=1"
FUSIONS = "--xla_cpu_use_fusion_emitters"
# Emitting fusions takes as long as all optimisation. AVX knows no multiply-add: which products and sums become one
# would depend on the program around them, and with it the last bits. Code in several parts compiles on several cores,
# but workers keep these busy, and each part costs. A process ends at an option that its jaxlib does not know: jaxlib
# 0.7 to 0.12 know the others, FUSIONS went with 0.11.1.
LEAST = f"{LEVEL}=0 {PARTS} --xla_cpu_max_isa=AVX"
if jaxlib.version.__version_info__ < (0, 11, 1):
    LEAST += f" {FUSIONS}=false"
CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    """Set it for this process, before JAX's backend starts, and for its children."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if x86 and LEVEL not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} {LEAST}".strip()
    if CACHE not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="ev3x-compiled-")
        config.add_cleanup(folder.cleanup)
        _cache(**{CACHE: folder.name})
        # By default JAX keeps only what took a second.
        _cache(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.0, JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """How to run the tests that a project leaves out by `-m "not long"`."""
    out = "tests marked long are left out: `-m long` runs them alone, `-m ''` all tests"
    return [out] if config.option.markexpr == "not long" else []


def _cache(**settings: str | float) -> None:
    for name, value in settings.items():
        os.environ[name] = str(value)
        jax.config.update(name.lower(), value)  # JAX read the environment when it was imported
