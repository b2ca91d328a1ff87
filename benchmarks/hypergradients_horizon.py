"""Time and memory of each hypergradient against the horizon, on one problem: a table, a JSON file and a picture.

    python benchmarks/hypergradients_horizon.py [--repeats 5] [--horizons 10 100 1000 10000]

Digits, 64-32-10 with tanh, batches of 32, float32: learning rate in 5 windows, one momentum, one penalty. Forward (FDS,
all 7 columns), reversible (a rate and a momentum for each step: it costs the same for any number of them), reverse mode
of JAX through the scan of the run, and EvoGrad and T1-T2, which look one step ahead, at each of T steps of a run.
Seconds are told as multiples of the run alone, interleaved with it; memory is what the compiled program needs besides
its arguments and results. The packages ev3x-fds, ev3x-reversible and ev3x-evograd must be installed. Writes
benchmarks/results/hypergradients_horizon.json and docs/images/hypergradients.png.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ev3x_evograd
import ev3x_fds
import ev3x_reversible
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from measure import write
from reversible_problem import batches, cross_entropy, meta_loss, network
from rich.console import Console
from rich.table import Table
from timing import interleaved, median

Array = jax.Array
PyTree = Any
RATE, MOMENTUM, PENALTY, WINDOWS = 0.1, 0.9, 5e-4, 5
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "hypergradients.png"


def programs(horizon: int) -> dict[str, Callable[[PyTree], Any]]:
    """Functions of the parameters, by name: the run alone, and what differentiates it."""
    batch, meta = batches(32), meta_loss()

    def train_loss(params: PyTree, penalty: Array, drawn: tuple[Array, Array]) -> Array:
        half = 0.5 * penalty * sum((x**2).sum() for x in jax.tree.leaves(params))
        return cross_entropy(params, *drawn) + half

    def run(
        params: PyTree, rates: Array, momentum: Array, penalty: Array, each: Callable[..., Array] | None = None
    ) -> tuple[PyTree, Array]:
        def step(carry: Any, t: Array) -> tuple[Any, None]:
            params, velocity, found = carry
            drawn = batch(t)
            slope = jax.grad(train_loss)(params, penalty, drawn)
            found = found if each is None else found + each(params, penalty, drawn, t)
            velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, slope)
            rate = rates[t // (horizon // len(rates))]
            return (jax.tree.map(lambda w, v: w - rate * v, params, velocity), velocity, found), None

        start = (params, jax.tree.map(jnp.zeros_like, params), jnp.zeros_like(penalty))
        (params, _, found), _ = jax.lax.scan(step, start, jnp.arange(horizon, dtype=jnp.int32))
        return params, found

    rates, momentum, penalty = jnp.full(WINDOWS, RATE), jnp.float32(MOMENTUM), jnp.float32(PENALTY)

    def forward(params: PyTree) -> Any:
        schedules = {"learning_rate": rates, "momentum": momentum[None], "weight_decay": penalty[None]}
        return ev3x_fds.hypergradient(
            lambda p, t: cross_entropy(p, *batch(t)), meta, params, schedules, horizon=horizon
        ).gradient

    def backward(params: PyTree) -> Any:
        return ev3x_reversible.hypergradient(
            train_loss,
            meta,
            params,
            penalty,
            jnp.full(horizon, RATE),
            jnp.full(horizon, MOMENTUM),
            batches=batch,
            least_momentum=MOMENTUM,
        ).gradient

    def reverse(params: PyTree) -> Any:
        return jax.grad(lambda *hypers: meta(run(params, *hypers)[0]), argnums=(0, 1, 2))(rates, momentum, penalty)

    def ahead(params: PyTree, penalty: Array, drawn: tuple[Array, Array], t: Array) -> Array:
        found = ev3x_evograd.one_step(lambda p, h: train_loss(p, h, drawn), meta, params, penalty, learning_rate=RATE)
        return jnp.asarray(found.gradient)

    def copies(params: PyTree, penalty: Array, drawn: tuple[Array, Array], t: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(0), t)
        found = ev3x_evograd.evograd(lambda p, h: train_loss(p, h, drawn), meta, params, penalty, key)
        return jnp.asarray(found.gradient)

    return {
        "the run alone": lambda params: run(params, rates, momentum, penalty),
        "forward: FDS, 7 columns": forward,
        "backward: reversible": backward,
        "reverse mode of JAX": reverse,
        "EvoGrad in each step": lambda params: run(params, rates, momentum, penalty, copies),
        "T1-T2 in each step": lambda params: run(params, rates, momentum, penalty, ahead),
    }


def memory_of(program: Any) -> int:
    """The temporary bytes of a compiled program."""
    return int(program.memory_analysis().temp_size_in_bytes)


def main(horizons: list[int], repeats: int) -> None:
    """The table, the JSON file and the picture."""
    params = network(jax.random.key(1), (64, 32, 10))
    found: list[dict[str, Any]] = []
    for horizon in horizons:
        compiled = {name: jax.jit(f).lower(params).compile() for name, f in programs(horizon).items()}
        seconds = interleaved({name: functools.partial(f, params) for name, f in compiled.items()}, repeats)
        for name, program in compiled.items():
            ratio = median(seconds[name] / seconds["the run alone"])
            memory = memory_of(program)
            found.append({"horizon": horizon, "method": name, "bytes": memory, "ratio": ratio})
    table = Table("", *(f"T = {h:,}" for h in horizons), title="times of the run alone [95%]; temporary kB")
    names = list(programs(horizons[0]))
    for name in names:
        cells = [r for r in found if r["method"] == name]
        times = "{median:.3g} [{low:.3g}, {high:.3g}]"
        table.add_row(name, *(f"{times.format(**r['ratio'])}; {r['bytes'] / 1e3:,.0f}" for r in cells))
    Console(width=180).print(table)
    write("hypergradients_horizon", {"repeats": repeats, "rows": found})
    draw(names, found)


def draw(names: list[str], found: list[dict[str, Any]]) -> None:
    """Two panels: memory and time against the horizon."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in names[1:]:
        rows = [r for r in found if r["method"] == name]
        xs = [r["horizon"] for r in rows]
        left.loglog(xs, [r["bytes"] / 1e6 for r in rows], marker="o", label=name)
        right.semilogx(xs, [r["ratio"]["median"] for r in rows], marker="o")
    left.set(xlabel="horizon T, steps", ylabel="temporary memory, MB")
    right.set(xlabel="horizon T, steps", ylabel="time, in runs without hypergradient", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGE, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--horizons", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    main(**vars(parser.parse_args()))
