"""Schedules learned from zero on digits: each outer step's, and how the validation loss falls with them.

    python schedules.py [--out schedules.png]

Ten training runs of 500 steps, all from the same weights: the first at learning rates of 0, every other with what the
hypergradients of the one before it say. Needs scikit-learn and matplotlib, and some ten seconds.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from ev3x_fds import fds, spread, train
from ev3x_fds.tasks import Digits

Array = jax.Array
HORIZON = 500
FIXED = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}


def main() -> None:
    """Search, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="schedules.png")
    args = parser.parse_args()
    matplotlib.use("Agg")
    task, key = Digits(), jax.random.key(0)
    data = task.load(0)
    explore: Any = data.splits.explore

    def mean_loss(params: Any, batch: Any) -> Array:
        return task.loss("labels", {"params": params}, batch, key, {})[0].mean()

    def train_loss(params: Any, step: Array) -> Array:
        return mean_loss(params, explore.batch(explore.draw(jax.random.fold_in(key, step), 1)[0]))

    def meta_loss(params: Any) -> Array:
        return mean_loss(params, explore.meta.source.tree)

    start = task.init(key)["params"]
    found = jax.jit(lambda p: fds(train_loss, meta_loss, p, horizon=HORIZON))(start)
    fixed = {n: jnp.full(1, x, jnp.float32) for n, x in FIXED.items()}
    usual = jax.jit(lambda p: train(train_loss, p, fixed, horizon=HORIZON))(start)
    for name, params in (("learned", found.params), ("fixed", usual)):
        right = task.predict({"params": params}, data.test.tree).argmax(-1) == data.test.tree["y"]
        print(f"{name:8s} validation loss {meta_loss(params):.4f}, test accuracy {100 * right.mean():.1f}%")
    for name, values in found.schedules.items():
        print(f"{name}: {', '.join(f'{x:.3g}' for x in values)}")

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    runs = int(np.isfinite(found.history["value"]).sum())
    for axis, (name, all_) in zip(axes[:3], found.history["schedules"].items(), strict=True):
        for run in range(runs):
            axis.plot(spread(all_[run], HORIZON), color=plt.get_cmap("viridis")(run / runs), lw=1)
        axis.plot(spread(found.schedules[name], HORIZON), "k-", lw=2.5, label="the best")
        axis.axhline(FIXED[name], color="C3", ls=":", label="fixed")
        axis.set(title=name.replace("_", " "), xlabel="step")
    axes[0].legend()
    axes[3].semilogy(found.history["value"], "o-", color="0.3")
    axes[3].axhline(float(meta_loss(usual)), color="C3", ls=":")
    axes[3].set(title="validation loss", xlabel="outer step")
    figure.savefig(args.out, dpi=120)
    print(args.out)


if __name__ == "__main__":
    main()
