"""One learned training image for each class of digits: a picture of them, and how well a network trains on them.

    python learned_images.py [--out learned_images.png] [--seed 0] [--meta-steps 600]

A network (64-32-10, tanh) takes 100 steps of SGD with momentum on ten images, all ten in each step. The images are
learned by the exact hypergradient of its loss on 1,000 real digits, each time from another initialisation (Maclaurin,
Duvenaud and Adams, arXiv 1502.03492, section 3.2). Judged on 497 other digits by 20 fresh initialisations, beside as
many that train on one real digit for each class, drawn anew each time.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ev3x_reversible import train
from sklearn.datasets import load_digits

Array = jax.Array
PyTree = Any
CLASSES, STEPS, RATE, MOMENTUM, DRAWS = 10, 100, 0.1, 0.9, 20


def data(seed: int) -> tuple[Array, Array, Array, Array]:
    """Scans and labels, 1,000 to learn from and 497 to judge on; 300 are left to choose settings on."""
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    x, y = jnp.asarray(found.data[order] / 16, jnp.float32), jnp.asarray(found.target[order], jnp.int32)
    return x[:1000], y[:1000], x[1300:], y[1300:]


def network(key: Array) -> PyTree:
    """Fresh parameters, Glorot normal."""
    keys = jax.random.split(key)
    w, v = ((2 / sum(s)) ** 0.5 * jax.random.normal(k, s) for k, s in zip(keys, ((64, 32), (32, 10)), strict=True))
    return {"w": w, "b": jnp.zeros(32), "v": v, "c": jnp.zeros(10)}


def logits(params: PyTree, x: Array) -> Array:
    """f32[n, 10]."""
    return jnp.tanh(x @ params["w"] + params["b"][None]) @ params["v"] + params["c"][None]


def loss(params: PyTree, x: Array, y: Array) -> Array:
    """The mean cross-entropy."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], 1).mean()


def trained(images: Array, key: Array) -> PyTree:
    """The parameters after all steps on one image for each class, in the order of the classes."""

    def on_images(params: PyTree, images: Array, step: Array) -> Array:
        return loss(params, images, jnp.arange(CLASSES))

    return train(on_images, network(key), images, jnp.full(STEPS, RATE), MOMENTUM, least_momentum=MOMENTUM)


@functools.partial(jax.jit, static_argnums=3)
def learned(key: Array, x: Array, y: Array, meta_steps: int) -> tuple[Array, Array]:
    """The learned images f32[10, 64] in [0, 1], and the meta loss of each step."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, meta_steps))
    first = jnp.full((CLASSES, 64), 0.5)

    def step(carry: Any, key: Array) -> tuple[Any, Array]:
        images, state = carry
        value, slope = jax.value_and_grad(lambda images: loss(trained(images, key), x, y))(images)
        updates, state = optimizer.update(slope, state, images)
        return (jnp.clip(optax.apply_updates(images, updates), 0, 1), state), value

    (images, _), values = jax.lax.scan(step, (first, optimizer.init(first)), jax.random.split(key, meta_steps))
    return images, values


def drawn(seed: int, x: Array, y: Array) -> Array:
    """One real image for each class, f32[10, 64]."""
    rng = np.random.default_rng(seed)
    return jnp.stack([x[rng.choice(np.flatnonzero(np.asarray(y) == c))] for c in range(CLASSES)])


@jax.jit
def accuracy(images: Array, key: Array, x: Array, y: Array) -> Array:
    """The accuracy of a network trained on the images from this initialisation."""
    return (logits(trained(images, key), x).argmax(1) == y).mean()


def contest(seed: int, meta_steps: int) -> tuple[Array, Array, dict[str, list[float]]]:
    """Learned images, those of one draw, and the test accuracies of both kinds."""
    x, y, test_x, test_y = data(seed)
    images, _ = learned(jax.random.fold_in(jax.random.key(seed), 0), x, y, meta_steps)
    real = [drawn(1000 * seed + i, x, y) for i in range(DRAWS)]
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), DRAWS)
    found = {
        "learned": [float(accuracy(images, key, test_x, test_y)) for key in keys],
        "real": [float(accuracy(each, key, test_x, test_y)) for each, key in zip(real, keys, strict=True)],
    }
    return images, real[0], found


def main() -> None:
    """Learn, judge, and draw the picture."""
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="learned_images.png")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--meta-steps", type=int, default=600)
    args = parser.parse_args()
    images, real, found = contest(args.seed, args.meta_steps)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    for name, values in found.items():
        print(f"one {name} image per class: test accuracy {means[name]:.3f} ± {np.std(values, ddof=1):.3f}")
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(2, CLASSES, figsize=(11, 2.9), layout="constrained")
    for row, (name, rows) in zip(axes, (("learned", images), ("real", real)), strict=True):
        for c, (axis, image) in enumerate(zip(row, rows, strict=True)):
            axis.imshow(np.reshape(image, (8, 8)), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=str(c) if name == "learned" else "")
        row[0].set_ylabel(f"{name}\n{means[name]:.1%}")
    figure.savefig(args.out, dpi=120)
    print(args.out)


if __name__ == "__main__":
    main()
