"""Detects sums that XLA compiles wrongly for CPUs, and turns off the code that does it.

jaxlib 0.10.2 to 0.12.0 (the newest when this was written) pass some sums to a library in a form that gives wrong
numbers without an error: sums over products of broadcast arrays of some thousand elements or more (jax-ml/jax issue
39103; also the wealth of many bettors, where every contender became better). A flag turns that library off. It must be
set before JAX's backend starts, so only the owner of the process can set it: the command line of ev3x does, while a
library can only warn.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import MutableMapping
from importlib.metadata import version

FIRST = (0, 10, 2)
OPTION = "--xla_cpu_experimental_ynn_fusion_type"


class WrongSums(UserWarning):
    """This process computes some sums wrongly."""


def spare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Turn off the faulty library, in a process that has not imported JAX; a choice in XLA_FLAGS is kept."""
    flags = environment.get("XLA_FLAGS", "")
    if concerned() and OPTION not in flags:
        environment["XLA_FLAGS"] = f"{flags} {OPTION}=".strip()


def concerned() -> bool:
    """Whether sums of this jaxlib may be wrong; older versions do not know the option."""
    return tuple(int(part) for part in version("jaxlib").split(".")[:3] if part.isdecimal()) >= FIRST


def warn() -> None:
    """Warn, once in a process, when sums are wrong in it."""
    if wrong():
        _warn_once()


@functools.cache
def wrong() -> bool:
    """Whether the sum of issue 39103 is wrong in this process; computes it once, if this jaxlib is concerned."""
    import jax
    import jax.numpy as jnp

    if not concerned() or jax.default_backend() != "cpu":
        return False
    rows = jnp.arange(32_769, dtype=jnp.float32)[:, None] * jnp.array([[1.0, 0.0, 0.0]], jnp.float32)

    def each(rows: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: jnp.square(jnp.eye(3, dtype=jnp.float32) @ row).sum())(rows)

    return float(jax.jit(each)(rows)[-1]) != 32_768.0**2


def advice() -> str:
    """What the user can do, in words."""
    return f'set XLA_FLAGS="{OPTION}=" before JAX starts, or use a jaxlib before 0.10.2'


@functools.cache
def _warn_once() -> None:
    text = f"jaxlib {version('jaxlib')} computes some sums wrongly on CPUs (jax-ml/jax issue 39103): {advice()}"
    warnings.warn(text, WrongSums, stacklevel=4)
