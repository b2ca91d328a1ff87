"""Distil a convolutional teacher into a small multilayer perceptron, on MNIST-1D; accuracy decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import Doc

from ev3x.component import Count, unknown
from ev3x.data import Arrays, Assess, Data, Decide, Explore, Generated, Splits
from ev3x.task import Metric, Task

from . import mnist1d, mnist1d_teacher

if TYPE_CHECKING:
    import flax.linen as nn

Array = jax.Array
Batch = dict[str, Array]
Variables = Any


@dataclasses.dataclass(frozen=True)
class DistillMnist1D(Task):
    """Distil a convolutional teacher (97.5 % test accuracy) into a small MLP.

    Batches are {"x": f32[n, 40], "y": i32[n]}; explore batches also hold {"teacher": f32[n, 10]}, its logits.
    The student explores on the 4,000 standard training examples; meta, assess and decide read fresh examples from
    the same distribution, of which there is no end; the final report is on the standard 1,000 test examples.
    A student (100, 100) reaches about 65 % from labels and 69 % to 72 % from the teacher.

    Losses: "kl" is KL(teacher || student) and "reverse_kl" is KL(student || teacher), both of logits divided
    by the temperature and both times temperature**2, which keeps the size of the gradient (Hinton, Vinyals
    and Dean, arXiv 1503.02531); "labels" is the cross-entropy with the smoothed digit, without a temperature.
    Needs `pip install "ev3x[examples]"`.
    """

    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer of the student")] = (100, 100)
    batch_size: Annotated[Count, Doc("examples in a training batch")] = 64

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy, which decides, and cross-entropy with the digit in nats."""
        return (
            Metric("accuracy", _correct, binary=True),
            Metric("cross_entropy", _surprise, low=0.0, maximize=False),
        )

    @property
    def losses(self) -> tuple[str, ...]:
        """ "kl", "reverse_kl" and "labels"."""
        return tuple(_LOSSES)

    @property
    def hypers(self) -> Mapping[str, float]:
        """The temperature of both divergences, and the share of "labels" that is spread over all digits."""
        return {"temperature": 1.0, "label_smoothing": 0.0}

    def init(self, key: Array) -> Variables:
        """A fresh student: {"params": ...}."""
        return self._student().init(key, jnp.zeros((1, mnist1d.LENGTH), jnp.float32))

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        """The loss of each example, f32[n], in nats (x temperature**2), and the variables as they came."""
        if name not in _LOSSES:
            raise ValueError(unknown("loss", name, _LOSSES))
        return _LOSSES[name](self.predict(variables, batch), batch, {**self.hypers, **hypers}), variables

    def predict(self, variables: Variables, batch: Batch) -> Array:
        """The student's logits, f32[n, 10]."""
        return jnp.asarray(self._student().apply(variables, batch["x"]))

    def load(self, seed: int) -> Data:
        """The splits of the run with this seed; the first call on a machine trains the teacher (20 s)."""
        examples, teacher = mnist1d.standard(), mnist1d_teacher.load()
        keys = jax.random.split(jax.random.key(seed), 3)
        assess, decide, meta = (Generated(key, mnist1d.generate) for key in keys)
        train = {"x": examples.x, "y": examples.y, "teacher": teacher.logits}
        splits = Splits(
            explore=Explore(_on_device(train), self.batch_size, meta=Explore(meta, self.batch_size)),
            assess=Assess(assess),
            decide=Decide(decide),
        )
        about = (
            f"MNIST-1D: {len(examples.y):,} training examples with the logits of a CNN that gets "
            f"{teacher.accuracy:.1%} of the {len(examples.y_test):,} test examples right; "
            "meta, assess and decide on fresh ones"
        )
        return Data(splits, _on_device({"x": examples.x_test, "y": examples.y_test}), about)

    @property
    def growths(self) -> tuple[str, ...]:
        """ "widen" doubles every hidden layer; "deepen" adds one as wide as the last."""
        return ("widen", "deepen") if self.hidden else ()

    def grow(self, how: str, key: Array, variables: Variables) -> tuple[Task, Variables]:
        """The larger student that computes the same: new units feed nothing yet, a new layer is the identity."""
        layers = [variables["params"][name] for name in sorted(variables["params"], key=_number)]
        if how == "widen":
            hidden = tuple(2 * width for width in self.hidden)
            layers = _widened(key, layers)
        else:
            hidden = (*self.hidden, self.hidden[-1])
            identity = {"kernel": jnp.eye(self.hidden[-1]), "bias": jnp.zeros(self.hidden[-1])}
            layers = [*layers[:-1], identity, layers[-1]]
        params = {f"layers_{2 * i}": layer for i, layer in enumerate(layers)}
        return dataclasses.replace(self, hidden=hidden), {**variables, "params": params}

    def _student(self) -> nn.Module:
        import flax.linen as nn

        layers: list[Any] = []
        for width in self.hidden:
            layers += [nn.Dense(width), nn.relu]
        return nn.Sequential([*layers, nn.Dense(mnist1d.CLASSES)])


def _number(name: str) -> int:
    return int(name.removeprefix("layers_"))


def _widened(key: Array, layers: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """Every hidden layer with twice the units: the new ones have random inputs, and outputs of weight 0."""
    wider, new = [], 0
    for i, layer in enumerate(layers):
        kernel, bias = layer["kernel"], layer["bias"]
        if i:
            kernel = jnp.concatenate([kernel, jnp.zeros((new, kernel.shape[1]), kernel.dtype)])
        if i < len(layers) - 1:
            new = kernel.shape[1]
            scale = kernel.shape[0] ** -0.5
            fresh = scale * jax.random.normal(jax.random.fold_in(key, i), (kernel.shape[0], new), kernel.dtype)
            kernel, bias = jnp.concatenate([kernel, fresh], axis=1), jnp.concatenate([bias, jnp.zeros_like(bias)])
        wider.append({"kernel": kernel, "bias": bias})
    return wider


def _on_device(tree: dict[str, np.ndarray[Any, Any]]) -> Arrays:
    return Arrays({name: jnp.asarray(value) for name, value in tree.items()})


def _correct(logits: Array, batch: Batch) -> Array:
    return jnp.argmax(logits, axis=-1) == batch["y"]


def _surprise(logits: Array, batch: Batch) -> Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, batch["y"][:, None], axis=-1)[:, 0]


def _kl(logits: Array, batch: Batch, hypers: Mapping[str, Any]) -> Array:
    student, teacher = _tempered(logits, batch, hypers)
    return _square(hypers["temperature"]) * _divergence(teacher, student)


def _reverse_kl(logits: Array, batch: Batch, hypers: Mapping[str, Any]) -> Array:
    student, teacher = _tempered(logits, batch, hypers)
    return _square(hypers["temperature"]) * _divergence(student, teacher)


def _labels(logits: Array, batch: Batch, hypers: Mapping[str, Any]) -> Array:
    # The cross-entropy is linear in the target, so smoothing mixes it with that of the uniform target.
    smoothing = jnp.asarray(hypers["label_smoothing"], jnp.float32)
    uniform = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
    return (1 - smoothing) * _surprise(logits, batch) + smoothing * uniform


_LOSSES = {"kl": _kl, "reverse_kl": _reverse_kl, "labels": _labels}


def _tempered(logits: Array, batch: Batch, hypers: Mapping[str, Any]) -> tuple[Array, Array]:
    """Log-probabilities of student and teacher, f32[n, 10]."""
    if "teacher" not in batch:
        raise ValueError(
            f"a distillation loss reads the logits batch['teacher'], but the batch has only {sorted(batch)}: "
            "train on the explore split, or use the loss 'labels'"
        )
    temperature = jnp.asarray(hypers["temperature"], jnp.float32)
    return jax.nn.log_softmax(logits / temperature), jax.nn.log_softmax(batch["teacher"] / temperature)


def _divergence(p: Array, q: Array) -> Array:
    return jnp.sum(jnp.exp(p) * (p - q), axis=-1)


def _square(temperature: Any) -> Array:
    return jnp.square(jnp.asarray(temperature, jnp.float32))
