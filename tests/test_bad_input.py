"""Bad input: each error says what was expected, what came, and where it helps what to do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Shift, Toy, evolver, examples, make, method, right, sgd, splits

import ev3x
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.proposers.hyperparameters import Hyperparameters
from ev3x.builtin.proposers.trajectories import Trajectories


def refused(kind, text, build, *args, **options):
    with pytest.raises(kind, match=text) as caught:
        build(*args, **options)
    return str(caught.value)


RATE = {"learning_rate": {"low": 0.1, "high": 1.0}}


@pytest.mark.parametrize(
    ("cls", "options", "text"),
    [
        (MeanBounds, {"blok": 3}, "MeanBounds: blok: unknown option 'blok'; did you mean 'block'?"),
        (MeanBounds, {"sheep": 3}, "sheep: unknown option 'sheep'; known: block, blocks, z"),
        (MeanBounds, {"block": 0}, "block: must be greater than or equal to 1, got 0"),
        (MeanBounds, {"block": "many"}, "block: must be a valid integer, got 'many'"),
        (MeanBounds, {"block": True}, "block: must be a valid integer, got True"),
        (Paired, {"level": 0.5}, "level: must be below 0.5, got 0.5"),
        (Paired, {"level": 0.0}, "level: must be greater than 0, got 0.0"),
        (Paired, {"test": "z"}, "test: must be 'auto' or 't', got 'z'"),
        (Promote, {"undecided": "drop"}, "undecided: must be 'take' or 'keep', got 'drop'"),
        (Trajectories, {"losses": ["xent"]}, "Trajectories: optimizers: is required (optax optimizers"),
        (Trajectories, {"losses": [], "optimizers": [sgd()]}, "losses: needs at least one entry (K = 0)"),
        (Trajectories, {"losses": ["xent"], "optimizers": []}, "optimizers: needs at least one entry (K = 0)"),
        (Trajectories, {"losses": [3], "optimizers": [sgd()]}, "losses[0]: must be a loss such as"),
        (
            Trajectories,
            {"losses": ["xent"], "optimizers": [sgd()], "length": 0},
            "length: must be greater than or equal",
        ),
        (
            Trajectories,
            {"losses": ["xent"], "optimizers": [sgd()], "length": 9, "stretch": 2.0, "longest": 5},
            "longest: must be at least length = 9, got 5",
        ),
        (
            Trajectories,
            {"losses": ["xent"], "optimizers": [{"name": "sgdd"}]},
            "unknown optimizer 'sgdd'; did you mean 'sgd'?",
        ),
        (
            Trajectories,
            {"losses": ["xent"], "optimizers": [{"name": "sgd", "learning_rat": 1.0}]},
            "optimizers[0]: sgd: unknown option 'learning_rat'; did you mean 'learning_rate'?",
        ),
        (
            Trajectories,
            {"losses": ["xent"], "optimizers": [{"name": "sgd", "learning_rate": {"name": "linear_schedul"}}]},
            "unknown schedule 'linear_schedul'; did you mean 'linear_schedule'?",
        ),
        (
            Trajectories,
            {"losses": ["xent"], "optimizers": [{"name": "sgd", "learning_rate": {"name": "linear_schedule"}}]},
            "linear_schedule: option 'init_value' is required",
        ),
        (Hyperparameters, {"loss": "xent", "optimizer": sgd(), "ranges": {}}, "ranges: needs at least one entry"),
        (
            Hyperparameters,
            {"loss": "xent", "optimizer": sgd(), "ranges": {"learning_rate": {"low": 1.0, "high": 0.1}}},
            "low must be below high, got [1.0, 0.1]",
        ),
        (
            Hyperparameters,
            {"loss": "xent", "optimizer": sgd(), "ranges": {"learning_rate": {"low": 0.0, "high": 0.1, "log": True}}},
            "a logarithmic range must be positive, got low = 0.0",
        ),
        (
            Hyperparameters,
            {"loss": "xent", "optimizer": sgd(), "ranges": {"learning_rate": {"lo": 0.0, "high": 0.1}}},
            "range 'learning_rate': unknown option 'lo'; did you mean 'low'?",
        ),
        (
            Hyperparameters,
            {"loss": "xent", "optimizer": sgd(), "ranges": {"learning_rate": 0.1}},
            "range 'learning_rate' must be { low = ..., high = ... }, got 0.1",
        ),
    ],
)
def test_options_are_checked_with_their_name(cls, options, text):
    with pytest.raises(ev3x.OptionError) as caught:
        cls.build(options)
    assert text in str(caught.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ev3x.OptionError) as caught:
        MeanBounds.build({"block": 0, "blocks": "x", "zz": 1})
    assert {fault.path[0] for fault in caught.value.faults} == {"block", "blocks", "zz"}


@pytest.mark.parametrize(
    ("proposer", "text"),
    [
        (
            Trajectories(losses=["xentt"], optimizers=[sgd()]),
            "trajectories: unknown loss 'xentt'; did you mean 'xent'?",
        ),
        (
            Trajectories(losses=[ev3x.Loss("xent", temprature=1.0)], optimizers=[sgd()]),
            "loss 'xent': unknown hyperparameter 'temprature'; did you mean 'temperature'?",
        ),
        (
            Trajectories(losses=["xent"], optimizers=[sgd()], auxiliary=["hing"]),
            "unknown loss 'hing'; did you mean 'hinge'?",
        ),
        (Hyperparameters(loss="xen", optimizer=sgd(), ranges=RATE), "hyperparameters: unknown loss 'xen'"),
        (
            Hyperparameters(loss="xent", optimizer=sgd(), ranges={"temprature": RATE["learning_rate"]}),
            "unknown range 'temprature'; did you mean 'temperature'?",
        ),
    ],
)
def test_names_are_checked_against_the_task_when_the_run_begins(proposer, text):
    with pytest.raises(ValueError) as caught:
        evolver(proposer).init(0)
    assert text in str(caught.value)


def generated(i):
    return ev3x.Generated(jax.random.key(i), make)


SHARED = examples(0, 40)
PART = ev3x.Arrays(jax.tree.map(lambda x: x[30:], SHARED.tree))
TAUGHT = ev3x.Arrays({**SHARED.tree, "teacher": jnp.arange(float(SHARED.size))})


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"decide": ev3x.Explore(generated(0))}, TypeError, r"splits: `decide` must be Decide\(...\), got Explore"),
        ({"assess": generated(0)}, TypeError, r"splits: `assess` must be Assess\(...\), got Generated"),
        (
            {"assess": ev3x.Assess(make)},
            TypeError,
            r"source of `assess` must be Arrays\(...\) or Generated\(...\), got function",
        ),
        ({"assess": ev3x.Assess(examples(0, 0))}, ValueError, "splits: `assess` is empty"),
        (
            {"assess": ev3x.Assess(ev3x.Arrays({"x": jnp.ones(3), "y": jnp.ones(4)}))},
            ValueError,
            r"all arrays of `assess` need one leading axis of examples, got lengths \['3', '4'\]",
        ),
        ({"assess": ev3x.Assess(ev3x.Arrays({}))}, ValueError, "`assess` need one leading axis of examples"),
        (
            {"explore": ev3x.Explore(examples(0, 8), batch_size=9)},
            ValueError,
            "explore batch_size is 9 but there are only 8 examples",
        ),
        ({"explore": ev3x.Explore(generated(0), batch_size=0)}, ValueError, "batch_size must be at least 1, got 0"),
        (
            {"explore": ev3x.Explore(SHARED), "assess": ev3x.Assess(PART)},
            ValueError,
            "must not share examples, but assess example 0 is also explore example 30; remove duplicates",
        ),
        (
            {"explore": ev3x.Explore(TAUGHT), "assess": ev3x.Assess(PART)},
            ValueError,
            "must not share examples, but assess example 0 is also explore example 30; remove duplicates",
        ),
        (
            {"assess": ev3x.Assess(generated(3)), "decide": ev3x.Decide(generated(3))},
            ValueError,
            "decide and assess generate from the same key",
        ),
        (
            {"explore": ev3x.Explore(generated(0), meta=ev3x.Explore(PART, 1)), "assess": ev3x.Assess(SHARED)},
            ValueError,
            "must not share examples, but assess example 30 is also explore.meta example 0",
        ),
        (
            {"explore": ev3x.Explore(generated(0), meta=ev3x.Explore(examples(0, 0)))},
            ValueError,
            "splits: `explore.meta` is empty",
        ),
        (
            {"explore": ev3x.Explore(generated(0), meta=ev3x.Explore(examples(0, 8), batch_size=9))},
            ValueError,
            "explore.meta batch_size is 9 but there are only 8 examples",
        ),
        (
            {"explore": ev3x.Explore(generated(0), meta=generated(1))},
            TypeError,
            r"`explore.meta` must be Explore\(...\), got Generated",
        ),
        (
            {"decide": ev3x.Decide(examples(0, 64), reuse=True)},
            ValueError,
            "the decide split has 64 examples but one round reads up to 128; .* or lower confirm.block",
        ),
    ],
)
def test_splits_that_do_not_fit_are_refused(given, kind, text):
    refused(kind, text, evolver, Shift(), data=splits(**given))


def test_an_assessment_that_would_read_examples_twice_is_refused():
    data = splits(assess=ev3x.Assess(examples(0, 100)))
    text = "the assess split has 100 examples but one round reads up to 192; give it more, or lower select.block"
    refused(ValueError, text, evolver, Shift(), data=data, select=MeanBounds(block=64, blocks=3))


def test_data_that_are_neither_splits_nor_a_feed_are_refused():
    data = ev3x.Data(splits(), examples(0, 8))
    refused(TypeError, r"data must be Splits\(...\) or Feed\(...\), got Data", evolver, Shift(), data=data)


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"select": MeanBounds}, TypeError, "method: `select` must be an instance of Assessor, got <class"),
        ({"confirm": Promote()}, TypeError, r"method: `confirm` must be an instance of Assessor, got Promote\("),
        ({"budget": None}, TypeError, "method: `budget` must be an instance of Budget, got None"),
        ({"adapters": (Promote,)}, TypeError, "adapters 'promote' must be an instance of Adapter, got <class"),
        ({"proposers": (Promote(),)}, TypeError, r"proposers 'promote' must be an instance of Proposer, got Promote\("),
        ({"proposers": ()}, ValueError, "method: at least one proposer is needed, got none"),
        (
            {"proposers": (Shift(), Shift())},
            ValueError,
            r"proposers need different labels, got \['shift', 'shift'\] "
            r"\('shift' for Shift, Shift\); give pairs \(label, component\)",
        ),
        ({"proposers": Shift()}, TypeError, r"method: proposers must be a list, got Shift\("),
    ],
)
def test_a_method_of_wrong_parts_is_refused(given, kind, text):
    refused(kind, text, lambda: dataclasses.replace(method(Shift()), **given))


@dataclasses.dataclass(frozen=True)
class Needy(Shift):
    needs = frozenset({"meta", "hypers", "x64"})


class Plain(Toy):
    @property
    def hypers(self):
        return {}


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        ("meta", r"proposer 'needy' needs a meta split: Explore\(..., meta=Explore\(...\)\)"),
        ("hypers", "proposer 'needy' needs hyperparameters: a task that declares `hypers`"),
        ("x64", r"needs 64-bit types: jax.config.update\('jax_enable_x64', True\)"),
    ],
)
def test_what_a_proposer_needs_is_checked_at_the_start(monkeypatch, needs, text):
    monkeypatch.setattr(Needy, "needs", frozenset({needs}))
    refused(ValueError, text, evolver, Needy(), task=Plain())


def one_round(*proposers, **given):
    run = evolver(*proposers, **given)
    return run.rounds(run.init(0), 1)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (
            ev3x.Metric("mean", lambda p, b: p.mean()),
            r"metric 'mean' must return one value per example: .*\(64,\), got \(\) \(or declare it with kind='set'\)",
        ),
        (
            ev3x.Metric("half", lambda p, b: p[:3]),
            r"metric 'half' must return one value per example: .*\(64,\), got \(3,\)",
        ),
        (
            ev3x.Metric("all", lambda p, b: p, kind="set"),
            r"metric 'all' must return one number for the whole set: expected shape \(\), got \(64,\)",
        ),
        (ev3x.Metric("host", lambda p, b: p[:3], host=True), "metric 'host' must return one value per example"),
    ],
)
def test_metrics_of_the_wrong_shape_are_named(metric, text):
    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=text):
        one_round(Shift(), task=Toy((metric,)))


def test_a_set_level_metric_needs_several_blocks_to_be_confirmed_on():
    metric = ev3x.Metric("auroc", right, kind="set")
    text = (
        "paired: metric 'auroc' is set-level, its uncertainty is that between blocks: blocks must be at least 2, got 1"
    )
    refused(ValueError, text, evolver, Shift(), task=Toy((metric,)), confirm=Paired(block=64, blocks=1))
    select = MeanBounds(block=64, z=1.0)
    refused(ValueError, "mean_bounds: metric 'auroc'", evolver, Shift(), task=Toy((metric,)), select=select)


def test_a_task_without_metrics_is_refused():
    refused(ValueError, "the task has no metrics: at least one is needed", evolver, Shift(), task=Toy(()))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "batch"}, "metric 'm': kind must be 'example' or 'set', got 'batch'"),
        ({"kind": "set", "binary": True}, "a set-level metric cannot be binary"),
        ({"low": 1.0, "high": 0.0}, r"low must be below high, got \[1.0, 0.0\]"),
        ({"margin": -0.1}, "margin must not be negative, got -0.1"),
    ],
)
def test_metrics_that_contradict_themselves_are_refused(options, text):
    refused(ValueError, text, lambda: ev3x.Metric("m", right, **options))


class Averaged(Toy):
    def loss(self, name, variables, batch, key, hypers):
        each, variables = super().loss(name, variables, batch, key, hypers)
        return each.mean(), variables


class Weighing(Toy):
    def weigh(self, batch):
        return jnp.ones(3)


class Losing(Toy):
    def loss(self, name, variables, batch, key, hypers):
        each, _ = super().loss(name, variables, batch, key, hypers)
        return each, {"params": None, "extra": jnp.zeros(())}


class Bare(Toy):
    def init(self, key):
        return super().init(key)["params"]


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Averaged(), r"Averaged.loss\('xent'\) must return one value per example: expected shape \(8,\), got \(\)"),
        (Weighing(), r"Weighing.weigh must return one weight per example: expected \(64,\), got \(3,\)"),
        (
            Losing(),
            r"Losing.loss\('xent'\) must return .* their collections \['params'\], got \['extra', 'params'\]",
        ),
        (Bare(), r"the variables must be a mapping of collections with 'params', got \['b', 'w'\]"),
    ],
)
def test_a_task_of_the_wrong_shapes_is_named(task, text):
    refused(ValueError, text, one_round, task=task)


@dataclasses.dataclass(frozen=True)
class Odd(Shift):
    """A proposer that gets its candidates wrong in one way."""

    way: str = "structure"

    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        params = made.variables["params"]
        wrong = {
            "structure": {"w": params["w"]},
            "shape": {**params, "w": params["w"][:, :1]},
            "dtype": {**params, "w": params["w"].astype(jnp.float16)},
            "count": {**params, "w": jnp.concatenate([params["w"], params["w"]])},
        }.get(self.way, params)
        eligible = made.eligible[:0] if self.way == "eligible" else made.eligible
        return dataclasses.replace(made, variables={"params": wrong}, eligible=eligible)


@pytest.mark.parametrize(
    ("way", "text"),
    [
        ("structure", "proposer 'odd': the candidates must have the model's structure PyTreeDef.*'b'.*, got PyTreeDef"),
        (
            "shape",
            r"candidates\['params'\]\['w'\] must be float32\[1, 2\] \(1 candidates.*\), got float32\[1, 1\]",
        ),
        ("dtype", r"candidates\['params'\]\['w'\] must be float32\[1, 2\] .*, got float16\[1, 2\]"),
        ("count", r"candidates\['params'\]\['w'\] must be float32\[1, 2\] .*, got float32\[2, 2\]"),
        ("eligible", r"proposer 'odd': eligible must be bools of shape \(1,\), got bool of shape \(0,\)"),
    ],
)
def test_candidates_that_do_not_match_the_model_are_refused(way, text):
    refused(ValueError, text, one_round, Odd(way=way))


@dataclasses.dataclass(frozen=True)
class Nobody(Shift):
    def labels(self, site):
        return ()


def test_a_proposer_without_candidates_is_refused():
    refused(
        ValueError,
        r"proposer 'nobody': makes no candidates \(K = 0\); let `labels` name at least one \(`Nobody.labels`, ",
        evolver,
        Nobody(),
    )


def test_an_adapter_that_calls_without_a_transform_is_told():
    @dataclasses.dataclass(frozen=True)
    class Caller(ev3x.Adapter):
        def decide(self, index, state, decision, selection, confirmation):
            return dataclasses.replace(decision, calls=decision.calls.at[index].set(1)), state

    refused(NotImplementedError, "Caller raised a call but has no transform", one_round, Shift(), adapters=(Caller(),))


def test_rounds_are_at_least_one():
    run = evolver(Shift())
    refused(ValueError, "rounds must be at least 1, got 0", run.rounds, None, 0)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ev3x.Optimizer("addam"), "unknown optimizer 'addam'; did you mean 'adam'?"),
        (lambda: ev3x.Optimizer("adam"), "adam: option 'learning_rate' is required"),
        (
            lambda: ev3x.Optimizer("sgd", learning_rate=np.ones(2)),
            "sgd: learning_rate must be a number, a string or a rule, got array",
        ),
        (lambda: ev3x.Loss("xent", temperature="hot"), "loss 'xent': temperature must be a number, got 'hot'"),
        (lambda: ev3x.Loss("xent", weight=True), "loss 'xent': weight must be a number, got True"),
    ],
)
def test_losses_and_optimizers_are_checked_where_they_are_written(build, text):
    with pytest.raises(ValueError) as caught:
        build()
    assert text in str(caught.value)
