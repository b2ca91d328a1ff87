"""The exact arithmetic: products are undone, heads stay exact, and what leaves the range is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_reversible.fixed_point import (
    DENOMINATOR,
    END,
    checked,
    divide,
    flushes,
    momentum,
    multiply,
    pulled,
    pushed,
    size,
    wide,
)

NUMERATORS = [1, 2, 3, 1000, 32768, 58982, 64225, 65534, 65535]


def numbers(limit, count=300):
    """Whole numbers of all sizes up to the limit."""
    rng = np.random.default_rng(limit % 1009)
    return np.r_[0, 1, limit - 1, rng.integers(0, limit, count), (limit ** rng.random(count)).astype(np.int64)]


@pytest.mark.parametrize("n", NUMERATORS)
def test_a_product_is_that_of_python_and_a_division_undoes_it(n):
    heads = numbers(2**36)
    c = np.random.default_rng(n).permutation(numbers(END)) * np.resize([1, -1], len(heads))
    with wide():
        by = momentum(jnp.array([n]))
        made, head = multiply(jnp.asarray(c), jnp.asarray(heads, jnp.float64), by)
        back, first = divide(made, head, by)
    for x, i, y, j in zip(c.tolist(), heads.tolist(), made.tolist(), head.tolist(), strict=True):
        i = i * DENOMINATOR + x % DENOMINATOR
        assert (y, j) == (x // DENOMINATOR * n + i % n, i // n)
    np.testing.assert_array_equal(back, c)
    np.testing.assert_array_equal(first, heads)


def test_a_word_that_left_the_head_comes_back():
    heads = numbers(2**52)
    with wide():
        rest, word = pushed(jnp.asarray(heads, jnp.float64))
        assert word.dtype == jnp.uint16
        np.testing.assert_array_equal(word, heads % 2**16)
        np.testing.assert_array_equal(rest, heads // 2**16)
        np.testing.assert_array_equal(pulled(rest, word), heads)


@pytest.mark.parametrize("n", NUMERATORS)
def test_no_head_grows_beyond_what_is_exact_and_no_word_leaves_early(n):
    horizon = 2000
    times = flushes(horizon, n)
    most, left = 1, set(times)
    for step in range(1, horizon + 1):
        assert most < 2**36
        most = (most * DENOMINATOR + DENOMINATOR - 1) // n  # the largest low digits, always
        assert most < 2**52
        if step in left:
            assert most >= 2**36
            most >>= 16
    assert horizon not in left  # a word that left at the end would be counted, and is not needed


def test_what_leaves_the_range_is_seen_in_every_sum():
    with wide():
        bad = checked(jnp.array([jnp.nan, jnp.inf, -jnp.inf, 512.0, -1e30]))
        ends = jnp.array([0, 1, -1, END - 1, 1 - END])
        assert (size(checked(jnp.array([511.9, -511.9]))) < END).all()
        once, twice = bad[:, None] + 2 * ends[None], bad[:, None] + bad[0] + ends[None]  # a sum has two other terms
        inside = (size(once) < END) | (size(twice) < END)
    assert not inside.any()


def test_the_setting_of_the_user_is_as_before():
    before = jax.config.jax_enable_x64
    with wide():
        assert jnp.asarray(1.0).dtype == jnp.float64
    assert jax.config.jax_enable_x64 == before and jnp.asarray(1.0).dtype == jnp.float32
