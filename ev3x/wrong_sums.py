"""What is known of sums that XLA compiles wrongly for CPUs, and what to do about it.

jaxlib 0.10.2 to 0.12.0 (the newest when this was written) hand some sums to a library in a form that gives wrong
numbers without a word: sums over products of broadcast arrays, from some thousand elements on (jax-ml/jax issue 39103,
and the wealth of many bettors, where every contender became better). A flag turns that library off. It must be set
before JAX's backend starts, so it is for whom the process belongs to: the command line of ev3x sets it, a library can
but tell.
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
    """Turn off what compiles wrong sums, in a process that has not imported JAX; what XLA_FLAGS says of it stays."""
    flags = environment.get("XLA_FLAGS", "")
    if concerned() and OPTION not in flags:
        environment["XLA_FLAGS"] = f"{flags} {OPTION}=".strip()


def concerned() -> bool:
    """Whether this jaxlib is one whose sums may be wrong; an older one does not know the option."""
    return tuple(int(part) for part in version("jaxlib").split(".")[:3] if part.isdecimal()) >= FIRST


def warn() -> None:
    """Warn, once in a process, when sums are wrong in it."""
    if wrong():
        _warn_once()


@functools.cache
def wrong() -> bool:
    """Whether the sum of issue 39103 is wrong in this process: it is tried, once, where this can be."""
    import jax
    import jax.numpy as jnp

    if not concerned() or jax.default_backend() != "cpu":
        return False
    rows = jnp.arange(32_769, dtype=jnp.float32)[:, None] * jnp.array([[1.0, 0.0, 0.0]], jnp.float32)

    def each(rows: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: jnp.square(jnp.eye(3, dtype=jnp.float32) @ row).sum())(rows)

    return float(jax.jit(each)(rows)[-1]) != 32_768.0**2


def advice() -> str:
    """What to do, in words."""
    return f'set XLA_FLAGS="{OPTION}=" before JAX starts, or use a jaxlib before 0.10.2'


@functools.cache
def _warn_once() -> None:
    text = f"jaxlib {version('jaxlib')} computes some sums wrongly on CPUs (jax-ml/jax issue 39103): {advice()}"
    warnings.warn(text, WrongSums, stacklevel=4)
