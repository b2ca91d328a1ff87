"""How long one Reptile step takes: episodes mapped over in one program, against loops in Python.

    python benchmarks/episodes_speed.py [--repeats 15]

MAML's sinusoids, 16 tasks a step, 5 inner steps of SGD on 10 points, network 1-40-40-1. The opponents are what one
writes first: a loop over tasks and inner steps, then the mean of the adapted parameters; eager, or with both
jitted. Their episodes are drawn before the clock starts; ours in a trajectory are drawn inside of it. After one
step on the same episodes all have the same parameters, to 1e-5. Goals: 200 times the eager form, 3 times the loops
with a jitted step. Prints a table and writes benchmarks/results/episodes_speed.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import write
from rich.console import Console
from rich.table import Table
from timing import interleaved, median

import ev3x
from ev3x.builtin.tasks.sinusoids import Sinusoids
from ev3x.training import gradient_step, train

Array = jax.Array
PyTree = Any
TASKS, STEPS, INNER_RATE, RATE, LENGTH = 16, 5, 0.01, 0.1, 100
FAMILY = Sinusoids(
    inner=ev3x.Optimizer("sgd", learning_rate=INNER_RATE), steps=STEPS, batch_size=TASKS, support=10, query=10
)
LOSS, OUTER = ev3x.Loss("reptile"), ev3x.Optimizer("sgd", learning_rate=RATE).build()
EAGER, STEPPED, OURS, TRAJECTORY = (
    "eager loops",
    "loops, jitted steps",
    "ours, a step a call",
    "ours, a trajectory",
)


def error(params: PyTree, x: Array, y: Array) -> Array:
    """The mean square error of the network, as one writes it down."""
    for name in ("hidden_0", "hidden_1"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return jnp.mean(jnp.square(x @ params["out"]["kernel"] + params["out"]["bias"] - y))


def inner_step(params: PyTree, x: Array, y: Array) -> PyTree:
    """The parameters after one step of SGD."""
    return jax.tree.map(lambda p, g: p - INNER_RATE * g, params, jax.grad(error)(params, x, y))


def towards(params: PyTree, *ends: PyTree) -> PyTree:
    """The parameters after one step of Reptile: towards the mean of the adapted ones."""
    return jax.tree.map(lambda p, *q: p + RATE * (sum(q) / len(q) - p), params, *ends)


def loops(
    step: Callable[..., PyTree], outer: Callable[..., PyTree], params: PyTree, episodes: list[tuple[Array, Array]]
) -> PyTree:
    """The parameters after one step of Reptile, task by task."""
    ends = []
    for x, y in episodes:
        end = params
        for _ in range(STEPS):
            end = step(end, x, y)
        ends.append(end)
    return outer(params, *ends)


@jax.jit
def ours(variables: PyTree, batch: PyTree, key: Array) -> PyTree:
    """The variables after one step of `trajectories` on these episodes."""
    state = OUTER.init(variables["params"])
    return gradient_step(FAMILY, LOSS, OUTER, variables, state, batch, key, {})[0]


@jax.jit
def trajectory(variables: PyTree, explore: ev3x.Explore, key: Array) -> PyTree:
    """The variables after 100 steps on fresh episodes, as `trajectories` trains them in a round."""
    drawn, state = explore.draw(key, LENGTH), OUTER.init(variables["params"])
    return train(FAMILY, LOSS, OUTER, variables, state, explore, drawn, key, steps=LENGTH)[0]


def main() -> None:
    """All forms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    key, splits = jax.random.key(0), FAMILY.load(0).splits
    assert isinstance(splits, ev3x.Splits)
    variables, explore = FAMILY.init(jax.random.key(1)), splits.explore
    batch = explore.batch(explore.draw(key, 1)[0])
    episodes = [tuple(batch["support"][name][i] for name in ("x", "y")) for i in range(TASKS)]
    step, mean = jax.jit(inner_step), jax.jit(towards)
    calls: dict[str, Callable[[], Any]] = {
        EAGER: lambda: loops(inner_step, towards, variables["params"], episodes),
        STEPPED: lambda: loops(step, mean, variables["params"], episodes),
        OURS: lambda: ours(variables, batch, key)["params"],
        TRAJECTORY: lambda: trajectory(variables, explore, key),
    }
    ends = [call() for name, call in calls.items() if name != TRAJECTORY]
    gap = max(max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), e, ends[0]))) for e in ends)
    assert gap < 1e-5, gap
    seconds = interleaved(calls, args.repeats)
    seconds[TRAJECTORY] = seconds[TRAJECTORY] / LENGTH
    results: dict[str, Any] = {"settings": vars(args), "largest difference": gap}
    table = Table("", "ms a step", "eager / it [95%]", "jitted steps / it [95%]", title="Reptile, 16 sinusoids")
    for name in calls:
        ratios = [median(seconds[other] / seconds[name]) for other in (EAGER, STEPPED)]
        results[name] = {"ms": median(1e3 * seconds[name]), "eager / it": ratios[0], "jitted / it": ratios[1]}
        said = [f"{r['median']:.4g} [{r['low']:.4g}, {r['high']:.4g}]" for r in ratios]
        table.add_row(name, f"{1e3 * np.median(seconds[name]):.3g}", *said)
    Console(width=120).print(table)
    print(write("episodes_speed", results))


if __name__ == "__main__":
    main()
