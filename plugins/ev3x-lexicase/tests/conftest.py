"""Strict JAX in all tests: no silent broadcasting between ranks, no silent conversion between types."""

from pathlib import Path

import jax
import pytest

import ev3x
from ev3x import wrong_sums

wrong_sums.spare()
jax.config.update("jax_numpy_rank_promotion", "raise")

HERE = Path(__file__).parent

ev3x.Host().load("lexicase")  # as a run does that names it: from here on native code is found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    if not item.path.is_relative_to(HERE):
        return (yield)
    with jax.numpy_dtype_promotion("strict"):
        return (yield)
