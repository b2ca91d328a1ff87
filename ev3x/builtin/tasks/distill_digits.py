"""Distil a support vector machine into a small student, on 1,797 real scans of digits; accuracy decides."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from typing_extensions import Doc

from ev3x.component import Count, Kit
from ev3x.core.data import Arrays, Assess, Decide, Explore, Splits
from ev3x.core.task import Data
from ev3x.values import checked_seed

from .digits import scans
from .distillation import Distillation

# How many scans explore, assess and decide get; what is left is the test set.
EXPLORE, ASSESS, DECIDE = 900, 300, 300


@dataclasses.dataclass(frozen=True)
class DistillDigits(Distillation):
    """Distil a support vector machine into a small MLP or a ResNet, on scikit-learn's scans of digits.

    Batches are {"x": f32[n, 8, 8] in [0, 1], "y": i32[n]}; explore batches also hold {"teacher": f32[n, 10]}. The 1,797
    scans are divided by the seed: 900 to explore, 300 to assess, 300 to decide, 297 for the test. These are soon spent:
    decide then reads them again, and every record says so. A round of the default method reads 8,192 scans to confirm:
    set confirm.block = 300 and confirm.blocks = 1, as examples/distill_digits.toml does.

    The teacher is no JAX model: scikit-learn's SVC with an RBF kernel, fitted to the explore scans. Its logits there
    are its decision function, one value a class, which counts the pairwise duels that the class wins, ties broken by
    confidence: their order means something, their scale little, so try temperatures. Losses and hyperparameters are
    those of distill-mnist1d.
    Needs `pip install "ev3x[examples]"`.
    """

    classes: ClassVar[int] = 10
    dims: ClassVar[Literal[1, 2]] = 2

    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer of the student mlp")] = (32,)

    kit = Kit({"hidden": [8]})

    @property
    def shape(self) -> tuple[int, ...]:
        """8 x 8 points."""
        return (8, 8)

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed."""
        seed = checked_seed(seed)
        x, y = scans()
        order = np.random.default_rng(seed).permutation(len(y))
        explore, assess, decide, test = np.split(order, np.cumsum([EXPLORE, ASSESS, DECIDE]))
        logits, accuracy = _teach(x[explore], y[explore], x[test], y[test])
        splits = Splits(
            explore=Explore(_on_device(x[explore], y[explore], teacher=logits), self.batch_size),
            assess=Assess(_on_device(x[assess], y[assess])),
            decide=Decide(_on_device(x[decide], y[decide]), reuse=True),
        )
        about = (
            f"scikit-learn's digits: {len(explore)} training scans with the decision function of an SVM that gets "
            f"{accuracy:.1%} of the {len(test)} test scans right; {len(decide)} to decide on, read again and again"
        )
        return Data(splits, _on_device(x[test], y[test]), about)


def _on_device(x: npt.NDArray[Any], y: npt.NDArray[Any], **more: npt.NDArray[Any]) -> Arrays:
    return Arrays({name: jnp.asarray(value) for name, value in {"x": x, "y": y, **more}.items()})


def _teach(
    x: npt.NDArray[Any], y: npt.NDArray[Any], x_test: npt.NDArray[Any], y_test: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float32], float]:
    """The teacher's logits f32[n, 10] for the scans it was fitted to, and its test accuracy."""
    from sklearn.svm import SVC

    teacher = SVC(kernel="rbf", C=10.0, gamma="scale").fit(x.reshape(len(x), -1), y)
    logits = teacher.decision_function(x.reshape(len(x), -1)).astype(np.float32)
    return logits, float(teacher.score(x_test.reshape(len(x_test), -1), y_test))
