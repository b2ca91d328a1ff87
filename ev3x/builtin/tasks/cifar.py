"""CIFAR-100 and a teacher's logits from a local folder, or synthetic images in their place."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ev3x.core.types import Array, Batch

CLASSES, SHAPE = 100, (32, 32, 3)
SYNTHETIC = (8, 8, 3)

_RECORD = 2 + 3072  # a coarse label, a fine label, red, green and blue rows
_MEAN, _STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # of the training images
_SPREAD = 0.63  # of the templates, in standard deviations of the noise: nearly 9 of 10 images can be classified
_DOUBT = 1.0  # standard deviation of the noise on the teacher's logits


class Images(NamedTuple):
    """Training images u8[n, 32, 32, 3] with labels i32[n] and logits [n, 100], and test images. On disk until read."""

    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int32]
    logits: npt.NDArray[Any]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int32]


def read(folder: Path) -> Images:
    """The images of a folder in one of the two forms, or an error that names the file at fault."""
    if not folder.is_dir():
        raise ValueError(f"distill-cifar: there is no folder {folder}")
    if (folder / "train.bin").exists():
        (x, y), (x_test, y_test) = (_records(folder / f"{part}.bin") for part in ("train", "test"))
        logits = folder / "teacher_logits.npy"
    elif (folder / "images.npy").exists():
        (x, y), (x_test, y_test) = (_pair(folder, prefix) for prefix in ("", "test_"))
        logits = folder / "logits.npy"
    else:
        raise ValueError(
            f"distill-cifar: {folder} has neither train.bin (the binary version of CIFAR-100, with test.bin and "
            "teacher_logits.npy) nor images.npy (with labels.npy, logits.npy, test_images.npy and test_labels.npy)"
        )
    return Images(x, y, _array(logits, (len(x), CLASSES), "f", "the teacher's logits"), x_test, y_test)


def normalized(x: Array) -> Array:
    """Bytes, normalized per channel to mean about 0 and variance about 1."""
    mean, std = (jnp.asarray(v, jnp.float32).reshape((1,) * (x.ndim - 1) + (3,)) for v in (_MEAN, _STD))
    return (x.astype(jnp.float32) / 255 - mean) / std


def shifted_and_mirrored(key: Array, batch: Batch) -> Batch:
    """The batch with each image shifted by up to 4 points (filled up with black), and half of them mirrored."""
    n, height, width, _ = batch["x"].shape
    first, second = jax.random.split(key)
    rows, columns = jax.random.randint(first, (2, n, 1), 0, 9, jnp.int32)
    x = jnp.pad(batch["x"], ((0, 0), (4, 4), (4, 4), (0, 0)))
    y = rows + jnp.arange(height, dtype=jnp.int32)[None]
    across = jnp.arange(width, dtype=jnp.int32)[None]
    across = columns + jnp.where(jax.random.bernoulli(second, shape=(n, 1)), across, width - 1 - across)
    x = jnp.take_along_axis(jnp.take_along_axis(x, y[:, :, None, None], axis=1), across[:, None, :, None], axis=2)
    return {**batch, "x": x}


def synthetic(key: Array, n: int) -> Batch:
    """n synthetic images: {"x": u8[n, 8, 8, 3], "y": i32[n]}."""
    batch = synthetic_taught(key, n)
    return {name: batch[name] for name in ("x", "y")}


def synthetic_taught(key: Array, n: int) -> Batch:
    """n synthetic images with the logits of a teacher, f32[n, 100].

    A class is a template of 4 x 4 patches in three colours; an image is its template and noise, patch by patch. The
    teacher knows the templates: its logits are those of the exact posterior, with noise of their own.
    """
    kind, patches, doubt = jax.random.split(key, 3)
    templates = jnp.asarray(_templates())
    y = jax.random.randint(kind, (n,), 0, CLASSES, jnp.int32)
    z = templates[y] + jax.random.normal(patches, (n, templates.shape[1]), jnp.float32)
    logits = jnp.matmul(z, templates.T, precision=jax.lax.Precision.HIGHEST) - jnp.square(templates).sum(1)[None] / 2
    logits += _DOUBT * jax.random.normal(doubt, logits.shape, jnp.float32)
    x = jnp.clip(jnp.round(127.5 + 40 * z), 0, 255).astype(jnp.uint8).reshape(n, 4, 4, 3)
    return {"x": x.repeat(2, axis=1).repeat(2, axis=2), "y": y, "teacher": logits}


@functools.cache
def _templates() -> npt.NDArray[np.float32]:
    return (_SPREAD * np.random.default_rng(100).normal(size=(CLASSES, 48))).astype(np.float32)


def _records(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Images and fine labels of CIFAR-100's binary version."""
    _there(path)
    size = path.stat().st_size
    if size == 0 or size % _RECORD:
        raise ValueError(f"distill-cifar: {path} must hold records of {_RECORD:,} bytes, got a file of {size:,} bytes")
    raw = np.memmap(path, np.uint8, mode="r").reshape(-1, _RECORD)
    images = raw[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, _labels(path, raw[:, 1])


def _pair(folder: Path, prefix: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Images and labels of arrays."""
    images = _array(folder / f"{prefix}images.npy", (None, *SHAPE), "u", "images")
    path = folder / f"{prefix}labels.npy"
    return images, _labels(path, _array(path, (len(images),), "iu", "labels"))


def _labels(path: Path, found: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    labels = np.asarray(found).astype(np.int32)
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError(
            f"distill-cifar: {path}: labels must be 0 ... {CLASSES - 1}, got {labels.min()} ... {labels.max()}"
        )
    return labels


def _array(path: Path, shape: tuple[int | None, ...], kinds: str, what: str) -> npt.NDArray[Any]:
    """The array of an .npy file, left on disk; None in the shape stands for any number but 0."""
    _there(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged file fails in too many ways to name
        raise ValueError(f"distill-cifar: {path} is no readable .npy file: {error}") from error
    fits = len(shape) == found.ndim and all(
        have == want if want is not None else have > 0 for have, want in zip(found.shape, shape, strict=True)
    )
    if not fits or found.dtype.kind not in kinds or (kinds == "u" and found.dtype.itemsize != 1):
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        types = {"u": "uint8", "f": "float", "iu": "int"}[kinds]
        raise ValueError(
            f"distill-cifar: {path} must hold {what}, {types}[{wanted}], got {found.dtype}{list(found.shape)}"
        )
    return found


def _there(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"distill-cifar: {path} is missing")
