"""Noise that is made from a key: what `moved` adds, its gradient, and how random it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from ev3x_evograd.noise import directions, moved
from evograd_problems import close, same

KEY = jax.random.key(4)
KINDS = ("sign", "gaussian")
SIZES = (0, 1, 2, 31, 32, 33, 1025)


def odd_tree(dtype=jnp.float32):
    """Leaves of odd sizes, and integers."""
    leaves = {f"n{n}": jnp.linspace(-1, 1, n, dtype=dtype) for n in SIZES}
    return {**leaves, "ints": jnp.arange(5, dtype=jnp.int32)}


def small_tree(dtype=jnp.float32):
    """A matrix and a number: each leaf takes a while to compile."""
    return {"matrix": jnp.linspace(0, 2, 33, dtype=dtype).reshape(3, 11), "number": jnp.asarray(0.5, dtype)}


def by_hand(kind, params, ds, amounts):
    """params + sum of amounts * directions, with everything in memory."""
    stack = directions(kind, KEY, params, 5)

    def one(x, e):
        return x if e is None else x + jnp.tensordot(amounts.astype(x.dtype), e[ds], 1)

    return jax.tree.map(one, params, stack)


move = jax.jit(moved, static_argnums=0)


@pytest.mark.parametrize("kind", KINDS)
def test_moved_adds_the_directions_times_their_amounts(kind):
    params, amounts = odd_tree(), jnp.array([0.5, -0.3, 0.1])
    for ds in (jnp.array([2, 0, 4], jnp.int32), jnp.array([1, 1, 3], jnp.int32)):
        got = move(kind, KEY, params, ds, amounts)
        close(got, by_hand(kind, params, ds, amounts), 1e-6)
        assert same(got["ints"], params["ints"])
        assert (got["n1025"] != params["n1025"]).all()


@pytest.mark.parametrize(("kind", "number"), [("sign", 1), ("sign", 5), ("gaussian", 5)])
def test_moved_goes_along_any_number_of_directions(kind, number):
    ds, amounts = jnp.arange(number, dtype=jnp.int32), jnp.linspace(0.5, -0.3, number)
    got = move(kind, KEY, small_tree(), ds, amounts)
    close(got, by_hand(kind, small_tree(), ds, amounts), 1e-6)


def test_moved_keeps_64_bits(ev3x_x64, kind="gaussian"):
    ds, amounts = jnp.arange(3, dtype=jnp.int32), jnp.array([0.1, -0.7, 0.2])
    got = move(kind, KEY, small_tree(jnp.float64), ds, amounts)
    assert got["matrix"].dtype == jnp.float64
    close(got, by_hand(kind, small_tree(jnp.float64), ds, amounts), 1e-14)


def squares(tree):
    """A number that depends on every leaf, on each entry in its own way."""
    return sum((jnp.sin(1 + jnp.arange(x.size, dtype=x.dtype)) * x.reshape(-1) ** 2).sum() for x in tree.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_are_those_of_the_plain_form(kind):
    ds, amounts = jnp.array([3, 0, 1], jnp.int32), jnp.array([0.2, -0.1, 0.4])

    def gradients(move):
        return jax.jit(jax.grad(lambda p, a: squares(move(kind, p, ds, a)), (0, 1)))(small_tree(), amounts)

    in_params, in_amounts = gradients(lambda kind, *rest: moved(kind, KEY, *rest))
    expected = gradients(by_hand)
    close(in_params, expected[0], 1e-5)
    close(in_amounts, expected[1], 1e-5)


def rows(kind, number=8, size=4097, seed=0):
    """The directions of two leaves, one in each row: f32[2 * number, size]."""
    params = {"a": jnp.zeros(size), "b": jnp.zeros(size)}
    stack = directions(kind, jax.random.key(seed), params, number)
    return np.concatenate([stack["a"], stack["b"]])


def test_signs_are_plus_and_minus_one_in_equal_shares():
    signs = rows("sign")
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert np.abs(signs.mean(axis=1)).max() < 5 / np.sqrt(signs.shape[1])


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_and_directions_are_uncorrelated(kind):
    noise = rows(kind)
    between = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(between).max() < 5 / np.sqrt(noise.shape[1])


@pytest.mark.parametrize("lag", [1, 2, 31, 32, 128, 129, 130])  # 4,097 signs take 129 words
def test_signs_at_a_distance_are_uncorrelated(lag):
    signs = rows("sign")
    along = (signs[:, lag:] * signs[:, :-lag]).mean(axis=1)
    assert np.abs(along).max() < 5 / np.sqrt(signs.shape[1] - lag)


def test_gaussian_noise_is_standard_normal():
    assert scipy.stats.kstest(rows("gaussian").reshape(-1), "norm").pvalue > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_makes_the_same_noise_again_and_another_key_other_noise(kind):
    assert same(rows(kind), rows(kind))
    assert (rows(kind) != rows(kind, seed=1)).mean() > 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_does_not_depend_on_how_many_there_are(kind):
    few, many = (directions(kind, KEY, odd_tree(), n) for n in (2, 5))
    assert same(few, jax.tree.map(lambda x: x[:2], many))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_noise_is_that_of_eager_calls(kind):
    make = functools.partial(directions, kind, params={**small_tree(), "n1025": jnp.zeros(1025)}, number=3)
    assert same(jax.jit(make)(KEY), make(KEY))
    given = (KEY, jnp.zeros((3, 11)), jnp.arange(3, dtype=jnp.int32), jnp.array([0.1, -0.7, 0.2]))
    close(move(kind, *given), moved(kind, *given), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_can_be_mapped_over(kind):
    given = (small_tree(), jnp.arange(3, dtype=jnp.int32), jnp.array([0.1, -0.7, 0.2]))
    keys = jax.random.split(KEY, 3)
    all_ = jax.jit(jax.vmap(lambda key: moved(kind, key, *given)))(keys)
    for i, key in enumerate(keys):
        close(jax.tree.map(lambda x, i=i: x[i], all_), move(kind, key, *given), 1e-6)
