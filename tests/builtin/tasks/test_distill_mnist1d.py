"""The task: its losses against float64, its data, and that equal tasks are one program."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import pytest
from scipy import special

from ev3x.builtin.tasks import mnist1d, mnist1d_teacher
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D
from ev3x.builtin.tasks.mnist1d_teacher import Teacher
from ev3x.component import OptionError
from ev3x.core.data import Arrays, Splits
from ev3x.core.task import Data, score

TASK = DistillMnist1D(hidden=(7, 5))
Floats = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A teacher that trains in no time and knows nothing, in place of the full one."""
    monkeypatch.setenv("EV3X_CACHE", str(tmp_path_factory.getbasetemp() / "small"))
    settings = functools.partial(mnist1d_teacher.Settings, channels=(2,), steps=3, batch_size=8)
    monkeypatch.setattr(mnist1d_teacher, "Settings", settings)
    return mnist1d_teacher.load()


@pytest.fixture
def data(small: Teacher) -> Data:
    return TASK.load(3)


@pytest.fixture
def batch() -> dict[str, Any]:
    made = mnist1d.generate(jax.random.key(1), 33)
    return {**made, "teacher": 4 * jax.random.normal(jax.random.key(2), (33, 10), np.float32)}


def _kl(p: Floats, q: Floats) -> Floats:
    """KL(p || q) of log-probabilities."""
    return np.asarray(special.rel_entr(np.exp(p), np.exp(q)).sum(axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("name", "oracle"), [("kl", lambda t, s: _kl(t, s)), ("reverse_kl", lambda t, s: _kl(s, t))])
def test_divergences(
    batch: dict[str, Any], name: str, oracle: Callable[[Floats, Floats], Floats], temperature: float
) -> None:
    variables = TASK.init(jax.random.key(0))
    got, same = TASK.loss(name, variables, batch, jax.random.key(0), {"temperature": temperature})
    teacher, student = (
        special.log_softmax(np.asarray(x, np.float64) / temperature, axis=1)
        for x in (batch["teacher"], TASK.predict(variables, batch))
    )
    assert same is variables
    assert got.shape == (33,) and got.dtype == np.float32
    assert np.asarray(got) == pytest.approx(temperature**2 * oracle(teacher, student), rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_labels(batch: dict[str, Any], smoothing: float) -> None:
    variables = TASK.init(jax.random.key(0))
    got, _ = TASK.loss("labels", variables, batch, jax.random.key(0), {"label_smoothing": smoothing})
    target = (1 - smoothing) * np.eye(10)[np.asarray(batch["y"])] + smoothing / 10
    student = special.log_softmax(np.asarray(TASK.predict(variables, batch), np.float64), axis=1)
    assert np.asarray(got) == pytest.approx(-(target * student).sum(axis=1), rel=1e-5)


@pytest.mark.parametrize("name", TASK.losses)
def test_gradients_are_finite_even_where_the_teacher_is_certain(batch: dict[str, Any], name: str) -> None:
    certain = {**batch, "teacher": 200 * batch["teacher"]}

    def mean(variables: Any, hypers: dict[str, Any]) -> Any:
        return TASK.loss(name, variables, certain, jax.random.key(0), hypers)[0].mean()

    defaults = {k: np.float32(v) for k, v in TASK.hypers.items()}
    gradients = jax.jit(jax.grad(mean, argnums=(0, 1)))(TASK.init(jax.random.key(0)), defaults)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert optax.tree.norm(gradients[0]) > 0


def test_missing_hypers_are_the_defaults(batch: dict[str, Any]) -> None:
    variables = TASK.init(jax.random.key(0))
    for name in TASK.losses:
        bare, full = (TASK.loss(name, variables, batch, jax.random.key(0), h)[0] for h in ({}, TASK.hypers))
        assert np.array_equal(bare, full)


def test_wrong_names_and_batches_say_what_to_do(batch: dict[str, Any]) -> None:
    variables = TASK.init(jax.random.key(0))
    with pytest.raises(ValueError, match="unknown loss 'reverse_k'; did you mean 'reverse_kl'"):
        TASK.loss("reverse_k", variables, batch, jax.random.key(0), {})
    del batch["teacher"]
    with pytest.raises(ValueError, match=r"batch\['teacher'\], but the batch has only \['x', 'y'\]"):
        TASK.loss("kl", variables, batch, jax.random.key(0), {})
    with pytest.raises(OptionError, match=r"hidden\[1\]"):
        DistillMnist1D(hidden=(3, 0))


def splits_of(data: Data) -> Splits:
    assert isinstance(data.splits, Splits)
    return data.splits


def test_metrics_on_fresh_examples(data: Data) -> None:
    variables = TASK.init(jax.random.key(0))
    block, mask = splits_of(data).assess.block(0, 50)
    assert mask is None and set(block) == {"x", "y"}
    scores = np.asarray(jax.jit(score, static_argnums=0)(TASK, variables, block))
    log_p = special.log_softmax(np.asarray(TASK.predict(variables, block), np.float64), axis=1)
    y = np.asarray(block["y"])
    assert [m.name for m in TASK.metrics] == ["accuracy", "cross_entropy"]
    assert np.array_equal(scores[0], np.argmax(log_p, axis=1) == y)
    assert scores[1] == pytest.approx(-log_p[np.arange(50), y], rel=1e-5)


def test_equal_tasks_are_one_program() -> None:
    a, b = DistillMnist1D(hidden=(8,)), DistillMnist1D.build({"hidden": [8]})
    assert a == b and hash(a) == hash(b) and a.metrics == b.metrics and hash(a.metrics) == hash(b.metrics)
    assert a != TASK
    predict = jax.jit(lambda task, v, x: task.predict(v, x), static_argnums=0)
    for task in (a, b):
        predict(task, task.init(jax.random.key(0)), {"x": np.zeros((2, 40), np.float32)})
    assert predict._cache_size() == 1  # type: ignore[attr-defined]


def test_load_is_reproducible(data: Data) -> None:
    again, other = TASK.load(3), TASK.load(4)
    assert again.fingerprint() == data.fingerprint() != other.fingerprint()
    assert str(jax.tree.structure(again.splits)) == str(jax.tree.structure(data.splits))


def test_splits(data: Data, small: Teacher) -> None:
    splits = splits_of(data).check()
    assert splits.explore.batch_size == TASK.batch_size
    drawn = jax.tree.map(lambda x: x[0], splits.explore.draw(jax.random.key(0), 2))
    assert {k: v.shape for k, v in splits.explore.batch(drawn).items()} == {
        "x": (64, 40), "y": (64,), "teacher": (64, 10),
    }  # fmt: skip
    assess, decide = (s.block(0, 8)[0]["x"] for s in (splits.assess, splits.decide))
    meta = splits.explore.meta
    assert meta is not None and meta.batch_size == TASK.batch_size
    fresh = meta.batch(meta.draw(jax.random.key(0), 1)[0])["x"]
    assert fresh.shape == (64, 40) and not np.array_equal(fresh[:8], assess) and not np.array_equal(assess, decide)
    assert data.test.size == 1000 and set(data.test.tree) == {"x", "y"}
    assert f"{small.accuracy:.1%}" in data.about


@pytest.mark.long
def test_a_student_learns_more_from_the_teacher_than_from_labels(teacher: Teacher) -> None:
    task = DistillMnist1D()
    data = task.load(3)
    explore, optimizer = splits_of(data).explore, optax.sgd(0.1, momentum=0.9)

    def accuracy(loss: str) -> float:
        def step(carry: Any, drawn: Any) -> tuple[Any, None]:
            variables, state = carry
            batch = explore.batch(drawn)
            mean = lambda v: task.loss(loss, v, batch, jax.random.key(0), {})[0].mean()  # noqa: E731
            update, state = optimizer.update(jax.grad(mean)(variables), state)
            return (optax.apply_updates(variables, update), state), None

        variables = task.init(jax.random.key(0))
        drawn = explore.draw(jax.random.key(1), 3000)
        train = jax.jit(lambda carry: jax.lax.scan(step, carry, drawn)[0][0])
        variables = train((variables, optimizer.init(variables)))
        fresh, _ = splits_of(data).assess.block(0, 10_000)
        return float(score(task, variables, fresh)[0].mean())

    assert accuracy("kl") > max(0.65, accuracy("labels"))


def test_module_needs_neither_flax_nor_mnist1d_until_used() -> None:
    code = (
        "import sys; import ev3x.builtin.tasks.distill_mnist1d as m; m.DistillMnist1D().metrics;"
        "print(sorted({'flax', 'mnist1d', 'matplotlib', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


def test_a_teacher_on_the_fly_answers_for_examples_as_they_were_varied(small: Teacher) -> None:
    task = DistillMnist1D(hidden=(7,), teaching="on_the_fly")
    splits = task.load(3).splits
    assert isinstance(splits, Splits) and isinstance(splits.explore.source, Arrays)
    assert set(splits.explore.source.tree) == {"x", "y"}
    plain = splits.explore.source.tree["x"]
    key = jax.random.key(5)
    batch = jax.jit(lambda e: e.batch(jax.tree.map(lambda x: x[0], e.draw(key, 1))))(splits.explore)
    assert batch["teacher"].shape == (64, 10)
    settings = mnist1d_teacher.Settings()
    expected = mnist1d_teacher.predict(settings, small.weights, batch["x"])
    np.testing.assert_allclose(batch["teacher"], expected, atol=1e-4)
    assert not (np.asarray(batch["x"])[:, None] == np.asarray(plain)[None]).all(-1).any()
