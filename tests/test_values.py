"""What means nothing is refused where it is written: numbers, seeds, names, and types of options."""

import collections.abc
import dataclasses
import math
import re
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pydantic
import pytest
import toys
from flax import linen

import ev3x
from ev3x import component, methods, values
from ev3x.builtin.assessors.lexicographic import Lexicographic
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.pareto import Pareto
from ev3x.builtin.proposers.hyperparameters import Hyperparameters
from ev3x.component import Component, OptionError
from ev3x.config import ConfigError, Override, loads
from ev3x.evolver import _key
from ev3x.host.host import ROLES
from ev3x.training import optimizers
from ev3x.training.losses import Term

NAN, INF = math.nan, math.inf
BUILTIN = sorted({c for role in ROLES for c in ev3x.Host().offers(role, "ev3").values()}, key=lambda c: c.__name__)


def told(build, *args, **options):
    with pytest.raises((ValueError, TypeError)) as caught:
        build(*args, **options)
    return str(caught.value)


def numbers(cls, kind):
    """The options of a component that hold one number of this kind, with the notes of their types."""
    for option, hint in typing.get_type_hints(cls, include_extras=True).items():
        parts = [hint, *typing.get_args(hint)]
        parts += [inner for part in parts for inner in typing.get_args(part)]
        if (
            option in {f.name for f in dataclasses.fields(cls)}
            and kind in parts
            and tuple not in map(typing.get_origin, parts)
        ):
            yield option, [type(part) for part in parts]


# Numbers


@pytest.mark.parametrize("cls", BUILTIN, ids=lambda cls: cls.__name__)
def test_every_number_of_a_builtin_component_is_a_finite_number(cls):
    for option, notes in numbers(cls, float):
        endless = pydantic.types.AllowInfNan in notes
        for bad in (NAN, -INF, 1e39, "1e-3", True, np.float32(NAN)):
            assert component._checked(cls, option, bad)[1], (option, bad)
        assert bool(component._checked(cls, option, INF)[1]) != endless
    for option, _ in numbers(cls, int):
        for bad in (NAN, INF, 1.5, "1", True, -(2**40), np.float64(3.0), np.True_):
            assert component._checked(cls, option, bad)[1], (option, bad)


def test_numbers_of_numpy_and_jax_are_numbers():
    bounds = MeanBounds(block=np.int64(7), blocks=np.uint8(2), z=np.float32(0.5))
    assert bounds == MeanBounds(7, 2, 0.5) and bounds.to_config() == {"block": 7, "blocks": 2, "z": 0.5}
    assert {type(v) for v in bounds.to_config().values()} == {int, float}
    assert MeanBounds(block=jnp.int32(7), z=np.array(0.5)) == MeanBounds(7, z=0.5)
    adam = ev3x.Optimizer("adam", learning_rate=np.float32(0.25), b1=np.float64(0.5))
    assert adam == ev3x.Optimizer(optax.adam, learning_rate=0.25, b1=0.5) and adam.numbers == {
        "b1": 0.5,
        "learning_rate": 0.25,
    }
    assert np.float32(0.5) * ev3x.Loss("kl", temperature=np.int64(2)) == ev3x.Loss("kl", weight=0.5, temperature=2.0)
    assert ev3x.Range("x", np.float32(0.5), np.int64(2)) == ev3x.Range("x", 0.5, 2)
    metric = ev3x.Metric("m", len, low=np.float32(0), high=np.int64(1), margin=np.float64(0.1), maximize=np.False_)
    assert metric == ev3x.Metric("m", len, low=0.0, high=1.0, margin=0.1, maximize=False)
    assert Paired(guards={"a": np.int64(1)}).guards == (("a", 1.0),)
    assert ev3x.Limits(np.int64(3), np.float32(INF)) == ev3x.Limits(3, INF)


METRIC, RATE = {"name": "m", "fn": len}, {"learning_rate": 0.1}


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ev3x.Metric(**METRIC, low=NAN), "metric 'm': low must be a finite number"),
        (lambda: ev3x.Metric(**METRIC, low="0"), "metric 'm': low must be a number, got '0'"),
        (lambda: ev3x.Metric(**METRIC, margin=INF), "metric 'm': margin must be a finite number"),
        (lambda: ev3x.Metric(**METRIC, maximize="no"), "metric 'm': maximize must be True or False, got 'no'"),
        (lambda: ev3x.Metric("", len), "the name of a metric must be a string that is not empty, got ''"),
        (lambda: ev3x.Metric("m", 3), "metric 'm': fn must be a function of predictions and batch, got 3"),
        (lambda: ev3x.Range("x", 0.0, INF), "range 'x': high must be a finite number"),
        (lambda: ev3x.Range("x", NAN, 1.0), "range 'x': low must be a finite number"),
        (lambda: ev3x.Range("x", 0.0, 1.0, log=1), "range 'x': log must be True or False, got 1"),
        (lambda: ev3x.Loss("kl", weight=NAN), "loss 'kl': weight must be a finite number"),
        (lambda: ev3x.Loss("kl", temperature=INF), "loss 'kl': temperature must be a finite number"),
        (lambda: NAN * ev3x.Loss("kl"), "the factor of a loss must be a finite number"),
        (lambda: ev3x.Loss((("kl", 1.0),)), "a loss must be a name, or terms"),
        (
            lambda: Term("kl", 1.0, (("t", 1.0), ("t", 2.0))),
            "hyperparameters need different names, got 't' more than once",
        ),
        (
            lambda: ev3x.Optimizer("adamw", learning_rate="1e-3"),
            "adamw: learning_rate must be a number or a schedule, got '1e-3'",
        ),
        (
            lambda: ev3x.Optimizer("adamw", learning_rate=NAN),
            "adamw: learning_rate must be a finite number (up to 3.4e38, as float32), got nan",
        ),
        (lambda: ev3x.Optimizer("sgd", **RATE, momentum="0.9"), "sgd: momentum must be a number, got '0.9'"),
        (lambda: ev3x.Optimizer("sgd", **RATE, nesterov="yes"), "sgd: nesterov must be true or false, got 'yes'"),
        (
            lambda: ev3x.Optimizer("adam", learning_rate={"name": "constant_schedule", "value": INF}),
            "constant_schedule: value must be a finite number",
        ),
        (lambda: ev3x.Limits(gradient_steps=-1), "limits: gradient_steps must be None or an integer from 0 on, got -1"),
        (lambda: ev3x.Limits(rounds=True), "limits: rounds must be None or an integer from 0 on, got True"),
        (lambda: ev3x.Limits(seconds=NAN), "limits: seconds must be a finite number"),
        (lambda: ev3x.Limits(target=NAN), "limits: target must be a finite number"),
        (lambda: ev3x.Stream(lambda: iter(()), batches=True), "Stream: batches must be an integer, got True"),
        (lambda: toys.splits(batch_size=2.0).check(), "splits: explore batch_size must be an integer, got 2.0"),
        (lambda: ev3x.metrics.TopK(0), "TopK: k must be at least 1, got 0"),
        (lambda: ev3x.metrics.Constant("1"), "Constant: value must be a number, got '1'"),
        (lambda: methods.ev3(["xent"], [toys.sgd()], examples=NAN), "ev3: examples must be an integer, got nan"),
        (lambda: MeanBounds(block=2**31), "MeanBounds: block: must be less than 2147483648, got 2147483648"),
        (lambda: MeanBounds(z=1e39), "MeanBounds: z: must be a finite number (up to 3.4e38, as float32), got 1e+39"),
        (lambda: MeanBounds(z=NAN), "MeanBounds: z: must be a finite number, got nan"),
    ],
)
def test_a_number_that_means_nothing_is_refused_where_it_is_written(build, text):
    assert text in told(build)


def test_options_that_are_no_numbers_may_be_strings():
    assert dict(ev3x.Optimizer("adam", **RATE, mu_dtype="bfloat16").options)["mu_dtype"] == "bfloat16"
    assert dict(ev3x.Optimizer("adafactor", momentum=None).options) == {"momentum": None}

    def mine(kind, rate: "float | Undefined" = 0.1):  # type: ignore[name-defined]  # noqa: F821, as someone wrote it
        return optax.sgd(rate)

    assert told(ev3x.Rule, mine, kind="x", rate="y") == "mine: rate must be a number, got 'y'"
    assert dict(ev3x.Rule(mine, kind="x", rate=1).options) == {"kind": "x", "rate": 1}


ARRAYS = ev3x.Arrays({"x": np.zeros((40, 2)), "y": np.zeros(40)})


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ev3x.Metric(**METRIC, low=10**400), "metric 'm': low must be a finite number"),
        (lambda: ev3x.Limits(seconds=10**400), "limits: seconds must be a finite number"),
        (lambda: ev3x.Metric(**METRIC, low=1e-45), "metric 'm': low must be 0, or at least 1.2e-38 from it"),
        (lambda: ev3x.Metric(**METRIC, low=0.1, high=0.1 + 1e-12), "metric 'm': low and high must differ as float32"),
        (lambda: ev3x.Metric(**METRIC, low=0.0, high=1.0, margin=1.0), "margin must be below high - low"),
        (lambda: ev3x.Metric(**METRIC, binary=True, low=3.0), "the values of a binary metric are from 0 to 1"),
        (lambda: ev3x.Range("x", -3e38, 3e38), "range 'x': the distance from low to high must be a finite number"),
        (lambda: ev3x.Range("x", 1, 1 + 1e-12), "range 'x': low and high must differ as float32"),
        (lambda: np.ones(2) * ev3x.Loss("kl"), "the factor of a loss must be a number, got array([1., 1.])"),  # type: ignore[operator]
        (lambda: ev3x.Loss("kl") + 3, "unsupported operand"),  # type: ignore[operator]
        (lambda: ev3x.Loss((Term("kl"),), weight=2.0), "has their weights and hyperparameters, got weight besides"),
        (lambda: Term("kl", 1.0, {"t": 1.0}), "loss 'kl': hypers must be pairs (name, number)"),
        (lambda: ev3x.Optimizer("sgd", learning_rate=10**39), "sgd: learning_rate must be a finite number"),
        (lambda: ev3x.Optimizer("adam", **RATE, mu_dtype="x"), "adam: cannot be built: TypeError: data type 'x'"),
        (lambda: ev3x.Optimizer(lambda: 3), "<lambda>: must return an optimizer, which has `init` and `update`, got 3"),
        (lambda: ev3x.Optimizer(int), "int: must return an optimizer"),
        (
            lambda: ev3x.Rule(optax.linear_schedule, init_value=1.0, end_value=0.0, transition_steps=2.5),
            "linear_schedule: transition_steps must be an integer, got 2.5",
        ),
        (lambda: toys.evolver(weights=((["error"], 1.0),)), "weights: each name must be a string"),
        (lambda: ev3x.Layout.build({3: 1}), "unknown option 3; known: chunk, score_chunk"),  # type: ignore[dict-item]
        (lambda: toys.evolver(layout=3), "`layout` must be an instance of Layout, got 3"),
        (
            lambda: toys.evolver(task=toys.Toy),
            "`task` must be an instance of Task, got <class 'toys.Toy'>: write Toy(...)",
        ),
        (lambda: ev3x.Evolver(toys.Toy(), None, toys.splits()), "`method` must be an instance of Method, got None"),
        (lambda: ev3x.Data(None, ARRAYS), "data: `splits` must be Splits(...) or Feed(...), got None"),
        (
            lambda: ev3x.Data(toys.splits(), ev3x.Arrays({"x": np.zeros((4, 2)), "y": np.zeros(5)})),
            "all arrays of `test` need one leading axis of examples, got lengths ['4', '5']",
        ),
        (lambda: ev3x.Data(toys.splits(), 4), "data: `test` must be an instance of Arrays, got 4"),
    ],
)
def test_what_means_nothing_to_the_program_is_refused_before_it(build, text):
    assert text in told(build)


def drawn(key, n, pool):
    return pool


def drawing(pool, make=drawn):
    return ev3x.Explore(ev3x.Generated(jax.random.key(0), make, pool))


@pytest.mark.parametrize(
    ("explore", "text"),
    [
        (ev3x.Explore(ev3x.Arrays({"x": np.array(["a", "b"] * 20)})), "['x'] of `explore` must hold numbers or bools"),
        (ev3x.Explore(ev3x.Arrays({"x": np.array([None] * 40)})), "['x'] of `explore` must hold numbers or bools"),
        (ev3x.Explore(ev3x.Generated(3, toys.make)), "`key` of `explore` must be a key, as jax.random.key(0), got 3"),
        (ev3x.Explore(ev3x.Generated(np.zeros(2, np.uint32), "make")), "`make` of `explore` must be a function"),
        (drawing({"x": np.array(["a"])}), "['x'] of the pool of `explore` must hold numbers or bools, got <U1"),
        (drawing({"x": np.array([None])}), "['x'] of the pool of `explore` must hold numbers or bools, got object"),
        (drawing({"x": np.zeros((0, 2))}), "the pool of `explore` is empty"),
        (drawing({}), "all arrays of the pool of `explore` need one leading axis of examples, got lengths []"),
        (drawing({"x": np.ones(3), "y": np.ones(4)}), "the pool of `explore` need one leading axis of examples"),
        (drawing({"x": np.ones(3), "y": 1.0}), "the pool of `explore` need one leading axis of examples"),
        (drawing(ARRAYS.tree, toys.make), "`make` of `explore` must be a function of a key, n and a pool, got <func"),
        (drawing(None, drawn), "`make` of `explore` must be a function of a key and n, got <function drawn"),
        (ev3x.Explore(ARRAYS, teachers={"t": toys.Toy()}), "teacher 't' of explore must be a Teacher(...)"),  # type: ignore[dict-item]
        (ev3x.Explore(ARRAYS, teachers=[3]), "`teachers` of explore must be a mapping"),
        (ev3x.Varied(ARRAYS, vary=3), "`vary` of explore must be a function of a key and a batch, got 3"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused_by_its_part(explore, text):
    assert text in told(toys.splits(explore=explore).check)


def test_a_range_in_a_table_has_the_name_that_the_table_gives_it():
    assert ev3x.Ranges._parse({"b": ev3x.Range("a", 1, 2)}) == (ev3x.Range("b", 1, 2),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = " + "[" * 2000 + "]" * 2000, "my.toml:1: not TOML: values are nested deeper than 50 levels"),
        (".".join("a" * 500) + " = 1", "my.toml:1: not TOML: values are nested deeper than 50 levels"),
        ("seed = " + "9" * 5000, "my.toml:1: not TOML: Exceeds the limit (4300 digits)"),
        ("rounds = 1\npropose = 3", "my.toml:2: propose: must be a list of tables"),
        (
            "rounds = 1\nconfirm.use = 'betting'\nconfirm.level = 1e-46",
            "my.toml:3: confirm.level: must be 0, or at least",
        ),
        ("rounds = 1\n[plugins]\nenable = ['a b']", "my.toml:3: plugins.enable[0]: must name a distribution"),
        ("rounds = 1\n[plugins]\nrequire = ['ev3x[extra]']", "my.toml:3: plugins.require[0]: must be a distribution"),
        (
            "rounds = 1\n[plugins]\nrequire = ['ev3x @ file:///x']",
            "my.toml:3: plugins.require[0]: must be a distribution",
        ),
        ("rounds = 1\ntarget = nan", "my.toml:2: target: must be a finite number, got nan"),
        ("rounds = 1\n[select]\nuse = 'mean_bounds'\nz = nan", "my.toml:4: select.z: must be a finite number, got nan"),
        ("seconds = nan", "my.toml:1: seconds: "),
        (
            "rounds = 1\nweights = { accuracy = inf }",
            "my.toml:2: weights.accuracy: accuracy must be a finite number (up to 3.4e38, as float32), got inf",
        ),
        (
            "rounds = 1\n[[propose]]\nuse = 'trajectories'\nlosses = ['kl']\noptimizers = [\n"
            "  { name = 'adamw', learning_rate = '1e-3' },\n]",
            "my.toml:6: propose[0].optimizers[0].learning_rate: adamw: learning_rate must be a number or a schedule, "
            "got '1e-3'",
        ),
    ],
)
def test_a_config_is_refused_at_its_line(text, problem):
    with pytest.raises(ConfigError) as caught:
        loads(text, "my.toml")
    assert len(caught.value.problems) == 1 and caught.value.problems[0].startswith(problem)


def test_a_run_may_have_no_end_in_seconds():
    assert loads("seconds = inf\n", "my.toml", [Override.parse("save_every=inf")]).limits.seconds == INF


# Seeds


@pytest.mark.parametrize("seed", [-1, 2**32, True, np.True_, 1.0, np.float32(1), NAN, "1", None, np.int64(-1)])
def test_a_seed_is_an_integer_of_32_bits(seed):
    said = rf"a seed must be an integer from 0 to 4294967295 \(2\^32 - 1\), got {re.escape(repr(values.plain(seed)))}"
    for take in (_key, ev3x.Host().build("task", "distill-digits").load):
        assert re.fullmatch(said, told(take, seed))


def test_integers_of_numpy_are_seeds():
    for seed in (0, 3, 2**32 - 1):
        wanted = jax.random.key_data(jax.random.key(seed))
        assert (jax.random.key_data(_key(np.uint32(seed))) == wanted).all()
        assert (jax.random.key_data(_key(np.int64(seed))) == wanted).all()
    for key in (jax.random.key(3), jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3))):
        assert _key(key) is key


@pytest.mark.parametrize("seed", ["-1", "4294967296", "true", "1.0", "'1'", "nan"])
def test_a_config_has_the_same_rule(seed):
    with pytest.raises(ConfigError, match=r"my\.toml:2: seed: must be"):
        loads(f"rounds = 1\nseed = {seed}\n", "my.toml")


# Names


@dataclasses.dataclass(frozen=True)
class Named(toys.Toy):
    losses = ("xent", "xent")


class Alike(toys.Shift):
    def labels(self, site):
        return ("a", "a")


def warm(temperature):
    return optax.sgd(temperature)


ERROR = ev3x.Metric("error", toys.right)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: toys.evolver(toys.Shift(), task=toys.Toy((ERROR, ERROR))),
            "the metrics of Toy need different names, got 'error' more than once",
        ),
        (
            lambda: toys.evolver(toys.Shift(), task=Named()),
            "the losses of Named need different names, got 'xent' more than once",
        ),
        (
            lambda: toys.evolver(Alike()),
            "proposer 'alike': labels must give every candidate a name of its own, got 'a' more than once",
        ),
        (
            lambda: toys.method(("select", toys.Shift())),
            "a label of proposers must be a string without '/' and none of task, select",
        ),
        (lambda: toys.method(("a/learn", toys.Shift())), "a label of proposers must be a string without '/'"),
        (lambda: toys.method((3, toys.Shift())), "a label of proposers must be a string"),
        (lambda: toys.method(("a", "b", toys.Shift())), "proposers must be components or pairs (label, component)"),
        (
            lambda: RangesOf([ev3x.Range("a", 0, 1)] * 2),
            "RangesOf: ranges: ranges need different names, got 'a' more than once",
        ),
        (
            lambda: Hyperparameters(
                "xent", ev3x.Optimizer(warm, temperature=1.0), {"temperature": {"low": 0.5, "high": 1.0}}
            ).init(ev3x.Site(toys.Toy()), jax.random.key(0), None),
            "range 'temperature' names an option of the optimizer and a hyperparameter of the task",
        ),
        (
            lambda: Paired(guards={1: 0.5, "1": 0.1}),
            "Paired: guards: each name must be a string that is not empty, got 1",
        ),
        (lambda: Paired(guards=(("a", 0.5), ("a", 0.1))), "Paired: guards: names something twice"),
        (lambda: Paired(claims=("a", "a")), "Paired: claims: names 'a' twice, got ('a', 'a')"),
        (lambda: Pareto(metrics=["a", "b", "a"]), "Pareto: metrics: names 'a' twice"),
        (lambda: Lexicographic(order=("a", "a")), "Lexicographic: order: names 'a' twice"),
    ],
)
def test_what_becomes_a_key_has_a_name_of_its_own(build, text):
    assert text in told(build)


def test_labels_of_losses_that_differ_differ():
    assert str(0.1 * ev3x.Loss("kl", temperature=2.0)) == "0.1 kl(temperature=2)"
    assert str(ev3x.Loss("kl", temperature=1.00000001)) != str(ev3x.Loss("kl"))
    assert str(ev3x.Loss("kl", temperature=1.00000001)) != str(ev3x.Loss("kl", temperature=1.00000002))


# Types of options


@dataclasses.dataclass(frozen=True)
class RangesOf(Component):
    ranges: ev3x.Ranges


@dataclasses.dataclass(frozen=True)
class Pair:
    a: int
    b: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Holder:
    table: dict[str, int]


REFUSED = {
    "dict[str, float]": (dict[str, float], "tuple[tuple[str, float], ...]"),
    "list[int]": (list[int], "say tuple[...]"),
    "set[str] | None": (set[str] | None, "say tuple[...]"),
    "collections.abc.Sequence[int]": (collections.abc.Sequence[int], "say tuple[...]"),
    "tuple": (tuple, "say what it holds"),
    "Callable": (collections.abc.Callable[[float], float], "make it a method of a subclass"),
    "jax.Array": (jax.Array, "make the array in a method"),
    "numpy.ndarray": (np.ndarray, "make the array in a method"),
    "flax": (linen.Module, "give the numbers and names that it is made from"),
    "Path": (Path, "give the numbers and names that it is made from"),
    "Any": (typing.Any, "say which type it is"),
    "object": (object, "say which type it is"),
    "Holder": (Holder, "has the type Holder, of which a field has the type dict[str, int]"),
    "in a tuple": (tuple[jax.Array, ...], "jax.Array"),
}


def made(hint, base=Component):
    return dataclasses.make_dataclass("Made", [("scales", hint, None)], bases=(base,), frozen=True)


@pytest.mark.parametrize("hint", REFUSED, ids=str)
def test_a_type_that_no_option_may_have_is_refused_in_words(hint):
    kind, advice = REFUSED[hint]
    for build in (made(kind), lambda: made(kind).build({})):
        with pytest.raises(OptionError) as caught:
            build()
        (fault,) = caught.value.faults
        assert fault.path == ("scales",) and str(caught.value).startswith("Made: scales: has the type ")
        assert advice in fault.text and "allowed are bool, int, float, str" in fault.text


def test_a_plugin_that_offers_such_an_option_is_named():
    class Plugin:
        @ev3x.hookimpl
        def ev3x_proposers(self):
            return [ev3x.Offer("mine", made(dict[str, float], toys.Shift))]

    host = ev3x.Host()
    host.register("mine", Plugin())
    with pytest.raises(ev3x.PluginError) as caught:
        host.offers("proposer", "mine")
    assert re.search(
        r"plugin 'mine' .* 'mine': Made: option scales: has the type dict\[str, float\]", str(caught.value)
    )


def test_a_type_that_is_not_there_at_run_time_is_told():
    kind = dataclasses.make_dataclass("Made", [("x", "Nowhere", None)], bases=(Component,), frozen=True)
    assert "Made: x: its type cannot be read: name 'Nowhere' is not defined" in told(kind)


def test_a_value_without_a_hash_is_told():
    @dataclasses.dataclass(frozen=True)
    class Wild:
        fn: collections.abc.Callable

        def __hash__(self):
            raise TypeError("no hash")

    assert "Made: scales: must be a value that has a hash" in told(made(Wild), Wild(len))


class Picky(optimizers.Named):
    """A value of a plugin, whose own check raises what Python raises."""

    EXAMPLE = "a picky one"

    def __init__(self, name, **options):
        raise TypeError("no name will do")

    def to_config(self):
        return {}


def test_an_error_of_a_values_own_check_is_told_at_its_option():
    fault = component._checked(made(Picky), "scales", "kl")[1][0]
    assert str(fault) == "scales: no name will do, got 'kl'"
    assert str(component._checked(made(ev3x.Loss), "scales", {"name": "kl", 1: 2})[1][0]) == (
        "scales: must be a loss such as { name = \"kl\", temperature = 1.0 }, got {'name': 'kl', 1: 2}"
    )
    assert str(component._checked(made(tuple[int, ...]), "scales", 3)[1][0]) == "scales: must be a list, got 3"


ALLOWED = {
    "bool": (bool, True),
    "int": (int, 3),
    "float": (float, 0.5),
    "str": (str, "a"),
    "Literal": (typing.Literal["a", "b"], "a"),
    "tuple": (tuple[int, ...], (1, 2)),
    "X or None": (float | None, None),
    "frozen dataclass": (Pair, Pair(1, (0.5,))),
    "ev3x.Loss": (ev3x.Loss, ev3x.Loss("kl")),
    "ev3x.Optimizer": (ev3x.Optimizer, toys.sgd()),
    "ev3x.Ranges": (ev3x.Ranges, ev3x.Ranges()),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_the_table_of_types_holds(name):
    hint, value = ALLOWED[name]
    thing = made(hint)(value)
    assert thing.scales == value and isinstance(hash(thing), int)
    assert type(thing).build(thing.to_config()) == thing
    page = (Path(__file__).parents[1] / "docs/plugin-api.md").read_text(encoding="utf-8")
    table = page[page.index("## Types of options") :].partition("\n## ")[0]
    assert f"\n| `{name}" in table


# What strangers wrote


def stream():
    return ev3x.Stream(lambda: iter(()), batches=1)


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (
            lambda: ev3x.Optimizer(optax.adamw(1e-3)),
            ("GradientTransformationExtraArgs", "ev3x.Optimizer(optax.adamw, learning_rate=1e-3)", "ev3x.Rule("),
        ),
        (
            lambda: ev3x.Optimizer(optax.chain, optax.clip(1.0), optax.sgd(0.1)),
            ("chain: takes options by name only", "write a function", "ev3x.Rule("),
        ),
        (
            lambda: ev3x.Optimizer("adam", learning_rate=optax.constant_schedule(0.1)),
            ("adam: learning_rate", "ev3x.Rule(optax.linear_schedule"),
        ),
        (
            lambda: dataclasses.replace(toys.splits(), explore=ev3x.Explore(stream())).check(),
            ("`explore` must be Arrays(...)", "Feed(explore=Stream(...)"),
        ),
        (
            lambda: methods.ev3(["xent"], [toys.sgd()], confirm=Paired()),
            (
                "ev3: unknown option 'confirm'",
                "losses, optimizers, length, level, examples",
                "auxiliary",
                "ev3x.Method(",
            ),
        ),
    ],
)
def test_what_strangers_wrote_is_told_with_what_to_write(build, parts):
    said = told(build)
    assert all(part in said for part in parts), said


FIELDS = ["use", "check", "build", "options", "kit", "role", "to_config"]


@pytest.mark.parametrize("name", FIELDS)
def test_an_option_has_no_name_that_means_something_else(name):
    kind = dataclasses.make_dataclass("Odd", [(name, int)], bases=(ev3x.Observer,), frozen=True)
    assert f"{name}: has a name that configs or all components use" in str(component.unfit(kind)[0])


def test_what_dataclasses_and_pydantic_do_not_take_names_the_option():
    given = dataclasses.make_dataclass("Odd", [("x", dataclasses.InitVar[int])], bases=(ev3x.Observer,), frozen=True)
    assert str(component.unfit(given)[0]).startswith("x: is an InitVar")
    none = dataclasses.make_dataclass("Odd", [("x", typing.Literal[()])], bases=(ev3x.Observer,), frozen=True)
    assert str(component.unfit(none)[0]).startswith("x: has a type that cannot be checked: ")


@pytest.mark.parametrize("found", [None, "bad", ["bad"], [("x", "bad")]], ids=repr)
def test_a_check_that_returns_no_faults_is_told(found):
    odd = dataclasses.make_dataclass(
        "Odd", [], bases=(ev3x.Observer,), frozen=True, namespace={"check": lambda _: found}
    )
    assert "Odd.check must return a list of ev3x.component.Fault, [] for none, got " in told(odd)


def test_a_fault_with_a_word_for_a_path_is_told():
    assert "path must be a tuple such as ('length',), got 'length'" in told(component.Fault, "length", "bad")
