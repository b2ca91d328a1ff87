"""What FDS states of itself: it equals reverse mode, its memory does not grow with the horizon, and what sharing costs.

    python benchmarks/fds_checks.py [--horizons 100 1000 10000] [--repeats 1000]

1. Digits, 64-32-10, batches of 32, 500 steps, no clamps, learning rate .1 (5 windows), momentum .9, weight decay 5e-4:
   the hypergradient against `jax.grad` through the run, relative, for each kind by itself (that of the decay is so
   large that it hides the others in a common norm); the worst of five seeds. Of float32 also each against float64.
2. Temporary bytes of the compiled hypergradient (`memory_analysis`), a fresh batch drawn in every step, beside those of
   reverse mode, and by the size of a chunk.
3. Theorem 4.1: 400 noisy hypergradients (deviation .25) shared over windows of 40: mean squared error where the true
   one does not drift, drifts by .08 a step, or walks by uniform(-.08, .08).

Prints tables and writes benchmarks/results/fds_checks.json. Needs ev3x-fds[examples].
"""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ev3x_fds import hypergradient, spread, train
from fds_digits import BATCH, HORIZON, TASK, loaded, mean_loss
from measure import write
from rich.console import Console
from rich.table import Table

import ev3x

Array = jax.Array
HORIZONS = (100, 1000, 10_000)
CASES = ("no drift", "largest drift", "walk")
STEPS, WINDOW, SIGMA, EPSILON = 400, 40, 0.25, 0.08
EXPECTED = {"no drift": 0.00156, "largest drift": 0.8544, "walk": 0.01578}


def values(dtype: Any = jnp.float32) -> dict[str, Array]:
    """The schedules of the comparison."""
    fixed = {"learning_rate": (5, 0.1), "momentum": (1, 0.9), "weight_decay": (1, 5e-4)}
    return {n: jnp.full(windows, x, dtype) for n, (windows, x) in fixed.items()}


def given(dtype: Any, seed: int = 0) -> tuple[Any, ...]:
    """The arguments of the programs: data, the key of the batches, fresh weights, schedules."""
    weights, batches = jax.random.split(jax.random.key(seed))
    made = loaded(seed), batches, TASK.init(weights)["params"]
    return *jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.float32 else x, made), values(dtype)


def losses(data: Any, batches: Array) -> tuple[Any, Any]:
    """f_T on a batch drawn in each step from a key of its own, and f_V."""
    source = ev3x.Arrays(data["train"])

    def train_loss(params: Any, step: Array) -> Array:
        drawn = source.draw(jax.random.fold_in(batches, step), 1, BATCH)[0]
        return mean_loss(params, source.batch(drawn, BATCH))

    return train_loss, lambda params: mean_loss(params, data["validation"])


def forward(args: tuple[Any, ...], horizon: int, chunk: int | None = None) -> Any:
    """The compiled hypergradient."""

    def program(data: Any, batches: Array, params: Any, schedules: Any) -> Any:
        return hypergradient(*losses(data, batches), params, schedules, horizon=horizon, chunk=chunk).gradient

    return jax.jit(program).lower(*args).compile()


def reverse(args: tuple[Any, ...], horizon: int) -> Any:
    """The compiled gradient through the run."""

    def program(data: Any, batches: Array, params: Any, schedules: Any) -> Any:
        f, v = losses(data, batches)
        return jax.grad(lambda s: v(train(f, params, s, horizon=horizon)))(schedules)

    return jax.jit(program).lower(*args).compile()


def gradients(dtype: Any, horizon: int, seeds: int) -> dict[str, list[Any]]:
    """The hypergradients of each seed, in both modes."""
    with jax.enable_x64(True) if dtype == jnp.float64 else contextlib.nullcontext():
        args = [given(dtype, seed) for seed in range(seeds)]
        programs = {"forward": forward(args[0], horizon), "reverse": reverse(args[0], horizon)}
        return {n: [jax.tree.map(np.asarray, program(*each)) for each in args] for n, program in programs.items()}


def apart(found: list[Any], expected: list[Any]) -> dict[str, float]:
    """The largest relative distance over the seeds, by kind."""

    def distance(a: Any, b: Any) -> float:
        return float(np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(b))

    return {n: max(distance(a[n], b[n]) for a, b in zip(found, expected, strict=True)) for n in found[0]}


def temporaries(program: Any) -> int:
    """Temporary bytes of a compiled program."""
    return int(program.memory_analysis().temp_size_in_bytes)


def shared(value: Array, windows: int) -> Array:
    """The means over each window f[windows], from values of all steps."""
    return value.reshape(windows, -1).mean(1)


def sharing(case: str, repeats: int = 1000, seed: int = 0) -> float:
    """The mean squared error of hypergradients that are shared over windows."""
    noise_key, walk_key = jax.random.split(jax.random.key(seed))
    noise = SIGMA * jax.random.normal(noise_key, (repeats, STEPS))
    ramp = EPSILON * jnp.arange(STEPS, dtype=jnp.float32)
    walk = jnp.cumsum(jax.random.uniform(walk_key, (repeats, STEPS), minval=-EPSILON, maxval=EPSILON), axis=1)
    true = {"no drift": jnp.zeros_like(noise), "largest drift": ramp[None] + jnp.zeros_like(noise), "walk": walk}[case]
    found = jax.vmap(lambda h: spread(shared(h, STEPS // WINDOW), STEPS))(true + noise)
    return float(jnp.mean((found - true) ** 2))


def timed(program: Any, args: Any) -> float:
    """Seconds of the fastest of three calls."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(program(*args))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """All three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--horizons", type=int, nargs="*", default=list(HORIZONS))
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    console, results = Console(width=120), {"settings": vars(args)}

    single, double = (gradients(dtype, HORIZON, args.seeds) for dtype in (jnp.float32, jnp.float64))
    found = {
        "float32: forward, reverse": apart(single["forward"], single["reverse"]),
        "float64: forward, reverse": apart(double["forward"], double["reverse"]),
        "forward: float32, float64": apart(single["forward"], double["reverse"]),
        "reverse: float32, float64": apart(single["reverse"], double["reverse"]),
    }
    table = Table("", *values(), title="relative error, the worst of the seeds")
    for name, each in found.items():
        table.add_row(name, *(f"{x:.1e}" for x in each.values()))
    console.print(table)
    results["errors"] = found

    once = given(jnp.float32)
    kinds: dict[str, Any] = {
        "all 7 columns": lambda t: forward(once, t),
        "chunks of 3": lambda t: forward(once, t, 3),
        "one by one": lambda t: forward(once, t, 1),
        "reverse mode": lambda t: reverse(once, t),
    }
    table = Table("temporary bytes (seconds)", *(f"T = {t:,}" for t in args.horizons))
    results["memory"] = {}
    for name, make in kinds.items():
        made = [make(t) for t in args.horizons]
        row = [{"bytes": temporaries(program), "seconds": timed(program, once)} for program in made]
        results["memory"][name] = dict(zip(map(str, args.horizons), row, strict=True))
        table.add_row(name, *(f"{x['bytes']:,} ({x['seconds']:.2f})" for x in row))
    console.print(table)

    table = Table("theorem 4.1", "mean squared error", "expected")
    results["sharing"] = {case: sharing(case, args.repeats) for case in CASES}
    for case, error in results["sharing"].items():
        table.add_row(case, f"{error:.5f}", f"{EXPECTED[case]:.5f}")
    console.print(table)
    print(write("fds_checks", results))


if __name__ == "__main__":
    main()
