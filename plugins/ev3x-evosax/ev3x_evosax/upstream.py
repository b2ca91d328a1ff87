"""What is used of evosax, imported such that JAX's backends stay off: whoever imports it can still choose devices."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def _lists_on_host() -> Iterator[None]:
    """In here, `jnp.asarray` of a list, in this thread, is numpy's: the same numbers in the dtype that JAX gives them.

    Constants of traced functions may be either; but JAX's start its backends.
    """
    numpy: Any = jnp
    asarray, here = numpy.asarray, threading.get_ident()

    def on_host(x: Any, *args: Any, **options: Any) -> Any:
        if isinstance(x, list) and not args and not options and threading.get_ident() == here:
            return np.asarray(x, jnp.result_type(float))
        return asarray(x, *args, **options)

    numpy.asarray = on_host
    try:
        yield
    finally:
        numpy.asarray = asarray


# The one module of evosax 0.3.1 that makes an array when it is imported (SUCCESS_RATES, three numbers), after the one
# that imports all that it imports.
importlib.import_module("evosax.learned_evolution.les_tools")
with _lists_on_host():
    importlib.import_module("evosax.learned_evolution.cma_anchored_les_tools")

from evosax.algorithms import algorithms as algorithms  # noqa: E402
from evosax.algorithms.population_based.base import PopulationBasedAlgorithm as PopulationBasedAlgorithm  # noqa: E402
from evosax.core import fitness_shaping as fitness_shaping  # noqa: E402
