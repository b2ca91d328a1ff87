"""Strict JAX in all tests: no silent broadcasting between ranks, no silent conversion between types."""

from pathlib import Path

import jax
import pytest

from ev3x import wrong_sums

wrong_sums.spare()
jax.config.update("jax_numpy_rank_promotion", "raise")

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loose_types(reason): runs without jax_numpy_dtype_promotion='strict'")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    if not item.path.is_relative_to(HERE):
        return (yield)
    with jax.numpy_dtype_promotion("standard" if item.get_closest_marker("loose_types") else "strict"):
        return (yield)


@pytest.fixture
def x64():
    """64-bit types for one test."""
    if not hasattr(jax, "enable_x64"):
        pytest.skip("this jax has no jax.enable_x64 to switch on for a while")
    with jax.enable_x64(True):
        yield
