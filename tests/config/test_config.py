"""Configs: everything wrong with one is told at once and where; what is written out loads back to the same run."""

import dataclasses
import tomllib
import types
from typing import Annotated, Any

import pytest
import toys
from annotated_types import Lt
from hypothesis import given
from hypothesis import strategies as st

import ev3x
from ev3x.component import Component
from ev3x.config import ConfigError, Override, explain, load, loads, toml_text
from ev3x.config.toml_lines import locate

SMALL = """\
rounds = 3

[[propose]]
use = "trajectories"
losses = ["labels"]
optimizers = [{ name = "sgd", learning_rate = 0.1 }]
"""


def problems(text, *overrides):
    with pytest.raises(ConfigError) as error:
        loads(text, "my.toml", [Override.parse(o) for o in overrides])
    return list(error.value.problems)


def test_all_problems_are_told_at_once_each_with_its_line():
    text = """\
rounds = 0
sed = 3
save_every = "often"

[[propose]]
use = "trajectories"
lenght = 3  # misspelt
losses = [
    { name = "kll" },
    { name = "kl", temperature = "hot" },
]
optimizers = [
    { name = "adamx", learning_rate = 1 },
    { name = "sgd", lr = 0.1 },
]
[select]
z = 1
[confirm]
use = "pared"
[[adapt]]
use = "foo:bar"
[budget]
use = 3
[layouts]
"""
    assert problems(text, "layout.chunk=-1", "observe.progress.evry=1") == [
        "my.toml:1: rounds: must be greater than or equal to 1, got 0",
        "my.toml:2: sed: unknown option or section 'sed'; did you mean 'seed'?",
        "my.toml:3: save_every: must be a valid number, got 'often'",
        "my.toml:7: propose[0].lenght: unknown option 'lenght'; did you mean 'length'?",
        "my.toml:10: propose[0].losses[1].temperature: loss 'kl': temperature must be a number, got 'hot'",
        "my.toml:13: propose[0].optimizers[0].name: unknown optimizer 'adamx'; did you mean 'adamax'?",
        "my.toml:14: propose[0].optimizers[1].lr: sgd: unknown option 'lr'; known: accumulator_dtype, learning_rate, "
        "momentum, nesterov; option 'learning_rate' is required",
        "my.toml:16: select.use: must name the assessor, such as one of: mean_bounds, lexicographic, pareto, betting, "
        "bernstein, paired, bootstrap, published",
        "my.toml:19: confirm.use: unknown assessor 'pared'; did you mean 'paired'?",
        "my.toml:21: adapt[0].use: unknown plugin 'foo'; known: ev3; `ev3x plugins list` shows what is installed; "
        "pip installs more, --plugin FILE.py takes a file",
        "my.toml:23: budget.use: must name the budget, such as one of: over_run, per_round, lord, saffron, elond, "
        "got 3",
        "my.toml:24: layouts: unknown option or section 'layouts'; did you mean 'layout'?",
        "--set layout.chunk=-1: layout.chunk: must be greater than or equal to 0, got -1",
        "--set observe.progress.evry=1: observe[0].evry: unknown option 'evry'; did you mean 'every'?",
    ]


def test_native_code_is_never_always_or_where_it_can_be():
    setup = loads('native = "require"\n' + SMALL, "my.toml")
    assert (setup.native, setup.native_origin) == ("require", "my.toml:1")
    setup = loads(SMALL, "my.toml", [Override.parse("native=off")])
    assert (setup.native, setup.native_origin) == ("off", "--set native=off")
    assert loads(SMALL).native == "auto" and tomllib.loads(loads(SMALL).config)["native"] == "auto"
    assert problems("native = true\n" + SMALL) == [
        "my.toml:1: native: must be 'auto', 'off' or 'require', got True",
    ]


def test_what_does_not_suit_the_task_is_told_with_its_line():
    text = """\
rounds = 1
[[propose]]
use = "trajectories"
losses = [
    "kll",
    { name = "kl", temprature = 2.0 },
    { sum = [{ name = "kl" }, { name = "label" }] },
]
optimizers = [{ name = "sgd", learning_rate = 0.1 }]

[[propose]]
use = "hyperparameters"
loss = "kl"
optimizer = { name = "sgd", learning_rate = 0.1 }
[propose.ranges]
momentun = { low = 0.1, high = 0.9 }
"""
    assert problems(text) == [
        "my.toml:5: propose[0].losses[0]: unknown loss 'kll'; did you mean 'kl'?",
        "my.toml:6: propose[0].losses[1].temprature: loss 'kl': unknown hyperparameter 'temprature'; "
        "did you mean 'temperature'?",
        "my.toml:7: propose[0].losses[2].sum[1].name: unknown loss 'label'; did you mean 'labels'?",
        "my.toml:16: propose[1].ranges.momentun: hyperparameters: unknown range 'momentun'; "
        "known: label_smoothing, learning_rate, teacher, temperature",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rounds = 1\nseed = = 2\n", "my.toml:2: not TOML: Invalid value (at line 2, column 8)"),
        ("", "my.toml:1: nothing ends the run: set rounds, seconds or gradient_steps"),
        ("target = 0.9", "set rounds, seconds or gradient_steps; a target alone may never be reached"),
        ("rounds = 1\ngradient_steps = -5", "my.toml:2: gradient_steps: must be greater than or equal to 1, got -5"),
        ("rounds = 1\nseed = 4294967296", "my.toml:2: seed: must be less than 4294967296, got 4294967296"),
        ("rounds = 1\nseed = true", "my.toml:2: seed: must be a valid integer, got True"),
        ("rounds = 1\n[propose]\nuse = 'trajectories'", "propose: must be a list of tables: write [[propose]]"),
        ("rounds = 1\n[[select]]\nuse = 'paired'", "my.toml:2: select: must be one table: write [select], got list"),
        ("rounds = 1\npropose = []", "my.toml:2: propose: needs at least one proposer, got none"),
        ("rounds = 1\nadapt = [3]", "my.toml:2: adapt[0]: must be a table with use = ..., got 3"),
        ("rounds = 1\nlayout = 3", "my.toml:2: layout: must be a table, got 3"),
        ("rounds = 1\ntask = 'distil-mnist1d'", "task.use: unknown task 'distil-mnist1d'; did you mean 'distill-"),
        ("rounds = 1\n[confirm]\nuse = 'paired'\nlevel = 0.7", "my.toml:4: confirm.level: must be below 0.5, got 0.7"),
        ("rounds = 1\n[[propose]]\nuse = 'trajectories'\nlosses = ['kl']\n", "propose[0].optimizers: is required"),
    ],
)  # fmt: skip
def test_a_problem_says_what_was_expected_and_what_came(text, problem):
    assert problem in problems(text)[0]


@pytest.mark.parametrize("use", ["os:system", "os.system", "ev3x.builtin:Paired", "./rule.py", "http://x.org/a:b", ""])
def test_no_value_chooses_code(use):
    text = f"rounds = 1\n[confirm]\nuse = '{use}'"
    assert problems(text)[0].startswith("my.toml:3: confirm.use: unknown ")


@pytest.mark.parametrize(
    "optimizer", ['"os.system"', '{ name = "os.system" }', '{ name = "sgd", learning_rate = { name = "eval" } }']
)
def test_optimizers_and_schedules_come_from_registries(optimizer):
    text = f"rounds = 1\n[[propose]]\nuse = 'trajectories'\nlosses = ['kl']\noptimizers = [{optimizer}]"
    assert "unknown " in problems(text)[0]


@pytest.mark.parametrize("key", ["self", "factory", "cls"])
def test_option_names_that_python_uses_are_unknown_options(key):
    rest = f'losses = [{{ name = "kl", {key} = 1 }}]\noptimizers = [{{ name = "sgd", learning_rate = 1, {key} = 1 }}]'
    text = f"rounds = 1\n[[propose]]\nuse = 'trajectories'\n{rest}"
    assert f"my.toml:5: propose[0].optimizers[0].{key}: sgd: unknown option '{key}'" in problems(text)[0]


FULL = """\
seconds = 5
target = 0.9
seed = 7
observe = []
task = { use = "distill-mnist1d", hidden = [20] }

[[propose]]
use = "ev3:trajectories"
losses = ["kl", { sum = [{ name = "kl", weight = 0.7, temperature = 3 }, { name = "labels", weight = 0.3 }] }]
optimizers = [
    { name = "adam", learning_rate = { name = "cosine_decay_schedule", init_value = 1, decay_steps = 9 } },
    { name = "sgd", learning_rate = 1, nesterov = true },
]
auxiliary = ["labels"]

[[propose]]
use = "trajectories"
losses = ["labels"]
optimizers = [{ name = "lion", learning_rate = 1e-4 }]

[[propose]]
use = "hyperparameters"
loss = "kl"
optimizer = { name = "sgd", learning_rate = 0.1 }
ranges = { learning_rate = { low = 1e-3, high = 1, log = true } }

[confirm]
use = "published"
"""


@pytest.mark.parametrize("text", [SMALL, FULL, None])
def test_the_resolved_config_loads_back_to_the_same_setup(text):
    setup = load(None) if text is None else loads(text)
    again = loads(setup.config)
    assert again == setup
    assert hash(again.method) == hash(setup.method)


def test_a_single_component_of_a_list_may_be_named_alone():
    for setup in (loads("adapt = 'shadow'\n" + SMALL, "c"), loads(SMALL, "c", [Override.parse("adapt=shadow")])):
        assert setup.ids["shadow"] == "ev3:shadow" and [name for name, _ in setup.method.adapters] == ["shadow"]


def test_the_explanation_is_a_config_too():
    assert loads(explain(None)) == load(None)
    assert "# gradient steps per candidate and round (int >= 1)\nlength = " in explain(None)


def test_everything_that_a_config_says_arrives():
    setup = loads(FULL)
    assert [label for label, _ in setup.method.proposers] == ["trajectories", "trajectories#2", "hyperparameters"]
    assert setup.ids["trajectories#2"] == "ev3:trajectories"
    assert setup.ids["confirm"] == "ev3:published" and setup.ids["budget"] == "ev3:over_run"
    assert (setup.task_id, setup.seed, setup.observers) == ("ev3:distill-mnist1d", 7, ())
    assert dataclasses.astuple(setup.limits) == (None, 5, None, 0.9)
    first: Any = setup.method.proposers[0][1]
    assert [str(loss) for loss in first.losses] == ["kl", "0.7 kl(temperature=3) + 0.3 labels"]
    assert "cosine_decay_schedule" in str(first.optimizers[0])


def test_missing_sections_are_those_of_the_default():
    default, small = load(None), loads(SMALL)
    assert small.method.select == default.method.select and small.method.adapters == default.method.adapters
    assert [label for label, _ in small.observers] == ["progress", "curve", "lineage"]
    assert small.limits.rounds == 3 and default.limits.rounds is not None


@pytest.fixture
def toy_host():
    """A host with a plugin `toy`, whose task has losses of its own."""
    module = types.ModuleType("toy_plugin")
    vars(module)["ev3x_tasks"] = ev3x.hookimpl(lambda: [ev3x.Offer("toy", Toy)])
    made = ev3x.Host()
    made.register("toy", module)
    return made


@dataclasses.dataclass(frozen=True)
class Toy(toys.Toy):
    """A toy without options."""

    measured: tuple[ev3x.Metric, ...] = dataclasses.field(default=(toys.ACCURACY,), init=False)


def test_default_proposers_train_another_task_with_the_losses_it_has(toy_host):
    setup: Any = loads("rounds = 1\ntask = 'toy:toy'", host=toy_host)
    assert [str(loss) for loss in setup.method.proposers[0][1].losses] == ["xent", "hinge", "broken"]
    assert loads(setup.config, host=toy_host) == setup
    with pytest.raises(ConfigError, match=r"propose\[0\]\.losses\[0\]: unknown loss 'kl'; known: broken, hinge, xent"):
        loads("rounds = 1\ntask = 'toy:toy'", overrides=[Override.parse("propose.0.losses=['kl']")], host=toy_host)


def test_a_limit_of_ones_own_replaces_the_default_one():
    limits = load(None, [Override("--seconds 3", "seconds", 3.0)]).limits
    assert (limits.rounds, limits.seconds) == (None, 3.0)
    assert load(None, [Override.parse("target=0.6")]).limits.rounds is not None


def test_set_reaches_every_option():
    sets = ["rounds=10", "confirm.level=0.01", "propose.0.length=50", "propose.trajectories.batches=fresh",
            "select=published", "propose.0.losses.1.weight=2", "task.hidden=[8, 8]", "observe=[]"]  # fmt: skip
    setup: Any = load(None, [Override.parse(s) for s in sets])
    proposer = setup.method.proposers[0][1]
    assert (setup.limits.rounds, setup.method.confirm.level) == (10, 0.01)
    assert (proposer.length, proposer.batches, proposer.losses[1].terms[0].weight) == (50, "fresh", 2.0)
    assert (setup.ids["select"], setup.task.hidden, setup.observers) == ("ev3:published", (8, 8), ())


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("confirm.levl=0.1", "--set confirm.levl=0.1: confirm.levl: unknown option 'levl'; did you mean 'level'?"),
        ("propose.4.length=1", "--set propose.4.length=1: propose has 1 entries, counted from 0: there is no 4"),
        ("propose.trajectory.length=1", "unknown entry of propose 'trajectory'; did you mean 'trajectories'?"),
        ("rounds.a=1", "--set rounds.a=1: rounds is not a table, it has no 'a'"),
        (
            "task=foo",
            "--set task=foo: task.use: unknown task 'foo'; known: distill-cifar, distill-digits, distill-mnist1d, "
            "federated-digits, few-shot-digits, quadratics, sinusoids, warped-mnist1d",
        ),
        ("seed=[1", "--set seed=[1: '[1' is not a TOML value"),
        ("seed", "--set seed: must be option=value, such as confirm.level=0.01"),
        ("seed=1\nrounds=2", "must set one value, got 2"),
    ],
)
def test_a_bad_override_is_named_as_it_was_given(override, problem):
    with pytest.raises(ConfigError) as error:
        loads(SMALL, "my.toml", [Override.parse(override)])
    assert problem in error.value.problems[0]


def test_an_entry_named_twice_is_addressed_by_its_number():
    with pytest.raises(ConfigError, match=r"2 entries of propose are 'trajectories': write propose\.0 or propose\.1"):
        loads(FULL, overrides=[Override.parse("propose.trajectories.length=1")])


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"rounds = 1 # \xe9")
    with pytest.raises(ConfigError, match=r"latin\.toml: is not UTF-8 text"):
        load(tmp_path / "latin.toml")


# The scanner against tomllib: every key is found, and its line is where its unique name stands.


def paths(value, path=()):
    """The path of every key and entry of plain values."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*path, step)
        yield from paths(inner, (*path, step))


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
    st.dates(),
    st.datetimes(),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab#]}='\"é.\n", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_what_is_written_reads_back(value):
    assert tomllib.loads(f"x = {toml_text.value(value)}\n") == {"x": value}


@given(st.dictionaries(st.text("ab#=[]'\"é. ", max_size=3), values, max_size=4), st.data())
def test_every_key_is_found_on_its_line(tree, data):
    noise = st.sampled_from(["", "\n", "# [x] = '\"\n", "\r\n", " \t\n"])
    text, expected = "", {}
    for key, value in tree.items():
        text += data.draw(noise)
        expected[(key,)] = text.count("\n") + 1
        text += f"{toml_text.key(key)} = {toml_text.value(value)} # '''\n"
    lines = locate(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    assert {path: lines[path] for path in expected} == expected


def test_the_lines_of_a_text_with_everything_in_it():
    text = '''\
a.b."c d" = 1
multi = """
x = 1
[no]
"""
literal = \'\'\'
[[no]]\'\'\'\'
tail = """quoted \\""" still "" here"""""
[[t]]   # first
k = [  # entry
  1,
  { x = 1, y = { z = [2,
    3] } },
]
[t.sub]
q = 1
[[t.list]]
[[t]]
k = 2
[[t.list]]
w = 1979-05-27 07:32:00
[ "e.f" . g ]
'''
    tomllib.loads(text)
    lines = locate(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    want = {
        ("a", "b", "c d"): 1, ("multi",): 2, ("literal",): 6, ("tail",): 8, ("t", 0): 9, ("t", 0, "k", 0): 11,
        ("t", 0, "k", 1): 12, ("t", 0, "k", 1, "y", "z", 1): 13, ("t", 0, "sub", "q"): 16, ("t", 0, "list", 0): 17,
        ("t", 1, "k"): 19, ("t", 1, "list", 0, "w"): 21, ("e.f", "g"): 22,
    }  # fmt: skip
    assert {path: lines[path] for path in want} == want


def test_growth_that_the_task_does_not_know_is_told_with_its_line():
    text = 'rounds = 1\n[[adapt]]\nuse = "promote"\n[[adapt]]\nuse = "grow"\nhow = ["widen", "deeper"]\n'
    assert problems(text) == ["my.toml:6: adapt[1].how[1]: grow: unknown operation 'deeper'; did you mean 'deepen'?"]


def test_adapters_that_cannot_stand_where_they_do_are_told_with_their_line():
    text = 'rounds = 1\n[[adapt]]\nuse = "grow"\n[[adapt]]\nuse = "promote"\n'
    assert problems(text) == ["my.toml:2: adapt[0]: grow must stand after an adapter that promotes, such as `promote`"]


HEAD = "rounds = 3\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD + ".".join("a" * 20_000) + " = 1", "my.toml:2: not TOML: values are nested deeper than 50 levels"),
        (HEAD + "[" + ".".join(['"a"'] * 20_000) + "]", "my.toml:2: not TOML: values are nested deeper than 50 levels"),
        (HEAD + "x = " + "[" * 500 + "]" * 500, "my.toml:2: not TOML: values are nested deeper than 50 levels"),
        (HEAD + "\nx = " + "{ a = " * 500, "my.toml:3: not TOML: values are nested deeper than 50 levels"),
        (
            HEAD + "".join(f"k{i} = 1\n" for i in range(20_000)),
            "my.toml:1: must have at most 1,000 options, got 20,001",
        ),
        (
            HEAD + "[task]\nx = [" + "1," * 20_000 + "]",
            "my.toml:3: task.x: must have at most 1,000 entries, got 20,000",
        ),
        (HEAD + "[[propose]]\nuse = 'x'\n" * 20_000, "my.toml:2: propose: must have at most 1,000 entries, got 20,000"),
        (HEAD + "[task]\n" + "".join(f"k{i} = [{'1,' * 900}]\n" for i in range(30)), "at most 20,000 values, got 27,0"),
        (HEAD + "\n\nx = " + "1" * 5000, "my.toml:4: not TOML: Exceeds the limit (4300 digits)"),
        ("rounds = 99999999999", "my.toml:1: rounds: must be less than 2147483648, got 99999999999"),
        ("rounds = 1" + "0" * 4000, "my.toml:1: rounds: must be less than 2147483648, got 1000"),
        (HEAD + "save_every = 1" + "0" * 400, "my.toml:2: save_every: must be a valid number, got 1000"),
    ],
    ids="dots quoted lists tables keys entries components values digits count huge float".split(),
)
def test_what_no_run_can_use_is_refused_at_its_line(text, problem):
    found = problems(text)
    assert len(found) == 1 and problem in found[0] and len(found[0]) < 2100


def test_of_many_problems_the_first_are_told_and_how_many_there_are():
    found = problems("".join(f"k{i} = 1\n" for i in range(900)) + SMALL)
    assert [p.split(":")[1] for p in found[:-1]] == [str(i) for i in range(1, 21)] and found[
        -1
    ] == "and 880 more problems"


def test_integers_are_of_int32_unless_a_component_says_more():
    @dataclasses.dataclass(frozen=True)
    class Sized(Component):
        small: int = 0
        large: Annotated[int, Lt(2**40)] = 0

    Sized(small=-(2**31), large=2**32)
    for value, got in ((2**31, "2147483648"), (10**400, "one of 401 digits")):
        with pytest.raises(ValueError, match=rf"small: must be an integer from .* \(int32\), got {got}"):
            Sized(small=value)


@pytest.mark.parametrize("options", ["learning_rate = 1" + "0" * 20, "learning_rate = 1.0, momentum = 99999999999"])
def test_integers_of_optimizers_are_of_int32(options):
    found = problems(SMALL.replace("learning_rate = 0.1", options))
    assert len(found) == 1 and found[0].startswith("my.toml:6: propose[0].optimizers[0]")
    assert "must be an integer that int32 holds, or a number with a point or an exponent, got " in found[0]
