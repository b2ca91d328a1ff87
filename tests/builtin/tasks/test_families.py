"""The families that come with ev3x: what their episodes are made of, and what their splits share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ev3x
from ev3x.builtin.tasks import digits, mnist1d
from ev3x.builtin.tasks.federated_digits import FederatedDigits
from ev3x.builtin.tasks.few_shot_digits import FewShotDigits
from ev3x.builtin.tasks.quadratics import Quadratics, matrix
from ev3x.builtin.tasks.sinusoids import Sinusoids
from ev3x.builtin.tasks.warped_mnist1d import WarpedMnist1D
from ev3x.core.task import score
from ev3x.training.episodes import Episodes, Pools

N = 8


def drawn(family, pool=None, n=N):
    return jax.tree.map(np.asarray, Episodes(family)(jax.random.key(0), n, pool))


def whole(batch):
    """All points of each episode, support set first."""
    return {name: np.concatenate([batch["support"][name], batch["query"][name]], 1) for name in ("x", "y")}


def test_points_lie_on_one_sinusoid_for_each_episode():
    points = whole(drawn(Sinusoids(support=4, query=6), n=100))
    assert points["x"].shape == (100, 10, 1) and np.abs(points["x"]).max() <= 5
    found = []
    for x, y in zip(points["x"][..., 0], points["y"][..., 0], strict=True):
        (cos, sin), (rest,), *_ = np.linalg.lstsq(np.stack([np.sin(x), -np.cos(x)], 1), y)
        assert rest < 1e-8
        found.append((np.hypot(cos, sin), np.arctan2(sin, cos)))
    amplitude, phase = np.transpose(found)
    assert 0.1 <= amplitude.min() < 0.5 < 4.5 < amplitude.max() <= 5
    assert 0 <= phase.min() < 0.5 < 2.5 < phase.max() <= np.pi


@pytest.mark.parametrize("diagonal", [False, True])
def test_bowls_are_descended_as_the_closed_form_says(diagonal):
    family = Quadratics(rotation=3, diagonal=diagonal)
    batch, variables = drawn(family), family.init(jax.random.key(1))
    h = matrix(10, 100.0, None if diagonal else 3)
    np.testing.assert_allclose(np.linalg.eigvalsh(h), np.logspace(-2, 0, 10))
    assert (np.count_nonzero(h) == 10) == diagonal
    away = np.asarray(variables["params"]["place"])[None] - batch["query"]["y"][:, 0]
    away = away @ np.linalg.matrix_power(np.eye(10) - 0.5 * h, 10)
    wanted = 0.5 * np.einsum("ni,ij,nj->n", away, h, away)
    np.testing.assert_allclose(score(family, variables, batch)[0], wanted, rtol=1e-4)


def plain(key, n):
    """In place of MNIST-1D's examples, whose program is large."""
    x, y = jax.random.split(key)
    return {"x": jax.random.normal(x, (n, 40)), "y": jax.random.randint(y, (n,), 0, 10)}


def test_a_warp_is_one_for_all_examples_of_an_episode(monkeypatch):
    monkeypatch.setattr(mnist1d, "generate", plain)
    was, got = (whole(drawn(WarpedMnist1D(support=60, query=41, warps=w))) for w in [(), ("shift", "scale", "permute")])
    found = []
    for a, b in zip(was["x"], got["x"], strict=True):
        ratios = [b / np.roll(a, k, 1) for k in range(40)]
        found += [(k, r.mean()) for k, r in enumerate(ratios) if r.std() < 1e-4]
    shifts, scales = np.transpose(found)
    assert len(found) == N and len(set(shifts)) > 2
    assert 0.5 <= scales.min() < 0.8 < 1.2 < scales.max() <= 2
    for a, b in zip(was["y"].tolist(), got["y"].tolist(), strict=True):
        pairs = set(zip(a, b, strict=True))
        assert len(pairs) == 10 == len({new for _, new in pairs})
    assert len({tuple(b) for b in got["y"].tolist()}) == N
    none = jax.vmap(lambda k: plain(jax.random.split(k, 4)[0], 101))(jax.random.split(jax.random.key(0), N))
    assert jax.tree.all(jax.tree.map(np.array_equal, was, none))
    with pytest.raises(ev3x.OptionError, match="warps: names a warp twice"):
        WarpedMnist1D(warps=("scale", "scale"))


def test_warped_examples_are_those_of_mnist1d():
    shapes = jax.eval_shape(lambda: Episodes(WarpedMnist1D())(jax.random.key(0), N))
    assert {name: (x.shape, x.dtype) for name, x in shapes["support"].items()} == {
        "x": ((N, 100, 40), jnp.float32),
        "y": ((N, 100), jnp.int32),
    }


def digit_of(pool):
    """The number of a scan in the pool, and its digit, by its bytes."""
    return {x.tobytes(): (i, y) for i, (x, y) in enumerate(zip(pool["x"], pool["y"].tolist(), strict=True))}


@pytest.mark.parametrize(("apart", "ways"), [("scans", 5), ("classes", 2)])
def test_a_few_shots_are_different_scans_of_different_digits_of_the_split(apart, ways):
    family = FewShotDigits(ways=ways, shots=2, queries=3, apart=apart)
    pools = family.pools(1)
    assert len(set.intersection(*(set(pool["y"].tolist()) for pool in pools))) == (10 if apart == "scans" else 0)
    known, batch = digit_of(pools.decide), drawn(family, pools.decide)
    points = whole(batch)
    orders = set()
    for x, y in zip(points["x"], points["y"], strict=True):
        found = [known[scan.tobytes()] for scan in x]
        assert len({i for i, _ in found}) == 5 * ways
        names = sorted({(place, digit) for place, (_, digit) in zip(y.tolist(), found, strict=True)})
        assert [place for place, _ in names] == list(range(ways)) and len({d for _, d in names}) == ways
        orders.add(tuple(d for _, d in names))
    assert len(orders) > 1
    assert (np.bincount(batch["support"]["y"][0]) == 2).all() and (np.bincount(batch["query"]["y"][0]) == 3).all()
    assert f"2-shot {ways}-way" in family.about and "concerns episodes of the decide pool" in family.about


def test_each_split_draws_from_its_own_pool():
    family = FewShotDigits(ways=2, queries=1)
    data = family.load(1)
    found = [getattr(data.splits.check(), name).source.pool for name in ("explore", "assess", "decide")]
    for got, wanted in zip(found, family.pools(1), strict=False):
        assert jax.tree.all(jax.tree.map(np.array_equal, got, wanted))
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got))  # copied once, not for each call
    assert data.test.size == 500 and data.about == family.about
    known = digit_of(family.pools(1).test)
    assert all(x.tobytes() in known for x in whole(jax.tree.map(np.asarray, data.test.tree))["x"].reshape(-1, 8, 8))


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (np.array(["a"] * 3), r"\['x'\] of the pool of `test` must hold numbers"),
        (np.ones(0), "pool of `test` is empty"),
    ],
)
def test_pools_are_checked_before_any_episode_is_drawn(monkeypatch, entry, text):
    good = {"x": np.ones(3)}
    monkeypatch.setattr(FewShotDigits, "pools", lambda *_: Pools(good, good, good, {"x": entry}))
    with pytest.raises((TypeError, ValueError), match=text):
        FewShotDigits().load(0)


def test_few_shots_that_cannot_be_are_told():
    with pytest.raises(ev3x.OptionError, match="ways: must be at most 2 where no two splits share a class, got 3"):
        FewShotDigits(ways=3, apart="classes")
    with pytest.raises(
        ValueError, match=r"needs shots \+ queries = 45 of each class, but the assess pool has \d+ scans"
    ):
        FewShotDigits(shots=20, queries=25).load(0)


def test_a_client_has_few_digits_and_no_scan_in_both_sets_and_its_pixels_are_noisy():
    place = 100 * np.arange(300, dtype=np.float32)  # each scan can be told through the noise
    pool = {"x": np.broadcast_to(place[:, None, None], (300, 8, 8)), "y": np.arange(300, dtype=np.int32) % 10}
    batch = drawn(FederatedDigits(support=30, query=30), pool, 64)
    rows = {part: np.round(batch[part]["x"].mean((2, 3)) / 100).astype(int) for part in ("support", "query")}
    for part, found in rows.items():
        np.testing.assert_array_equal(pool["y"][found], batch[part]["y"])
        noise = batch[part]["x"] - place[found][..., None, None]
        assert noise.std() == pytest.approx(0.5, abs=0.01) and abs(noise.mean()) < 0.01
    assert not any(set(a) & set(b) for a, b in zip(rows["support"], rows["query"], strict=True))
    support, query = (np.eye(10)[batch[part]["y"]].mean(1) for part in ("support", "query"))
    # Of a Dirichlet(.2, ...) of ten shares the squares sum to 1.2 / 3 on average; both sets follow the same shares.
    assert (support**2).sum(1).mean() == pytest.approx(0.4 + 0.6 / 30, abs=0.08)
    assert np.abs(support - query).max(1).mean() < 0.2 < 0.4 < np.abs(support - np.roll(query, 1, 0)).max(1).mean()
    np.testing.assert_allclose(support.mean(0), 0.1, atol=0.08)


def test_pools_hold_every_scan_once():
    for classes in (False, True):
        found = digits.pools(3, classes=classes)
        assert sum(len(pool["y"]) for pool in found) == 1797
        assert len({x.tobytes() for pool in found for x in pool["x"]}) == 1797
    sizes = [len(pool["y"]) for pool in digits.pools(3)]
    assert sizes == [900, 300, 300, 297]
