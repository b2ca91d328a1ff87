"""Several metrics in whole runs: weights, guards that block a promotion, and what rows and configs say of them."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import pytest
from toys import ACCURACY, LIKELIHOOD, Toy, evolver, examples, sgd, splits

import ev3x
from ev3x.builtin.assessors.lexicographic import Lexicographic
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.pareto import Pareto
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.config import ConfigError, explain, loads
from ev3x.core.objectives import Amounts
from ev3x.run import session
from ev3x.run.rows import rows


def brier(logits, batch):
    return jnp.square(jax.nn.sigmoid(logits) - batch["y"].astype(jnp.float32))


BRIER = ev3x.Metric("brier", brier, low=0.0, high=1.0, maximize=False)
TWO = Toy((ACCURACY, BRIER))
HINGE = Trajectories(losses=["hinge"], optimizers=[sgd(20.0)], length=5)  # large steps: right more often, too sure
HALF = {"params": {"w": jnp.array([1.0, 0.0]), "b": jnp.zeros(())}}  # calibrated on half of what it could know


def first_round(**confirm):
    """The row of a first round from a model that is calibrated."""
    run = evolver(HINGE, task=TWO, select=MeanBounds(block=512), confirm=Paired(block=2048, blocks=2, **confirm))
    state, records = run.rounds(run.init(0, HALF), 1)
    return rows(run.plan, records)[0], state


def test_a_guard_blocks_the_promotion_of_a_model_that_is_right_more_often_but_too_sure():
    free, _ = first_round()
    assert free["promoted"] and free["verdict"] == "better"
    assert set(free["confirm"]["p_values"]) == {"accuracy"}
    guarded, state = first_round(guards={"brier": 0.01})
    assert guarded["winner"] == free["winner"] and guarded["candidates"] == free["candidates"], "the same round"
    assert not guarded["promoted"] and guarded["verdict"] == "worse" and guarded["move"] == "restore"
    assert jnp.array_equal(state.model.incumbent["params"]["w"], HALF["params"]["w"])
    gain, loss = (guarded["confirm"]["winner"]["difference"][name] for name in ("accuracy", "brier"))
    assert gain > 0.03 and loss > 0.02
    assert f"accuracy {gain:+.4f} against the incumbent [" in guarded["why"]
    assert f"] on 4096 examples, held back by brier: {loss:+.4f} [" in guarded["why"]
    assert guarded["why"].endswith("p = 1 > 0.022 offered")
    p = guarded["confirm"]["p_values"]
    assert p["accuracy"] == free["confirm"]["p_value"] < 0.01 < p["brier"] == guarded["confirm"]["p_value"]


def test_a_guard_with_room_lets_the_same_round_through():
    row, _ = first_round(guards={"brier": 0.2})
    assert row["promoted"] and set(row["confirm"]["p_values"]) == {"accuracy", "brier"}


def test_the_claim_is_what_why_begins_with():
    row, _ = first_round(claims=("brier", "accuracy"))
    assert row["why"].startswith("brier +0.") and "held back" not in row["why"], "accuracy was proven"


def test_weights_of_the_method_choose_the_winner():
    by = [ev3x.Optimizer("sgd", learning_rate=lr) for lr in (0.01, 20.0)]
    proposer = Trajectories(losses=["hinge"], optimizers=by, length=5)
    for weights, winner in ((None, 1), ({"accuracy": 1.0, "brier": 9.0}, 0)):
        run = evolver(proposer, task=TWO, select=MeanBounds(block=2048), weights=weights)
        _, records = run.rounds(run.init(0, HALF), 1)
        assert int(records.selection.winner[0]) == winner
        row = rows(run.plan, records)[0]
        assert row["weights"] == {"accuracy": 0.0, "brier": 0.0} | (weights or {"accuracy": 1.0})
    run = evolver(proposer, task=TWO, select=Lexicographic(block=2048, order=("brier",)))
    assert int(run.rounds(run.init(0, HALF), 1)[1].selection.winner[0]) == 0


def test_weights_are_a_value():
    a, b, c = (
        evolver(HINGE, task=TWO, weights=w).plan
        for w in ({"accuracy": 1, "brier": 2}, {"brier": 2.0, "accuracy": 1.0}, None)
    )
    assert a == b and hash(a) == hash(b) and a != c
    assert dataclasses.replace(a.method) == a.method


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"acuracy": 1.0}, "weights: unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ({"accuracy": -1.0}, "method: weights: accuracy must be at least 0, got -1.0"),
        (
            {"accuracy": float("nan")},
            "method: weights: accuracy must be a finite number (up to 3.4e38, as float32), got nan",
        ),
        ({"accuracy": "much"}, "method: weights: accuracy must be a number, got 'much'"),
        ({"accuracy": 0.0}, "weights: at least one must be above 0, got {'accuracy': 0.0}"),
        ({}, "weights: at least one must be above 0, got {}"),
        (3, "method: weights: must be a table such as { accuracy = 1.0 }, got 3"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, text):
    with pytest.raises(ValueError) as caught:
        evolver(HINGE, task=TWO, weights=weights)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("assessor", "options", "text"),
    [
        (Paired, {"claims": ("brie",)}, "paired: unknown metric 'brie'; did you mean 'brier'?"),
        (Paired, {"guards": {"brie": 0.1}}, "paired: unknown metric 'brie'; did you mean 'brier'?"),
        (Paired, {"guards": {"brier": 0.0}}, "Paired: guards.brier: must be above 0, got 0.0"),
        (Paired, {"guards": {"brier": -1}}, "Paired: guards: brier must be at least 0, got -1"),
        (
            Paired,
            {"claims": ("brier",), "guards": {"brier": 0.1}},
            "Paired: guards.brier: must be a claim or a guard, not both",
        ),
        (
            Paired,
            {"guards": {"accuracy": 0.1}},
            "paired: guards: accuracy must be a claim or a guard, not both (the first metric is a claim when none is "
            "named), got 0.1",
        ),
        (
            Paired,
            {"claims": ("brier",), "guards": {"accuracy": 1.0}},
            "paired: guards: accuracy must be below 1, its values are 0 and 1, got 1.0",
        ),
        (Lexicographic, {"order": ("brie",)}, "lexicographic: unknown metric 'brie'; did you mean 'brier'?"),
        (Lexicographic, {"tolerance": {"x": 1}}, "lexicographic: unknown metric 'x'; known: accuracy, brier"),
        (
            Lexicographic,
            {"order": ("brier",), "tolerance": {"accuracy": 1}},
            "Lexicographic: tolerance.accuracy: is for a metric that is not in the order ('brier',)",
        ),
        (Pareto, {"metrics": ("brie",)}, "pareto: unknown metric 'brie'; did you mean 'brier'?"),
    ],
)
def test_metrics_that_cannot_be_assessed_so_are_told(assessor, options, text):
    with pytest.raises(ValueError) as caught:
        stage = "confirm" if assessor is Paired else "select"
        evolver(HINGE, task=TWO, **{stage: assessor(**options)})
    assert str(caught.value) == text


@dataclasses.dataclass(frozen=True)
class Three(Toy):
    """A toy with three metrics and data of its own."""

    measured: tuple[ev3x.Metric, ...] = dataclasses.field(default=(ACCURACY, BRIER, LIKELIHOOD), init=False)

    def load(self, seed):
        return ev3x.Data(splits(), examples(9, 256), "toy")


@pytest.fixture
def host():
    """A host with a plugin `toy`."""
    module = types.ModuleType("toy_plugin")
    vars(module)["ev3x_tasks"] = ev3x.hookimpl(lambda: [ev3x.Offer("three", Three)])
    made = ev3x.Host()
    made.register("toy", module)
    return made


CONFIG = """\
rounds = 2
task = "toy:three"

[[propose]]
use = "trajectories"
losses = ["hinge", "xent"]
optimizers = [{ name = "sgd", learning_rate = 0.5 }]
length = 5

[weights]
accuracy = 2.0
brier = 1.0

[select]
use = "pareto"
block = 256
blocks = 1
metrics = ["accuracy", "brier"]

[confirm]
use = "paired"
block = 256
claims = ["accuracy"]
guards = { brier = 0.05, likelihood = 1.5 }

[[adapt]]
use = "promote"

[[adapt]]
use = "reweight"
temperature = 0.5
"""
WEIGHTS = "[weights]\naccuracy = 2.0\nbrier = 1.0\n"
PARETO = 'use = "pareto"\nblock = 256\nblocks = 1\nmetrics = ["accuracy", "brier"]\n'
IN_ORDER = 'use = "lexicographic"\norder = ["accuracy", "brier"]\ntolerance = { accuracy = 0.02 }\n'
REWEIGHT = '[[adapt]]\nuse = "reweight"\ntemperature = 0.5\n'


def test_a_config_with_several_objectives_runs_and_resumes(host, tmp_path):
    setup = loads(CONFIG, host=host)
    assert loads(setup.config, host=host) == setup and "weights = { accuracy = 2.0, brier = 1.0 }" in setup.config
    assert setup.method.weights == Amounts.parse({"accuracy": 2.0, "brier": 1.0})
    summary = session.run(setup, tmp_path / "run")
    assert summary["rounds"] == 2 and not summary["observer_faults"]
    written = (tmp_path / "run" / "config.toml").read_text()
    more = loads(written.replace("rounds = 2", "rounds = 8"), host=host)
    session.resume(more, tmp_path / "run")
    session.run(more, tmp_path / "whole")
    lines = (tmp_path / "run" / "rounds.jsonl").read_text()
    assert lines == (tmp_path / "whole" / "rounds.jsonl").read_text()
    told = [json.loads(line) for line in lines.splitlines()]
    assert told[0]["weights"] == {"accuracy": 2.0, "brier": 1.0, "likelihood": 0.0}
    assert all(sum(row["weights"].values()) == pytest.approx(3.0) for row in told)
    assert told[7]["weights"] != told[0]["weights"] and told[7]["weights"]["likelihood"] == 0
    assert set(told[0]["confirm"]["p_values"]) == {"accuracy", "brier", "likelihood"}
    assert (tmp_path / "run" / "curve.png").exists()


def test_the_explanation_says_what_weights_are(tmp_path):
    text = explain(None)
    assert "# what each metric counts in selection, those not named nothing; not set: the first alone" in text
    assert "# weights is not set" in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("accuracy = 2.0", "acuracy = 2.0"), "my.toml:11: weights.acuracy: unknown metric 'acuracy'"),
        (("accuracy = 2.0", "accuracy = -2"), "my.toml:11: weights.accuracy: accuracy must be at least 0, got -2"),
        (("accuracy = 2.0", "accuracy = 0"), "my.toml:29: adapt[1]: reweight: needs at least two metrics"),
        (('["accuracy", "brier"]', '["accuracy", "brie"]'), "my.toml:18: select.metrics[1]: pareto: unknown "),
        ((PARETO, IN_ORDER), "my.toml:10: weights: Lexicographic does not select by weights: leave them out"),
        (('["accuracy"]', '["acc"]'), "my.toml:23: confirm.claims[0]: paired: unknown metric 'acc'"),
        (("{ brier = 0.05,", "{ bier = 0.05,"), "my.toml:24: confirm.guards.bier: paired: unknown metric 'bier'"),
        (("{ brier = 0.05,", "{ brier = 0,"), "my.toml:24: confirm.guards.brier: must be above 0, got 0.0"),
        (("{ brier = 0.05,", "{ accuracy = 0.05,"), "my.toml:24: confirm.guards.accuracy: must be a claim or a guard"),
        ((WEIGHTS, ""), "reweight: needs at least two metrics with weights above 0"),
    ],
)  # fmt: skip
def test_problems_with_metrics_are_told_with_their_lines(host, change, problem):
    with pytest.raises(ConfigError) as caught:
        loads(CONFIG.replace(*change), "my.toml", host=host)
    assert len(caught.value.problems) == 1 and problem in caught.value.problems[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("accuracy = 0.02", "accuracy = 0.02"), None),
        (('["accuracy", "brier"]', '["accuracy", "brie"]'), "select.order[1]: lexicographic: unknown metric 'brie'"),
        (('["accuracy", "brier"]', '["brier", "brier"]'), "select.order: names 'brier' twice"),
        (("accuracy = 0.02", "acc = 0.02"), "select.tolerance.acc: is for a metric that is not in"),
    ],
)
def test_an_order_of_metrics_is_checked_as_well(host, change, problem):
    text = CONFIG.replace(WEIGHTS, "").replace(REWEIGHT, "").replace(PARETO, IN_ORDER.replace(*change))
    if problem is None:
        assert loads(text, "my.toml", host=host).method.select.order == ("accuracy", "brier")
        return
    with pytest.raises(ConfigError) as caught:
        loads(text, "my.toml", host=host)
    assert len(caught.value.problems) == 1 and problem in caught.value.problems[0]
