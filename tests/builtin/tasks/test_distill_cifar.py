"""CIFAR-100 from folders of both forms, damaged and missing files, and synthetic images that say so."""

from __future__ import annotations

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ev3x import config
from ev3x.builtin.tasks import cifar
from ev3x.builtin.tasks.distill_cifar import DistillCifar
from ev3x.core.data import Explore, Generated, Varied
from ev3x.core.plan import Plan

EXAMPLE = Path(__file__).parents[3] / "examples" / "distill_cifar.toml"
N, N_TEST = 40, 7


def images(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 100, n, np.uint8)


def logits():
    return np.random.default_rng(5).normal(size=(N, 100))


@pytest.fixture
def binary(tmp_path):
    """A folder like the binary version of CIFAR-100."""
    for name, n, seed in (("train", N, 0), ("test", N_TEST, 1)):
        x, y = images(n, seed)
        records = np.concatenate(
            [np.full((n, 1), 255, np.uint8), y[:, None], x.transpose(0, 3, 1, 2).reshape(n, -1)], 1
        )
        (tmp_path / f"{name}.bin").write_bytes(records.astype(np.uint8).tobytes())
    np.save(tmp_path / "teacher_logits.npy", logits())
    return tmp_path


@pytest.fixture
def arrays(tmp_path):
    """A folder of arrays."""
    for prefix, n, seed in (("", N, 0), ("test_", N_TEST, 1)):
        x, y = images(n, seed)
        np.save(tmp_path / f"{prefix}images.npy", x)
        np.save(tmp_path / f"{prefix}labels.npy", y.astype(np.int64))
    np.save(tmp_path / "logits.npy", logits().astype(np.float16))
    return tmp_path


def task(folder, **options):
    return DistillCifar(folder=str(folder), **{"assess": 5, "decide": 6, "batch_size": 8, **options})


@pytest.mark.parametrize("form", ["binary", "arrays"])
def test_every_image_comes_with_its_label_and_logits_in_one_split(form, request):
    folder = request.getfixturevalue(form)
    data = task(folder).load(3)
    x, y = images(N, 0)
    place = {image.tobytes(): i for i, image in enumerate(x)}
    seen = []
    for name, size in (("explore", N - 11), ("assess", 5), ("decide", 6)):
        tree = getattr(data.splits.check(), name).source.tree
        where = [place[np.asarray(image).tobytes()] for image in tree["x"]]
        assert len(where) == size and tree["x"].dtype == jnp.uint8 and tree["y"].dtype == jnp.int32
        assert np.array_equal(tree["y"], y[where])
        if name == "explore":
            np.testing.assert_allclose(tree["teacher"], logits()[where], atol=2e-3)
        seen += where
    assert sorted(seen) == list(range(N)) and data.splits.decide.reuse
    assert np.array_equal(data.test.tree["x"], images(N_TEST, 1)[0]) and data.about.startswith(f"images of {folder}")
    assert data.fingerprint() == task(folder).load(3).fingerprint() != task(folder).load(4).fingerprint()


def test_only_plain_images_are_augmented(binary):
    assert type(task(binary).load(0).splits.explore) is Varied
    assert type(task(binary, augment=False).load(0).splits.explore) is Explore


def test_arrays_are_taken_as_they_are(arrays):
    assert type(task(arrays).load(0).splits.explore) is Explore


def test_augmentation_shifts_and_mirrors_and_nothing_else():
    x, y = images(64, 2)
    x = jnp.maximum(x, 1)
    varied = jax.jit(cifar.shifted_and_mirrored)(jax.random.key(0), {"x": x, "y": y, "teacher": x[:, 0, 0]})
    assert np.array_equal(varied["y"], y) and np.array_equal(varied["teacher"], x[:, 0, 0])
    moves = set()
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for i, image in enumerate(np.asarray(varied["x"])):
        found = [
            (r, c, m)
            for r in range(9) for c in range(9) for m in (1, -1)
            if np.array_equal(padded[i, r : r + 32, c : c + 32][:, ::m], image)
        ]  # fmt: skip
        assert len(found) == 1
        moves.add(found[0])
    assert {m for *_, m in moves} == {1, -1} and {r for r, *_ in moves} == {c for _, c, _ in moves} == set(range(9))


def test_bytes_are_normalized():
    x = jnp.asarray([[0, 127, 255]], jnp.uint8)
    wanted = (np.array([0, 127, 255]) / 255 - [0.5071, 0.4865, 0.4409]) / [0.2673, 0.2564, 0.2762]
    np.testing.assert_allclose(cifar.normalized(x)[0], wanted, rtol=1e-5)


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def put(name, array):
    return lambda folder: np.save(folder / name, array)


def drop(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(("form", "damage", "message"), [
    ("binary", drop("test.bin"), r"test\.bin is missing"),
    ("binary", drop("teacher_logits.npy"), r"teacher_logits\.npy is missing"),
    ("binary", drop("train.bin"), r"has neither train\.bin .* nor images\.npy"),
    ("binary", cut("train.bin", 5000), r"train\.bin must hold records of 3,074 bytes, got a file of 5,000 bytes"),
    ("binary", cut("train.bin", 0), r"train\.bin must hold records of 3,074 bytes, got a file of 0 bytes"),
    ("binary", cut("train.bin", 3074 * 39), r"logits\.npy must hold the teacher's logits, float\[39, 100\], got float"),
    ("binary", cut("teacher_logits.npy", 60), r"teacher_logits\.npy is no readable \.npy file: "),
    ("binary", put("teacher_logits.npy", np.array([{}])), r"is no readable \.npy file: .*object"),
    ("binary", put("teacher_logits.npy", np.full((N, 100), np.nan)), "some of the teacher's logits are not finite"),
    ("binary", put("teacher_logits.npy", np.zeros((N, 10))), r"float\[40, 100\], got float64\[40, 10\]"),
    ("arrays", drop("test_labels.npy"), r"test_labels\.npy is missing"),
    ("arrays", put("images.npy", np.zeros((N, 32, 32, 3))), r"uint8\[n, 32, 32, 3\], got float64\[40, 32, 32, 3\]"),
    ("arrays", put("labels.npy", np.zeros(N)), r"labels\.npy must hold labels, int\[40\], got float64\[40\]"),
    ("arrays", put("labels.npy", np.full(N, 100)), r"labels\.npy: labels must be 0 \.\.\. 99, got 100 \.\.\. 100"),
    ("arrays", put("test_images.npy", np.zeros((0, 32, 32, 3), np.uint8)), r"test_images\.npy must hold images"),
])  # fmt: skip
def test_damaged_and_missing_files_are_named(form, damage, message, request):
    folder = request.getfixturevalue(form)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        task(folder).load(0)


def test_wrong_labels_of_records_and_folders_that_are_not_there(binary):
    raw = bytearray((binary / "train.bin").read_bytes())
    raw[1] = 100
    (binary / "train.bin").write_bytes(raw)
    with pytest.raises(ValueError, match=r"train\.bin: labels must be 0 \.\.\. 99, got \d+ \.\.\. 100"):
        task(binary).load(0)
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        task(binary / "nowhere").load(0)


def test_too_few_images_say_which_options_to_lower(arrays):
    with pytest.raises(
        ValueError, match="has 40 training images, too few for assess = 5, decide = 30 and one batch of 8"
    ):
        task(arrays, decide=30).load(0)


def test_synthetic_images_say_so(caplog):
    with caplog.at_level(logging.WARNING):
        data = DistillCifar().load(0)
    assert data.about.startswith("synthetic images, not CIFAR-100") and data.about in caplog.text
    assert isinstance(data.splits.check().decide.source, Generated)
    batch = data.splits.explore.batch(data.splits.explore.draw(jax.random.key(0), 1)[0])
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "x": ((128, 8, 8, 3), "uint8"), "y": ((128,), "int32"), "teacher": ((128, 100), "float32"),
    }  # fmt: skip
    assert set(data.splits.assess.block(0, 8)[0]) == set(data.test.tree) == {"x", "y"}


def test_the_synthetic_teacher_is_nearly_the_best_there_can_be():
    batch = cifar.synthetic_taught(jax.random.key(0), 20_000)
    log_p = jax.nn.log_softmax(batch["teacher"])
    right = log_p.argmax(1) == batch["y"]
    assert 0.88 < right.mean() < 0.93
    # Noise on its logits makes it a little too sure of itself, no more.
    assert 0 <= jnp.exp(log_p.max(1)).mean() - right.mean() < 0.03


def test_the_example_builds_with_the_settings_of_the_paper():
    setup = config.load(EXAMPLE)
    plan = Plan(setup.task, setup.method)
    plan.check(setup.task.load(0).splits)
    assert len(plan.labels()) == 2 and setup.method.confirm.block * setup.method.confirm.blocks == 32_768
    sizes, grown = [], setup.task
    for _ in range(4):
        sizes.append(grown.network.parameters(jax.ShapeDtypeStruct((1, *cifar.SHAPE), jnp.float32)))
        grown = DistillCifar(blocks=grown.network.larger("deepen_all").blocks)
    assert sizes == [83_892, 181_108, 375_540, 764_404]
