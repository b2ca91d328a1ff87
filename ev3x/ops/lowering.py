"""Native code on the CPU, the jnp definition elsewhere: what the operations' lowerings have in common."""

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import jax
import numpy as np
from jax import Array, lax

from . import native

T = TypeVar("T")


def choose(target: str, call: Callable[..., T], definition: Callable[..., T], *operands: Array) -> T:
    """Returns `call(*operands)` where it runs on a CPU and `target` is usable, else `definition(*operands)`."""
    if not native.ensure(target):
        return definition(*operands)
    return cast(T, lax.platform_dependent(*operands, cpu=call, default=definition))


def custom_call(
    target: str, results: Sequence[jax.ShapeDtypeStruct], *operands: Array, **attributes: np.generic
) -> Sequence[Array]:
    """Returns the target's results. Its handler takes any leading axes: vmap adds one to every operand."""
    return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*operands, **attributes)


def agree(
    call: Callable[..., T],
    definition: Callable[..., T],
    operands: Sequence[np.ndarray],
    names: Sequence[str],
    rtol: float = 0,
    atol: float = 0,
) -> None:
    """Returns if both give the same leaves on the CPU; else raises RuntimeError with the name of the first other."""
    on_cpu = jax.device_put(list(operands), jax.local_devices(backend="cpu")[0])
    got, want = (jax.tree.leaves(jax.jit(f)(*on_cpu)) for f in (call, definition))
    for name, a, b in zip(names, got, want, strict=True):
        if not np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
            raise RuntimeError(f"self-test: `{name}` differs from the definition")
