"""EV3 against a sweep: the same losses and optimizers, each pair trained alone, the best chosen on the assess data.

    python benchmarks/sweep.py [--seeds 5] [--rounds 60] [--length 250]

The task is `distill-mnist1d`. All start from the same student. `equal compute` gives the sweep as a whole the gradient
steps that EV3 spends on all its candidates; `equal steps` gives them to every single pair (K times the compute). The
sweep chooses by as many examples of the assess stream as EV3 reads for its selections. Accuracies are those on the
1,000 standard test examples, and on 100,000 fresh ones that nobody has seen. Prints a table and writes
benchmarks/results/sweep.json.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from measure import write
from rich.console import Console
from rich.table import Table

import ev3x
from ev3x.builtin.tasks import mnist1d
from ev3x.builtin.tasks.distill_mnist1d import DistillMnist1D
from ev3x.run.evaluate import evaluate
from ev3x.training.steps import train

# The pairs of `ev3x run` (ev3x/config/default.toml).
LOSSES = [ev3x.Loss("kl"), ev3x.Loss("kl", temperature=4.0), ev3x.Loss("labels")]
OPTIMIZERS = [
    ev3x.Optimizer("sgd", learning_rate=0.1, momentum=0.9),
    ev3x.Optimizer("sgd", learning_rate=0.02, momentum=0.9),
]
TASK = DistillMnist1D()
FRESH = 100_000


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--length", type=int, default=250)
    args = parser.parse_args()
    runs = [one_seed(seed, args.rounds, args.length) for seed in range(args.seeds)]
    names = list(runs[0])
    table = Table("", "test accuracy, mean", "95% interval", "fresh accuracy, mean", "95% interval", "steps, all")
    summary = {}
    for name in names:
        test, fresh = (np.array([r[name][split] for r in runs]) for split in ("test", "fresh"))
        summary[name] = {"test": interval(test), "fresh": interval(fresh), "steps": runs[0][name]["steps"]}
        cells = [x for s in (test, fresh) for x in (f"{s.mean():.4f}", "{:.4f} to {:.4f}".format(*interval(s)[1:]))]
        table.add_row(name, *cells, f"{runs[0][name]['steps']:,}")
    for name in names[1:]:
        for split in ("test", "fresh"):
            gap = np.array([r["EV3"][split] - r[name][split] for r in runs])
            summary[f"EV3 - {name}, {split}"] = {"gap": interval(gap)}
            mean, low, high = interval(gap)
            table.add_row(f"EV3 - {name}, {split}", f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}")
    Console().print(table)
    print(write("sweep", {"settings": vars(args), "runs": runs, "summary": summary}))


def one_seed(seed: int, rounds: int, length: int) -> dict[str, dict[str, Any]]:
    """What EV3 and the two sweeps reach from one seed."""
    splits = TASK.load(seed).splits
    assert isinstance(splits, ev3x.Splits)
    evolver = ev3x.Evolver(TASK, ev3x.methods.ev3(LOSSES, OPTIMIZERS, length=length), splits)
    start = evolver.init(seed)
    state, records = evolver.rounds(start, rounds)
    steps = int(records.steps.sum())
    k = len(LOSSES) * len(OPTIMIZERS)
    results = {
        "EV3": report(state.model.incumbent, seed) | {"steps": steps, "promotions": int(records.decision.promote.sum())}
    }
    for name, each in (("sweep, equal compute", steps // k), ("sweep, equal steps", steps)):
        models = {
            f"{loss} | {optimizer}": alone(loss, optimizer, start.model.current, splits, jax.random.key(seed), each)
            for loss in LOSSES
            for optimizer in OPTIMIZERS
        }
        scores = {pair: float(assess_score(model, splits, rounds)) for pair, model in models.items()}
        best = max(scores, key=lambda pair: scores[pair])
        results[name] = report(models[best], seed) | {"steps": each * k, "chosen": best, "assess": scores}
    return results


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def alone(
    loss: ev3x.Loss, optimizer: ev3x.Optimizer, variables: Any, splits: ev3x.Splits, key: jax.Array, steps: int
) -> Any:
    """The variables of one pair after plain training."""
    built = optimizer.build()
    drawn = splits.explore.draw(key, steps)
    trained, _, _ = train(
        TASK, loss, built, variables, built.init(variables["params"]), splits.explore, drawn, key, steps=steps
    )
    return trained


@functools.partial(jax.jit, static_argnums=2)
def assess_score(variables: Any, splits: ev3x.Splits, blocks: int) -> jax.Array:
    """The accuracy on the blocks of the assess stream that EV3 reads for its selections."""

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        batch, _ = splits.assess.block(i, 2048)
        return total + (TASK.predict(variables, batch).argmax(-1) == batch["y"]).mean()

    return jax.lax.fori_loop(0, blocks, add, jnp.float32(0)) / blocks


def report(variables: Any, seed: int) -> dict[str, Any]:
    """The accuracies that count."""
    fresh = ev3x.Arrays(mnist1d.generate(jax.random.fold_in(jax.random.key(seed), 2**30), FRESH))
    return {
        "test": evaluate(TASK, variables, TASK.load(seed).test)["accuracy"],
        "fresh": evaluate(TASK, variables, fresh)["accuracy"],
    }


def interval(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """The mean and its 95% t interval."""
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


if __name__ == "__main__":
    main()
