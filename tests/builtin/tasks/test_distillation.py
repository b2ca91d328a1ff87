"""What distillation tasks share: students of both kinds, the choice of a teacher, and the metrics."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ev3x.builtin.tasks.distill_cifar import DistillCifar
from ev3x.builtin.tasks.distill_digits import DistillDigits
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D
from ev3x.component import OptionError
from ev3x.core.task import score

pytestmark = pytest.mark.loose_types("flax mixes integers and floats")

SMALL = {"student": "resnet", "blocks": (1, 1), "filters": 2}
STUDENTS = {
    "mnist1d-mlp": DistillMnist1D(hidden=(5,)),
    "mnist1d-resnet": DistillMnist1D(**SMALL),
    "mnist1d-nnx": DistillMnist1D(**SMALL, framework="nnx"),
    "digits-resnet": DistillDigits(**SMALL),
    "cifar-resnet": DistillCifar(**SMALL),
}
LARGE = {"digits-resnet", "cifar-resnet"}  # two dimensions take longer to compile
TASKS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LARGE else []) for name in STUDENTS]
)


def batch_of(task, n=12):
    keys = jax.random.split(jax.random.key(1), 4)
    x = jax.random.uniform(keys[0], (n, *task.shape))
    return {
        "x": (255 * x).astype(jnp.uint8) if isinstance(task, DistillCifar) else x,
        "y": jnp.arange(n, dtype=jnp.int32),
        "teacher": jax.random.normal(keys[1], (n, task.classes)),
        "students": jax.random.normal(keys[2], (n, 2, task.classes)),
    }


@functools.cache
def start(name):
    return jax.jit(STUDENTS[name].init)(jax.random.key(0))


@TASKS
def test_a_loss_moves_batch_statistics_and_nothing_else_and_predictions_move_nothing(name):
    task, variables = STUDENTS[name], start(name)
    batch = batch_of(task)
    each, moved = jax.jit(lambda v: task.loss("kl", v, batch, jax.random.key(0), {}))(variables)
    assert (
        each.shape == (12,) and np.isfinite(each).all() and jax.tree.structure(moved) == jax.tree.structure(variables)
    )
    same = {c: all(jax.tree.leaves(jax.tree.map(np.array_equal, moved[c], variables[c]))) for c in variables}
    assert same == ({"params": True, "batch_stats": False} if task.student == "resnet" else {"params": True})
    logits = task.predict(variables, batch)
    assert logits.shape == (12, task.classes)
    # Running statistics: what else is in the batch makes no difference.
    np.testing.assert_allclose(logits[:5], task.predict(variables, {"x": batch["x"][:5]}), rtol=1e-5, atol=1e-5)


@TASKS
def test_growth_is_that_of_the_student_and_its_options_are_written_back(name):
    task, variables = STUDENTS[name], start(name)
    batch = batch_of(task)
    assert task.growths == task.network.growths
    how = task.growths[-1]
    larger, grown = task.grow(how, jax.random.key(2), variables)
    assert larger.network == task.network.larger(how) and type(larger) is type(task)
    np.testing.assert_allclose(larger.predict(grown, batch), task.predict(variables, batch), atol=1e-5)
    assert type(task).build(larger.to_config()) == larger


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(("teacher", "of"), [(0.0, 0), (1.0, 1), (2.0, 2), (1.4, 1), (3.0, None), (-1.0, None)])
def test_the_teacher_is_the_one_that_was_asked_for_or_nan(teacher, of, traced):
    task, variables = STUDENTS["mnist1d-mlp"], start("mnist1d-mlp")
    batch = batch_of(task)
    loss = lambda t, b: task.loss("kl", variables, b, jax.random.key(0), {"teacher": t})[0]  # noqa: E731
    got = jax.jit(loss)(jnp.float32(teacher), batch) if traced else loss(teacher, batch)
    if of is None:
        assert np.isnan(got).all()
    else:
        logits = [batch["teacher"], batch["students"][:, 0], batch["students"][:, 1]][of]
        np.testing.assert_allclose(got, loss(0.0, {**batch, "teacher": logits}), rtol=1e-6)


def test_without_archived_students_only_teacher_0_is_known():
    task, variables = STUDENTS["mnist1d-mlp"], start("mnist1d-mlp")
    batch = batch_of(task)
    del batch["students"]
    loss = lambda t: task.loss("kl", variables, batch, jax.random.key(0), {"teacher": t})[0]  # noqa: E731
    assert np.isnan(loss(1.0)).all() and np.array_equal(loss(jnp.float32(0.0)), loss(0.0))


def test_metrics_are_those_that_were_asked_for_in_order():
    names = ("calibration_error", "parameters", "brier", "accuracy", "cross_entropy")
    task = DistillDigits(hidden=(5,), measure=names)
    variables = task.init(jax.random.key(0))
    assert tuple(m.name for m in task.metrics) == names
    assert task == DistillDigits.build(task.to_config()) and hash(task.metrics) == hash(task.metrics)
    scores = np.asarray(score(task, variables, batch_of(task)))
    assert (scores[1] == 64 * 5 + 5 + 5 * 10 + 10).all() and not task.metrics[1].maximize
    assert np.unique(scores[0]).size == 1 and np.unique(scores[2]).size == 12
    assert task.grow("widen", jax.random.key(0), variables)[0].metrics[1] != task.metrics[1]


@pytest.mark.parametrize(("options", "message"), [
    ({"student": "resnet", "hidden": (3,)}, "hidden: is an option of student = 'mlp', but student is 'resnet'"),
    ({"blocks": (2, 2), "filters": 3}, "blocks: is an option of student = 'resnet'.*filters: is an option"),
    ({"measure": ("accuracy", "accuracy")}, "measure: names a metric twice"),
    ({"measure": ()}, "measure"),
    ({"measure": ("f1",)}, r"measure\[0\]: must be 'accuracy', "),
    ({"student": "cnn"}, "student: must be 'mlp' or 'resnet'"),
    ({"student": "resnet", "blocks": ()}, "blocks"),
])  # fmt: skip
def test_options_that_cannot_be_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DistillMnist1D(**options)


def test_modules_need_neither_flax_nor_scikit_learn_until_used():
    code = (
        "import sys; from ev3x.builtin.plugin import ev3x_tasks;"
        "[o.component().metrics for o in ev3x_tasks()];"
        "print(sorted({'flax', 'mnist1d', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'flax'" not in done.stdout and "sklearn" not in done.stdout, done.stdout
