"""How the error level is shared out over confirmations."""

import jax.numpy as jnp
import numpy as np
import pytest

from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.budgets.per_round import PerRound


def offers(budget, n):
    state, levels = budget.init(), []
    for _ in range(n):
        levels.append(float(budget.offer(state, jnp.float32(0.05))))
        state = budget.settle(state, levels[-1], None)
    return np.array(levels)


def test_the_run_level_is_shared_out_over_confirmations_and_never_exceeded():
    levels = offers(OverRun(), 1000)
    np.testing.assert_allclose(levels, 0.05 * 6 / (np.pi * np.arange(1, 1001)) ** 2, rtol=1e-5)
    assert 0.0499 < levels.sum() < 0.05


def test_the_level_per_round_is_the_same_every_round():
    np.testing.assert_allclose(offers(PerRound(), 5), 0.05)


@pytest.mark.parametrize("budget", [OverRun(), PerRound()])
def test_the_promise_is_said_in_words_with_its_level(budget):
    assert "false promotion is at most 0.05" in budget.words.format(level=0.05)
