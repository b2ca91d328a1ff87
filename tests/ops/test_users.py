"""Every native operation has a user: a component of ev3x, or of a plugin in this repository, whose round calls it."""

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from toys import ACCURACY, LIKELIHOOD, Shift, Toy, splits

import ev3x
from ev3x import metrics, ops
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.bootstrap import Bootstrap
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.pareto import Pareto
from ev3x.builtin.budgets.per_round import PerRound
from ev3x.core.loop import init, round_
from ev3x.ops import native

PLUGINS = Path(__file__).parents[2] / "plugins"

pytestmark = pytest.mark.skipif(not native.ensure("ev3x_score_moments"), reason="native targets are not in use here")


def called(select=None, confirm=None, measured=(ACCURACY,)):
    """The targets that one round of these components calls; it is lowered, not compiled."""
    select, confirm = select or MeanBounds(block=64), confirm or Paired(block=64, blocks=2)
    method = ev3x.Method((Shift((0.0, 0.5)),), select, confirm, (Promote(),), PerRound())
    data = splits()
    plan = ev3x.Evolver(Toy(measured), method, data).plan
    state = jax.eval_shape(functools.partial(init, plan), jax.random.key(0))
    return set(re.findall(r"custom_call @(ev3x_\w+)", round_.of(plan).lower(data, state).as_text()))


def lexicase():
    """The plugin's assessor, from its sources: the round needs no native code of its own."""
    if not PLUGINS.exists():
        pytest.skip("an sdist has no plugins")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLUGINS / "ev3x-lexicase")
        return importlib.import_module("ev3x_lexicase.assessor").Lexicase(block=64, tournaments=16)


# Operation -> the targets it may call, each with a round that calls it.
USERS: dict[str, dict[str, Callable[[], set[str]]]] = {
    "score_moments": {"ev3x_score_moments": called},
    "score_stats": {"ev3x_score_stats": lambda: called(select=lexicase())},
    "pareto_ranks": {"ev3x_pareto_ranks": lambda: called(select=Pareto(block=64), measured=(ACCURACY, LIKELIHOOD))},
    "rank_metrics": {
        "ev3x_rank_metrics": lambda: called(
            confirm=Bootstrap(block=64, statistic="mean", metric="accuracy"),
            measured=(ev3x.Metric("auroc", metrics.auroc, "set", low=0, high=1), ACCURACY),
        )
    },
    "bootstrap_means": {
        "ev3x_bootstrap_multinomial": lambda: called(confirm=Bootstrap(block=64, blocks=2, statistic="mean")),
        "ev3x_bootstrap_poisson": lambda: called(confirm=Bootstrap(block=512, blocks=2, statistic="mean")),
    },
}


def test_all_operations_and_their_targets_are_listed():
    tools = inspect.getmodule(ops.choose)
    found = {n for n, f in vars(ops).items() if inspect.isfunction(f) and inspect.getmodule(f) is not tools}
    assert set(USERS) == found
    assert {target for targets in USERS.values() for target in targets} == set(native.load_library().targets)


@pytest.mark.parametrize(
    ("target", "user"), [pytest.param(*each, id=each[0]) for targets in USERS.values() for each in targets.items()]
)
def test_a_round_calls_it(target, user, monkeypatch):
    monkeypatch.delenv("EV3X_NATIVE", raising=False)  # CI requires native code, and the plugin's sources have none
    assert target in user()


def test_a_round_of_means_calls_nothing_else():
    """So that what a round calls comes of the component that the list names."""
    assert called() == {"ev3x_score_moments"}
