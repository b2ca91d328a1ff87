"""The arguments of operations, checked when they are traced: errors name the operation and the argument."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

SHARED = " (scores without the candidate axis)"


def first(op: str, name: str, value: ArrayLike, axes: str, dtypes: tuple[str, ...] = ("float32",)) -> Array:
    """Returns the argument that says how large the others are, with at least these last axes, such as "K, M >= 1".

    Raises ValueError for another shape, or an axis too long to be counted in int32, as indices and counts are;
    TypeError for a dtype that is not among `dtypes`, of which the first is the one to convert to.
    """
    x = jnp.asarray(value)
    last = [axis.partition(" >= ") for axis in axes.split(", ")]
    sizes = x.shape[-len(last) :]
    if len(sizes) < len(last) or any(n < int(least or 0) for n, (_, _, least) in zip(sizes, last, strict=True)):
        raise ValueError(f"{op}: `{name}` must have shape (..., {axes}), got {x.shape}")
    if x.dtype.name not in dtypes:
        raise TypeError(f"{op}: `{name}` must be {', '.join(dtypes)}, got {x.dtype}; use .astype(jnp.{dtypes[0]})")
    for n, (axis, _, _) in zip(sizes, last, strict=True):
        if n >= 2**31:
            raise ValueError(f"{op}: `{name}` must have {axis} < 2**31, got {n}")
    return x


def other(
    op: str,
    name: str,
    value: ArrayLike,
    shape: tuple[int, ...],
    dtype: str,
    *,
    shape_is: str = "",
    dtype_is: str = "",
    advice: str = "",
) -> Array:
    """Returns an argument of just this shape and dtype, or raises ValueError or TypeError.

    `shape_is` and `dtype_is` say where they come from; `advice` is what to do about a wrong dtype, if not to convert.
    """
    a = jnp.asarray(value)
    if a.shape != shape:
        raise ValueError(f"{op}: `{name}` must have shape {shape}{shape_is}, got {a.shape}")
    if a.dtype.name != dtype:
        convert = f"use .astype(jnp.{dtype})"
        raise TypeError(f"{op}: `{name}` must be {dtype}{dtype_is}, got {a.dtype}; {advice or convert}")
    return a
