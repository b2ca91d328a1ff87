"""Strict JAX in all tests: no silent broadcasting between ranks, no silent conversion between types."""

import gc
import importlib.metadata
from pathlib import Path

import jax
import pytest
from installing import Site

MAPS = Path("/proc/self/maps")  # Linux has it
pytest_plugins = ["ev3x.testing.session", "ev3x.testing.distribution"]


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


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path; `site(plugin, source, ...)` installs a distribution with that plugin into it."""
    return Site(tmp_path, monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Programs are freed in time: Linux allows a process 65,530 memory maps, and one program has dozens.

    Not after each file: that takes seconds, and the next ones may run the same programs.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()
