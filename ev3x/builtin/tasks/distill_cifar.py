"""Distil a teacher into residual networks that grow, on CIFAR-100 from a local folder; accuracy decides."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from typing_extensions import Doc

from ev3x.component import Count
from ev3x.core.data import Arrays, Assess, Decide, Explore, Generated, Splits, Varied
from ev3x.core.task import Data
from ev3x.core.types import Array, Batch
from ev3x.values import checked_seed

from . import cifar
from .distillation import Distillation

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DistillCifar(Distillation):
    """Distil a teacher's logits into a ResNet that grows from 8 to 50 layers, on CIFAR-100 (arXiv 2310.18893).

    Without a `folder` the images are synthetic, an endless stream of 8 x 8 points in 100 classes, and the run says so.
    Batches are {"x": u8[n, 32, 32, 3], "y": i32[n]}; explore batches also hold {"teacher": f32[n, 100]}, its logits.
    Nothing is ever downloaded. A folder holds either
    - train.bin and test.bin of the binary version of CIFAR-100, and teacher_logits.npy, float[50000, 100], the
      teacher's logits of the images of train.bin in order. Explore batches are shifted and mirrored at random
      (`augment`), but the logits stay those of the plain image;
    - or images.npy u8[n, 32, 32, 3], labels.npy int[n], logits.npy float[n, 100], test_images.npy and
      test_labels.npy: images, repeated and augmented as you like, with the logits of exactly these images. The paper's
      protocol had 10,000 batches of 128. Copies of one image may fall into different splits: evidence on copies of
      what a model was trained on is weaker than it says.
    The seed says which images are kept to assess and to decide; those to decide are read again when all are spent,
    and every record then says so. Losses and hyperparameters are those of distill-mnist1d.
    Needs `pip install "ev3x[examples]"`.
    """

    classes: ClassVar[int] = cifar.CLASSES
    dims: ClassVar[Literal[1, 2]] = 2

    student: Annotated[Literal["mlp", "resnet"], Doc("a multilayer perceptron or a residual network")] = "resnet"
    filters: Annotated[Count, Doc("channels of the first stage of the student resnet")] = 16
    batch_size: Annotated[Count, Doc("examples in a training batch")] = 128
    folder: Annotated[str, Doc("where images and logits lie; none named: synthetic images")] = ""
    assess: Annotated[Count, Doc("training images kept to assess candidates")] = 2_000
    decide: Annotated[Count, Doc("training images kept to decide")] = 10_000
    augment: Annotated[bool, Doc("vary the explore images of train.bin")] = True

    @property
    def shape(self) -> tuple[int, ...]:
        """32 x 32 points of three colours, or 8 x 8 where they are synthetic."""
        return cifar.SHAPE if self.folder else cifar.SYNTHETIC

    def inputs(self, batch: Batch) -> Array:
        """The bytes, normalized: f32[n, height, width, 3]."""
        return cifar.normalized(batch["x"])

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed."""
        seed = checked_seed(seed)
        return self._read(seed, Path(os.path.expanduser(self.folder))) if self.folder else self._synthetic(seed)

    def _read(self, seed: int, folder: Path) -> Data:
        images = cifar.read(folder)
        n = len(images.x)
        if n < self.assess + self.decide + self.batch_size:
            raise ValueError(
                f"distill-cifar: {folder} has {n:,} training images, too few for assess = {self.assess:,}, "
                f"decide = {self.decide:,} and one batch of {self.batch_size:,}: lower them"
            )
        order = np.random.default_rng(seed).permutation(n)
        assess, decide, explore = np.split(order, np.cumsum([self.assess, self.decide]))
        train = _on_device(images.x, images.y, explore)
        train["teacher"] = jnp.asarray(images.logits[np.sort(explore)], jnp.float32)
        if not bool(jnp.isfinite(train["teacher"]).all()):
            raise ValueError(f"distill-cifar: {folder}: some of the teacher's logits are not finite")
        source, plain = Arrays(train), not self.augment or not (folder / "train.bin").exists()
        splits = Splits(
            explore=Explore(source, self.batch_size)
            if plain
            else Varied(source, self.batch_size, vary=cifar.shifted_and_mirrored),
            assess=Assess(Arrays(_on_device(images.x, images.y, assess))),
            decide=Decide(Arrays(_on_device(images.x, images.y, decide)), reuse=True),
        )
        about = (
            f"images of {folder}: {len(explore):,} to explore with a teacher's logits, {self.assess:,} to assess, "
            f"{self.decide:,} to decide (read again when they are spent), {len(images.x_test):,} to test"
        )
        return Data(splits, Arrays(_on_device(images.x_test, images.y_test, np.arange(len(images.y_test)))), about)

    def _synthetic(self, seed: int) -> Data:
        about = (
            "synthetic images, not CIFAR-100: 8 x 8 points, 100 made-up classes, and a made-up teacher; "
            "set the option `folder` of distill-cifar for real ones"
        )
        _log.warning("distill-cifar: %s", about)
        explore, assess, decide, test = jax.random.split(jax.random.key(seed), 4)
        splits = Splits(
            explore=Explore(Generated(explore, cifar.synthetic_taught), self.batch_size),
            assess=Assess(Generated(assess, cifar.synthetic)),
            decide=Decide(Generated(decide, cifar.synthetic)),
        )
        return Data(splits, Arrays(jax.jit(cifar.synthetic, static_argnums=1)(test, 2_000)), about)


def _on_device(
    x: npt.NDArray[np.uint8], y: npt.NDArray[np.int32], which: npt.NDArray[np.int64]
) -> dict[str, jax.Array]:
    rows = np.sort(which)  # in the order of the file
    return {"x": jnp.asarray(np.ascontiguousarray(x[rows])), "y": jnp.asarray(y[rows])}
