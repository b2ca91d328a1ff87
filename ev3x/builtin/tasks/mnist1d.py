"""The MNIST-1D examples: the standard 5,000, and any number of fresh ones.

An example is one of ten templates of 12 points, padded, stretched to 72 points, scaled, shifted round, laid
over smooth noise, then jittered, sheared and resampled at 40 points (Greydanus and Kobak, arXiv 2011.14439;
the order of the steps and the constants are those of the `mnist1d` package, version 0.0.2).
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ev3x.core.types import Array

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

CLASSES = 10
LENGTH = 40  # points of an example

_TEMPLATE = 12  # points of a template
_PADDING = 36, 60  # zeros put behind it, both ends included
_GRID = _TEMPLATE + _PADDING[1]  # points that the padded template is stretched to
_SHIFTS = 48
_SCALE, _SHEAR = 0.4, 0.75
_SMOOTH, _SMOOTH_WIDTH, _IID = 0.25, 2.0, 0.02

# `make_dataset` standardises with the mean and standard deviation of its own sample. Fresh examples must lie
# on the scale of the standard ones, so these are the raw statistics of the standard 5,000 examples x 40
# points (seed 42; a test derives them again). Other samples of 5,000 come within .001 and .0005 of them.
_MEAN, _STD = -0.0055075064312771795, 0.15467803420593054


class Examples(NamedTuple):
    """The standard MNIST-1D examples: x f32[n, 40], standardised, and y i32[n], the digit."""

    x: Floats
    y: Ints
    x_test: Floats
    y_test: Ints


@functools.cache
def standard() -> Examples:
    """The standard set: 4,000 training and 1,000 test examples, made offline in about a second and then kept.

    The arrays are read-only. `mnist1d` reseeds the global random generators of numpy and Python; their states are
    restored.
    """
    package = _mnist1d()
    with _untouched_random_state():
        made = package.make_dataset(package.get_dataset_args())
    arrays = [made["x"].astype(np.float32), made["y"].astype(np.int32)]
    arrays += [made["x_test"].astype(np.float32), made["y_test"].astype(np.int32)]
    for array in arrays:
        array.setflags(write=False)
    return Examples(*arrays)


def generate(key: Array, n: int) -> dict[str, Array]:
    """n fresh examples, {"x": f32[n, 40], "y": i32[n]}, distributed as those of `mnist1d.data.make_dataset`.

    Two differences, neither of which a single example can show: the digits are drawn uniformly, where `make_dataset`
    has the same number of each; and the scale is that of the standard set, not of the current sample. Pure in the key;
    a million examples a second on one CPU core.
    """
    tables = _tables()
    kind, size, tilt, smooth, iid = jax.random.split(key, 5)
    label, padding, shift = _choices(kind, n)
    point = (jnp.arange(_GRID, dtype=jnp.int32)[None] - shift[:, None]) % _GRID
    signal = tables.signal[label[:, None], padding[:, None], point]
    signal *= 1 + _SCALE * jax.random.uniform(size, (n, 1), jnp.float32, -0.5, 0.5)
    noise = _matmul(jax.random.normal(smooth, (n, _GRID), jnp.float32), tables.smooth)
    # Smooth noise fills only the padding: it never covers the template.
    covered = point < tables.width[padding][:, None]
    x = _matmul(jnp.where(covered, signal, noise), tables.resample)
    x += _matmul(jax.random.normal(iid, (n, LENGTH), jnp.float32), tables.iid)
    x -= _SHEAR * jax.random.uniform(tilt, (n, 1), jnp.float32, -0.5, 0.5) * tables.ramp[None]
    return {"x": (x - _MEAN) / _STD, "y": label}


def _choices(key: Array, n: int) -> tuple[Array, Array, Array]:
    total = CLASSES * (_PADDING[1] - _PADDING[0] + 1) * _SHIFTS
    index = jax.random.randint(key, (n,), 0, total, jnp.int32)
    index, shift = jnp.divmod(index, _SHIFTS)
    label, padding = jnp.divmod(index, _PADDING[1] - _PADDING[0] + 1)
    return label, padding, shift


class _Tables(NamedTuple):
    signal: Array  # f32[10, 25, 72], the stretched template for each digit and padding
    width: Array  # i32[25], how many of the 72 points belong to the template
    smooth: Array  # f32[72, 72], white noise times this is smooth noise
    resample: Array  # f32[72, 40], linear interpolation
    iid: Array  # f32[40, 40], a factor of the covariance of resampled white noise
    ramp: Array  # f32[40]


def _tables() -> _Tables:
    return _Tables(*map(jnp.asarray, _host_tables()))


@functools.cache
def _host_tables() -> tuple[npt.NDArray[Any], ...]:
    # `make_dataset` adds this to the template, so that its own zeros do not count as padding.
    templates = _mnist1d().get_templates()["x"] + 1e-8
    paddings = range(_PADDING[0], _PADDING[1] + 1)
    signal = np.stack([[_stretch(np.pad(t, (0, p)), _GRID) for p in paddings] for t in templates])
    width = (signal[0] != 0).sum(axis=1)
    resample = np.stack([_stretch(row, LENGTH) for row in np.eye(_GRID)])
    # 40 normals with the right covariance replace 72 that would then be resampled.
    iid = _IID * np.linalg.cholesky(resample.T @ resample).T
    floats = (_SMOOTH * _gaussian_filter(_GRID, _SMOOTH_WIDTH), resample, iid, np.linspace(-0.5, 0.5, LENGTH))
    return (signal.astype(np.float32), width.astype(np.int32), *(a.astype(np.float32) for a in floats))


def _stretch(values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(values)), values)


def _gaussian_filter(n: int, width: float) -> npt.NDArray[np.float64]:
    """The n x n matrix of a Gaussian filter, cut off at 4 widths and reflecting at the ends (b a | a b)."""
    radius = int(4 * width + 0.5)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (offset / width) ** 2)
    source = (np.arange(n)[:, None] + offset) % (2 * n)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], np.minimum(source, 2 * n - 1 - source)), weight / weight.sum())
    return matrix.T


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _mnist1d() -> Any:
    # Imported only when needed: it brings matplotlib and requests with it.
    try:
        import mnist1d.data
    except ImportError as error:
        message = f'MNIST-1D needs a package that is missing ({error}): pip install "ev3x[examples]"'
        raise ImportError(message) from error
    return mnist1d.data


@contextlib.contextmanager
def _untouched_random_state() -> Iterator[None]:
    before = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
