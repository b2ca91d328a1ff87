"""Re-weighting by progress: who stalls gains weight, whatever the units; what is not finite changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import ACCURACY, LIKELIHOOD, Shift, Toy, evolver, judge, same

import ev3x
from ev3x import Move
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.reweight import Reweight
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.core.adapt import undecided
from ev3x.run.checkpoint import Checkpoints, load

ANY = judge(MeanBounds(), np.zeros((1, 2, 3, 4)), np.zeros((1, 3, 4)))
METRICS = (ACCURACY, LIKELIHOOD, dataclasses.replace(LIKELIHOOD, name="third", maximize=False))
BASE = (1.0, 0.0, -2.0)


def weigh(adapter, winner, current, moves, base=BASE):
    """The aims after each of several rounds and the last state; winner and current differ so from the incumbent."""
    state = adapter.init(ev3x.Site(Toy(METRICS)), METRICS)
    aims, all_aims = jnp.array(base, jnp.float32), []
    step = jax.jit(adapter.decide, static_argnums=0)
    for w, c, m in zip(winner, current, moves, strict=True):
        model = ev3x.Model(current=(), incumbent=(), aims=aims)
        decision = dataclasses.replace(undecided(model, 1), move=jnp.int32(m))
        confirmation = dataclasses.replace(ANY, difference=jnp.array([w, c], jnp.float32))
        after, state = step(0, state, decision, ANY, confirmation)
        assert same(dataclasses.replace(after, aims=aims), decision), "only the aims change"
        aims = after.aims
        all_aims.append(np.asarray(aims))
    return np.array(all_aims), state


def rounds(n, scale=1.0, seed=0):
    """The first metric gains something every round, the third goes to and fro; the second does not count."""
    noise = np.random.default_rng(seed).normal(0, 0.05, n)
    gain = np.stack([0.01 + 0.1 * noise**2, np.full(n, 7.0), scale * noise], axis=1)
    current = np.random.default_rng(1).normal(size=(n, 3)) * [1, 1, scale]
    return current + gain, current, [Move.TAKE] * n


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_the_metric_that_stalls_gains_weight_and_the_sum_stays(temperature):
    aims, state = weigh(Reweight(temperature=temperature), *rounds(60))
    np.testing.assert_allclose(np.abs(aims).sum(1), 3.0, rtol=1e-5)
    assert (np.sign(aims) == np.sign(BASE)).all()
    assert abs(aims[-1, 2]) > 2.2 and aims[-1, 0] < 0.8
    progress = np.asarray(state.progress / np.maximum(state.change, 1e-9))
    assert progress[0] == pytest.approx(1, abs=1e-5) and abs(progress[2]) < 0.7
    expected = np.abs(BASE) * np.exp(-progress / temperature)
    np.testing.assert_allclose(np.abs(aims[-1]), 3 * expected / expected.sum(), rtol=1e-5)


def test_units_do_not_matter():
    aims, _ = weigh(Reweight(), *rounds(20))
    scaled, _ = weigh(Reweight(), *rounds(20, scale=1000.0))
    np.testing.assert_allclose(aims, scaled, rtol=2e-4)
    assert np.ptp(aims[:, 0]) > 0.01


def test_a_falling_metric_gains_weight_and_one_that_is_minimised_falls_for_the_better():
    winner, current = np.array([[0.1, 0.0, 0.1]]), np.zeros((1, 3))
    aims, _ = weigh(Reweight(), winner, current, [Move.TAKE], base=(1.0, 0.0, -1.0))
    assert abs(aims[0, 2]) > aims[0, 0]
    aims, _ = weigh(Reweight(), -winner, current, [Move.TAKE], base=(1.0, 0.0, -1.0))
    assert abs(aims[0, 2]) < aims[0, 0]


@pytest.mark.parametrize(("move", "gain"), [(Move.KEEP, 0.0), (Move.TAKE, 0.3), (Move.RESTORE, 0.2)])
def test_progress_is_that_of_the_model_which_goes_on(move, gain):
    """The incumbent is at 0, current at -0.2, the winner at 0.1."""
    _, state = weigh(Reweight(memory=0.0), [[0.1, 0.0, 0.0]], [[-0.2, 0.0, 0.0]], [move])
    assert state.progress.tolist() == pytest.approx([gain, 0.0, 0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_leave_everything_as_it_was(bad):
    winner, current, moves = rounds(5)
    _, before = weigh(Reweight(), winner[:4], current[:4], moves[:4])
    winner[4, 0] = bad
    aims, after = weigh(Reweight(), winner, current, moves)
    assert same(before, after) and (aims[4] == aims[3]).all()
    winner[:, 1] = bad  # does not count
    free, _ = weigh(Reweight(), winner[:4], current[:4], moves[:4])
    assert (free == aims[:4]).all()


def test_in_rounds_only_the_weights_of_selection_move_and_the_state_is_saved(tmp_path):
    task = Toy((ACCURACY, LIKELIHOOD))
    run = evolver(
        Shift((-0.1, 0.1, 0.3)),
        task=task,
        adapters=(Promote(), Reweight()),
        weights={"accuracy": 1.0, "likelihood": 0.5},
    )
    state, records = run.rounds(run.init(0), 8)
    assert records.aims[0].tolist() == [1.0, 0.5] and records.aims.shape == (8, 2)
    np.testing.assert_array_equal(records.aims[1:], records.decision.aims[:-1])
    np.testing.assert_allclose(records.aims.sum(1), 1.5, rtol=1e-5)
    assert np.ptp(records.aims[:, 0]) > 0.01
    ids = {name: "ev3:x" for name in ("shift", "promote", "reweight", "budget")}
    Checkpoints(tmp_path, ids).save(state, records, {}, {})
    saved = load(tmp_path)
    assert saved is not None and same(saved.state(run.init(1), ids), state)
    alone, _ = run.rounds(run.init(0), 3)
    half, rest = run.rounds(alone, 5)
    assert same(half, state) and same(rest.aims, records.aims[3:])


@pytest.mark.parametrize("weights", [None, {"likelihood": 2.0}])
def test_one_metric_alone_cannot_be_reweighted(weights):
    text = r"reweight: needs at least two metrics with weights above 0, got \['\w+'\] of \['accuracy', 'likelihood'\]"
    with pytest.raises(ValueError, match=text):
        evolver(Shift((0.1,)), task=Toy((ACCURACY, LIKELIHOOD)), adapters=(Promote(), Reweight()), weights=weights)
