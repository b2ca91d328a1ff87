"""evosax's strategies as values: found in its registry, described by their signatures, built once for equal options."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ev3x.component import unknown

from .upstream import PopulationBasedAlgorithm, algorithms, fitness_shaping

Array = jax.Array
Kind = type[Any]
Shaping = Literal["identity", "centered_rank", "standardize", "normalize"]
Value = bool | int | float
# What every constructor takes, or what a proposer has no use for (metrics), or offers under a name of its own.
GIVEN = ("self", "population_size", "solution", "sampling_fn", "fitness_shaping_fn", "metrics_fn")
# What strategies remember of single solutions: none of it is true of another place.
MEMORY = (
    "best_solution",
    "best_fitness",
    "best_solution_shaped",
    "best_fitness_shaped",
    "epoch_best_fitness",
    "fitness",
    "fitness_elites_sorted",
)


@dataclasses.dataclass(frozen=True)
class Built:
    """A strategy over vectors of one length, and its parameters."""

    strategy: Any
    params: Any

    @property
    def count(self) -> int:
        """How many candidates it makes: those of all its populations."""
        return int(getattr(self.strategy, "total_population_size", self.strategy.population_size))


def kinds() -> dict[str, Kind]:
    """The strategies of the installed evosax under the names of their modules: `cma_es`, `open_es`, `simple_ga`."""
    return {kind.__module__.rpartition(".")[2]: kind for kind in algorithms.values()}


def keeps_population(kind: Kind) -> bool:
    """Whether its state is a population with its fitness, instead of a distribution about a mean."""
    return issubclass(kind, PopulationBasedAlgorithm)


def draws_about_zero(kind: Kind) -> bool:
    """Whether it samples where it is told to (random search), instead of about its mean."""
    return "sampling_fn" in inspect.signature(kind).parameters


def parameter_types(kind: Kind) -> dict[str, Any]:
    """The names of its params and what they hold; by evosax's convention, they are `Params` of its module."""
    return {field.name: field.type for field in dataclasses.fields(sys.modules[kind.__module__].Params)}


@functools.lru_cache(maxsize=256)
def build(
    kind: Kind,
    population: int,
    dimensions: int,
    options: tuple[tuple[str, Any], ...] = (),
    shaping: Shaping | None = None,
    params: tuple[tuple[str, Value], ...] = (),
    dtype: Any = jnp.float32,
) -> Built:
    """The strategy, the same object for equal arguments; ValueError says what evosax refuses.

    evosax compiles its methods for the object, not for its value: a new one in every trace would be compiled anew.
    """
    strategy = construct(kind, population, dimensions, options, shaping, dtype)
    with foreign(), jax.ensure_compile_time_eval():  # nothing of a trace may stay in a cached object
        defaults = strategy.default_params
    changes = {name: _like(kind, name, value, getattr(defaults, name)) for name, value in params}
    return Built(strategy, defaults.replace(**changes))


def construct(
    kind: Kind,
    population: int,
    dimensions: int,
    options: tuple[tuple[str, Any], ...],
    shaping: Shaping | None,
    dtype: Any = jnp.float32,
) -> Any:
    """The strategy; ValueError says what evosax refuses."""
    given: dict[str, Any] = {n: v.build() if hasattr(v, "build") else v for n, v in options if v is not None}
    if shaping:
        given["fitness_shaping_fn"] = getattr(fitness_shaping, f"{shaping}_fitness_shaping_fn")
    if draws_about_zero(kind):
        given["sampling_fn"] = functools.partial(jax.random.normal, shape=(dimensions,), dtype=dtype)
    try:
        with foreign(), jax.ensure_compile_time_eval():
            return kind(population_size=population, solution=jnp.zeros(dimensions, dtype), **given)
    except Exception as error:  # evosax asserts, and its learned strategies read files and other packages
        cause = str(error) if isinstance(error, AssertionError | ValueError) else f"{type(error).__name__}: {error}"
        what = f"population = {population} in {dimensions} dimensions"
        raise ValueError(f"evosax cannot make a {kind.__name__} with {what}: {cause}") from error


def parameter_fault(kind: Kind, name: str, value: Any) -> str | None:
    """What is wrong with this value of one of its params, as far as its type tells, or None."""
    types = parameter_types(kind)
    if name not in types:
        return unknown("parameter", name, types)
    wanted = {bool: "true or false", int: "an integer"}.get(types[name], "a number")
    fits = {bool: isinstance(value, bool), int: isinstance(value, int) and not isinstance(value, bool)}
    if not fits.get(types[name], isinstance(value, int | float) and not isinstance(value, bool)):
        return f"{name} must be {wanted}, got {value!r}"
    if not (math.isfinite(value) and value >= 0):
        return f"{name} must be finite and not negative, got {value!r}"
    return None


@contextlib.contextmanager
def foreign() -> Iterator[None]:
    """Runs evosax's code: it counts on JAX's loose promotion, and uses functions that optax deprecates."""
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(evosax|optax)\b")
        yield


def settled(tree: Any) -> Any:
    """The same numbers without weak types, so that a state has one type before and after a round."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), tree)


def _like(kind: Kind, name: str, value: Value, default: Any) -> Any:
    """The value as what the default is; ValueError when that is not one number."""
    if isinstance(default, bool | int | float):
        return type(default)(value)
    if not hasattr(default, "shape") or default.shape:
        got = f"{default.dtype}{list(default.shape)}" if hasattr(default, "shape") else type(default).__name__
        raise ValueError(f"params: {kind.__name__} computes {name!r} itself ({got}); it cannot be a number")
    with jax.ensure_compile_time_eval():
        return jnp.asarray(value, default.dtype)
