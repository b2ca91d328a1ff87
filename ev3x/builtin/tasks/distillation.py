"""The base of the distillation tasks: the students, the losses that follow a teacher, and the metrics."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from annotated_types import Len
from typing_extensions import Doc

from ev3x import metrics as measures
from ev3x.component import Count, Fault, unknown
from ev3x.core.task import Metric, Task
from ev3x.core.types import Array, Batch, Variables
from ev3x.networks import MLP, Network, ResNet

_METRICS = {
    "accuracy": Metric("accuracy", measures.accuracy, binary=True),
    "cross_entropy": Metric("cross_entropy", measures.cross_entropy, low=0.0, maximize=False),
    "brier": Metric("brier", measures.brier, low=0.0, high=2.0, maximize=False),
    "calibration_error": Metric(
        "calibration_error", measures.calibration_error, kind="set", low=0.0, high=1.0, maximize=False
    ),
}
Measure = Literal["accuracy", "cross_entropy", "brier", "calibration_error", "parameters"]


@dataclasses.dataclass(frozen=True)
class Distillation(Task):
    """Distil a teacher, known by its logits, into a student that can grow.

    Explore batches are {"x": inputs, "y": i32[n], "teacher": f32[n, classes]}, the teacher's logits; others need no
    teacher. Batches may also hold the logits of further teachers, {"students": f32[n, S, classes]}.

    Losses: "kl" is KL(teacher || student) and "reverse_kl" is KL(student || teacher), both of logits divided
    by the temperature and both times temperature**2, which keeps the size of the gradient (Hinton, Vinyals
    and Dean, arXiv 1503.02531); "labels" is the cross-entropy with the smoothed label, without a temperature.
    """

    classes: ClassVar[int] = 10
    dims: ClassVar[Literal[1, 2]] = 2

    student: Annotated[Literal["mlp", "resnet"], Doc("a multilayer perceptron or a residual network")] = "mlp"
    hidden: Annotated[tuple[Count, ...], Doc("units of each hidden layer of the student mlp")] = (100, 100)
    blocks: Annotated[tuple[Count, ...], Len(1), Doc("blocks of each stage of the student resnet")] = (1, 1, 1)
    filters: Annotated[Count, Doc("channels of the first stage of the student resnet")] = 8
    framework: Annotated[Literal["linen", "nnx"], Doc("which of Flax's two kinds of modules runs it")] = "linen"
    measure: Annotated[tuple[Measure, ...], Len(1), Doc("the metrics; the first decides")] = (
        "accuracy",
        "cross_entropy",
    )
    batch_size: Annotated[Count, Doc("examples in a training batch")] = 64

    def check(self) -> list[Fault]:
        """Faults of the options: a metric named twice, or an option of a student that was not chosen."""
        faults = [Fault(("measure",), "names a metric twice")] if len(set(self.measure)) < len(self.measure) else []
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for owner, names in (("mlp", ("hidden",)), ("resnet", ("blocks", "filters"))):
            faults += [
                Fault((name,), f"is an option of student = {owner!r}, but student is {self.student!r}")
                for name in names
                if owner != self.student and getattr(self, name) != defaults[name]
            ]
        return faults

    @property
    def network(self) -> Network:
        """The student's architecture."""
        if self.student == "mlp":
            return MLP(self.hidden, self.classes, framework=self.framework)
        return ResNet(self.blocks, self.filters, self.classes, self.dims, framework=self.framework)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        raise NotImplementedError

    def inputs(self, batch: Batch) -> Array:
        """The student's inputs from a batch."""
        return batch["x"]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics in `measure`: by default accuracy, which decides, and cross-entropy with the label in nats.

        "brier" is the squared distance from the label, "calibration_error" the expected calibration error of each
        block, "parameters" the number of parameters of the student; smaller is better.
        """
        return tuple(_METRICS.get(name) or _size(self.network, self.shape) for name in self.measure)

    @property
    def losses(self) -> tuple[str, ...]:
        """ "kl", "reverse_kl" and "labels"."""
        return tuple(_LOSSES)

    @property
    def hypers(self) -> Mapping[str, float]:
        """The temperature and the teacher of both divergences, and the share of "labels" spread over all classes.

        Teacher 0 is batch["teacher"], teacher i is batch["students"][:, i - 1] (a number between two is rounded).
        Where a batch has no such student the loss is NaN, so that the candidate is not eligible.
        """
        return {"temperature": 1.0, "label_smoothing": 0.0, "teacher": 0.0}

    def init(self, key: Array) -> Variables:
        """A fresh student: {"params": ...}, and {"batch_stats": ...} where there is batch normalization."""
        return self.network.init(key, jnp.zeros((1, *self.shape)))

    def loss(
        self, name: str, variables: Variables, batch: Batch, key: Array, hypers: Mapping[str, Any]
    ) -> tuple[Array, Variables]:
        """The loss of each example, f32[n], in nats (x temperature**2), and the variables with moved statistics."""
        if name not in _LOSSES:
            raise ValueError(unknown("loss", name, _LOSSES))
        logits, variables = self.network.apply(variables, self.inputs(batch), train=True)
        return _LOSSES[name](logits, batch, {**self.hypers, **hypers}), variables

    def predict(self, variables: Variables, batch: Batch) -> Array:
        """The student's logits, f32[n, classes]."""
        return self.network.apply(variables, self.inputs(batch))[0]

    @property
    def growths(self) -> tuple[str, ...]:
        """The growths of the student: "widen" and "deepen", or "widen", "deepen_one" and "deepen_all"."""
        return self.network.growths

    def grow(self, how: str, key: Array, variables: Variables) -> tuple[Task, Variables]:
        """The task with the larger student, and variables with which it computes the same function."""
        larger, variables = self.network.grow(how, key, variables)
        names = ("hidden",) if self.student == "mlp" else ("blocks", "filters")
        return dataclasses.replace(self, **{name: getattr(larger, name) for name in names}), variables


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
    return (1 - smoothing) * measures.cross_entropy(logits, batch) + smoothing * uniform


_LOSSES = {"kl": _kl, "reverse_kl": _reverse_kl, "labels": _labels}


def _tempered(logits: Array, batch: Batch, hypers: Mapping[str, Any]) -> tuple[Array, Array]:
    """Log-probabilities of student and teacher, f32[n, classes]."""
    temperature = jnp.asarray(hypers["temperature"], jnp.float32)
    teacher = _teacher(batch, hypers["teacher"])
    return jax.nn.log_softmax(logits / temperature), jax.nn.log_softmax(teacher / temperature)


def _teacher(batch: Batch, which: Any) -> Array:
    """The logits of teacher 0, or of student 1, 2, ...; NaN where there is none."""
    if "teacher" not in batch:
        raise ValueError(
            f"a distillation loss reads the logits batch['teacher'], but the batch has only {sorted(batch)}: "
            "train on the explore split, or use the loss 'labels'"
        )
    first = batch["teacher"]
    if isinstance(which, int | float) and which == 0:
        return first
    known = [first[:, None], batch["students"]] if "students" in batch else [first[:, None]]
    index = jnp.round(jnp.asarray(which, jnp.float32)).astype(jnp.int32)
    index = jnp.where(index < 0, 2**31 - 1, index)  # below 0 it would count from the end
    return jnp.take(jnp.concatenate(known, axis=1), index, axis=1, mode="fill", fill_value=jnp.nan)


def _divergence(p: Array, q: Array) -> Array:
    return jnp.sum(jnp.exp(p) * (p - q), axis=-1)


def _square(temperature: Any) -> Array:
    return jnp.square(jnp.asarray(temperature, jnp.float32))


@functools.lru_cache(maxsize=64)
def _size(network: Network, shape: tuple[int, ...]) -> Metric:
    count = network.parameters(jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return Metric("parameters", measures.Constant(float(count)), low=0.0, maximize=False, constant=True)
