"""EvoGrad and OneStep as proposers: what they train, what they learn, and what becomes of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_evograd import EvoGrad, OneStep
from evograd_problems import Bare, Point, builtin, evolver, explore, same, splits

import ev3x

KEY = jax.random.key(21)
SGD = {"name": "sgd", "learning_rate": 0.1}
MOMENTUM = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}
RANGE = {"scale": {"low": 0.5, "high": 3.0}}
BOTH = pytest.mark.parametrize("kind", [EvoGrad, OneStep])


def learner(kind=OneStep, **options):
    """A small learner; of EvoGrad, one whose steps are about as large as those of OneStep."""
    size = dict(copies=4, sigma=0.1, antithetic=True) if kind is EvoGrad else {}
    given = dict(loss="moved", meta_loss="there", optimizer=SGD, meta_optimizer=SGD, length=5)
    return kind.build({**given, **size, **options})


def started(proposer, task=None):
    task = task or Point()
    return proposer.init(ev3x.Site(task), KEY, task.init(KEY))


@functools.partial(jax.jit, static_argnums=(0, 1))
def proposed(proposer, task, state):
    return proposer.propose(ev3x.Site(task), KEY, task.init(KEY), state, explore())


@functools.cache
def candidate():
    """A learner, its first state and its candidate, with momentum in both optimizers."""
    proposer = learner(optimizer=MOMENTUM, meta_optimizer=MOMENTUM)
    state = started(proposer)
    return proposer, state, proposed(proposer, Point(), state)


def moved(losers="keep"):
    """The same, of a learner that treats losers in this way."""
    proposer, state, candidates = candidate()
    return dataclasses.replace(proposer, losers=losers), state, candidates


def told(proposer, state, candidates, *, won=False, eligible=True, move=None, promote=False):
    """The state after a round with this outcome."""
    move = move or (ev3x.Move.TAKE if won else ev3x.Move.KEEP)
    decision = ev3x.Decision(jnp.int32(move), jnp.asarray(promote), jnp.ones(1), jnp.zeros(1, bool))
    verdict = ev3x.Outcome.BETTER if promote else ev3x.Outcome.UNDECIDED
    feedback = ev3x.Feedback(jnp.zeros(1), jnp.zeros((1, 1)), jnp.array([won]), jnp.int32(verdict), decision)
    candidates = dataclasses.replace(candidates, eligible=jnp.array([eligible]))
    return proposer.learn(ev3x.Site(Point()), KEY, state, candidates, feedback)


# --- what is trained


PLAIN = builtin("proposer", "trajectories", losses=["moved"], optimizers=[MOMENTUM], length=5)
ODD = Point(statistics=True, defaults=(1.3, 0.7))


@pytest.mark.parametrize(("kind", "task"), [(EvoGrad, Point()), (EvoGrad, ODD), (OneStep, ODD)])
def test_with_a_meta_learning_rate_of_zero_the_candidate_is_that_of_plain_training(kind, task):
    still = learner(kind, optimizer=MOMENTUM, meta_optimizer={"name": "sgd", "learning_rate": 0.0})
    got, expected = (proposed(p, task, started(p, task)) for p in (still, PLAIN))
    assert same(got.variables, expected.variables)
    assert got.eligible.tolist() == expected.eligible.tolist() == [True]
    assert int(got.steps) == int(expected.steps) == 5
    assert float(got.notes["scale"][0]) == np.float32(task.hypers["scale"])


def test_the_learned_hyperparameters_reach_the_training():
    assert not same(candidate()[2].variables, proposed(PLAIN, Point(), started(PLAIN)).variables)


@BOTH
def test_a_scale_moves_to_where_the_training_examples_meet_the_target(kind):
    proposer = learner(kind, learn_only=["scale"], length=300)
    candidates = proposed(proposer, Point(), started(proposer))
    assert float(candidates.notes["scale"][0]) == pytest.approx(2.0, abs=0.1)
    np.testing.assert_allclose(candidates.variables["params"]["at"][0], (2.0, 1.0), atol=0.2)
    assert candidates.memo.hypers.keys() == {"scale"}


def test_an_array_moves_to_where_the_training_examples_meet_the_target():
    proposer = learner(EvoGrad, learn_only=["shift"], length=300)
    candidates = proposed(proposer, Point(), started(proposer))
    np.testing.assert_allclose(candidates.memo.hypers["shift"]["by"], (1.0, 0.5), atol=0.1)
    assert candidates.notes == {}  # the record holds numbers, not arrays


def test_what_the_loss_fixes_is_not_learned():
    proposer = learner(loss={"name": "moved", "scale": 1.5})
    assert started(proposer).now.hypers.keys() == {"shift"}
    assert proposer.labels(ev3x.Site(Point())) == ("moved(scale=1.5) | sgd(learning_rate=0.1) | shift",)
    some = learner(loss={"sum": [{"name": "moved", "scale": 1.5}, {"name": "moved"}]})
    assert started(some).now.hypers.keys() == {"scale", "shift"}


def test_the_label_says_what_is_learned():
    site = ev3x.Site(Point())
    assert learner().labels(site) == ("moved | sgd(learning_rate=0.1) | scale, shift",)
    assert learner(learn_only=["shift"]).labels(site) == ("moved | sgd(learning_rate=0.1) | shift",)


def test_the_numbers_are_noted():
    _, _, candidates = moved()
    assert candidates.notes.keys() == {"scale"}
    assert candidates.notes["scale"].tolist() == [float(candidates.memo.hypers["scale"])]
    assert candidates.notes["scale"] != 1.0


# --- ranges


def test_a_range_is_not_overstepped_by_any_number_of_an_array():
    proposer = learner(ranges={"shift": {"low": -0.1, "high": 0.6}}, learn_only=["shift"], length=300)
    shift = proposed(proposer, Point(), started(proposer)).memo.hypers["shift"]["by"]
    np.testing.assert_allclose(shift, (0.6, 0.5), atol=0.1)
    assert float(shift[0]) == np.float32(0.6)


def test_steps_in_a_logarithmic_range_are_steps_of_the_logarithm():
    given = dict(learn_only=["scale"], length=1)
    log = learner(**given, ranges={"scale": {"low": 0.1, "high": 50.0, "log": True}})
    task = Point(defaults=(1.3, 0.0))
    state = started(log, task)
    assert float(state.now.hypers["scale"]) == pytest.approx(np.log(1.3), rel=1e-6)
    before = started(learner(**given), task)
    plain, stepped = (proposed(p, task, s).notes["scale"][0] for p, s in ((learner(**given), before), (log, state)))
    step = float(plain) - 1.3  # is -rate * slope; in the logarithm the slope is 1.3 times as large
    assert step > 0.01
    assert float(stepped) == pytest.approx(1.3 * np.exp(1.3 * step), rel=1e-5)


def test_a_logarithmic_range_ends_where_it_says():
    ranges = {"scale": {"low": 0.5, "high": 1.2, "log": True}}
    proposer = learner(learn_only=["scale"], ranges=ranges, length=100)
    assert float(proposed(proposer, Point(), started(proposer)).notes["scale"][0]) == pytest.approx(1.2, rel=1e-6)


# --- what becomes of what was learned


def test_the_winner_goes_on_with_all_that_it_learned():
    proposer, state, candidates = moved()
    after = told(proposer, state, candidates, won=True)
    assert same(after.now, candidates.memo) and same(after.promoted, state.promoted)


def test_a_promoted_winner_is_what_a_rollback_goes_back_to():
    proposer, state, candidates = moved()
    after = told(proposer, state, candidates, won=True, promote=True)
    assert same(after.now, candidates.memo) and same(after.promoted, candidates.memo)


def test_of_a_loser_the_hyperparameters_stay():
    proposer, state, candidates = moved()
    after = told(proposer, state, candidates)
    assert same(after.now.hypers, candidates.memo.hypers)
    assert same(after.now.meta_optimizer, candidates.memo.meta_optimizer)
    assert same(after.now.optimizer, state.now.optimizer)
    assert same(after.promoted, state.promoted)
    assert not same(after.now.hypers, state.now.hypers) and not same(candidates.memo.optimizer, state.now.optimizer)


def test_of_a_loser_that_is_to_be_rewound_nothing_stays():
    proposer, state, candidates = moved("rewind")
    assert same(told(proposer, state, candidates), state)
    assert same(told(proposer, state, candidates, won=True).now, candidates.memo)


def test_of_a_loser_that_could_not_win_nothing_stays():
    proposer, state, candidates = moved()
    assert same(told(proposer, state, candidates, eligible=False), state)


@pytest.mark.parametrize("losers", ["keep", "rewind"])
def test_a_rollback_takes_the_hyperparameters_back_to_the_promotion(losers):
    proposer, first, candidates = moved(losers)
    state = told(proposer, first, candidates, won=True)
    after = told(proposer, state, candidates, move=ev3x.Move.RESTORE)
    assert same(after.now, first.promoted) and same(after.promoted, first.promoted)
    assert not same(state.now.hypers, first.now.hypers)


@BOTH
def test_a_trajectory_that_is_not_finite_cannot_win_and_nothing_of_it_is_kept(kind):
    proposer = learner(kind, loss="broken")
    state = started(proposer)
    candidates = proposed(proposer, Point(), state)
    assert candidates.eligible.tolist() == [False]
    assert same(told(proposer, state, candidates, eligible=candidates.eligible[0]), state)


def test_hyperparameters_that_are_not_finite_make_the_candidate_ineligible():
    # The loss stays finite: only the meta loss is broken, and with it the last step of the hyperparameters.
    proposer = learner(meta_loss="broken", length=1)
    candidates = proposed(proposer, Point(), started(proposer))
    assert not np.isfinite(candidates.notes["scale"][0])
    assert candidates.eligible.tolist() == [False]


def test_when_the_model_grows_the_hyperparameters_stay():
    proposer, state, candidates = moved()
    state = told(proposer, state, candidates, won=True, promote=True)
    wider = {"params": {"at": jnp.zeros(5)}}
    after = proposer.resize(ev3x.Site(Point()), KEY, wider, state, fresh=True)
    for learned in (after.now, after.promoted):
        assert same(learned.hypers, state.now.hypers) and same(learned.meta_optimizer, state.now.meta_optimizer)
        assert [x.shape for x in jax.tree.leaves(learned.optimizer)] == [(5,)]
        assert not any(x.any() for x in jax.tree.leaves(learned.optimizer))


def test_when_the_model_grows_its_optimizer_state_goes_on():
    proposer, state, candidates = moved()
    state = told(proposer, state, candidates, won=True, promote=True)
    after = proposer.resize(ev3x.Site(Point()), KEY, {"params": {"at": jnp.zeros(5)}}, state, fresh=False)
    (was,), (now,) = jax.tree.leaves(state.now.optimizer), jax.tree.leaves(after.now.optimizer)
    assert now.shape == (5,) and was.any() and same(now[: len(was)], was) and not now[len(was) :].any()


def test_when_the_model_grows_the_hyperparameters_of_the_incumbent_stay_its_own():
    proposer, first, candidates = moved()
    state = told(proposer, first, candidates, won=True)
    after = proposer.resize(ev3x.Site(Point()), KEY, {"params": {"at": jnp.zeros(5)}}, state, fresh=False)
    assert same(after.promoted.hypers, first.promoted.hypers)


# --- a whole run


TRACED = []


@dataclasses.dataclass(frozen=True)
class Counting(Point):
    """Counts how often a loss is traced."""

    def loss(self, name, *rest):
        TRACED.append(name)
        return super().loss(name, *rest)


def beside_plain_training():
    return evolver(learner(EvoGrad), PLAIN, task=Counting())


@pytest.fixture(scope="module")
def run():
    return beside_plain_training()


def test_the_same_key_gives_the_same_bits(run):
    assert same(*(run.rounds(run.init(jax.random.key(1)), 4)[1] for _ in range(2)))
    other = run.rounds(run.init(jax.random.key(2)), 4)[1]
    assert not same(run.rounds(run.init(jax.random.key(1)), 4)[1].notes, other.notes)


@pytest.mark.bits
def test_rounds_in_one_call_are_single_rounds_one_after_another(run):
    start = run.init(jax.random.key(1))
    at_once, records = run.rounds(start, 4)
    state, alone = start, []
    for _ in range(4):
        state, record = run.round(state)
        alone.append(record)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    assert same(raw(at_once), raw(state)) and same(records, stacked)


def raw(state):
    return dataclasses.replace(state, key=jax.random.key_data(state.key))


def test_a_run_records_the_numbers_of_every_round(run):
    state, records = run.rounds(run.init(jax.random.key(1)), 4)
    assert records.notes["evograd"].keys() == {"scale"}
    assert records.notes["evograd"]["scale"].shape == (4, 1)
    assert records.notes["trajectories"] == {}
    assert records.steps.tolist() == [10] * 4
    assert run.plan.labels()[0] == "evograd/moved | sgd(learning_rate=0.1) | scale, shift"
    promoted = 1.0
    for tried, decision in zip(records.notes["evograd"]["scale"][:, 0], unstacked(records.decision), strict=True):
        # What losers learn is kept, but for rollbacks.
        now = promoted if decision.move == ev3x.Move.RESTORE else float(tried)
        promoted = now if decision.promote else promoted
    learned = state.proposers["evograd"]
    assert float(learned.now.hypers["scale"]) == now and float(learned.promoted.hypers["scale"]) == promoted
    assert {int(ev3x.Move.TAKE), int(ev3x.Move.RESTORE)} <= set(records.decision.move.tolist())


def unstacked(tree):
    return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(4)]


def test_an_equal_run_is_not_compiled_again(run):
    run.rounds(run.init(0), 4)
    before = len(TRACED)
    again = beside_plain_training()
    again.rounds(again.init(1), 4)
    assert len(TRACED) == before > 0


# --- options and errors


@pytest.mark.parametrize(
    "proposer",
    [
        learner(EvoGrad),
        learner(EvoGrad, noise="gaussian", regenerate=True, tau=0.2, ranges=RANGE, losers="rewind"),
        learner(OneStep, look_ahead=0.3, learn_only=["scale"], loss={"sum": [{"name": "moved"}, {"name": "there"}]}),
    ],
)
def test_a_learner_is_built_again_from_its_config(proposer):
    config = proposer.to_config()
    again = type(proposer).build(config)
    assert again == proposer and hash(again) == hash(proposer)
    assert again.to_config() == config


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (EvoGrad, {"copies": 1}, r"copies: must be greater than or equal to 2, got 1"),
        (EvoGrad, {"copies": 3, "antithetic": True}, r"copies: must be even with antithetic noise, got 3"),
        (EvoGrad, {"sigma": 0.0}, r"sigma: must be greater than 0, got 0.0"),
        (EvoGrad, {"tau": -1.0}, r"tau: must be greater than 0, got -1.0"),
        (EvoGrad, {"noise": "uniform"}, r"noise: must be 'sign' or 'gaussian', got 'uniform'"),
        (EvoGrad, {"look_ahead": 0.1}, r"look_ahead: unknown option 'look_ahead'"),
        (OneStep, {"look_ahead": 0.0}, r"look_ahead: must be greater than 0, got 0.0"),
        (OneStep, {"length": 0}, r"length: must be greater than or equal to 1, got 0"),
        (OneStep, {"losers": "inherit"}, r"losers: must be 'keep' or 'rewind', got 'inherit'"),
        (OneStep, {"ranges": {"scale": {"low": 2.0, "high": 1.0}}}, r"range 'scale': low must be below high"),
        (OneStep, {"ranges": {"scale": {"low": 0.0, "high": 1.0, "log": True}}}, r"must be positive, got low = 0.0"),
    ],
)
def test_options_that_cannot_be_used_are_refused(kind, options, text):
    with pytest.raises(ev3x.OptionError, match=text):
        learner(kind, **options)


@pytest.mark.parametrize("name", ["loss", "meta_loss", "optimizer", "meta_optimizer"])
def test_what_is_required_is_asked_for(name):
    given = {n: v for n, v in learner().to_config().items() if n != name}
    with pytest.raises(ev3x.OptionError, match=rf"(^|\W){name}: is required"):
        OneStep.build(given)


@BOTH
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "movd"}, r"unknown loss 'movd'; did you mean 'moved'\?"),
        ({"meta_loss": "ther"}, r"unknown loss 'ther'; did you mean 'there'\?"),
        ({"loss": {"name": "moved", "scal": 1.0}}, r"unknown hyperparameter 'scal'; did you mean 'scale'\?"),
        ({"loss": {"name": "moved", "shift": 1.0}}, r"'shift' is a whole pytree and cannot be 1"),
        ({"learn_only": ["scal"]}, r"learn_only: unknown hyperparameter 'scal'; did you mean 'scale'\?"),
        ({"ranges": {"scal": RANGE["scale"]}}, r"ranges: unknown hyperparameter 'scal'"),
        ({"ranges": RANGE, "learn_only": ["shift"]}, r"ranges: 'scale' is not learned: .*learn_only leaves it out"),
        ({"ranges": RANGE, "loss": {"name": "moved", "scale": 1.0}}, r"ranges: 'scale' is not learned: the loss fixes"),
        ({"ranges": {"scale": {"low": 2, "high": 3}}}, r"ranges: 'scale' starts outside of \[2, 3\], at 1.0"),
        ({"ranges": {"shift": {"low": 1, "high": 3}}}, r"ranges: 'shift' starts outside of \[1, 3\], at \[0. 0.\]"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(kind, options, text):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: .*{text}"):
        evolver(learner(kind, **options)).init(0)


def test_a_loss_that_fixes_everything_leaves_nothing_to_learn():
    @dataclasses.dataclass(frozen=True)
    class One(Point):
        @property
        def hypers(self):
            return {"scale": 1.0}

    run = evolver(learner(loss={"name": "moved", "scale": 2.0}), task=One())
    with pytest.raises(ValueError, match=r"moved\(scale=2\) fixes all hyperparameters of the task: nothing is left"):
        run.init(0)


def test_to_learn_only_what_the_loss_fixes_is_refused():
    run = evolver(learner(loss={"name": "moved", "scale": 2.0}, learn_only=["scale"]))
    with pytest.raises(ValueError, match=r"learn_only: 'scale' is not learned: the loss fixes it"):
        run.init(0)


@dataclasses.dataclass(frozen=True)
class Whole(Point):
    @property
    def hypers(self):
        return {"scale": np.ones(2, np.int32)}


def test_whole_numbers_cannot_be_learned():
    with pytest.raises(ValueError, match=r"OneStep: hypers\['scale'\] must be floating point, got int32"):
        evolver(learner(), task=Whole()).init(0)


@BOTH
def test_splits_without_a_meta_split_and_tasks_without_hyperparameters_are_refused(kind):
    name = kind.__name__.lower()
    with pytest.raises(ValueError, match=rf"proposer '{name}' needs a meta split: Explore\(..., meta=Explore\(...\)\)"):
        evolver(learner(kind), data=splits(meta=False))
    with pytest.raises(ValueError, match=rf"proposer '{name}' needs hyperparameters: a task that declares `hypers`"):
        evolver(learner(kind), task=Bare())
