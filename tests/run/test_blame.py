"""Whose fault it is: the plugin, the component, the method that the round called, the line, and what to do."""

import dataclasses
import re

import jax
import pytest
from toys import Shift, Toy, method, splits

import ev3x
from ev3x.core import loop
from ev3x.core.observe import Limits
from ev3x.core.plan import Plan
from ev3x.host.host import Host, PluginError
from ev3x.run.blame import blaming
from ev3x.run.setup import Setup

PLUGIN = """
import dataclasses
import jax, jax.numpy as jnp, numpy as np
import ev3x

def helper(x):
    raise KeyError("lost")

def right(logits, batch):
    return bool(logits.sum() > 0)

@dataclasses.dataclass(frozen=True)
class Bad(ev3x.Proposer):
    "Fails in one way."
    way: str = "set"

    def labels(self, site):
        return ("a", "b")

    def propose(self, site, key, current, state, explore):
        w = current["params"]["w"]
        getattr(self, self.way)(w, current)  # HERE
        stack = jax.tree.map(lambda x: jnp.stack([x, x, x]), current)
        return ev3x.Candidates(stack, jnp.ones(3, bool), jnp.int32(0), ())

    def set(self, w, current):
        self.last = current
    def record(self, w, current):
        ev3x.Feedback(w, w, w, w, w).value = w
    def compare(self, w, current):
        return 1 if w.sum() > 0 else 0
    def mask(self, w, current):
        return w[w > 0]
    def numpy(self, w, current):
        return np.sin(w)
    def index(self, w, current):
        return [1, 2][jnp.argmax(w)]
    def number(self, w, current):
        return float(w.sum())
    def inner(self, w, current):
        def add(x):
            return self.way + x
        return add(w)
    def call(self, w, current):
        return helper(w)
    def shape(self, w, current):
        return None

@dataclasses.dataclass(frozen=True)
class Judged(ev3x.Task):
    "A task whose metric fails."
    @property
    def metrics(self): return (ev3x.Metric("mine", right),)
    def init(self, key): return {"params": {"w": jnp.zeros(2)}}
    def predict(self, variables, batch): return batch["x"] @ variables["params"]["w"]

@ev3x.hookimpl
def ev3x_proposers(): return [ev3x.Offer("bad", Bad)]

@ev3x.hookimpl
def ev3x_tasks(): return [ev3x.Offer("judged", Judged)]
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "mine.py"
    path.write_text(PLUGIN)
    host = Host()
    return host, host.register_file(path), path


def setup(plugin, task, *proposers, task_id="ev3:toy"):
    return Setup(
        task_id=task_id,
        task=task,
        method=method(*proposers),
        layout=ev3x.Layout(),
        limits=Limits(rounds=1),
        seed=0,
        observers=(),
        ids={"bad": "mine:bad"},
        save_every=0.0,
        config="",
        plugins=(plugin,),
    )


def said(setup):
    """The fault that comes of tracing a round."""
    with pytest.raises(PluginError) as error, blaming(setup):
        plan = Plan(setup.task, setup.method)
        state = jax.eval_shape(loop.init.of(plan), jax.eval_shape(lambda: jax.random.key(0)))
        jax.eval_shape(loop.round_.of(plan), splits(), state)
    return str(error.value)


def line(source):
    return next(i for i, text in enumerate(PLUGIN.splitlines(), 1) if source in text)


WAYS = {
    "set": ("FrozenInstanceError: cannot assign to field 'last'; .*carry it in the state", "self.last = current"),
    "record": ("FrozenInstanceError: cannot assign to field 'value'; .*dataclasses.replace", ".value = w"),
    "compare": (r"TracerBoolConversionError: [^;]+; while a round is traced, .*use jnp.where", "return 1 if"),
    "mask": (r"NonConcreteBooleanIndexError: [^;]+; .*use jnp.where\(mask", "return w[w > 0]"),
    "numpy": ("TracerArrayConversionError: [^;]+; .*use jax.numpy in place of numpy", "np.sin"),
    "index": ("TracerIntegerConversionError: [^;]+; .*index a jax array", "[1, 2]["),
    "number": (r"ConcretizationTypeError: [^;]+; .*use .astype in place of float\(\)", "float(w.sum())"),
    "inner": ("TypeError: [^;]+", "return self.way + x"),
    "call": ("KeyError: 'lost'", "raise KeyError"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_method_that_the_round_called_is_named_with_the_line_and_a_remedy(plugin, way):
    (host, info, path), (text, source) = plugin, WAYS[way]
    told = said(setup(info, Toy(), ("bad", host.build("proposer", "mine:bad", {"way": way}))))
    wanted = (
        rf"{re.escape(str(info))}: 'bad' failed in `propose`: {text}[^;]* \({re.escape(str(path))}:{line(source)}\)"
    )
    assert re.fullmatch(wanted, told), told
    assert "argument" not in told, "what JAX says of the whole round's arguments"


def test_a_wrong_number_of_candidates_says_that_it_comes_from_labels(plugin):
    host, info, path = plugin
    told = said(setup(info, Toy(), ("bad", host.build("proposer", "mine:bad", {"way": "shape"}))))
    assert told.startswith(f"{info}: proposer 'bad': candidates['params']['b'] must be float32[2] (2 candidates")
    k = f"K = 2 is the number of names from `Bad.labels`, {path}:{line('def labels')}"
    assert f"got float32[3]; make as many candidates as there are names; {k} (`Bad.propose`, {path}:" in told


def test_a_metric_at_fault_names_the_task_and_itself(plugin):
    host, info, path = plugin
    told = said(setup(info, host.build("task", "mine:judged"), Shift(), task_id="mine:judged"))
    assert told.startswith(f"{info}: 'task' failed in metric 'mine': TracerBoolConversionError: ")
    assert "jnp.where" in told and told.endswith(f"({path}:{line('return bool')})")


def test_what_is_no_plugins_fault_stays_as_it_is(plugin):
    _, info, _ = plugin

    @dataclasses.dataclass(frozen=True)
    class Mine(Shift):
        def propose(self, site, key, current, state, explore):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        said(setup(info, Toy(), ("mine", Mine())))
