"""The fixtures for authors of plugins, used as their tests would."""

import dataclasses
import json

import jax
import pytest
from sound import Jitter

import ev3x
import ev3x.testing
from ev3x.host.host import PluginError

CONFIG = """
rounds = 2
[task]
use = "mine:tiny"
[[propose]]
use = "mine:jitter"
count = 2
[confirm]
use = "published"
block = 64
blocks = 2
"""


@dataclasses.dataclass(frozen=True)
class Tiny(ev3x.testing.TinyTask):
    """The kit's task, offered by a plugin."""


class Mine(ev3x.Plugin):
    @ev3x.hookimpl
    def ev3x_proposers(self):
        return [ev3x.Offer("jitter", Jitter)]

    @ev3x.hookimpl
    def ev3x_tasks(self):
        return [ev3x.Offer("tiny", Tiny)]


def test_the_host_knows_only_what_is_built_in_and_registered(ev3x_host):
    assert list(ev3x_host.host.plugins) == ["ev3"]
    with pytest.raises(PluginError, match="unknown plugin 'mine'"):
        ev3x_host.host.find("proposer", "mine:jitter")
    ev3x_host.register("mine", Mine())
    assert ev3x_host.host.find("proposer", "mine:jitter") == ("mine:jitter", Jitter)


def test_a_class_cannot_be_registered(ev3x_host):
    with pytest.raises(PluginError, match=r"have you forgotten the \(\)"):
        ev3x_host.register("mine", Mine)
    assert ev3x_host.registered == {}


def test_a_registered_plugin_runs_by_the_real_command_line(ev3x_host):
    ev3x_host.register("mine", Mine())
    (ev3x_host.directory / "run.toml").write_text(CONFIG)
    done = ev3x_host.cli("run", "run.toml", "--out", "runs/x", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["task"] == "mine:tiny"
    assert (ev3x_host.directory / "runs" / "x" / "rounds.jsonl").exists()


def test_a_mistake_is_told_on_standard_error(ev3x_host):
    done = ev3x_host.cli("plugins", "show", "nobody")
    assert done.exit_code == 2 and "nobody" in done.stderr and not done.stdout


def test_the_task_trains_on_the_splits(ev3x_task, ev3x_splits):
    drawn = ev3x_splits.explore.draw(jax.random.key(0), 1)
    batch = ev3x_splits.explore.batch(jax.tree.map(lambda x: x[0], drawn))
    variables = ev3x_task.init(jax.random.key(0))
    each, _ = ev3x_task.loss("hinge", variables, batch, jax.random.key(0), ev3x_task.hypers)
    assert each.shape == (8,) and ev3x_splits.check() is ev3x_splits
