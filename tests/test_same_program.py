"""The host leaves no trace: a round is the same program whether a config or a hand built it, and it has native code."""

import importlib.util
import re
import subprocess
import sys
from typing import Any

import pytest

from ev3x.ops import native

pytestmark = [pytest.mark.loose_types("flax and optax mix integers and floats"), pytest.mark.bits]

SETS = ["propose.0.length=3", "task.hidden=[8]"]
PROGRAM = """
import jax, jax.numpy as jnp
from ev3x.builtin.tasks import mnist1d
from ev3x import Arrays, Assess, Decide, Explore, Generated, Splits
from ev3x.core import loop

def lowered(plan):
    # Splits of the shapes of distill-mnist1d, without its teacher.
    train = {"x": jnp.zeros((4000, 40)), "y": jnp.zeros(4000, jnp.int32), "teacher": jnp.zeros((4000, 10))}
    assess, decide = (Generated(k, mnist1d.generate) for k in jax.random.split(jax.random.key(0)))
    splits = Splits(Explore(Arrays(train), batch_size=64), Assess(assess), Decide(decide))
    return loop.round_.of(plan).lower(splits, jax.eval_shape(loop.init.of(plan), jax.random.key(0)))
"""
BY_HAND = """
import ev3x, sys
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.betting import Betting
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D

{parts}
plan = ev3x.Plan(TASK, ev3x.Method([Trajectories(**TRAJECTORIES)], SELECT, CONFIRM, [Promote()], OverRun()))
print(lowered(plan).as_text(dialect="hlo"))
host = set(sys.modules).intersection(["pluggy", "ev3x.host", "ev3x.config", "ev3x.builtin.plugin"])
assert not host, host
"""
BY_CONFIG = """
from ev3x import Plan, config

setup = config.load(None, [config.Override.parse(s) for s in SETS])
print(lowered(Plan(setup.task, setup.method, setup.layout)).as_text(dialect="hlo"))
"""


def output(*code):
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_metadata(hlo):
    return re.sub(r", metadata=\{[^}]*\}", "", re.sub(r"(?s)\n(FileNames|StackFrames)\n.*?\n\n", "\n", hlo))


def by_hand():
    """Python that builds what the default config says, component by component."""
    import ev3x.config

    setup: Any = ev3x.config.load(None, [ev3x.config.Override.parse(s) for s in SETS])
    ((_, proposer),) = setup.method.proposers

    def call(name, table):
        options = ", ".join(f"{k}={v!r}" for k, v in table.items() if k != "name")
        return f"ev3x.{name}({table['name']!r}, {options})"

    options = {name: repr(value) for name, value in proposer.to_config().items()}
    options["losses"] = f"[{', '.join(call('Loss', loss.to_config()) for loss in proposer.losses)}]"
    options["optimizers"] = f"[{', '.join(call('Optimizer', o.to_config()) for o in proposer.optimizers)}]"
    trajectories = ", ".join(f"{name}={text}" for name, text in options.items())
    parts = f"SELECT, CONFIRM, TASK = {setup.method.select!r}, {setup.method.confirm!r}, {setup.task!r}"
    return BY_HAND.format(parts=f"{parts}\nTRAJECTORIES = dict({trajectories})")


@pytest.mark.long
def test_a_round_built_by_hand_without_the_host_is_the_same_program():
    hand = output(PROGRAM, by_hand())
    config = output(PROGRAM, f"SETS = {SETS!r}", BY_CONFIG)
    assert "HloModule" in hand and len(hand) > 10_000
    assert without_metadata(hand) == without_metadata(config)


@pytest.mark.skipif(importlib.util.find_spec(native.MODULE) is None, reason="installed without native code")
def test_the_compiled_default_round_calls_the_native_operation():
    import ev3x.config

    scope: dict[str, Any] = {}
    exec(PROGRAM, scope)
    setup = ev3x.config.load(None)
    compiled = scope["lowered"](ev3x.Plan(setup.task, setup.method, setup.layout)).compile().as_text()
    assert re.search(r'custom-call\(.*custom_call_target="ev3x_score_moments', compiled)


def test_a_plan_without_native_code_calls_none():
    import ev3x.config

    scope: dict[str, Any] = {}
    exec(PROGRAM, scope)
    setup = ev3x.config.load(None)
    lowered = scope["lowered"](ev3x.Plan(setup.task, setup.method, setup.layout, native="off")).as_text()
    assert "ev3x_score" not in lowered
