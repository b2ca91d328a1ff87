"""Strict JAX in all tests: no silent broadcasting between ranks, no silent conversion between types."""

import fcntl
import gc
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from installing import Site

from ev3x.builtin.tasks import mnist1d_teacher

MAPS = Path("/proc/self/maps")  # Linux has it
pytest_plugins = ["ev3x.testing.session", "ev3x.testing.distribution", "ev3x.testing.fixtures"]


@pytest.fixture(scope="session", autouse=True)
def alone():
    """Plugins that happen to be installed beside ev3x are out of sight: what is suggested depends on them."""
    installed = importlib.metadata.distributions
    plugins = [d for d in installed() if any(p.group == "ev3x" for p in d.entry_points) and d.name != "ev3x"]
    others = {d.locate_file(f"{d.name.replace('-', '_')}-{d.version}.dist-info") for d in plugins}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.metadata,
            "distributions",
            lambda: (d for d in installed() if getattr(d, "_path", None) not in others),
        )
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of float32 arithmetic that only users' programs must pass are skipped where XLA optimises least."""
    from ev3x.testing.session import LEAST, LEVEL  # pytest has loaded it by now, and rewritten its assertions

    if LEAST in os.environ.get("XLA_FLAGS", ""):
        reason = f"run it with XLA_FLAGS={LEVEL}=3"
        for item in items:
            if item.get_closest_marker("optimised"):
                item.add_marker(pytest.mark.skip(reason))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path; `site(plugin, source, ...)` installs a distribution with that plugin into it."""
    return Site(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """The full teacher of MNIST-1D, trained once for all workers; Task.load() finds it from here on, in children too.

    A child trains it, which optimises as for users: that takes 20 s instead of 60.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch, (folder / "teacher.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if "EV3X_CACHE" not in os.environ:
            patch.setenv("EV3X_CACHE", str(folder / "cache"))
        if not mnist1d_teacher.cache_file(mnist1d_teacher.Settings()).exists():
            from ev3x.testing.session import FUSIONS, LEAST, LEVEL

            flags = f"{LEVEL}=3" + (f" {FUSIONS}=true" if FUSIONS in LEAST else "")
            code = "from ev3x.builtin.tasks import mnist1d_teacher; mnist1d_teacher.load()"
            environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
            subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        fcntl.lockf(lock, fcntl.LOCK_UN)
        yield mnist1d_teacher.load()


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Programs are freed in time: Linux allows a process 65,530 memory maps, and one program has dozens.

    Not after each file: that takes seconds, and the next ones may run the same programs.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > 8_000:  # some 2 GB
        jax.clear_caches()
        gc.collect()
