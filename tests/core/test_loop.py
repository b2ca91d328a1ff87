"""One round and many: who wins, what moves, what is spent, and that the same key gives the same bits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Shift, Toy, Wide, evolver, examples, method, right, same, sgd, splits

import ev3x
from ev3x.builtin.adapters.accept import Accept
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.shadow import Shadow
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.published import Published
from ev3x.builtin.proposers.hyperparameters import Hyperparameters
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.types import Move


def at(x):
    return {"params": {"w": jnp.full(2, float(x)), "b": jnp.zeros(())}}


def start(run, current, incumbent=None):
    """The first state with these models in play."""
    state = run.init(0, at(current))
    if incumbent is None:
        return state
    return dataclasses.replace(state, model=dataclasses.replace(state.model, incumbent=at(incumbent)))


def place(variables):
    return float(variables["params"]["w"][0])


@pytest.mark.parametrize(
    ("by", "undecided", "before", "outcome", "after"),
    [
        (2.0, "take", (-1.0, -0.5), ev3x.Outcome.BETTER, (1.0, 1.0)),
        (-2.0, "take", (1.0, 0.5), ev3x.Outcome.WORSE, (0.5, 0.5)),
        (0.25, "take", (1.0, 0.5), ev3x.Outcome.UNDECIDED, (1.25, 0.5)),
        (0.25, "keep", (1.0, 0.5), ev3x.Outcome.UNDECIDED, (1.0, 0.5)),
    ],
)  # places are those of current and incumbent; on either side of 0 all have the same accuracy
def test_the_verdict_on_the_winner_moves_the_model(by, undecided, before, outcome, after):
    run = evolver(Shift((by,)), adapters=(Promote(undecided),), confirm=Paired(block=512, blocks=2))
    state, records = run.rounds(start(run, *before), 1)
    assert records.confirmation.outcome[0, 0] == outcome
    assert (place(state.model.current), place(state.model.incumbent)) == after
    assert bool(records.decision.promote[0]) == (outcome == ev3x.Outcome.BETTER)


def test_without_a_gate_every_winner_is_promoted():
    run = evolver(Shift((-1.0, -2.0)), adapters=(Accept(),))
    state, record = run.round(start(run, 0.5))
    assert place(state.model.current) == place(state.model.incumbent) == -0.5
    assert int(record.selection.winner) == 0 and bool(record.decision.promote)


@pytest.fixture(scope="module")
def shifting():
    """A candidate that is good, one that is not finite, and one that may not win."""
    return evolver(Shift(("nan", 1.0, 1.1), (True, True, False)))


def test_candidates_that_are_not_finite_or_not_eligible_lose(shifting):
    state, record = shifting.round(start(shifting, 0.0))
    assert record.eligible.tolist() == [False, True, False]
    assert int(record.selection.winner) == 1
    assert np.isneginf(record.selection.value).tolist() == [True, False, True]
    assert place(state.model.current) == 1.0


@pytest.mark.parametrize("by", [("nan", "inf"), (1.0, 2.0)])
def test_when_nobody_can_win_nothing_moves_and_no_level_is_spent(by):
    allowed = (by[0] == "nan",) * 2
    run = evolver(Shift(by, allowed))
    before = start(run, 0.5, 0.6)
    state, records = run.rounds(before, 3)
    assert records.selection.winner.tolist() == [-1] * 3
    assert not records.decision.promote.any() and (records.decision.move == ev3x.Move.KEEP).all()
    assert same(state.model, before.model) and same(state.budget, before.budget)
    assert len(set(records.alpha.tolist())) == 1


def moody(logits, batch):
    """Not a number for a model that is sure of itself."""
    return jnp.where(jnp.abs(logits).max() > 50, jnp.nan, right(logits, batch).astype(jnp.float32))


def test_a_candidate_whose_scores_are_nan_loses_and_the_record_says_so():
    run = evolver(Shift((100.0, 0.5)), task=Toy((ev3x.Metric("moody", moody),)))
    state, record = run.round(start(run, 0.0))
    assert record.eligible.tolist() == [True, True]
    assert int(record.selection.winner) == 1 and np.isneginf(record.selection.value[0])
    assert place(state.model.current) == 0.5


@pytest.mark.parametrize("losers", ["rewind", "inherit"])
def test_a_nan_loss_leaves_no_trace_in_the_state(losers):
    proposer = Trajectories(losses=["broken", "xent"], optimizers=[sgd(momentum=0.9)], length=3, losers=losers)
    run = evolver(proposer)
    state, records = run.rounds(run.init(0), 3)
    assert records.eligible.tolist() == [[False, True]] * 3
    assert (records.selection.winner == 1).all() and np.isneginf(records.selection.value[:, 0]).all()
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((state.model, state.proposers)))


PAIR = Trajectories(losses=["xent"], optimizers=[sgd(), sgd(1.0)], length=5)
SAMPLED = Hyperparameters(
    loss="xent", optimizer=sgd(), ranges={"learning_rate": {"low": 0.01, "high": 1.0, "log": True}}, count=2, length=5
)


@pytest.fixture(scope="module")
def training():
    run = evolver(PAIR, SAMPLED)
    state = run.init(0)
    return run, state, *run.rounds(state, 4)


@pytest.mark.bits
def test_the_same_key_gives_the_same_bits_and_another_key_others(training):
    run, _, after, records = training
    again, second = evolver(PAIR, SAMPLED).rounds(run.init(0), 4)
    assert same((after, records), (again, second))
    other, _ = run.rounds(run.init(1), 4)
    assert not same(after.model.current, other.model.current)


@pytest.mark.bits
def test_rounds_in_parts_are_the_rounds_at_once(training):
    run, state, after, records = training
    half, first = run.rounds(state, 2)
    end, second = run.rounds(half, 2)
    assert same(after, end)
    assert same(records, jax.tree.map(lambda *x: jnp.concatenate(x), first, second))


def test_a_second_proposer_does_not_change_the_candidates_of_the_first(training):
    _, _, _, records = training
    run = evolver(PAIR)
    _, alone = run.rounds(run.init(0), 1)
    np.testing.assert_array_equal(alone.selection.mean[0], records.selection.mean[0, :2])


def test_candidates_stand_in_the_order_of_their_labels(training):
    run, _, _, records = training
    assert run.plan.labels() == (
        "trajectories/xent | sgd(learning_rate=0.1)",
        "trajectories/xent | sgd(learning_rate=1.0)",
        "hyperparameters/sample 0",
        "hyperparameters/sample 1",
    )
    assert records.selection.value.shape == (4, 4) and records.steps.tolist() == [20] * 4
    assert records.notes["hyperparameters"]["learning_rate"].shape == (4, 2)


@pytest.mark.bits
@pytest.mark.parametrize("chunk", [1, 2])
def test_layouts_agree_to_the_tolerance_of_floats(training, chunk):
    _, state, _, records = training
    run = evolver(PAIR, SAMPLED, layout=ev3x.Layout(chunk=chunk))
    _, others = run.rounds(state, 1)
    np.testing.assert_allclose(others.selection.mean[0], records.selection.mean[0], atol=0.02)
    a, b = (r.notes["hyperparameters"]["learning_rate"][0] for r in (others, records))
    np.testing.assert_allclose(a, b, rtol=1e-6)


def finite(n, reuse=False):
    return splits(decide=ev3x.Decide(examples(3, n), reuse=reuse))


def test_when_the_decide_split_is_spent_the_rounds_go_on_and_promote_nothing():
    run = evolver(Shift((2.0,)), confirm=Published(block=64, blocks=2, z=0.1), data=finite(3 * 64 + 10))
    state, records = run.rounds(run.init(0), 6)
    outcomes, examples = records.confirmation.outcome[:, 0].tolist(), records.confirmation.examples.tolist()
    assert examples[:2] == [128, 64 + 10] and outcomes[2:] == [ev3x.Outcome.SPENT] * 4
    assert int(state.spent) == 4 and not records.uses.any()
    assert not records.decision.promote[2:].any() and (records.decision.move[2:] == Move.TAKE).all()
    charged, _ = run.rounds(run.init(0), 2)
    assert same(state.budget, charged.budget)


def test_evidence_that_is_read_again_is_counted_in_the_record():
    run = evolver(Shift((0.1,)), data=finite(4 * 128, reuse=True))
    _, records = run.rounds(run.init(0), 9)
    assert records.uses.tolist() == [0] * 4 + [1] * 4 + [2]


def test_in_the_shadow_everything_is_recorded_and_nothing_changes():
    data = splits()
    apply = evolver(Shift((2.0, -2.0)), data=data)
    shadow = evolver(Shift((2.0, -2.0)), data=data, adapters=(Shadow(),))
    start = shadow.init(0)
    _, would = apply.round(apply.init(0))
    state, records = shadow.rounds(start, 5)
    assert bool(would.decision.promote) and records.decision.promote[0] == would.decision.promote
    assert (records.decision.move[0], records.decision.applied.any()) == (would.decision.move, False)
    assert same(state.model, start.model) and int(state.round) == 5
    assert same(records.confirmation.reference[0], would.confirmation.reference)


@dataclasses.dataclass(frozen=True)
class Widen(ev3x.Adapter):
    """Calls the host after every third round until the model is twice as wide."""

    def init(self, site, metrics):
        return jnp.int32(0)

    def decide(self, index, state, decision, selection, confirmation):
        call = jnp.where(state == 2, 1, 0)
        return dataclasses.replace(decision, calls=decision.calls.at[index].set(call)), state + 1

    def transform(self, key, call, state, form, probe):
        def pad(x):
            return jnp.concatenate([x, jnp.zeros_like(x)])

        wider = {name: jax.tree.map(pad, getattr(form.model, name)) for name in ("current", "incumbent")}
        task = dataclasses.replace(form.task, width=2 * form.task.width)
        return state, dataclasses.replace(form, task=task, model=dataclasses.replace(form.model, **wider))


def test_a_call_for_the_host_comes_back_early_and_the_run_goes_on_with_the_wider_model():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd(momentum=0.9)], length=3)
    run = evolver(proposer, task=Wide(), adapters=(Promote(), Widen()))
    state, first = run.chunk(run.init(0), ev3x.core.loop.Limit(jnp.int32(8)), capacity=8)
    assert first.round.tolist() == [0, 1, 2]
    assert first.decision.calls.tolist() == [[0, 0]] * 2 + [[0, 1]]
    assert run.plan.task == Wide(width=2)
    assert state.model.current["params"]["w"].shape == (2, 2)
    traces = [x.shape for x in jax.tree.leaves(state.proposers["trajectories"].optimizers) if x.ndim == 3]
    assert traces == [(1, 2, 2)]
    state, rest = run.rounds(state, 2)
    assert rest.round.tolist() == [3, 4] and int(state.adapters["widen"]) == 5


def test_rounds_join_what_came_before_and_after_a_call():
    run = evolver(Shift((0.1,)), task=Wide(), adapters=(Promote(), Widen()))
    state, records = run.rounds(run.init(0), 5)
    assert records.round.tolist() == [0, 1, 2, 3, 4] and state.model.current["params"]["b"].shape == (2,)


def test_given_variables_become_current_and_incumbent_without_sharing_memory(shifting):
    given = at(0.25)
    state = shifting.init(0, given)
    assert same(state.model.current, given) and same(state.model.incumbent, given)
    everything = jax.tree.leaves((given, state.model.current, state.model.incumbent))
    pointers = {x.unsafe_buffer_pointer() for x in everything}
    assert len(pointers) == 6


def test_plans_that_mean_the_same_are_equal_and_hash_alike():
    a, b = (ev3x.Plan(Toy(), method(PAIR, SAMPLED)) for _ in range(2))
    assert a == b and hash(a) == hash(b)
    assert a != ev3x.Plan(Toy(), method(PAIR))
