"""Verdicts that may be looked at after every block: what they say, when reading ends, and on how many devices."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import ev3x
from ev3x.builtin.assessors.bernstein import Bernstein
from ev3x.builtin.assessors.betting import Betting

UNDECIDED, WORSE, EQUIVALENT, BETTER, _ = ev3x.Outcome
B, N = 16, 128


def never(predictions, batch):
    raise AssertionError("scores are recorded")


CLAIM = ev3x.Metric("claim", never, binary=True)
GUARDED = ev3x.Metric("guarded", never, low=0.0, high=1.0)
FREE = ev3x.Metric("free", never)
SIZE = ev3x.Metric("size", never, constant=True, maximize=False)
PLAIN = Betting(block=N, blocks=B, min_gain=0.05)
GUARDING = Betting(block=N, blocks=B, min_gain=0.05, guards={"guarded": 0.1})


@functools.partial(jax.jit, static_argnums=(0, 1))
def _confirmed(assessor, metrics, question, scores, reference):
    def more(carry):
        return (carry[0] < len(scores)) & ~assessor.enough(carry[1], question, metrics)

    def add(carry):
        i, evidence = carry
        block = ev3x.Block(scores[i], reference[i], None, None, i)
        return i + 1, assessor.observe(evidence, block, question, metrics)

    read, evidence = jax.lax.while_loop(more, add, (jnp.int32(0), assessor.begin(scores.shape[1], metrics)))
    return assessor.conclude(evidence, question, metrics), read, evidence


def confirmed(assessor, scores, reference, metrics=(CLAIM,), alpha=0.01, eligible=None):
    """The assessment, the blocks read and the evidence, of scores [B, K, M, n] and a reference [B, M, n]."""
    k, m = scores.shape[1:3]
    eligible = jnp.ones(k, bool) if eligible is None else jnp.array(eligible)
    question = ev3x.Question(jax.random.key(0), jnp.float32(alpha), jnp.ones(m), eligible)
    return _confirmed(assessor, metrics, question, scores, reference)


def recorded(*gains, metrics=1, blocks=B, n=N):
    """Scores f32[B, K, M, n] of contenders that win or lose this part of all examples of every block, on each metric.

    A gain is a number, or (wins, losses).
    """
    reference = np.zeros((blocks, metrics, n), np.float32)
    reference[..., : n // 2] = 1.0
    scores = np.repeat(reference[:, None], len(gains), 1)
    for k, gain in enumerate(gains):
        wins, losses = gain if isinstance(gain, tuple) else (max(gain, 0), max(-gain, 0))
        scores[:, k, :, n // 2 : n // 2 + round(wins * n)] = 1.0
        scores[:, k, :, : round(losses * n)] = 0.0
    return scores, reference


def test_what_is_clear_has_a_verdict_and_reading_ends_with_it():
    scores, reference = recorded(0.25, -0.25)
    for eligible, verdict in (([True, False], BETTER), ([False, True], WORSE)):
        said, read, _ = confirmed(PLAIN, scores, reference, eligible=eligible)
        assert said.outcome[eligible.index(True)] == verdict and 1 <= read < 3
        assert said.examples == N * read
    both, read_both, _ = confirmed(PLAIN, scores, reference)
    assert both.outcome.tolist() == [BETTER, WORSE] and both.winner == 0 and read_both < 3


def test_reading_ends_with_the_block_that_makes_it_clear():
    """Not earlier: read one block less, and nothing is proven yet."""
    scores, reference = recorded((0.20, 0.14))
    said, read, _ = confirmed(dataclasses.replace(PLAIN, futility=0.0), scores, reference)
    assert said.outcome[0] == BETTER and said.p_value[0] <= 0.01 and 2 < read < B
    less, _, _ = confirmed(dataclasses.replace(PLAIN, futility=0.0), scores[: read - 1], reference[: read - 1])
    assert less.outcome[0] == UNDECIDED and less.p_value[0] > 0.01 and not less.futile[0]


def test_who_is_not_eligible_does_not_prolong_reading():
    """As in a round: beside the winner stands the current model, which is measured only."""
    scores, reference = recorded(0.25, 0.0)
    _, alone, _ = confirmed(PLAIN, scores, reference, eligible=[True, False])
    _, together, _ = confirmed(PLAIN, scores, reference, eligible=[True, True])
    nobody, none, _ = confirmed(PLAIN, scores, reference, eligible=[False, False])
    assert alone < together and none == 0 and nobody.winner == -1


def test_a_gain_that_is_ruled_out_ends_reading_without_a_verdict():
    scores, reference = recorded((0.0, 0.0), (0.1, 0.1))
    said, read, evidence = confirmed(PLAIN, scores, reference, eligible=[True, False])
    assert said.outcome[0] == UNDECIDED and said.futile[0] and read < B
    assert PLAIN.remark(evidence, said, (CLAIM,)) == "given up: a gain of 0.05 of the range is ruled out"
    patient = dataclasses.replace(PLAIN, futility=0.0)
    said, read, evidence = confirmed(patient, scores, reference, eligible=[True, False])
    assert said.outcome[0] == UNDECIDED and not said.futile[0] and read == B
    assert patient.remark(evidence, said, (CLAIM,)) == ""


@pytest.mark.parametrize("margin", [0.1, 0.01])
def test_equivalent_within_a_margin(margin):
    """What a margin of .1 settles in 2,048 examples, one of .01 does not."""
    metrics = (dataclasses.replace(CLAIM, margin=margin),)
    assessor = dataclasses.replace(PLAIN, futility=0.0)
    scores, reference = recorded((0.05, 0.05))
    said, read, _ = confirmed(assessor, scores, reference, metrics)
    assert said.outcome[0] == (EQUIVALENT if margin == 0.1 else UNDECIDED)
    assert read < B if margin == 0.1 else read == B
    assert -margin < said.difference_lower[0, 0] < 0 < said.difference_upper[0, 0] < margin or margin == 0.01


@pytest.mark.parametrize(
    ("claimed", "guarded", "outcome"),
    [
        (0.25, 0.0, BETTER),
        (0.25, -0.05, BETTER),
        (0.25, -0.35, WORSE),
        (0.0, 0.25, UNDECIDED),
        (-0.25, 0.25, WORSE),
        (0.25, -0.1, UNDECIDED),
    ],
)
def test_claims_are_proven_and_guards_hold(claimed, guarded, outcome):
    (scores, reference), (others, _) = recorded(claimed, metrics=2), recorded(guarded, metrics=2)
    scores[:, :, 1] = others[:, :, 1]
    said, _, _ = confirmed(GUARDING, scores, reference, (CLAIM, GUARDED))
    assert said.outcome[0] == outcome
    assert said.p_value[0] == said.p_values[0].max()
    assert said.difference[0].tolist() == pytest.approx([claimed, guarded], abs=0.01)
    assert (said.difference_lower <= said.difference).all() and (said.difference <= said.difference_upper).all()
    assert (said.lower >= 0).all() and (said.upper <= 1).all()


def test_several_claims_are_all_proven():
    assessor = Betting(block=N, blocks=B, min_gain=0.05, claims=("claim", "guarded"))
    (scores, reference), (others, _) = recorded(0.25, 0.25, metrics=2), recorded(0.25, 0.0, metrics=2)
    scores[:, :, 1] = others[:, :, 1]
    said, _, _ = confirmed(assessor, scores, reference, (CLAIM, GUARDED))
    assert said.outcome.tolist() == [BETTER, UNDECIDED] and said.futile.tolist() == [False, True]


@pytest.mark.parametrize(("more", "verdict"), [(-1, BETTER), (0, UNDECIDED), (1, WORSE)])
def test_what_is_constant_is_known_after_one_block(more, verdict):
    scores, reference = recorded(0.25, metrics=2)
    reference[:, 1], scores[:, :, 1] = 12_345, 12_345 + more
    assessor = dataclasses.replace(PLAIN, claims=("size",), futility=0.0)
    said, read, _ = confirmed(assessor, scores, reference, (CLAIM, SIZE))
    assert said.outcome[0] == verdict and read == (B if more == 0 else 1)
    assert float(said.p_values[0, 1]) == (0.0 if more < 0 else 1.0)
    guarding = dataclasses.replace(PLAIN, guards={"size": 0.5})
    said, _, _ = confirmed(guarding, scores, reference, (CLAIM, SIZE))
    assert said.outcome[0] == (WORSE if more > 0 else BETTER)


def test_a_contender_that_is_not_finite_is_worse_at_once():
    scores, reference = recorded(0.25, 0.25)
    scores[0, 0, 0, 5] = np.nan
    said, read, evidence = confirmed(PLAIN, scores, reference)
    assert said.outcome.tolist() == [WORSE, BETTER] and said.winner == 1 and said.value[0] == -np.inf
    assert PLAIN.remark(evidence, said, (CLAIM,)).startswith("proves nothing: there are examples with scores outside")
    _, read, _ = confirmed(PLAIN, scores, reference, eligible=[True, False])
    assert read == 1


def test_a_reference_that_is_not_finite_makes_nobody_better_or_worse():
    scores, reference = recorded(0.25, -0.25)
    reference[0, 0, 5] = np.nan
    said, _, _ = confirmed(PLAIN, scores, reference)
    assert said.outcome.tolist() == [UNDECIDED, UNDECIDED] and said.winner == -1


def test_what_is_not_tested_may_be_anything():
    """It neither ends reading nor takes part in the verdict."""
    scores, reference = recorded((0.20, 0.14), metrics=2)
    assessor = dataclasses.replace(PLAIN, futility=0.0)
    sound = confirmed(assessor, scores, reference, (CLAIM, FREE))[:2]
    scores[0, 0, 1, 3] = np.nan
    broken = confirmed(assessor, scores, reference, (CLAIM, FREE))[:2]
    assert sound[0].outcome == broken[0].outcome == BETTER and sound[1] == broken[1] > 1
    assert np.isnan(broken[0].p_values[0, 1]) and broken[0].p_value[0] == sound[0].p_value[0]


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_scores_that_cannot_be_prove_nothing_and_it_is_said(value):
    scores, reference = recorded(0.25)
    scores[0, 0, 0, 4:7] = value
    said, read, evidence = confirmed(PLAIN, scores, reference)
    assert said.outcome[0] == UNDECIDED and said.p_value[0] == 1.0 and read == 1, "no example is spent on it"
    text = (
        "proves nothing: there are examples with scores outside of their range (0 and 1 of a binary metric), or "
        "weights outside of 0 ... 1 (claim: 3)"
    )
    assert PLAIN.remark(evidence, said, (CLAIM,)) == text


@pytest.mark.parametrize("assessor", [Betting, Bernstein])
def test_metrics_without_a_range_are_refused_where_they_are_tested(assessor):
    name = assessor.__name__.lower()
    text = (
        f"{name}: metric 'free' must declare its range to be tested, got low=-inf, high=inf: "
        "Metric(..., low=..., high=...), or confirm with `paired`, which needs none"
    )
    for options, metrics in (({}, (FREE,)), ({"guards": {"free": 0.1}}, (CLAIM, FREE))):
        with pytest.raises(ValueError) as refused:
            assessor(**options).accept(metrics)
        assert str(refused.value) == text
    assessor().accept((CLAIM, FREE))
    assessor(claims=("size",)).accept((CLAIM, SIZE))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_gain": 1.0}, "min_gain: must be below 1, the whole range of a metric, got 1.0"),
        ({"bets": ()}, "bets: must have at least one, got none"),
        ({"futility": 1.0}, "futility: must be at least 0 and below 1, got 1.0"),
        ({"futility": -0.1}, "futility: must be at least 0 and below 1, got -0.1"),
        ({"level": 0.5}, "level: must be below 0.5, got 0.5"),
        ({"claims": ("a", "a")}, "claims: names 'a' twice"),
        ({"claims": ("a",), "guards": {"a": 0.1}}, "must be a claim or a guard, not both"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, text):
    with pytest.raises(ValueError) as refused:
        Betting(**options)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"claims": ("other",)}, "other"),
        ({"guards": {"claim": 0.1}}, "must be a claim or a guard, not both (the first metric is a claim when none is"),
        ({"claims": ("guarded",), "guards": {"claim": 1.0}}, "claim must be below 1, its values are 0 and 1"),
    ],
)
def test_claims_and_guards_that_the_metrics_cannot_have_are_refused(options, text):
    with pytest.raises(ValueError) as refused:
        Betting(**options).accept((CLAIM, GUARDED))
    assert text in str(refused.value)


def test_bernstein_is_never_surer_than_betting():
    rng = np.random.default_rng(0)
    reference = rng.random((B, 1, N)) < 0.6
    scores = np.where(rng.random((B, 20, 1, N)) < 0.5, reference[:, None], rng.random((B, 20, 1, N)) < 0.65)
    sure, less = (
        confirmed(
            a(block=N, blocks=B, min_gain=0.05, futility=0.0), np.float32(scores), np.float32(reference), alpha=0.0
        )
        for a in (Betting, Bernstein)
    )
    metric = dataclasses.replace(CLAIM, binary=False, low=0.0, high=1.0)
    bounded = confirmed(
        Betting(block=N, blocks=B, min_gain=0.05, futility=0.0),
        np.float32(scores),
        np.float32(reference),
        (metric,),
        alpha=0.0,
    )
    p = [np.asarray(x[0].p_value) for x in (sure, bounded, less)]
    assert (p[1] <= p[2] * 1.001).all() and (p[0] <= p[1] * 1.1).all() and (p[2] < 1).any()


# Recorded scores of a binary and of a bounded metric, on 1, 2 and 8 devices: this file as a script tells the verdicts.
DEVICES = 1, 2, 8


def told(devices):
    """Outcomes, examples and p-values of recorded scores that lie on so many devices, as numbers and as bits."""
    rng = np.random.default_rng(5)
    reference = np.float32(rng.random((B, 2, N)))
    reference[:, 0] = reference[:, 0] < 0.6
    scores = np.where(rng.random((B, 6, 2, N)) < 0.6, reference[:, None], rng.random((B, 6, 2, N)))
    chances = np.array([0.3, 0.5, 0.6, 0.65, 0.7, 0.9])[:, None]
    scores[:, :, 0] = np.where(
        scores[:, :, 0] == reference[:, None, 0], reference[:, None, 0], scores[:, :, 0] < chances
    )
    mesh = Mesh(np.array(jax.devices()[:devices]), ("examples",))

    def place(x):
        return jax.device_put(np.float32(x), NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), "examples")))

    found = {}
    for eligible in np.eye(6, dtype=bool):
        said, read, _ = confirmed(GUARDING, place(scores), place(reference), (CLAIM, GUARDED), 0.01, eligible)
        assert jax.device_count() == max(DEVICES)
        found[int(eligible.argmax())] = {
            "outcome": said.outcome.tolist(),
            "read": [int(read), int(said.examples)],
            "binary": np.asarray(said.p_values[:, 0]).tobytes().hex(),
            "bounded": said.p_values[:, 1].tolist(),
        }
    return found


@functools.cache
def on_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={max(DEVICES)}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, Path(__file__)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.bits
@pytest.mark.parametrize("devices", DEVICES[1:])
def test_verdicts_on_recorded_scores_are_the_same_on_any_number_of_devices(devices):
    one, many = on_devices()["1"], on_devices()[str(devices)]
    for name in ("outcome", "read", "binary"):
        assert [x[name] for x in one.values()] == [x[name] for x in many.values()]
    for x, y in zip(one.values(), many.values(), strict=True):
        np.testing.assert_allclose(x["bounded"], y["bounded"], rtol=1e-4)
    outcomes = {x["outcome"][int(k)] for k, x in one.items()}
    assert {int(WORSE), int(BETTER)} <= outcomes and len({x["read"][0] for x in one.values()}) > 2


if __name__ == "__main__":
    print(json.dumps({n: told(n) for n in DEVICES}))
