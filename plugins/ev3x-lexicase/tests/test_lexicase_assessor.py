"""The assessor: what counts, who can win, what it says, and in a run."""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_lexicase import Lexicase, selection_shares

import ev3x

PATH = Path(__file__).parents[1] / "examples" / "specialist.py"
UP, DOWN = ev3x.Metric("up", lambda p, b: p), ev3x.Metric("down", lambda p, b: p, maximize=False)


def judge(assessor, scores, weights=None, metrics=(UP,), eligible=None):
    """The assessment of scores [B, K, M, n], all blocks observed, the reference at 0."""
    scores = jnp.asarray(scores, jnp.float32)
    blocks, k, m, n = scores.shape
    assessor = dataclasses.replace(assessor, blocks=blocks, block=n)
    allowed = jnp.ones(k, bool) if eligible is None else jnp.asarray(eligible)
    question = ev3x.Question(jax.random.key(0), jnp.float32(1), jnp.ones(m), allowed)
    return _judge(assessor, metrics, question, scores, weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _judge(assessor, metrics, question, scores, weights):
    evidence = assessor.begin(scores.shape[1], metrics)
    for i, each in enumerate(scores):
        w = None if weights is None else jnp.asarray(weights[i], jnp.float32)
        block = ev3x.Block(each, jnp.zeros(each.shape[1:]), w, None, jnp.int32(i))
        evidence = assessor.merge(
            evidence, assessor.observe(assessor.begin(each.shape[0], metrics), block, question, metrics)
        )
    return assessor.conclude(evidence, question, metrics)


PLAIN = Lexicase(epsilon=0.0)


def crowd(n=20):
    """Nine that are right but on every fifth case, and one that is right there alone: [1, 10, 1, n]."""
    rare = np.arange(n) % 5 == 0
    return np.stack([*[~rare] * 9, rare])[None, :, None]


def test_a_specialist_wins_and_by_means_would_be_the_last():
    found = judge(PLAIN, crowd())
    np.testing.assert_allclose(found.value, [0.8 / 9] * 9 + [0.2], atol=1e-3)
    assert found.winner == 9 and found.mean[:, 0].argmin() == 9
    np.testing.assert_allclose(found.mean[:, 0], [0.8] * 9 + [0.2], rtol=1e-6)
    np.testing.assert_array_equal(found.difference, found.mean)
    assert found.examples == 20 and (found.outcome == ev3x.Outcome.UNDECIDED).all() and np.isnan(found.p_value).all()


def test_the_values_are_those_of_the_operation():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 6, 1, 30)).astype(np.float32)
    words = jax.random.bits(jax.random.key(0), (2,), jnp.uint32)
    in_a_row = scores[:, :, 0].swapaxes(0, 1).reshape(6, 60)
    for epsilon in (None, 0.25):
        found = judge(Lexicase(epsilon=epsilon, tournaments=77), scores)
        np.testing.assert_array_equal(found.value, selection_shares(in_a_row, words, 77, epsilon=epsilon))
        assert found.winner == np.argmax(found.value) and found.examples == 60


def test_a_metric_to_minimise_counts_the_other_way():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(1, 5, 1, 16)).astype(np.float32)
    up, down = judge(PLAIN, scores), judge(PLAIN, -scores, metrics=(DOWN,))
    np.testing.assert_array_equal(up.value, down.value)


def test_the_metrics_that_are_named_count():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(1, 5, 2, 16)).astype(np.float32)
    second = judge(Lexicase(epsilon=0.0, metrics=("down",)), scores, metrics=(UP, DOWN))
    np.testing.assert_array_equal(second.value, judge(PLAIN, scores[:, :, 1:], metrics=(DOWN,)).value)
    both = judge(PLAIN, scores, metrics=(UP, DOWN))
    best = np.concatenate([scores[0, :, 0].argmax(0), scores[0, :, 1].argmin(0)])
    np.testing.assert_allclose(both.value, np.bincount(best, minlength=5) / 32, atol=1e-6)  # 1024 is 32 rounds of 32
    assert Lexicase(metrics=("down",)).leads((UP, DOWN)) == 1 and PLAIN.leads((UP, DOWN)) == 0


def test_examples_of_weight_0_are_no_cases():
    weights = np.ones((1, 1, 20), np.float32)
    weights[0, 0, 0] = 0
    scores = crowd().astype(np.float32)
    want = judge(PLAIN, scores[..., 1:])
    scores[..., 0] = np.nan
    found = judge(PLAIN, scores, weights)
    np.testing.assert_allclose(found.value, want.value, atol=2e-3)
    assert found.examples == 19


def test_of_equal_shares_the_first_candidate_wins():
    found = judge(PLAIN, np.eye(4)[None, :, None])
    np.testing.assert_allclose(found.value, 1 / 4, atol=1e-6)
    assert found.winner == 0
    assert judge(PLAIN, np.eye(4)[None, :, None], eligible=[False, True, True, True]).winner == 1


def test_who_is_not_eligible_or_not_finite_neither_wins_nor_takes_part():
    scores = crowd().astype(np.float32)
    found = judge(PLAIN, scores, eligible=[True] * 9 + [False])
    np.testing.assert_allclose(found.value[:9], 1 / 9, atol=1e-4)
    assert found.winner == 0 and found.value[9] == -np.inf and found.outcome[9] == ev3x.Outcome.WORSE
    scores[0, 9, 0, 3] = np.nan
    assert judge(PLAIN, scores).value[9] == -np.inf
    nobody = judge(PLAIN, scores, eligible=[False] * 10)
    assert nobody.winner == -1 and (nobody.value == -np.inf).all()


def test_it_refuses_metrics_that_there_are_not_and_weights():
    with pytest.raises(ValueError, match=r"^lexicase: unknown metric 'uq'; known: down, up"):
        Lexicase(metrics=("uq",)).accept((UP, DOWN))
    with pytest.raises(ev3x.OptionError, match=r"metrics: names 'up' twice"):
        Lexicase(metrics=("up", "up"))
    example = load_example()
    run = example.evolver(PLAIN)
    weighted = ev3x.Method(
        run.plan.method.proposers, PLAIN, run.plan.method.confirm, (), run.plan.method.budget, {"accuracy": 1}
    )
    with pytest.raises(ValueError, match="weights: Lexicase does not select by weights: leave them out"):
        ev3x.Evolver(run.plan.task, weighted, run.data)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tournaments": 65536}, "tournaments: must be less than or equal to 65535, got 65536"),
        ({"epsilon": -0.5}, "epsilon: must be greater than or equal to 0, got -0.5"),
        ({"epsilon": 1e39}, r"epsilon: must be a finite number \(up to 3.4e38, as float32\), got 1e\+39"),
        ({"epsilon": float("inf")}, "epsilon: must be a finite number, got inf"),
    ],
)
def test_wrong_options_are_refused(options, text):
    with pytest.raises(ev3x.OptionError, match=text):
        Lexicase(**options)


def load_example():
    spec = importlib.util.spec_from_file_location("specialist", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_shows_what_it_says(capsys):
    load_example().main()
    *rows, mean, tournaments = capsys.readouterr().out.splitlines()
    assert len(rows) == 1 + 11
    assert "the best mean:         crowd/all" in mean and "the most tournaments:  specialist/rare" in tournaments


def test_a_run_selects_by_it_natively_as_by_the_definition_and_promotes_nothing_that_it_confirms():
    plan, data = (run := load_example().evolver(PLAIN, crowd=3)).plan, run.data
    parts = plan.method
    lexicase = Lexicase(block=256, blocks=2, tournaments=100)
    with pytest.warns(UserWarning, match="Lexicase only ranks"):
        method = ev3x.Method(parts.proposers, lexicase, lexicase, parts.adapters, parts.budget)
    records = []
    for native in ("auto", "off"):
        each = ev3x.Evolver(plan.task, method, data, native=native)
        records.append(each.rounds(each.init(3), 2)[1])
    got, want = (r.selection for r in records)
    np.testing.assert_array_equal(got.value, want.value)
    np.testing.assert_array_equal(got.winner, want.winner)
    assert got.value.shape == (2, 4) and (got.examples == 512).all()
    np.testing.assert_allclose(got.value.sum(1), 1, atol=1e-3)
    assert not records[0].decision.promote.any()
    assert (records[0].confirmation.outcome[:, 0] == ev3x.Outcome.UNDECIDED).all()
