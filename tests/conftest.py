"""Strict JAX in all tests: no silent broadcasting between ranks, no silent conversion between types."""

from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

HERE = Path(__file__).parent
# Whole files whose models and optimizers are those of flax and optax, which mix integers and floats themselves.
LOOSE = (HERE / "test_plain_training.py",)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "loose_types(reason): runs without jax_numpy_dtype_promotion='strict'")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    loose = item.get_closest_marker("loose_types") or any(item.path.is_relative_to(p) for p in LOOSE)
    with jax.numpy_dtype_promotion("standard" if loose else "strict"):
        return (yield)
