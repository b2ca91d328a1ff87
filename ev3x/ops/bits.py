"""Arithmetic of 32-bit words and floats that native code does alike."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def mix(x: Array) -> Array:
    """A bijection of uint32 with little bias ("lowbias32" of C. Wellons' hash prospector, revised constants)."""
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def upper_product(a: Array, b: Array) -> Array:
    """The upper word of a * b, uint32."""
    low = np.uint32(0xFFFF)
    bottom, cross = (a & low) * (b & low), (a >> 16) * (b & low)
    middle = (a & low) * (b >> 16) + (bottom >> 16)
    return (a >> 16) * (b >> 16) + (cross >> 16) + (middle >> 16) + (((cross & low) + (middle & low)) >> 16)


def flush(x: Array) -> Array:
    """float32 with subnormal numbers and -0 as 0: XLA flushes them on some devices and not on others."""
    return jnp.where(jnp.abs(x) < np.finfo(np.float32).tiny, 0.0, x)
