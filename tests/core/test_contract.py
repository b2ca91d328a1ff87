"""What a component returns wrongly is told with component, method, place, what was expected, what came, what to do."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from toys import Shift, Toy, method, splits

import ev3x
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.core import loop
from ev3x.core.adapt import Form
from ev3x.core.contract import BoundaryError
from ev3x.core.plan import Plan

HERE = re.escape(str(Path(__file__)))


def traced(task, **parts):
    """Traces a round of these components; nothing is compiled."""
    plan = Plan(task, method(*parts.pop("proposers", (Shift(),)), **parts)).check(splits())
    state = jax.eval_shape(loop.init, plan, jax.eval_shape(lambda: jax.random.key(0)))
    return jax.eval_shape(loop.round_, plan, splits(), state)


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
        state = jax.eval_shape(loop.init, plan, jax.eval_shape(lambda: jax.random.key(0)))
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
