"""What asking and telling evosax through ev3x's proposer costs, against evosax called directly.

    python benchmarks/evosax_ask_tell.py [--repeats 21] [--only cma_es]

Both sides are one `lax.scan` over generations on the same pytree of parameters: ask, evaluate the sphere, tell.
Directly that is evosax with the pytree as its `solution`; through ev3x it is `propose` and `learn`. They are called in
turn in one process; the ratio is that of neighbours, its interval that of the median, and `least` the ratio of the
least times, which other programs disturb less. `--layout flat` gives both sides a single vector. The package
ev3x-evosax must be installed. Prints a table and writes benchmarks/results/evosax_ask_tell.json.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import ev3x_evosax
import jax
import jax.numpy as jnp
from ev3x_evosax import strategies
from measure import write
from rich.console import Console
from rich.table import Table
from timing import interleaved, median

import ev3x

Array = jax.Array
PyTree = Any
# strategy, parameters, population, generations of one call
CASES = (
    ("cma_es", 100, 16, 50),
    ("cma_es", 100, 256, 50),
    ("cma_es", 300, 64, 5),
    ("sep_cma_es", 1_000, 64, 100),
    ("sep_cma_es", 10_000, 256, 5),
    ("open_es", 100, 16, 500),
    ("open_es", 1_000, 64, 100),
    ("open_es", 10_000, 16, 50),
    ("open_es", 10_000, 256, 5),
    ("pgpe", 1_000, 64, 100),
    ("simple_ga", 100, 16, 500),
    ("simple_ga", 1_000, 64, 100),
    ("simple_ga", 10_000, 256, 5),
    ("differential_evolution", 1_000, 64, 10),
)


def parameters(n: int) -> PyTree:
    """n parameters in four leaves, as of a network of two layers."""
    a, b, c = n // 2, n // 10, n // 4
    return {"w": jnp.ones((a // 10, 10)), "b": jnp.ones(b), "v": jnp.ones((c // 5, 5)), "c": jnp.ones(n - a - b - c)}


def sphere(params: PyTree) -> Array:
    """The squared distance to zero."""
    return sum((jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params)), start=jnp.float32(0))


def direct(name: str, params: PyTree, population: int, generations: int) -> Callable[[Array], Any]:
    """evosax as its own examples call it."""
    kind = strategies.kinds()[name]
    strategy = kind(population_size=population, solution=params)
    fixed = strategy.default_params
    stack = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (population, *x.shape)), params)

    def step(state: PyTree, key: Array) -> tuple[PyTree, Array]:
        ask_key, tell_key = jax.random.split(key)
        asked, state = strategy.ask(ask_key, state, fixed)
        fitness = jax.vmap(sphere)(asked)
        state, _ = strategy.tell(tell_key, asked, fitness, state, fixed)
        return state, fitness.min()

    @jax.jit
    def run(key: Array) -> Any:
        begin_key, key = jax.random.split(key)
        if strategies.keeps_population(kind):
            noise = jax.tree.map(lambda x: x + jax.random.normal(begin_key, x.shape), stack)
            state = strategy.init(begin_key, noise, jax.vmap(sphere)(noise), fixed)
        else:
            state = strategy.init(begin_key, params, fixed)
        return jax.lax.scan(step, state, jax.random.split(key, generations))

    return run


def proposed(name: str, params: PyTree, population: int, generations: int) -> Callable[[Array], Any]:
    """The proposer, fed by hand: the winner is always its own, as in a run of this proposer alone."""
    proposer = ev3x_evosax.component(name)(population=population, std=1.0)
    nothing = ev3x.make_task(lambda key: {}, lambda params, batch: batch["x"], {}, [ev3x.Metric("x", lambda x, _: x)])
    site, current = ev3x.Site(nothing), {"params": params}
    explore = ev3x.Explore(ev3x.Arrays({"x": jnp.zeros(1)}), 1)
    decision = ev3x.Decision(jnp.int32(ev3x.Move.TAKE), jnp.asarray(False), jnp.ones(1), jnp.zeros(1, jnp.int32))

    def step(state: PyTree, key: Array) -> tuple[PyTree, Array]:
        ask_key, tell_key = jax.random.split(key)
        made = proposer.propose(site, ask_key, current, state, explore)
        fitness = jax.vmap(sphere)(made.variables["params"])
        won = jnp.arange(population) == jnp.argmin(fitness)
        feedback = ev3x.Feedback(-fitness, -fitness[:, None], won, jnp.int32(0), decision)
        return proposer.learn(site, tell_key, state, made, feedback), fitness.min()

    @jax.jit
    def run(key: Array) -> Any:
        begin_key, key = jax.random.split(key)
        state = proposer.init(site, begin_key, current)
        return jax.lax.scan(step, state, jax.random.split(key, generations))

    return run


def main() -> None:
    """All cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--layout", choices=("tree", "flat"), default="tree")
    parser.add_argument("--only", default="", help="strategies whose names contain this")
    args = parser.parse_args()
    columns = "strategy", "parameters", "population", "evosax, µs", "ev3x, µs", "ratio", "95% interval", "least"
    table = Table(*columns, title="One generation: ask, evaluate, tell")
    cases = []
    for name, n, population, generations in CASES:
        if args.only not in name:
            continue
        params = parameters(n) if args.layout == "tree" else jnp.ones(n)
        runs = {f.__name__: f(name, params, population, generations) for f in (direct, proposed)}
        calls = {k: functools.partial(run, jax.random.key(0)) for k, run in runs.items()}
        seconds = interleaved(calls, args.repeats, at_least=0.05)
        ratio = median(seconds["proposed"] / seconds["direct"])
        least = float(seconds["proposed"].min() / seconds["direct"].min())
        each = {k: median(1e6 * x / generations) for k, x in seconds.items()}
        cases.append(
            {"strategy": name, "parameters": n, "population": population, "ratio": ratio, "least": least, "us": each}
        )
        table.add_row(
            name,
            f"{n:,}",
            str(population),
            f"{each['direct']['median']:,.0f}",
            f"{each['proposed']['median']:,.0f}",
            f"{ratio['median']:.3f}",
            f"{ratio['low']:.3f} to {ratio['high']:.3f}",
            f"{least:.3f}",
        )
        jax.clear_caches()
    Console().print(table)
    if not args.only and args.layout == "tree":
        write("evosax_ask_tell", {"repeats": args.repeats, "cases": cases})


if __name__ == "__main__":
    main()
