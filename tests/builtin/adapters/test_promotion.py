"""What each verdict makes of the model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from toys import judge

import ev3x
from ev3x import Move, Outcome
from ev3x.builtin.adapters.accept import Accept
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.core.adapt import undecided

MODEL = ev3x.Model(current={"w": jnp.zeros(1)}, incumbent={"w": -jnp.ones(1)}, aims=jnp.ones(1))
ANY = judge(MeanBounds(), np.zeros((1, 2, 1, 4)), np.zeros((1, 1, 4)))


def decide(adapter, outcome, winner=0):
    selection = dataclasses.replace(ANY, winner=jnp.int32(winner))
    confirmation = dataclasses.replace(ANY, outcome=jnp.array([outcome, Outcome.BETTER], jnp.int32))
    decision, _ = adapter.decide(0, (), undecided(MODEL, 1), selection, confirmation)
    return int(decision.move), bool(decision.promote)


@pytest.mark.parametrize(
    ("outcome", "take", "keep"),
    [
        (Outcome.BETTER, (Move.TAKE, True), (Move.TAKE, True)),
        (Outcome.EQUIVALENT, (Move.TAKE, False), (Move.KEEP, False)),
        (Outcome.UNDECIDED, (Move.TAKE, False), (Move.KEEP, False)),
        (Outcome.WORSE, (Move.RESTORE, False), (Move.RESTORE, False)),
    ],
)
def test_promote_follows_the_verdict_on_the_winner(outcome, take, keep):
    assert decide(Promote(), outcome) == take
    assert decide(Promote(undecided="keep"), outcome) == keep


@pytest.mark.parametrize("adapter", [Promote(), Accept()])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_nothing_moves_without_a_winner(adapter, outcome):
    assert decide(adapter, outcome, winner=-1) == (Move.KEEP, False)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_accept_takes_every_winner(outcome):
    assert decide(Accept(), outcome) == (Move.TAKE, True)


@pytest.mark.parametrize(
    ("move", "promote", "current", "incumbent"),
    [
        (Move.KEEP, False, 0, -1),
        (Move.TAKE, False, 5, -1),
        (Move.TAKE, True, 5, 5),
        (Move.RESTORE, False, -1, -1),
        (Move.KEEP, True, 0, 0),
    ],
)
def test_variables_change_hands_as_decided(move, promote, current, incumbent):
    decision = dataclasses.replace(
        undecided(MODEL, 0), move=jnp.int32(move), promote=jnp.asarray(promote), aims=jnp.array([2.0])
    )
    after = ev3x.core.adapt.move(MODEL, {"w": jnp.array([5.0])}, decision)
    assert (float(after.current["w"][0]), float(after.incumbent["w"][0])) == (current, incumbent)
    assert after.aims.tolist() == [2.0]


def test_an_incumbent_of_another_shape_stays_as_it_is():
    grown = dataclasses.replace(MODEL, current={"w": jnp.zeros(3)})
    for move, current in ((Move.KEEP, 0), (Move.TAKE, 5)):
        decision = dataclasses.replace(undecided(MODEL, 0), move=jnp.int32(move), promote=jnp.asarray(True))
        after = ev3x.core.adapt.move(grown, {"w": jnp.full(3, 5.0)}, decision, succeeds=False)
        assert after.current["w"].tolist() == 3 * [current] and after.incumbent["w"].tolist() == [-1]
    restore = dataclasses.replace(undecided(MODEL, 0), move=jnp.int32(Move.RESTORE))
    assert int(ev3x.core.adapt.without_restore(restore).move) == Move.TAKE
