"""The standard set, and whether fresh examples are distributed as those of the `mnist1d` package."""

from __future__ import annotations

import builtins
import random
import sys
from typing import Any

import jax
import numpy as np
import pytest
from scipy import ndimage, stats

from ev3x.builtin.tasks import mnist1d, mnist1d_teacher
from ev3x.builtin.tasks.mnist1d_teacher import Settings, Teacher

make = jax.jit(mnist1d.generate, static_argnums=1)
N = 20_000
Sample = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def fresh() -> Sample:
    batch = make(jax.random.key(2026), N)
    return np.asarray(batch["x"], np.float64), np.asarray(batch["y"])


@pytest.fixture(scope="module")
def reference() -> Sample:
    """Examples of another seed, made by the package itself, on the scale of the standard set."""
    from mnist1d.data import get_dataset_args

    labels = np.repeat(np.arange(mnist1d.CLASSES), N // mnist1d.CLASSES)
    with mnist1d._untouched_random_state():
        np.random.seed(7)
        x = _raw(labels, get_dataset_args())
    return (x - mnist1d._MEAN) / mnist1d._STD, labels


def _raw(labels: np.ndarray[Any, Any], args: Any) -> np.ndarray[Any, Any]:
    from mnist1d.data import get_templates
    from mnist1d.transform import transform

    templates = get_templates()
    return np.stack([transform(templates["x"][c], templates["t"], args)[0] for c in labels])


def test_standard_set_is_that_of_the_package_and_read_only() -> None:
    s = mnist1d.standard()
    assert [a.shape for a in s] == [(4000, 40), (4000,), (1000, 40), (1000,)]
    assert s.x.dtype == s.x_test.dtype == np.float32 and s.y.dtype == s.y_test.dtype == np.int32
    assert np.bincount(np.concatenate([s.y, s.y_test])).tolist() == [500] * 10
    with pytest.raises(ValueError, match="read-only"):
        s.x[0] = 0


def test_global_random_states_are_put_back() -> None:
    random.seed(5), np.random.seed(5)
    before: tuple[Any, Any] = random.getstate(), np.random.get_state()
    mnist1d.standard.cache_clear()
    mnist1d.standard()
    after: tuple[Any, Any] = random.getstate(), np.random.get_state()
    assert after[0] == before[0]
    assert np.array_equal(after[1][1], before[1][1]) and after[1][2:] == before[1][2:]


def test_scale_is_that_of_the_standard_set() -> None:
    from mnist1d.data import get_dataset_args

    args = get_dataset_args()
    labels = np.repeat(np.arange(mnist1d.CLASSES), args.num_samples // mnist1d.CLASSES)
    with mnist1d._untouched_random_state():
        np.random.seed(args.seed)
        raw = _raw(labels, args)
    assert raw.mean() == pytest.approx(mnist1d._MEAN, abs=1e-12)
    assert raw.std() == pytest.approx(mnist1d._STD, rel=1e-12)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("requests"):
            raise ImportError("No module named 'requests'", name="requests")
        return real(name, *rest)

    for name in [n for n in sys.modules if n.split(".")[0] in ("mnist1d", "requests")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'requests.*pip install "ev3x\[examples\]"'):
        mnist1d._mnist1d()


def test_tables_match_the_package_step_by_step() -> None:
    from mnist1d.data import get_templates
    from mnist1d.transform import interpolate, pad

    signal, width, smooth, resample, _, ramp = mnist1d._host_tables()
    for label, template in enumerate(get_templates()["x"]):
        for i, padding in enumerate(range(36, 61)):
            padded = interpolate(pad(template + 1e-8, (padding, padding)), 72)
            assert np.array_equal(signal[label, i], padded.astype(np.float32))
            assert np.array_equal(padded != 0, np.arange(72) < width[i])
    noise = np.random.default_rng(0).normal(size=(3, 72))
    filtered = np.stack([ndimage.gaussian_filter(row, 2) for row in noise])
    assert noise @ smooth == pytest.approx(0.25 * filtered, abs=1e-6)
    resampled = np.stack([interpolate(row, 40) for row in noise])
    assert noise @ resample == pytest.approx(resampled, abs=1e-6)
    assert ramp == pytest.approx(interpolate(np.linspace(-0.5, 0.5, 72), 40), abs=1e-6)


def test_key_and_size_alone_decide() -> None:
    first, again, other = (make(jax.random.key(k), 64) for k in (0, 0, 1))
    assert first["x"].shape == (64, 40) and first["x"].dtype == np.float32 and first["y"].dtype == np.int32
    assert all(np.array_equal(first[k], again[k]) for k in ("x", "y"))
    assert not np.array_equal(first["x"], other["x"])
    assert mnist1d.generate(jax.random.key(0), 1)["x"].shape == (1, 40)


def test_digits_are_uniform(fresh: Sample) -> None:
    assert stats.chisquare(np.bincount(fresh[1], minlength=10)).pvalue > 1e-3


@pytest.mark.long
@pytest.mark.parametrize("power", [1, 2, 3])
def test_moments_of_each_digit_and_position(fresh: Sample, reference: Sample, power: int) -> None:
    (x, y), (x_ref, y_ref) = fresh, reference
    z = [_z(x[y == c] ** power, x_ref[y_ref == c] ** power) for c in range(10)]
    # 400 correlated standard normals: one beyond 5 has a chance of 2e-4, and their spread should be 1.
    assert np.abs(z).max() < 5
    assert 0.7 < np.std(z) < 1.3


@pytest.mark.long
@pytest.mark.parametrize("lag", [1, 2, 3, 10, 20])
def test_products_of_neighbours(fresh: Sample, reference: Sample, lag: int) -> None:
    z = _z(*(x[:, lag:] * x[:, :-lag] for x in (fresh[0], reference[0])))
    assert np.abs(z).max() < 4


@pytest.mark.long
def test_quantiles_of_values_and_steps(fresh: Sample, reference: Sample) -> None:
    for a, b in ((fresh[0], reference[0]), (np.diff(fresh[0]), np.diff(reference[0]))):
        p = [stats.ks_2samp(a[:, i], b[:, i]).pvalue for i in range(a.shape[1])]
        assert min(p) > 1e-3 / len(p)


@pytest.mark.long
def test_a_classifier_cannot_tell_them_apart(fresh: Sample, reference: Sample) -> None:
    assert 0.48 < _told_apart(reference[0], fresh[0]) < 0.52
    # The test has teeth: it sees twice the jitter.
    jitter = np.sqrt(3) * mnist1d._IID / mnist1d._STD * np.random.default_rng(0).normal(size=(N, 40))
    assert _told_apart(reference[0][::2], (fresh[0] + jitter)[::2]) > 0.8


@pytest.mark.long
def test_the_teacher_does_as_well_on_fresh_examples(teacher: Teacher, fresh: Sample, reference: Sample) -> None:
    right = [
        np.argmax(mnist1d_teacher.predict(Settings(), teacher.weights, x), axis=1) == y for x, y in (fresh, reference)
    ]
    assert abs(right[0].mean() - right[1].mean()) < 4 * np.sqrt(2 * right[1].var() / N)
    assert right[0].mean() > 0.96


def _z(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))


def _told_apart(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """The held-out accuracy of a classifier between two samples; standard error .0035 for 20,000 each."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    x = np.concatenate([a, b])
    # Steps and curvature show the smoothness of the noise, which trees do not see in the values.
    x = np.concatenate([x, np.diff(x), np.abs(np.diff(x, n=2))], axis=1)
    y = np.repeat([0, 1], [len(a), len(b)])
    order = np.random.default_rng(1).permutation(len(y))
    train, test = order[: len(y) // 2], order[len(y) // 2 :]
    with threadpool_limits(1):  # its threads wait for each other by spinning: slow on a busy machine
        model = HistGradientBoostingClassifier(max_iter=50, random_state=0).fit(x[train], y[train])
        return float(model.score(x[test], y[test]))
