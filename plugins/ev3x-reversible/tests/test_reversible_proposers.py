"""The proposer: what a round learns, what becomes of it, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_reversible import Reversible
from reversible_problems import Point, evolver, explore

import ev3x

KEY = jax.random.key(21)
SGD = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9}
ALL = ("rates", "momenta", "decays", "scales", "scale", "parts")


def learner(**options):
    given = dict(loss="near", meta_loss="near", optimizer=SGD, meta_optimizer={"name": "sgd", "learning_rate": 0.1})
    return Reversible.build({**given, "length": 6, **options})


@functools.cache
def compiled(proposer, task):
    """One round's candidate, of state and explore split."""
    site = ev3x.Site(task)
    return jax.jit(lambda state, explore: proposer.propose(site, KEY, task.init(KEY), state, explore))


def proposed(proposer, state=None, task=None):
    """A state and its candidate."""
    task = task or Point()
    state = proposer.init(ev3x.Site(task), KEY, task.init(KEY)) if state is None else state
    return state, compiled(proposer, task)(state, explore())


def told(proposer, state, candidates, won=False, move=ev3x.Move.KEEP):
    """The state after a round with this outcome."""
    decision = ev3x.Decision(jnp.int32(move), jnp.asarray(won), jnp.ones(1), jnp.zeros(1, jnp.int32))
    feedback = ev3x.Feedback(jnp.zeros(1), jnp.zeros((1, 1)), jnp.array([won]), jnp.int32(0), decision)
    return proposer.learn(ev3x.Site(Point()), KEY, state, candidates, feedback)


@pytest.fixture(scope="module")
def round_():
    """A round that learns all there is."""
    proposer = learner(learn_only=ALL, window=3, decay=0.01)
    return proposer, *proposed(proposer)


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_a_run_starts_anew_and_notes_what_it_ran_with(round_):
    _, state, candidates = round_
    assert candidates.eligible.tolist() == [True] and int(candidates.steps) == 6
    assert float(candidates.notes["rate"][0]) == pytest.approx(0.01, rel=1e-5)
    assert float(candidates.notes["momentum"][0]) == pytest.approx(0.9, rel=1e-5)
    assert float(candidates.notes["meta_loss"][0]) > 0
    assert candidates.variables["params"]["at"].shape == (1, 2)
    assert state.hypers.keys() == set(ALL) and state.hypers["rates"].shape == (2,)


def test_all_that_is_learned_moves_to_where_the_meta_loss_is_lower(round_):
    proposer, state, candidates = round_
    for name in ALL:
        assert not same(candidates.memo.hypers[name], state.hypers[name]), name
    assert (candidates.memo.hypers["rates"] > state.hypers["rates"]).all()  # .01 is too small for 6 steps
    for _ in range(3):
        state = told(proposer, state, candidates)
        _, after = proposed(proposer, state)
        assert float(after.notes["meta_loss"][0]) < float(candidates.notes["meta_loss"][0])
        candidates = after


@pytest.mark.parametrize(("won", "move"), [(True, ev3x.Move.TAKE), (False, ev3x.Move.KEEP), (False, ev3x.Move.RESTORE)])
def test_what_was_learned_stays_whoever_won_and_where_the_model_goes(round_, won, move):
    # So no rollback brings back a round that lost, to repeat it for ever.
    proposer, state, candidates = round_
    assert same(told(proposer, state, candidates, won, move), candidates.memo)


@pytest.mark.parametrize("loss", ["steep", "broken"])
def test_a_run_that_fails_cannot_win_and_halves_its_rates(loss):
    proposer = learner(loss=loss, learn_only=["rates", "momenta"], optimizer={**SGD, "learning_rate": 1.0})
    state, candidates = proposed(proposer)
    assert candidates.eligible.tolist() == [False]
    after = told(proposer, state, candidates)
    np.testing.assert_allclose(jnp.exp(after.hypers["rates"]), 0.5 * jnp.exp(state.hypers["rates"]), rtol=1e-5)
    assert same(after.hypers["momenta"], state.hypers["momenta"]) and same(after.meta_optimizer, state.meta_optimizer)


def test_momenta_and_decays_stay_where_they_may_be():
    far = {"name": "sgd", "learning_rate": 1e6}
    proposer = learner(learn_only=["momenta", "decays"], meta_optimizer=far, least_momentum=0.8, decay=0.01)
    _, candidates = proposed(proposer)
    momenta = jax.nn.sigmoid(candidates.memo.hypers["momenta"])[1:]  # the first acts on a velocity of 0
    assert ((momenta > 0.7999) & (momenta < 0.9991)).all() and ((momenta < 0.81) | (momenta > 0.998)).all()
    assert (candidates.memo.hypers["decays"] >= 0).all()
    _, again = proposed(proposer, candidates.memo)
    assert again.eligible.tolist() == [True]  # the ends themselves can be run


def test_statistics_of_batches_are_those_of_the_end():
    _, plain = proposed(learner(learn_only=["momenta"]))
    _, candidates = proposed(learner(learn_only=["momenta"]), task=Point(statistics=True))
    assert same(candidates.variables["params"], plain.variables["params"])
    np.testing.assert_allclose(candidates.variables["batch_stats"]["mean"][0], (2.0, 1.0), atol=0.2)


def test_when_the_model_grows_schedules_stay(round_):
    proposer, _, candidates = round_
    wider = {"params": {"at": jnp.zeros(5), "more": jnp.zeros(2)}}
    after = proposer.resize(ev3x.Site(Point()), KEY, wider, candidates.memo, fresh=False)
    assert same(after.hypers["rates"], candidates.memo.hypers["rates"])
    assert float(after.hypers["scales"]["at"]) == float(candidates.memo.hypers["scales"]["at"])
    assert float(after.hypers["scales"]["more"]) == 0.0


@pytest.mark.loose_types("optax's Adam mixes integers and floats")
def test_a_run_of_rounds_learns():
    run = evolver(learner(meta_optimizer={"name": "adam", "learning_rate": 0.3}, length=8))
    _, records = run.rounds(run.init(0), 8)
    losses, rates = (records.notes["reversible"][name][:, 0] for name in ("meta_loss", "rate"))
    assert losses[-1] < 0.5 * losses[0] and rates[-1] > 2 * rates[0]
    assert records.decision.promote.any()


# --- options and errors


def test_it_is_built_again_from_its_config():
    proposer = learner(learn_only=ALL, window=2, form="damped", decay=0.1, meta_batches=3)
    assert Reversible.build(proposer.to_config()) == proposer


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"length": 0}, r"length: must be greater than or equal to 1, got 0"),
        ({"window": 4}, r"window: must divide length = 6, got 4"),
        ({"optimizer": "adam"}, r"optimizer: .*"),
        ({"optimizer": {"name": "adam", "learning_rate": 0.1}}, r"optimizer: must be sgd with momentum.*got adam"),
        ({"optimizer": {**SGD, "nesterov": True}}, r"optimizer: must be sgd with momentum, .*nesterov"),
        ({"optimizer": {"name": "sgd", "learning_rate": 0.1}}, r"optimizer: momentum must be a number .*got None"),
        ({"optimizer": {**SGD, "momentum": 0.0}}, r"optimizer: momentum must be a number above 0 in \[0.5, 0.999\]"),
        ({"optimizer": {**SGD, "momentum": 0.4}}, r"optimizer: momentum must be .* in \[0.5, 0.999\], got 0.4"),
        ({"optimizer": {**SGD, "momentum": 1.0}}, r"optimizer: momentum must be .* in \[0.5, 0.999\], got 1"),
        ({"optimizer": {**SGD, "learning_rate": 0.0}}, r"optimizer: learning_rate must be a number above 0"),
        ({"optimizer": {**SGD, "learning_rate": 1e6}}, r"optimizer: learning_rate must be .* in \[0, 256\]"),
        ({"least_momentum": 0.0}, r"least_momentum: must be greater than 0"),
        ({"least_momentum": 1e-6}, r"least_momentum: must lie above 0 and below 1 also as n / 65536, got 1e-06, n = 0"),
        ({"learn_only": []}, r"learn_only: must name what is to be learned, got nothing"),
        ({"decay": -1.0}, r"decay: must be greater than or equal to 0"),
        ({"form": "nesterov"}, r"form: must be 'classical' or 'damped', got 'nesterov'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, text):
    with pytest.raises(ev3x.OptionError, match=text):
        learner(**options)


@pytest.mark.parametrize(
    ("options", "task", "text"),
    [
        ({"loss": "nea"}, Point(), r"unknown loss 'nea'; did you mean 'near'\?"),
        ({"learn_only": ["rate"]}, Point(), r"learn_only: unknown hyperparameter 'rate'; did you mean 'rates'\?"),
        ({"learn_only": ["whole"]}, Point(), r"learn_only: 'whole' must be floating point, got int32"),
        (
            {"learn_only": ["scale"], "loss": {"name": "near", "scale": 2.0}},
            Point(),
            r"learn_only: 'scale' is not learned: the loss near\(scale=2\) fixes it",
        ),
    ],
)
def test_what_does_not_fit_the_task_is_refused(options, task, text):
    with pytest.raises(ValueError, match=rf"Reversible: {text}"):
        evolver(learner(**options), task).init(0)


def test_splits_without_a_meta_split_are_refused():
    with pytest.raises(ValueError, match=r"proposer 'reversible' needs a meta split"):
        evolver(learner(), meta=False)
