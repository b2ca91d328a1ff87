"""The paper's one-dimensional illustration, as a picture and a table.

    python illustration.py [--out illustration.png]

f_T(x, λ) = (x - 1)² + λ x² trains x, f_V(x) = (x - 1/2)² judges it. Left: the mean hypergradient over 2,000 starts
x ~ N(0, 1) against λ, for K copies (sigma = 1, tau = 1/2, normal noise), with its limit (64 λ - 56) / (5 + 4 λ)³ and
the gradient at the minimum x*(λ) = 1 / (1 + λ), (λ - 1) / (1 + λ)³: EvoGrad's limit has another root, .875, because one
step of it is not a whole training. Right: five steps of both, from five starts (rate .1), on f_V(x*(λ)).
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from ev3x_evograd import evograd

Array = jax.Array
COPIES = (2, 10, 100)
STARTS = ((-1.8, 0.2), (-0.9, 1.2), (0.9, 0.8), (1.3, 0.2), (1.5, 1.7))
STEPS, RATE = 5, 0.1


def train_loss(x: Array, hyper: Array) -> Array:
    """f_T."""
    return (x - 1) ** 2 + hyper * x**2


def meta_loss(x: Array) -> Array:
    """f_V."""
    return (x - 0.5) ** 2


def hypergradient(key: Array, x: Array, hyper: Array, copies: int) -> Array:
    """One estimate."""
    found = evograd(train_loss, meta_loss, x, hyper, key, copies=copies, sigma=1.0, tau=0.5, noise="gaussian")
    return jnp.asarray(found.gradient)


def mean_hypergradients(key: Array, hypers: Array, copies: int, trials: int = 2000) -> Array:
    """The mean over as many starts, for each λ."""

    def trial(key: Array) -> Array:
        x_key, noise_key = jax.random.split(key)
        x = jax.random.normal(x_key)
        return jax.vmap(lambda hyper: hypergradient(noise_key, x, hyper, copies))(hypers)

    return jax.vmap(trial)(jax.random.split(key, trials)).mean(0)


def trajectory(key: Array, x: float, hyper: float, copies: int) -> Array:
    """x and λ from the start on: f32[STEPS + 1, 2]."""

    def step(at: Array, key: Array) -> tuple[Array, Array]:
        x, hyper = at
        hyper = hyper - RATE * hypergradient(key, x, hyper, copies)
        at = jnp.stack([x - RATE * jax.grad(train_loss)(x, hyper), hyper])
        return at, at

    start = jnp.array([x, hyper])
    return jnp.concatenate([start[None], jax.lax.scan(step, start, jax.random.split(key, STEPS))[1]])


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="illustration.png")
    args = parser.parse_args()
    matplotlib.use("Agg")
    key, hypers = jax.random.key(0), jnp.linspace(0.1, 2, 39)
    means = {k: jax.jit(mean_hypergradients, static_argnums=2)(key, hypers, k) for k in COPIES}
    limit, paper = (64 * hypers - 56) / (5 + 4 * hypers) ** 3, (hypers - 1) / (1 + hypers) ** 3
    print("    λ  at the minimum    limit  " + "  ".join(f"K = {k:<4d}" for k in COPIES))
    for i in range(0, len(hypers), 6):
        row = "  ".join(f"{means[k][i]:+8.4f}" for k in COPIES)
        print(f"{hypers[i]:5.2f}  {paper[i]:+14.4f} {limit[i]:+8.4f}  {row}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.plot(hypers, paper, "k:", label="at the minimum x*(λ)")
    left.plot(hypers, limit, "k-", label="limit, K → ∞")
    for k in COPIES:
        left.plot(hypers, means[k], ".", label=f"K = {k}")
    left.axhline(0, color="0.8", zorder=0)
    left.set(xlabel="λ", ylabel="mean hypergradient", title="2,000 starts")
    left.legend()
    xs, ls = np.meshgrid(np.linspace(-2, 2, 80), np.linspace(0, 2, 80))
    right.contour(xs, ls, np.square(xs - 1 / (1 + ls)), 12, colors="0.85")
    right.plot(1 / (1 + np.linspace(0, 2)), np.linspace(0, 2), "k-", lw=1, label="x*(λ)")
    right.plot(0.5, 1, "k*", ms=12, label="the best: λ = 1")
    for i, k in enumerate(COPIES):
        for j, (x, hyper) in enumerate(STARTS):
            path = trajectory(jax.random.fold_in(key, j), x, hyper, k)
            right.plot(path[:, 0], path[:, 1], ".-", color=f"C{i}", lw=1, label=f"K = {k}" if j == 0 else None)
    right.set(xlabel="x", ylabel="λ", title="five steps from five starts", xlim=(-2, 2), ylim=(0, 2))
    right.legend(loc="upper left")
    figure.savefig(args.out, dpi=120)
    print(args.out)


if __name__ == "__main__":
    main()
