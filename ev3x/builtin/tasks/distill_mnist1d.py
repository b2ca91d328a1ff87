"""Distil a convolutional teacher into a small student, on MNIST-1D; accuracy decides."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ev3x.core.data import Arrays, Assess, Decide, Explore, Generated, Splits, Teacher, Varied
from ev3x.core.task import Data
from ev3x.values import checked_seed

from . import mnist1d, mnist1d_teacher
from .distillation import Distillation


@dataclasses.dataclass(frozen=True)
class DistillMnist1D(Distillation):
    """Distil a convolutional teacher (97.5 % test accuracy) into a small MLP or a one-dimensional ResNet.

    Batches are {"x": f32[n, 40], "y": i32[n]}; explore batches also hold {"teacher": f32[n, 10]}, its logits. The
    student explores on the 4,000 standard training examples; meta, assess and decide read an endless stream of fresh
    examples from the same distribution; the final report is on the standard 1,000 test examples. A student (100, 100)
    reaches about 65 % from labels and 69 % to 72 % from the teacher.

    Losses: "kl" is KL(teacher || student) and "reverse_kl" is KL(student || teacher), both of logits divided
    by the temperature and both times temperature**2, which keeps the size of the gradient (Hinton, Vinyals
    and Dean, arXiv 1503.02531); "labels" is the cross-entropy with the smoothed digit, without a temperature.
    The hyperparameter "teacher" says whom a divergence follows: 0 the teacher, i >= 1 batch["students"][:, i - 1].
    Needs `pip install "ev3x[examples]"`.
    """

    classes: ClassVar[int] = mnist1d.CLASSES
    dims: ClassVar[Literal[1, 2]] = 1

    teaching: Annotated[
        Literal["precomputed", "on_the_fly"],
        Doc("the teacher's logits of the plain examples, or of examples varied at random whenever they are read"),
    ] = "precomputed"

    @property
    def shape(self) -> tuple[int, ...]:
        """40 points."""
        return (mnist1d.LENGTH,)

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed; the first call on a machine trains the teacher (20 s)."""
        seed = checked_seed(seed)
        examples, teacher = mnist1d.standard(), mnist1d_teacher.load()
        keys = jax.random.split(jax.random.key(seed), 3)
        assess, decide, meta_source = (Generated(key, mnist1d.generate) for key in keys)
        train, meta = {"x": examples.x, "y": examples.y}, Explore(meta_source, self.batch_size)
        if self.teaching == "precomputed":
            explore = Explore(_on_device({**train, "teacher": teacher.logits}), self.batch_size, meta)
        else:
            settings = mnist1d_teacher.Settings()
            network = Teacher(settings, mnist1d_teacher.variables(settings, teacher.weights))
            explore = Varied(_on_device(train), self.batch_size, meta, {"teacher": network}, mnist1d_teacher.vary)
        splits = Splits(
            explore=explore,
            assess=Assess(assess),
            decide=Decide(decide),
        )
        varied = "" if self.teaching == "precomputed" else "varied at random whenever they are read, "
        about = (
            f"MNIST-1D: {len(examples.y):,} training examples, {varied}with the logits of a CNN that gets "
            f"{teacher.accuracy:.1%} of the {len(examples.y_test):,} test examples right; "
            "meta, assess and decide on fresh ones"
        )
        return Data(splits, _on_device({"x": examples.x_test, "y": examples.y_test}), about)


def _on_device(tree: dict[str, np.ndarray[Any, Any]]) -> Arrays:
    return Arrays({name: jnp.asarray(value) for name, value in tree.items()})
