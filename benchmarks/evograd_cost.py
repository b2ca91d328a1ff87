"""What one hypergradient costs: EvoGrad's in several forms against exact one-step differentiation (T1-T2).

    python benchmarks/evograd_cost.py [--repeats 15]

A network of equally wide ReLU layers; the hyperparameters scale its inputs, so that they reach the loss through all of
it. Activations dominate where batches are large, parameters where layers are wide and batches small. Memory is XLA's
own account of temporaries (`memory_analysis`). The package ev3x-evograd must be installed. Prints a table for each
network and writes benchmarks/results/evograd_cost.json.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ev3x_evograd import evograd, one_step
from measure import write
from rich.console import Console
from rich.table import Table
from timing import interleaved, median

Array = jax.Array
PyTree = Any
NETWORKS = {
    "activations dominate: depth 4, width 256, batch 1024": (4, 256, 1024),
    "activations dominate: depth 20, width 256, batch 1024": (20, 256, 1024),
    "parameters dominate: depth 20, width 512, batch 64": (20, 512, 64),
}
RATE, SIGMA, TAU, COPIES = 0.1, 1e-3, 0.05, 2


class Problem:
    """A network's parameters, its hyperparameters and both losses."""

    def __init__(self, depth: int, width: int, batch: int) -> None:
        keys = jax.random.split(jax.random.key(0), depth + 2)
        scale = np.float32(np.sqrt(2 / width))
        self.params = [{"w": scale * jax.random.normal(k, (width, width)), "b": jnp.zeros(width)} for k in keys[2:]]
        self.hypers = jnp.ones(width)
        self.x, self.y = (jax.random.normal(k, (2, batch, width)) for k in keys[:2])

    def error(self, params: PyTree, x: Array, y: Array) -> Array:
        """The mean square error of the network."""
        *hidden, last = params
        for layer in hidden:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return jnp.mean(jnp.square(x @ last["w"] + last["b"] - y))

    def train_loss(self, params: PyTree, hypers: Array) -> Array:
        """f_T: the inputs are scaled by the hyperparameters."""
        return self.error(params, self.x[0] * hypers, self.y[0])

    def meta_loss(self, params: PyTree) -> Array:
        """f_V."""
        return self.error(params, self.x[1], self.y[1])


def published(p: Problem, params: PyTree, hypers: Array, key: Array) -> Array:
    """EvoGrad as its equations say: stacked copies, one gradient through all (Bohdal et al.'s own form)."""
    leaves, structure = jax.tree.flatten(params)

    def copy(key: Array) -> PyTree:
        keys = jax.random.split(key, len(leaves))
        moved = [x + SIGMA * jnp.sign(jax.random.normal(k, x.shape)) for k, x in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(structure, moved)

    copies = jax.vmap(copy)(jax.random.split(key, COPIES))

    def meta(hypers: Array) -> Array:
        weights = jax.nn.softmax(-jax.vmap(lambda c: p.train_loss(c, hypers))(copies) / TAU)
        return p.meta_loss(jax.tree.map(lambda x: jnp.tensordot(weights, x, 1), copies))

    return jax.grad(meta)(hypers)


def backward_twice(p: Problem, params: PyTree, hypers: Array, key: Array) -> Array:
    """T1-T2 by reverse mode over reverse mode."""

    def meta(hypers: Array) -> Array:
        step = jax.grad(p.train_loss)(params, hypers)
        return p.meta_loss(jax.tree.map(lambda x, g: x - RATE * g, params, step))

    return jax.grad(meta)(hypers)


def forward_backward(p: Problem, params: PyTree, hypers: Array, key: Array) -> Array:
    """T1-T2 by reverse mode over forward mode: the plugin's `one_step`."""
    return jnp.asarray(one_step(p.train_loss, p.meta_loss, params, hypers, learning_rate=RATE).gradient)


def ours(p: Problem, params: PyTree, hypers: Array, key: Array, **options: Any) -> Array:
    """The plugin's `evograd`."""
    found = evograd(p.train_loss, p.meta_loss, params, hypers, key, copies=COPIES, sigma=SIGMA, tau=TAU, **options)
    return jnp.asarray(found.gradient)


FORMS: dict[str, Callable[..., Array]] = {
    "T1-T2, reverse over reverse": backward_twice,
    "T1-T2, reverse over forward": forward_backward,
    "EvoGrad as published": published,
    "ours, sign": ours,
    "ours, sign, antithetic": functools.partial(ours, antithetic=True),
    "ours, normal": functools.partial(ours, noise="gaussian"),
    "ours, normal, antithetic": functools.partial(ours, noise="gaussian", antithetic=True),
    "ours, sign, noise kept": functools.partial(ours, regenerate=False),
}


def temporaries(program: Any) -> float:
    """The memory in MB that a compiled program needs besides arguments and results."""
    return float(program.memory_analysis().temp_size_in_bytes / 1e6)


def main() -> None:
    """All networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    results: dict[str, Any] = {"settings": vars(args)}
    for name, size in NETWORKS.items():
        p = Problem(*size)
        given = (p.params, p.hypers, jax.random.key(1))
        programs = {n: jax.jit(functools.partial(f, p)).lower(*given).compile() for n, f in FORMS.items()}
        seconds = interleaved({n: functools.partial(c, *given) for n, c in programs.items()}, args.repeats)
        memory = {n: temporaries(c) for n, c in programs.items()}
        exact = [n for n in FORMS if n.startswith("T1-T2")]
        fastest = min(exact, key=lambda n: float(np.median(seconds[n])))
        least = min(memory[n] for n in exact)
        table = Table("", "memory, MB", "of T1-T2's", "ms", "time / T1-T2's [95%]", title=name)
        results[name] = {"parameters, MB": sum(x.nbytes for x in jax.tree.leaves(p.params)) / 1e6}
        for n in FORMS:
            ratio, time = median(seconds[n] / seconds[fastest]), median(1e3 * seconds[n])
            results[name][n] = {"memory, MB": memory[n], "memory ratio": memory[n] / least, "ms": time, "ratio": ratio}
            spread = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            table.add_row(n, f"{memory[n]:.1f}", f"{memory[n] / least:.2f}", f"{time['median']:.1f}", spread)
        Console(width=120).print(table)
    print(write("evograd_cost", results))


if __name__ == "__main__":
    main()
