"""Reversible learning: whether runs lead back bit for bit, what that needs to remember, and how exact it is.

    python benchmarks/reversible_checks.py [--short]

Digits, 64-32-10 with tanh, batch 32, a penalty for each parameter, rate .2 (1 - momentum). Reversal: the tape is
saved to a file and read again between the two directions. Information: 16 bits a flushed word + log2(head + 1), a step
and parameter. Errors: relative to the norm of `jax.grad` through the same loop in float64 at the momentum n / d.
Memory: temporaries of the compiled program of both directions. --short: horizons of 100 and 300. Needs ev3x-reversible
and scikit-learn. Prints tables and writes benchmarks/results/reversible_checks.json.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ev3x_reversible import Tape, hypergradient, record, rewind
from measure import write
from reversible_problem import batches, meta_loss, network, plain, train_loss
from rich.console import Console
from rich.table import Table

SIZES, BATCH = (64, 32, 10), 32
MOMENTA = (0.5, 0.9, 0.98)


def given(momentum: float, horizon: int, dtype: Any) -> tuple[Any, ...]:
    """Parameters, a logarithmic penalty for each, rates and momenta."""
    params = network(jax.random.key(0), SIZES, dtype)
    hypers = jax.tree.map(lambda w: jnp.full(w.shape, -8.0, dtype), params)
    return params, hypers, jnp.full(horizon, 0.2 * (1 - momentum), dtype), jnp.full(horizon, momentum, dtype)


def reversal(momentum: float, horizon: int, dtype: Any) -> dict[str, Any]:
    """Whether the start is found again after the tape was in a file, and the bits that it holds."""
    args = given(momentum, horizon, dtype)
    options: dict[str, Any] = {"batches": batches(BATCH, dtype), "least_momentum": momentum}
    end, tape = jax.jit(functools.partial(record, train_loss, **options))(*args)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tape.npz"
        tape.save(file)
        again = Tape.load(file)
    slope = jax.grad(meta_loss(dtype))(end)
    _, back = jax.jit(functools.partial(rewind, train_loss, **options))(again, slope, *args)
    per_step = 1 / horizon
    held = float(np.asarray(again.bits()).mean())
    exact = math.log2(2**16 / round(momentum * 2**16))
    stored = (16 * again.words.shape[0] + 64) * per_step
    return {
        "back": bool(back), "bits": held * per_step, "of log2(d/n)": held * per_step / exact, "stored": stored,
        "stored more, bits a parameter": float((stored - exact) * horizon),
    }  # fmt: skip


def error(got: Any, expected: Any) -> float:
    """The relative error of the norm."""
    x, y = (np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in jax.tree.leaves(t)]) for t in (got, expected))
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def errors(momentum: float, horizon: int, dtype: Any) -> dict[str, float]:
    """The relative error of each kind of hypergradient."""
    args = given(momentum, horizon, dtype)
    options: dict[str, Any] = {"batches": batches(BATCH, dtype), "least_momentum": momentum}
    found = jax.jit(functools.partial(hypergradient, train_loss, meta_loss(dtype), **options))(*args).gradient
    params, hypers, rates, _ = jax.tree.map(lambda x: x.astype(jnp.float64), args)
    momenta = jnp.full(horizon, round(momentum * 2**16) / 2**16)
    run, meta = plain(BATCH, jnp.float64), meta_loss(jnp.float64)
    exact = jax.jit(jax.grad(lambda *xs: meta(run(*xs)), argnums=(0, 1, 2, 3)))(params, hypers, rates, momenta)
    return dict(zip(("params", "hypers", "rates", "momenta"), map(error, found, exact), strict=False))


def memory(horizon: int) -> dict[str, float]:
    """Temporary bytes of both directions, against copies of weights and velocity in float32 for each step."""
    args = given(0.9, horizon, jnp.float32)
    options: dict[str, Any] = {"batches": batches(BATCH), "least_momentum": 0.9}
    program = jax.jit(functools.partial(hypergradient, train_loss, meta_loss(), **options)).lower(*args).compile()
    analysis = program.memory_analysis()
    assert analysis is not None
    used = analysis.temp_size_in_bytes
    copies = 2 * 4 * horizon * sum(x.size for x in jax.tree.leaves(args[0]))
    return {"bytes": used, "copies": copies, "times less": copies / used}


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    args = parser.parse_args()
    few, many = (100, 300) if args.short else (1000, 10_000)
    results: dict[str, Any] = {"settings": vars(args), "reversal": {}, "errors": {}, "memory": {}}
    table = Table("loss, momentum, T", "back", "bits", "of log2(d/n)", "stored", "more a parameter", title="reversal")
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            for momentum in MOMENTA:
                for horizon in (few, many):
                    name = f"{dtype.dtype.name}, {momentum}, {horizon}"
                    found = results["reversal"][name] = reversal(momentum, horizon, dtype)
                    numbers = [f"{x:.4f}" for n, x in found.items() if n != "back"]
                    table.add_row(name, str(found["back"]), *numbers)
    Console(width=150).print(table)
    kinds = ("params", "hypers", "rates", "momenta")
    table = Table("loss, momentum", *kinds, title=f"relative errors of hypergradients, T = {few}")
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(True):
            for momentum in MOMENTA:
                name = f"{dtype.dtype.name}, {momentum}"
                wrong = results["errors"][name] = errors(momentum, few, dtype)
                table.add_row(name, *(f"{wrong[kind]:.1e}" for kind in kinds))
    Console(width=150).print(table)
    used = results["memory"][f"T = {many}"] = memory(many)
    print(f"T = {many}: {used['bytes']:,} temporary bytes, {used['times less']:.0f} times less than copies")
    print(write("reversible_checks", results))


if __name__ == "__main__":
    main()
