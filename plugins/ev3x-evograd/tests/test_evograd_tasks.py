"""The tasks on digits: how pictures turn, which labels are wrong, and that the angle is found."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from ev3x_evograd import EvoGrad
from ev3x_evograd.tasks import NoisyDigits, RotatedDigits, digits
from ev3x_evograd.tasks.noisy_digits import weigh
from ev3x_evograd.tasks.rotated_digits import turned

import ev3x

sklearn_datasets = pytest.importorskip("sklearn.datasets", reason="the digits are scikit-learn's")

pytestmark = pytest.mark.loose_types("flax and optax mix integers and floats")
BOTH = pytest.mark.parametrize("task", [RotatedDigits(), NoisyDigits()])


def held(data):
    """The examples of each split."""
    splits = data.splits
    sources = {"explore": splits.explore, "meta": splits.explore.meta, "assess": splits.assess, "decide": splits.decide}
    trees = {name: split.source.tree for name, split in sources.items()} | {"test": data.test.tree}
    return {name: {n: np.asarray(x) for n, x in tree.items()} for name, tree in trees.items()}


@pytest.fixture(scope="module")
def scans():
    """The right label of every scan."""
    found = sklearn_datasets.load_digits()
    labels = {(x / 16).astype(np.float32).tobytes(): y for x, y in zip(found.data, found.target, strict=True)}
    assert len(labels) == 1797
    return labels


@pytest.fixture(scope="module")
def pictures():
    return held(RotatedDigits().load(0))["explore"]["x"][:20]


@pytest.fixture(scope="module")
def blob():
    """A smooth picture that is not symmetric and leaves the rim empty."""
    rows, columns = np.mgrid[:8, :8] - 3.5
    picture = np.exp(-((rows - 0.8) ** 2) / 4 - (columns + 0.6) ** 2 / 2)
    return jnp.asarray(picture.reshape(1, 64), jnp.float32)


# --- how pictures turn


def test_turned_by_nothing_a_picture_stays(pictures):
    np.testing.assert_array_equal(turned(pictures, 0.0), pictures)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy_counter_clockwise(pictures, quarters):
    expected = np.rot90(pictures.reshape(-1, 8, 8), quarters, axes=(1, 2)).reshape(-1, 64)
    np.testing.assert_allclose(turned(pictures, 90.0 * quarters), expected, atol=1e-5)


@pytest.mark.parametrize("angle", [30.0, -17.5, 140.0])
def test_pictures_turn_as_scipy_turns_them(pictures, angle):
    expected = [
        scipy.ndimage.rotate(x, angle, reshape=False, order=1, mode="grid-constant") for x in pictures.reshape(-1, 8, 8)
    ]
    np.testing.assert_allclose(turned(pictures, angle), np.reshape(expected, (-1, 64)), atol=1e-5)


def test_a_smooth_picture_that_is_turned_back_is_nearly_as_it_was(blob):
    there = turned(blob, 30.0)
    back = turned(there, -30.0)
    assert np.corrcoef(back[0], blob[0])[0, 1] > 0.98 > np.corrcoef(there[0], blob[0])[0, 1] + 0.05
    assert float(back.sum()) == pytest.approx(float(blob.sum()), rel=0.05)


@pytest.mark.parametrize("angle", [12.3, -41.0])
def test_the_gradient_in_the_angle_is_that_of_finite_differences(ev3x_x64, blob, angle):
    blob = jnp.asarray(blob, jnp.float64)

    def some(angle):
        return (turned(blob, angle)[0] * jnp.arange(64.0)).sum()

    found = jax.grad(some)(jnp.float64(angle))
    expected = (some(angle + 1e-5) - some(angle - 1e-5)) / 2e-5
    assert abs(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_upright_picture_has_a_gradient_in_the_angle(blob):
    def apart(angle):
        return ((turned(blob, angle) - turned(blob, 30.0)) ** 2).sum()

    assert float(jax.grad(apart)(0.0)) < -1e-3  # from upright, the way to 30 degrees is up


# --- what the splits hold


@pytest.mark.parametrize(("task", "meta", "test"), [(RotatedDigits(), 300, 297), (NoisyDigits(), 100, 497)])
def test_the_splits_are_disjoint_and_of_the_stated_sizes(task, meta, test):
    data = task.load(0)
    data.splits.check()
    parts = held(data)
    assert {name: len(part["y"]) for name, part in parts.items()} == {
        "explore": 1000,
        "meta": meta,
        "assess": 100,
        "decide": 100,
        "test": test,
    }
    assert f"test ({test})" in " ".join(type(task).__doc__.split())
    rows = np.concatenate([part["x"] for part in parts.values()])
    assert len(np.unique(rows, axis=0)) == len(rows) == 1797
    assert all(x["x"].dtype == np.float32 and x["y"].dtype == np.int32 for x in parts.values())
    assert rows.min() >= 0 and rows.max() <= 1


def test_400_training_labels_are_wrong_and_no_others(scans):
    parts = held(NoisyDigits().load(3))
    wrong = {
        name: sum(scans[x.tobytes()] != y for x, y in zip(part["x"], part["y"], strict=True))
        for name, part in parts.items()
    }
    assert wrong == {"explore": 400, "meta": 0, "assess": 0, "decide": 0, "test": 0}
    assert set(np.unique(parts["explore"]["y"])) == set(range(10))


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 250), (1.0, 1000)])
def test_any_share_of_labels_can_be_wrong(scans, share, count):
    data = NoisyDigits(corrupted=share).load(0)
    part = held(data)["explore"]
    assert sum(scans[x.tobytes()] != y for x, y in zip(part["x"], part["y"], strict=True)) == count
    assert f"{count:,} of 1,000 training labels are wrong" in data.about


def test_training_digits_are_upright_and_all_others_turned(scans):
    parts = held(RotatedDigits().load(0))
    for name, part in parts.items():
        upright = [x.tobytes() in scans for x in part["x"]]
        assert all(upright) if name == "explore" else not any(upright)
    straight, tilted = (held(RotatedDigits(angle=a).load(0)) for a in (0.0, 30.0))
    np.testing.assert_array_equal(turned(straight["test"]["x"], 30.0), tilted["test"]["x"])
    assert all(scans[x.tobytes()] == y for x, y in zip(straight["test"]["x"], straight["test"]["y"], strict=True))


@BOTH
def test_a_seed_gives_the_same_data_and_another_one_others(task):
    first, again, other = (task.load(seed).fingerprint() for seed in (0, 0, 1))
    assert first == again != other


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._scans.cache_clear()
    with pytest.raises(ImportError, match=r'need scikit-learn .*: pip install "ev3x-evograd\[examples\]"'):
        RotatedDigits().load(0)


# --- losses


def batch_and_variables(task):
    data = task.load(0)
    return jax.tree.map(lambda x: x[:32], data.splits.explore.source.tree), task.init(jax.random.key(0))


def loss(task, name, hypers):
    batch, variables = batch_and_variables(task)
    each, same_variables = task.loss(name, variables, batch, jax.random.key(0), {**task.hypers, **hypers})
    assert each.shape == (32,) and same_variables is variables
    return np.asarray(each)


def test_the_losses_and_hyperparameters_have_their_names():
    assert RotatedDigits().losses == ("turned", "labels") and dict(RotatedDigits().hypers) == {"angle": 0.0}
    assert NoisyDigits().losses == ("weighted", "labels") and NoisyDigits().hypers.keys() == {"weigher"}
    assert [m.name for m in RotatedDigits().metrics] == ["accuracy", "cross_entropy"]


def test_the_angle_is_read_by_one_loss_only():
    task = RotatedDigits()
    np.testing.assert_allclose(loss(task, "turned", {}), loss(task, "labels", {}), rtol=1e-6)
    np.testing.assert_array_equal(loss(task, "labels", {"angle": 30.0}), loss(task, "labels", {}))
    assert np.abs(loss(task, "turned", {"angle": 30.0}) - loss(task, "labels", {})).max() > 0.01


def test_the_weigher_starts_with_equal_weights():
    weigher = NoisyDigits(units=7).hypers["weigher"]
    assert {n: x.shape for n, x in weigher.items()} == {"w": (7,), "b": (7,), "v": (7,), "c": ()}
    weights = weigh(weigher, jnp.linspace(0, 9, 50))
    assert np.unique(weights).size == 1 and 0 < weights[0] < 1
    task = NoisyDigits()
    np.testing.assert_allclose(loss(task, "weighted", {}), loss(task, "labels", {}), rtol=1e-6)


def test_the_weigher_weighs_examples_by_their_losses():
    task = NoisyDigits()
    given = {**task.hypers["weigher"], "w": np.ones(100, np.float32), "v": np.full(100, -0.1, np.float32)}
    plain, weighted = loss(task, "labels", {}), loss(task, "weighted", {"weigher": given})
    weights = weighted / plain
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    assert (np.diff(weights[np.argsort(plain)]) < 0).all()  # the larger the loss, the smaller the weight


def test_the_weights_are_no_way_to_lower_the_loss_of_an_example():
    # Their gradient in the parameters is stopped: each example's loss keeps its own gradient, times a number.
    task = NoisyDigits()
    batch, variables = batch_and_variables(task)
    given = {**task.hypers["weigher"], "v": np.full(100, 0.3, np.float32)}

    def total(variables, name):
        return task.loss(name, variables, batch, jax.random.key(0), {"weigher": given})[0][0]

    by_weights, plain = (jax.tree.leaves(jax.grad(total)(variables, name)) for name in ("weighted", "labels"))
    factor = total(variables, "weighted") / total(variables, "labels")
    for x, y in zip(by_weights, plain, strict=True):
        np.testing.assert_allclose(x, factor * y, rtol=1e-4, atol=1e-6)


def test_the_weigher_can_learn_from_its_defaults():
    task = NoisyDigits()
    batch, variables = batch_and_variables(task)

    def first(weigher):
        return task.loss("weighted", variables, batch, jax.random.key(0), {"weigher": weigher})[0][0]

    slope = jax.grad(first)(jax.tree.map(jnp.asarray, dict(task.hypers["weigher"])))
    assert np.abs(slope["v"]).max() > 1e-4


# --- the angle is found


def test_the_angle_moves_towards_that_of_the_target():
    task = RotatedDigits()
    proposer = EvoGrad.build(
        dict(
            loss="turned",
            meta_loss="labels",
            optimizer={"name": "adam", "learning_rate": 1e-2},
            meta_optimizer={"name": "adam", "learning_rate": 0.5},
            length=200,
        )
    )
    site, key = ev3x.Site(task), jax.random.key(0)

    @jax.jit
    def run(explore):
        current = task.init(key)
        candidates = proposer.propose(site, key, current, proposer.init(site, key, current), explore)
        return candidates.notes["angle"][0], candidates.eligible[0]

    angle, eligible = run(task.load(0).splits.explore)
    assert eligible and 15 < float(angle) < 45
