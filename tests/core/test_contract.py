"""What a component returns wrongly is told with component, method, place, what was expected, what came, what to do."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Shift, Toy, evolver, method, sgd, splits

import ev3x
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core import loop
from ev3x.core.adapt import Form
from ev3x.core.contract import BoundaryError
from ev3x.core.plan import Plan

HERE = re.escape(str(Path(__file__)))


def traced(task, **parts):
    """Traces a round of these components; nothing is compiled."""
    plan = Plan(task, method(*parts.pop("proposers", (Shift(),)), **parts)).check(splits())
    state = jax.eval_shape(loop.init.of(plan), jax.eval_shape(lambda: jax.random.key(0)))
    return jax.eval_shape(loop.round_.of(plan), splits(), state)


def wrong(base, name, change):
    """A component of a class written here, one method of which returns what `change` makes of the right value."""

    def returns(self, *args, **kwargs):
        return change(getattr(base, name)(self, *args, **kwargs))

    kind = type("Wrong", (base,), {name: returns})
    return dataclasses.dataclass(frozen=True)(kind)()


def fields(**changed):
    return lambda made: dataclasses.replace(made, **changed)


@dataclasses.dataclass(frozen=True)
class Told(ev3x.Proposer):
    """A proposer with a state and a note."""

    def labels(self, site):
        return ("a", "b")

    def init(self, site, key, current):
        return {"n": jnp.int32(0)}

    def propose(self, site, key, current, state, explore):
        stack = jax.tree.map(lambda x: jnp.stack([x, x]), current)
        return ev3x.Candidates(stack, jnp.ones(2, bool), jnp.int32(0), (), {"note": jnp.zeros(2)})

    def learn(self, site, key, state, candidates, feedback):
        return state


@dataclasses.dataclass(frozen=True)
class Counting(Promote):
    """An adapter with a state."""

    def init(self, site, metrics):
        return jnp.int32(0)

    def prepare(self, state, explore):
        return explore

    def decide(self, index, state, decision, selection, confirmation):
        return super().decide(index, (), decision, selection, confirmation)[0], state

    def transform(self, key, call, state, form, probe):
        return state, form


@dataclasses.dataclass(frozen=True)
class Weighed(Toy):
    def weigh(self, batch):
        return jnp.ones(len(batch["y"]))


@dataclasses.dataclass(frozen=True)
class Unmeasured(Toy):
    @property
    def metrics(self):
        return (len,)


def proposer(name, change):
    return {"task": Toy(), "proposers": [("told", wrong(Told, name, change))]}


def adapter(name, change):
    return {"task": Toy(), "adapters": [("counting", wrong(Counting, name, change))]}


def assessor(name, change):
    made = dataclasses.replace(wrong(MeanBounds, name, change), block=64, blocks=2)
    return {"task": Toy(), "select": made}


def budget(name, change):
    return {"task": Toy(), "budget": wrong(OverRun, name, change)}


K = r"K = 2 is the number of names from `Wrong.labels`"
WRONG = {
    "no names": (proposer("labels", lambda made: "ab"), "labels must return a tuple of strings, .*, got 'ab'"),
    "no candidates": (proposer("propose", lambda made: None), "propose must return Candidates, got None: .*`return`"),
    "a structure": (
        proposer("propose", lambda made: dataclasses.replace(made, variables=made.variables["params"])),
        r"must have the model's structure .*, got .*; return every collection",
    ),
    "too many candidates": (
        proposer("propose", lambda made: jax.tree.map(lambda x: jnp.concatenate([x, x]) if x.ndim else x, made)),
        rf"must be float32\[2\] \(2 candidates on the leading axis\), got float32\[4\]; make as many .*; {K}",
    ),
    "a dtype": (
        proposer("propose", lambda made: jax.tree.map(lambda x: x.astype(jnp.float16) if x.dtype == "f4" else x, made)),
        r"got float16\[2\]; cast them with .astype",
    ),
    "eligible": (
        proposer("propose", fields(eligible=True)),
        rf"eligible must be bools of shape \(2,\), got bool .*{K}",
    ),
    "steps": (proposer("propose", fields(steps=jnp.zeros(2))), r"steps must be an integer of shape \(\), got float32"),
    "notes": (proposer("propose", fields(notes={"x": jnp.zeros(3)})), rf"note 'x' must have a leading axis .*{K}"),
    "a proposer's state": (
        proposer("learn", lambda made: {"n": made["n"].astype(jnp.float32)}),
        r"the next state\['n'\] must be int32\[\] as before, got float32\[\]; keep what `init` made",
    ),
    "a proposer's other state": (
        proposer("learn", lambda made: made["n"]),
        "the next state must have the structure .*",
    ),
    "the explore split": (adapter("prepare", lambda made: None), "prepare must return an Explore, got None"),
    "half a pair": (
        adapter("decide", lambda made: made[0]),
        "decide must return a Decision and the next state, got Decision; return both",
    ),
    "no decision": (adapter("decide", lambda made: (1, made[1])), "decide must return a Decision and .*, got int"),
    "a decision": (
        adapter("decide", lambda made: (dataclasses.replace(made[0], move=jnp.zeros(2)), made[1])),
        r"decision.move must be integers of shape \(\), got float32 of shape \(2,\); change .*dataclasses.replace",
    ),
    "an adapter's state": (adapter("decide", lambda made: (made[0], jnp.zeros(3))), "the next state must be int32"),
    "evidence": (assessor("observe", lambda made: (made, made)), "the next evidence must have the .*`begin` made"),
    "enough": (
        assessor("enough", lambda made: jnp.zeros(3, bool)),
        r"enough must return a bool of shape \(\), got bool",
    ),
    "no assessment": (assessor("conclude", lambda made: "better"), "conclude must return an Assessment, got str"),
    "an assessment": (
        assessor("conclude", lambda made: dataclasses.replace(made, value=made.value.sum())),
        r"assessment.value must be floats of shape \(1,\), got float32 of shape \(\); there are K = 1 contenders",
    ),
    "a level": (budget("offer", lambda made: jnp.stack([made, made])), r"offer must return a float of shape \(\), got"),
    "a budget's state": (budget("settle", lambda made: "spent"), "the next state must have the structure"),
    "no figures": (budget("account", lambda made: [1.0]), "account must return a dict, got list"),
    "figures": (budget("account", lambda made: {"x": jnp.zeros(2)}), "account must return scalars by name, got 'x'"),
    "weights": (
        {"task": wrong(Weighed, "weigh", lambda made: made[:3])},
        r"expected \(64,\), got \(3,\); keep the axis",
    ),
    "variables": (
        {"task": wrong(Toy, "init", lambda made: made["params"])},
        "a mapping of .* got .*; return {'params'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_returned_wrongly_is_told_in_full(case):
    parts, text = WRONG[case]
    with pytest.raises(BoundaryError, match=text) as error:
        traced(**parts)
    said = re.fullmatch(
        rf"(.+?): (.+), got (.+); (.+) \(`Wrong\.\w+`, {HERE}:\d+\)", str(error.value).replace("\n", " ")
    )
    assert said, str(error.value)
    named = {"proposers": "proposer 'told'", "adapters": "adapter 'counting'", "select": "select", "budget": "budget"}
    assert said[1] == next((named[part] for part in parts if part in named), "task")


def test_a_transition_returns_its_state_and_the_form():
    def failing(made, text):
        caller = wrong(Counting, "transform", lambda _: made)
        plan = Plan(Toy(), method(Shift(), adapters=[("counting", caller)]))
        state = jax.eval_shape(loop.init.of(plan), jax.eval_shape(lambda: jax.random.key(0)))
        state = dataclasses.replace(state, key=jax.random.key(0), round=jnp.int32(1))
        decision = ev3x.Decision(jnp.int32(0), jnp.asarray(False), jnp.ones(1), jnp.ones(1, jnp.int32))
        with pytest.raises(BoundaryError, match=text):
            loop.transition(plan, state, decision)

    failing(Form, "adapter 'counting': transform must return its own state and the next Form, got type; return both")
    failing(((), ()), "adapter 'counting': transform must return a Form, got tuple; change the form that it gets")


def test_a_proposer_without_names_and_a_task_without_metrics_are_told():
    with pytest.raises(BoundaryError, match=r"proposer 'told': makes no candidates \(K = 0\); let `labels` name"):
        traced(**proposer("labels", lambda made: ()))
    with pytest.raises(BoundaryError, match=r"task: metrics must return a Metric, got builtin_function.*list records"):
        traced(Unmeasured())


def test_components_of_one_label_are_named_with_their_classes():
    with pytest.raises(ValueError, match=r"different labels, got \['x', 'x'\] \('x' for Shift, Told\); give pairs"):
        method(("x", Shift()), ("x", Told()))


def test_a_metric_that_fails_names_itself_and_its_task():
    def broken(logits, batch):
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError) as error:
        traced(Toy((ev3x.Metric("mine", broken),)))
    assert error.value.__notes__[0] == "in metric 'mine' of the task Toy"
    with pytest.raises(ValueError, match="must return one value per example") as error:
        traced(Toy((ev3x.Metric("mine", lambda logits, batch: logits.mean()),)))
    assert error.value.__notes__[0] == "in metric 'mine' of the task Toy"


def a_task(**changed):
    """A toy of a class with these attributes."""
    return dataclasses.dataclass(frozen=True)(type("Wrong", (Toy,), changed))()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("losses", property(lambda self: "xent"), r"losses must be a tuple of names, got str; write \(one,\)"),
        ("growths", property(lambda self: None), "growths must be a tuple of names, got None"),
        ("metrics", lambda self: (), r"metrics must be a tuple of ev3x.Metric\(...\), got method; make it a property"),
        ("metrics", property(lambda self: iter(())), r"metrics must be a tuple of .*, got tuple_iterator"),
        ("hypers", property(lambda self: ["t"]), "hypers must return a Mapping, got list; return {name: default}"),
        ("hypers", property(lambda self: {"t": "1"}), r"hypers\['t'\] must be an array or a number, got str"),
        ("hypers", property(lambda self: {3: 1.0}), "hyperparameters of Wrong: each name must be a string"),
    ],
)
def test_what_a_task_declares_is_checked_before_anything_is_traced(name, value, text):
    with pytest.raises(ValueError, match=text):
        Plan(a_task(**{name: value}), method(Shift())).check(splits())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "loss",
            lambda self, *a: self.predict(a[1], a[2]),
            "loss must return the loss of each example and the variables",
        ),
        ("loss", lambda self, *a: (self.predict(a[1], a[2]) > 0, a[1]), "must return floats, got bool"),
        ("loss", lambda self, *a: (self.predict(a[1], a[2]), None), "loss must return a Mapping, got None"),
        ("weigh", lambda self, batch: [1.0] * len(batch["y"]), r"one weight per example: expected \(64,\), got list"),
        ("weigh", lambda self, batch: batch["x"][:, 0].astype(complex), "one weight per example"),
    ],
)
def test_what_a_task_returns_is_told_as_what_it_is(name, value, text):
    with pytest.raises(BoundaryError, match=text):
        traced(a_task(**{name: value}), proposers=[Trajectories(losses=["xent"], optimizers=[sgd()], length=1)])


def test_weights_of_an_example_may_be_whole_numbers_and_bools():
    traced(a_task(weigh=lambda self, batch: batch["y"]))


@pytest.mark.parametrize("made", [None, "x", [1.0], {"a": 1}, 1j], ids=repr)
def test_a_metric_that_returns_no_numbers_says_what_it_returned(made):
    metric = ev3x.Metric("mine", lambda logits, batch: made)
    with pytest.raises(ValueError, match=r"'mine' must return one value per example, as an array .*, got") as caught:
        metric(jnp.zeros(1), {"y": jnp.zeros(1)}, 1)
    assert "got ()" not in str(caught.value)


def test_a_metric_on_the_host_may_return_a_list_and_no_text():
    host = ev3x.Metric("mine", lambda logits, batch: [0.5], host=True)
    assert host._on_host("", np.zeros(1), {"y": np.zeros(1)}) == np.float32([0.5])
    text = ev3x.Metric("mine", lambda logits, batch: ["x"], host=True)
    with pytest.raises(ev3x.core.task.MetricError, match="as an array of numbers or bools, got"):
        text._on_host("", np.zeros(1), {"y": np.zeros(1)})


def test_a_state_that_is_no_array_and_needs_that_nobody_knows_name_the_proposer():
    with pytest.raises(BoundaryError, match=r"proposer 'told': state\['n'\] must be an array or a number, got str"):
        traced(**proposer("init", lambda made: {"n": "x"}))
    odd = dataclasses.dataclass(frozen=True)(type("Odd", (Shift,), {"needs": frozenset({"nope"})}))()
    with pytest.raises(ValueError, match=r"proposer 'odd': `needs` must be a set of 'meta', 'hypers', 'x64', got"):
        traced(Toy(), proposers=[odd])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda run: run.rounds(None, 1), "`state` must be an instance of State, got None"),
        (lambda run: run.init(0, jnp.zeros(2)), "the variables must be a mapping of collections with 'params'"),
        (lambda run: run.init(jax.random.split(jax.random.key(0))), "a key must be one key or a seed, got key<"),
        (lambda run: run.init(np.zeros(2)), "a key must be one key or a seed, got float"),
        (lambda run: ev3x.make_task(len, len, ["xent"], []), "make_task: must have losses as {name: function}"),
        (
            lambda run: ev3x.make_task(len, len, {"xent": "hinge"}, []),  # type: ignore[dict-item]
            "make_task: xent must be a function, got 'hinge'",
        ),
        (lambda run: ev3x.methods.ev3("xent", [sgd()]), "ev3: losses must be a list, got 'xent'"),
    ],
)
def test_what_is_given_to_an_evolver_is_told_in_its_own_words(call, text):
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        call(evolver(Shift()))
