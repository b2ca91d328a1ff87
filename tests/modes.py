"""What an operation gives under JAX's modes."""

import jax
import jax.numpy as jnp


def strict_and_wide(compute, operands):
    """The results under strict promotion of ranks and types, and then with 64-bit types enabled."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        strict = jax.jit(lambda *a: compute(*a))(*map(jnp.asarray, operands))
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        wide = jax.jit(lambda *a: compute(*a))(*operands)
    return [*strict, *wide]
