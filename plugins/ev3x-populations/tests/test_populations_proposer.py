"""In rounds: units per lane, parts of rungs, who may win, and what a trial is compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_populations.proposer import Dehb

import ev3x
from ev3x.testing import TinyTask, splits

OPTIONS = {
    "loss": "logistic",
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "space": {"learning_rate": {"low": 1e-3, "high": 1.0, "log": True}, "temperature": {"ordinal": [1.0, 2.0]}},
    "lanes": 2,
    "length": 3,
    "max_fidelity": 3,
}
ROUNDS = 40


@pytest.fixture(scope="module")
def told():
    """Records and the states of the proposer before each round."""
    host = ev3x.Host()
    proposer = Dehb.build(OPTIONS)
    method = ev3x.Method(
        [("dehb", proposer)],
        select=host.build("assessor", "mean_bounds", {"block": 64}),
        confirm=host.build("assessor", "published", {"block": 64}),
        adapters=[host.build("adapter", "promote")],
        budget=host.build("budget", "over_run"),
    )
    evolver = ev3x.Evolver(TinyTask(), method, splits())
    state, states, records = evolver.init(0), [], []
    for _ in range(ROUNDS):
        states.append(state.proposers["dehb"])
        state, record = evolver.rounds(state, 1)
        records.append(record)
    return proposer, [*states, state.proposers["dehb"]], records


def test_a_rung_is_worked_off_in_parts_a_unit_per_lane_and_round(told):
    proposer, states, records = told
    steps = [int(r.steps[0]) for r in records]
    assert max(steps) == proposer.lanes * proposer.length and min(steps) > 0
    # (1, 3, 3): three trials at one unit, one at three, promoted, which has one of them behind it; the check, promoted
    # or evolved, from the start; then two trials at full fidelity.
    assert [(r.level, r.n) for r in proposer.dehb.cycle] == [(0, 3), (1, 1), (1, 1), (1, 2)]
    at = [(int(s.search.step), int(s.search.part), int(s.done)) for s in states]
    first = [(0, 0, 0), (0, 2, 0), (1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 0, 1), (2, 0, 2)]
    assert at[:11] == [*first, (3, 0, 0), (3, 0, 1), (3, 0, 2), (4, 0, 0)]
    assert steps[:10] == [6, 3, 3, 3, 3, 3, 3, 6, 6, 6]


def test_only_trials_that_are_done_at_full_fidelity_may_win(told):
    proposer, states, records = told
    for before, after, record in zip(states, states[1:], records, strict=False):
        full = proposer.dehb.rung(int(before.search.step)).level == proposer.dehb.top
        finished = int(after.done) == 0
        may = np.asarray(record.eligible[0])
        assert not may[proposer.lanes :].any(), "targets were judged when they were trials"
        assert may[: proposer.lanes].any() == (full and finished)
    assert any(bool(r.decision.promote[0]) for r in records), "the confirm stage took one"


def test_a_promoted_trial_goes_on_from_the_rung_below(told):
    proposer, states, records = told
    before, notes = states[2], records[2].notes["dehb"]
    best = int(np.argmin(np.asarray(before.search.value[0])[:3]))
    x = before.search.x[0, best]
    assert notes["learning_rate"][0][0] == pytest.approx(float(proposer.space.values(x)["learning_rate"]))
    assert notes["units"][0][0] == 2, "one of the rung below, and one more"


def test_a_target_counts_by_its_value_beside_its_trial(told):
    """The targets of finished rungs have the value that they had on the examples of that round."""
    proposer, states, records = told
    checked = 0
    for before, after, record in zip(states, states[1:], records, strict=False):
        level = proposer.dehb.rung(int(before.search.step)).level
        turn, size = int(before.search.turn[level]), proposer.dehb.sizes[level]
        if int(after.done) or proposer.dehb.rung(int(before.search.step)).check:
            continue
        if before.search.fresh[level, turn % size]:
            continue
        trial, target = (-float(record.selection.mean[0, i, 0]) for i in (0, proposer.lanes))
        assert float(after.search.value[level, turn % size]) == pytest.approx(min(trial, target), abs=1e-6)
        checked += 1
    assert checked > 2


def test_individuals_that_stay_keep_their_models(told):
    proposer, states, _ = told
    before, after = states[-9], states[-1]
    same = np.concatenate(
        [
            (np.asarray(before.search.x[level, :n]) == np.asarray(after.search.x[level, :n])).all(-1)
            for level, n in enumerate(proposer.dehb.sizes)
        ]
    )
    for old, new in zip(jax.tree.leaves(before.models), jax.tree.leaves(after.models), strict=True):
        assert np.array_equal(np.asarray(old)[same], np.asarray(new)[same])
    assert same.any() and not same.all()


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ({"rate": {"low": 0.1, "high": 1.0}}, r"dehb: space: unknown parameter 'rate'"),
        (
            {"learning_rate": {"low": 0.1, "high": 1.0}, "temperatur": {"ordinal": [1, 2]}},
            r"did you mean 'temperature'",
        ),
    ],
)
def test_a_space_that_names_nothing_is_refused(space, text):
    task = TinyTask()
    current = task.init(jax.random.key(0))
    with pytest.raises(ValueError, match=text):
        Dehb.build({**OPTIONS, "space": space}).init(ev3x.Site(task), jax.random.key(0), current)


def test_what_a_condition_rules_out_has_its_default():
    space = {
        "temperature": {"ordinal": [1.0, 2.0]},
        "learning_rate": {"low": 0.5, "high": 1.0, "when": {"temperature": [2.0]}},
    }
    proposer = Dehb.build({**OPTIONS, "space": space})
    found = proposer._values(ev3x.Site(TinyTask()), jnp.array([[0.2, 0.0], [0.8, 0.0]], jnp.float32))
    assert np.allclose(found["learning_rate"], [0.1, 0.5]) and np.allclose(found["temperature"], [1.0, 2.0])
