"""Growth on trial: after patience, keeping the function, and undone unless the grown model proves itself."""

import dataclasses
import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Shift, Wide, evolver, examples, make, method, same, sgd, splits

import ev3x
from ev3x.builtin.adapters.accept import Accept
from ev3x.builtin.adapters.base import enlarged, verify
from ev3x.builtin.adapters.grow import Grow
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.reweight import Reweight
from ev3x.builtin.adapters.synergy import Synergy
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.budgets.per_round import PerRound
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D
from ev3x.core import loop
from ev3x.core.adapt import undecided


@dataclasses.dataclass(frozen=True)
class Growing(Wide):
    """A toy that widens, in two ways that keep its function and one that does not."""

    @property
    def growths(self):
        return ("zeros", "halves", "wrong")

    def grow(self, how, key, variables):
        def grown(x):
            pair = {"zeros": [x, jnp.zeros_like(x)], "halves": [x / 2, x / 2], "wrong": [x, x]}
            return jnp.concatenate(pair[how])

        return dataclasses.replace(self, width=2 * self.width), jax.tree.map(grown, variables)


TASK = Growing()


def growing(*proposers, task=TASK, **options):
    grow = Grow(**{"patience": 2, "how": ("zeros", "halves"), **options})
    proposers = proposers or (Shift((0.0,)),)
    confirm = Paired(block=256, blocks=2)
    return evolver(*proposers, task=task, adapters=(Promote(), grow), confirm=confirm, budget=PerRound())


def widths(run, state, rounds):
    """The widths of current and incumbent after each round."""
    seen = []
    for _ in range(rounds):
        state, _ = run.round(state)
        seen.append(tuple(len(v["params"]["b"]) for v in (state.model.current, state.model.incumbent)))
    return seen, state


def test_growth_comes_after_patience_and_a_model_that_does_not_prove_itself_is_undone():
    run = growing()
    start = run.init(0)
    seen, state = widths(run, start, 5)
    # Shift by 0 proposes the current model: it is never better than the incumbent, in whatever shape.
    assert seen == [(1, 1), (2, 1), (2, 1), (1, 1), (1, 1)]
    assert run.plan.champion is None and run.plan.task == TASK
    assert same(state.model.current, start.model.incumbent) and same(state.model.incumbent, start.model.incumbent)
    assert state.adapters["grow"].tried.tolist() == [1, 0] and int(state.adapters["grow"].size) == 0


def test_the_update_just_selected_grows_and_the_incumbent_stays():
    run = growing(Shift((1e-4,)), patience=3)
    seen, state = widths(run, run.init(0), 3)
    assert seen[-1] == (2, 1)
    grown, _ = TASK.grow("zeros", None, run.init(0).model.current)
    first = growing().init(0).model.current["params"]
    # Three shifts were taken, the last one in the round that grew.
    np.testing.assert_allclose(state.model.current["params"]["w"][0], first["w"][0] + 3e-4, atol=1e-6)
    assert (state.model.current["params"]["w"][1] == 0).all() and grown.width == 2


def test_a_grown_model_that_proves_itself_is_promoted_in_its_new_shape():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd(0.5)], length=40)
    # A model that knows nothing: the first trained one is better, but patience 1 has grown it by then.
    run = growing(proposer, patience=1, most=1)
    state = run.init(0, {"params": {"w": jnp.zeros((1, 2)), "b": jnp.zeros(1)}})
    still = Shift((0.0,))
    waiting = growing(still, patience=1, most=1)
    grown, _ = waiting.round(waiting.init(0, state.model.current))
    assert waiting.plan.champion == TASK and waiting.plan.task == Growing(width=2)
    run.plan = dataclasses.replace(run.plan, task=waiting.plan.task, champion=TASK)
    proposers = {"trajectories": proposer.init(run.plan.site, grown.key, grown.model.current)}
    trained, record = run.round(dataclasses.replace(grown, proposers=proposers))
    assert bool(record.decision.promote) and run.plan.champion is None
    assert same(trained.model.current, trained.model.incumbent)
    assert trained.model.incumbent["params"]["w"].shape == (2, 2)
    assert not bool(trained.adapters["grow"].trial) and int(trained.adapters["grow"].size) == 1


@pytest.mark.long
def test_nothing_is_rolled_back_while_a_grown_model_is_on_trial_and_training_goes_on():
    # Far from the incumbent in the wrong direction: worse, which would restore the incumbent.
    run = growing(Shift((-50.0,)), patience=1)
    state = run.init(0, {"params": {"w": jnp.full((1, 2), 5.0), "b": jnp.zeros(1)}})
    state, first = run.round(state)
    assert int(first.decision.calls[1]) > 1 and run.plan.champion == TASK
    _, second = run.round(state)
    assert int(second.confirmation.outcome[0]) == ev3x.Outcome.WORSE
    assert int(second.decision.move) == ev3x.Move.TAKE


@pytest.mark.long
def test_without_a_gate_a_grown_model_is_accepted_at_once_and_nothing_is_undone():
    run = growing(patience=2, most=1)
    run.plan = dataclasses.replace(
        run.plan, method=method(Shift((0.0,)), adapters=(Accept(), Grow(patience=2, most=1)))
    )
    seen, state = widths(run, run.init(0), 6)
    assert seen == [(1, 1), (2, 1), (2, 2), (2, 2), (2, 2), (2, 2)]
    assert run.plan.champion is None and not bool(state.adapters["grow"].trial)


@pytest.mark.parametrize(
    ("adapters", "text"),
    [
        ((Grow(), Accept()), "grow must stand after an adapter that promotes"),
        ((Promote(), Grow(), Accept()), "grow must stand after all adapters that promote, but accept comes later"),
        ((Promote(), Grow(), Synergy()), "synergy and grow both grow the model: choose one"),
        ((Reweight(), Promote()), "reweight must stand after an adapter that promotes"),
    ],
)
def test_adapters_that_cannot_stand_where_they_do_are_refused(adapters, text):
    with pytest.raises(ValueError, match=text):
        method(Shift((0.0,)), adapters=adapters)


def test_a_method_with_two_adapters_that_promote_says_that_neither_waits_for_the_other():
    said = "adapters: 'promote' and 'accept' promote, each by itself: .* 'accept' has the last word on the move"
    with pytest.warns(UserWarning, match=said):
        method(Shift((0.0,)), adapters=(Promote(), Accept()))


def test_a_method_that_confirms_by_what_only_ranks_says_that_nothing_can_be_promoted():
    sound = method(Shift((0.0,)), adapters=(Promote(),))
    with pytest.warns(UserWarning, match="confirm: MeanBounds only ranks, .* nothing can be promoted on its word"):
        dataclasses.replace(sound, confirm=MeanBounds())


@dataclasses.dataclass(frozen=True)
class Sneaky(Accept):
    """Promotes, and does not say so."""

    promotes = False


def test_a_promotion_behind_its_back_is_told():
    run = growing(patience=1)
    adapters = (Promote(), Grow(patience=1), Sneaky())
    run.plan = dataclasses.replace(run.plan, method=method(Shift((0.0,)), adapters=adapters))
    state, _ = run.round(run.init(0))
    with pytest.raises(ValueError, match="promoted behind its back: list it after what promotes"):
        run.round(state)


def test_operations_come_in_turn_and_no_more_stand_than_allowed():
    run = growing(Shift((0.0,)), patience=1, most=1)
    state = run.init(0)
    calls = []
    for _ in range(6):
        state, record = run.round(state)
        calls.append(int(record.decision.calls[1]))
    assert calls == [2, 1, 3, 1, 2, 1]  # grow (zeros), undo, grow (halves), undo, grow (zeros), undo


def test_the_operation_is_learned_from_what_became_of_earlier_growths():
    grow = Grow(patience=1, how=("zeros", "halves"), order="learned")
    state = grow.init(ev3x.Site(TASK), TASK.metrics)
    chosen = []
    for _ in range(40):  # growths by the second operation are always promoted, those by the first never
        calls, state = told(grow, state, promote=False)
        chosen.append(calls - 2)
        last, state = told(grow, state, promote=chosen[-1] == 1)
        assert last == (1 if chosen[-1] == 0 else 0)
    # UCB1 by hand.
    tried, proven, expected = np.zeros(2), np.zeros(2), []
    for _ in range(40):
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = proven / tried + np.sqrt(2 * np.log(max(tried.sum(), 1)) / tried)
        op = int(np.argmax(np.where(tried == 0, np.inf, bound)))
        tried[op] += 1
        proven[op] += op
        expected.append(op)
    assert chosen == expected and sum(chosen) > 30
    assert state.tried.tolist() == tried.tolist() and state.proven.tolist() == proven.tolist()


def told(grow, state, promote):
    """The call and the next state after a round in which the winner was promoted, or not."""
    verdict = types.SimpleNamespace(outcome=jnp.array([ev3x.Outcome.BETTER if promote else ev3x.Outcome.UNDECIDED]))
    model = ev3x.Model(current={}, incumbent={}, aims=jnp.ones(1))
    decision = dataclasses.replace(undecided(model, 1), promote=jnp.asarray(promote))
    decision, state = grow.decide(0, state, decision, None, verdict)
    return int(decision.calls[0]), state


def grown_once(run):
    state = run.init(3)
    while run.plan.task == TASK:
        state, _ = run.round(state)
    return state


@pytest.mark.long
def test_optimizer_states_go_on_where_the_model_does():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd(0.3, momentum=0.9)], length=5)
    run = growing(proposer, how=("zeros",), patience=1)
    state = grown_once(run)
    trace = state.proposers["trajectories"].optimizers[0][0].trace
    assert trace["w"].shape == (1, 2, 2) and jnp.abs(trace["w"][0, 0]).sum() > 0  # one pair, two units, the old first
    assert (trace["w"][0, 1] == 0).all() and (trace["b"][0, 1] == 0).all()
    afresh = growing(proposer, how=("zeros",), patience=1, morphism=False)
    state = grown_once(afresh)
    assert not any(x.any() for x in jax.tree.leaves(state.proposers["trajectories"].optimizers))


@pytest.mark.parametrize("name", [pytest.param("zeros", marks=pytest.mark.long), "halves"])
def test_a_morphism_is_verified_on_a_training_batch(name):
    run = growing(patience=1, how=(name,), tolerance=1e-6)
    run.round(run.init(0))
    assert run.plan.task.width == 2


def test_what_is_no_morphism_is_refused_unless_it_is_not_meant_to_be_one():
    run = growing(patience=1, how=("wrong",))
    with pytest.raises(ValueError, match=r"grow: 'wrong' of Growing is no morphism: it changes a prediction by \d"):
        run.round(run.init(0))
    fresh = growing(patience=1, how=("wrong",), morphism=False)
    state, _ = fresh.round(fresh.init(0))
    assert state.model.current["params"]["w"].shape == (2, 2)


def test_tasks_that_cannot_grow_and_unknown_operations_are_refused():
    with pytest.raises(ValueError, match="grow: the task Wide cannot grow: it has no `growths`"):
        growing(task=Wide()).init(0)
    with pytest.raises(ValueError, match="grow: unknown operation 'zero'; did you mean 'zeros'"):
        growing(how=("zero",)).init(0)


def counting():
    """A proposer of the current model, and the widths that it was traced for."""
    traced = []

    @dataclasses.dataclass(frozen=True)
    class Counting(Shift):
        def propose(self, site, key, current, state, explore):
            traced.append(site.task.width)
            return super().propose(site, key, current, state, explore)

    return Counting((0.0,)), traced


def test_rounds_between_growths_compile_once_per_shape():
    still, traced = counting()
    run = growing(still, patience=3, most=1)
    state = run.init(0)
    for _ in range(12):  # grows, is undone, grows, is undone
        state, _ = run.chunk(state, loop.Limit(jnp.int32(1)), capacity=1)
    assert sorted(traced) == [1, 2]


@pytest.mark.long
def test_a_size_compiles_on_trial_and_alone():
    still, traced = counting()
    run = growing(patience=1, most=1)
    adapters = (Accept(), Grow(patience=1, how=("zeros", "halves"), most=1))
    run.plan = dataclasses.replace(run.plan, method=method(still, adapters=adapters))
    state = run.init(0)
    for _ in range(5):  # grows, is accepted on trial, goes on alone
        state, _ = run.chunk(state, loop.Limit(jnp.int32(1)), capacity=1)
    assert traced == [1, 2, 2]


@pytest.mark.long
@pytest.mark.bits
def test_many_rounds_in_one_call_are_the_same_rounds_one_by_one():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd(0.3, momentum=0.9)], length=5)
    a, b = (growing(proposer, patience=2) for _ in range(2))
    together, records = a.rounds(a.init(3), 8)
    single = b.init(3)
    for _ in range(8):
        single, _ = b.round(single)
    assert a.plan == b.plan and same(together, single) and records.decision.calls[:, 1].any()


STUDENT = DistillMnist1D(hidden=(8, 6))


@functools.cache
def student():
    with jax.numpy_dtype_promotion("standard"):
        variables = STUDENT.init(jax.random.key(0))
    moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), variables)
    return moved, {"x": jax.random.normal(jax.random.key(2), (32, 40))}


@pytest.mark.loose_types("flax mixes integers and floats")
@pytest.mark.parametrize(("how", "hidden"), [("widen", (16, 12)), ("deepen", (8, 6, 6))])
def test_the_student_of_distill_mnist1d_grows_and_computes_the_same(how, hidden):
    variables, batch = student()
    task, grown = STUDENT.grow(how, jax.random.key(3), variables)
    assert task == DistillMnist1D(hidden=hidden)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), grown) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)
    change = np.abs(task.predict(grown, batch) - STUDENT.predict(variables, batch)).max()
    assert change <= 1e-5
    if how == "widen":  # what was added can learn: its inputs are random, so its outputs get a gradient
        slope = jax.grad(lambda v: task.predict(v, batch).sum())(grown)["params"]["hidden_1"]["kernel"]
        assert jnp.abs(slope[8:]).sum() > 0


def test_a_student_without_hidden_layers_cannot_grow():
    assert DistillMnist1D(hidden=()).growths == ()


def test_toys_grow_to_what_they_were(_=None):
    variables, batch = TASK.init(jax.random.key(0)), make(jax.random.key(1), 16)
    for how in ("zeros", "halves"):
        task, grown = TASK.grow(how, None, variables)
        np.testing.assert_allclose(task.predict(grown, batch), TASK.predict(variables, batch), rtol=1e-6)


def shaken(key, batch):
    return {**batch, "x": batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)}


def test_growth_is_verified_on_varied_examples_too():
    explore = ev3x.Varied(examples(5, 64), 8, vary=shaken)
    run = evolver(Shift((0.0,)), task=TASK, data=splits(explore=explore), adapters=(Promote(), Grow(patience=1)))
    state, _ = run.round(run.init(0))
    assert state.model.current["params"]["w"].shape == (2, 2)


@pytest.mark.long
def test_the_block_of_a_feed_is_finished_after_a_growth():
    split = splits()
    stream = ev3x.Stream(lambda: (make(jax.random.key(i), 64) for i in itertools.count()), batches=4)
    run = evolver(
        Shift((0.0,)),
        task=TASK,
        data=ev3x.Feed(stream, split.assess, split.decide, rounds=4),
        adapters=(Promote(), Grow(patience=3, how=("zeros",))),
        confirm=Paired(block=256, blocks=2),
    )
    state, records = run.rounds(run.init(0), 4)
    assert records.round.tolist() == [0, 1, 2, 3] and run.plan.task.width == 2
    state, records = run.rounds(state, 4)
    assert records.round.tolist() == [4, 5, 6, 7] and run.plan.task.width == 1


def test_a_model_that_is_not_finite_may_grow_all_the_same():
    broken = {"params": {"w": jnp.full((1, 2), jnp.nan), "b": jnp.zeros(1)}}
    before = ev3x.Form(TASK, None, ev3x.Model(current=broken, incumbent=broken, aims=jnp.ones(1)))
    batch = make(jax.random.key(0), 8)
    verify("grow", before, enlarged(jax.random.key(1), before, "zeros", True), batch, 1e-6)
    healed = {"params": {"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}}
    after = ev3x.Form(Growing(width=2), TASK, dataclasses.replace(before.model, current=healed))
    with pytest.raises(ev3x.TransformError, match="changes a prediction by inf"):
        verify("grow", before, after, batch, 1e-6)
