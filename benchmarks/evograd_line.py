"""EvoGrad's one-dimensional illustration: how its hypergradient approaches its limit as the copies grow in number.

    python benchmarks/evograd_line.py [--trials 2000] [--many 1000000]

f_T(x, λ) = (x - 1)² + λ x² and f_V(x) = (x - 1/2)², x ~ N(0, 1), σ = 1, τ = .5, normal noise: the notebook's. For
infinitely many copies θ* = (x + 4) / (5 + 4 λ), so that the mean hypergradient is (64 λ - 56) / (5 + 4 λ)³. With `many`
trials, the bias is measured against the limit for the same x, which takes the spread of x out. The package ev3x-evograd
must be installed. Prints two tables and writes benchmarks/results/evograd_line.json.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ev3x_evograd import evograd
from measure import write
from rich.console import Console
from rich.table import Table

Array = jax.Array
LAMBDAS = (0.1, 0.5, 1.0, 2.0)
COPIES = (2, 10, 100, 1000)
BLOCK = 500  # trials at once


def train_loss(x: Array, hyper: Array) -> Array:
    """f_T."""
    return (x - 1) ** 2 + hyper * x**2


def meta_loss(x: Array) -> Array:
    """f_V."""
    return (x - 0.5) ** 2


def oracle(hyper: float) -> float:
    """The mean hypergradient for infinitely many copies."""
    return (64 * hyper - 56) / (5 + 4 * hyper) ** 3


def limit(x: Array, hyper: Array) -> Array:
    """The hypergradient at x for infinitely many copies: the derivative of f_V((x + 4) / (5 + 4 λ))."""
    end = (x + 4) / (5 + 4 * hyper)
    return -2 * (end - 0.5) * 4 * end / (5 + 4 * hyper)


@functools.partial(jax.jit, static_argnums=(1, 2))
def trials(key: Array, number: int, copies: int) -> tuple[Array, Array]:
    """The hypergradients f32[number, L] of as many trials, the same x and noise for all λ, and their limits."""
    hypers = jnp.array(LAMBDAS)

    def trial(key: Array) -> tuple[Array, Array]:
        x_key, noise_key = jax.random.split(key)
        x = jax.random.normal(x_key)

        def one(hyper: Array) -> Array:
            found = evograd(
                train_loss, meta_loss, x, hyper, noise_key, copies=copies, sigma=1.0, tau=0.5, noise="gaussian"
            )
            return jnp.asarray(found.gradient)

        return jax.vmap(one)(hypers), limit(x, hypers)

    found: tuple[Array, Array] = jax.lax.map(trial, jax.random.split(key, number), batch_size=BLOCK)
    return found


def sums(key: Array, number: int, copies: int) -> tuple[Any, Any]:
    """The mean distance to the limit of the same x over so many trials, and its standard error, for each λ."""
    total, squares, block = np.zeros(len(LAMBDAS)), np.zeros(len(LAMBDAS)), min(number, 50_000)
    for i in range(number // block):
        found, limits = trials(jax.random.fold_in(key, i), block, copies)
        gap = np.asarray(found, np.float64) - np.asarray(limits, np.float64)
        total, squares = total + gap.sum(0), squares + (gap**2).sum(0)
    n = number // block * block
    mean = total / n
    return mean, np.sqrt((squares / n - mean**2) / n)


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--many", type=int, default=1_000_000)
    args = parser.parse_args()
    key = jax.random.key(0)
    results: dict[str, Any] = {"settings": vars(args), "means": {}, "bias": {}}

    table = Table("λ", "oracle", *(f"K = {k}, {args.trials:,} trials" for k in COPIES), title="mean ± standard error")
    found = {k: np.asarray(trials(key, args.trials, k)[0], np.float64) for k in COPIES}
    for i, hyper in enumerate(LAMBDAS):
        cells = []
        for k in COPIES:
            mean, error = found[k][:, i].mean(), found[k][:, i].std(ddof=1) / args.trials**0.5
            off = (mean - oracle(hyper)) / error
            results["means"][f"{hyper}, K = {k}"] = {
                "mean": mean, "standard error": error, "oracle": oracle(hyper), "standard errors off": off,
            }  # fmt: skip
            cells.append(f"{mean:+.4f} ± {error:.4f} ({off:+.1f} s.e.)")
        table.add_row(f"{hyper}", f"{oracle(hyper):+.4f}", *cells)
    Console(width=150).print(table)

    table = Table("λ", "bias at K = 100", "bias at K = 1000", "ratio", title=f"{args.many:,} trials")
    biases = {k: sums(jax.random.fold_in(key, k), args.many, k) for k in (100, 1000)}
    for i, hyper in enumerate(LAMBDAS):
        (few, few_error), (more, more_error) = ((biases[k][0][i], biases[k][1][i]) for k in (100, 1000))
        # The ratio's interval by the delta method.
        ratio = abs(few / more)
        spread = 1.96 * ratio * np.hypot(few_error / few, more_error / more)
        results["bias"][f"{hyper}"] = {
            "K = 100": [few, few_error], "K = 1000": [more, more_error], "ratio": ratio, "half interval": spread,
        }  # fmt: skip
        table.add_row(
            f"{hyper}",
            f"{few:+.6f} ± {few_error:.6f}",
            f"{more:+.6f} ± {more_error:.6f}",
            f"{ratio:.1f} ± {spread:.1f}",
        )
    Console(width=150).print(table)
    print(write("evograd_line", results))


if __name__ == "__main__":
    main()
