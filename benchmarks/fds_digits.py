"""Schedules learned from zero by FDS on scikit-learn's digits, beside fixed values, random search, and variants.

    python benchmarks/fds_digits.py [--first 0] [--seeds 16]

Scans are shuffled by the seed into 1,000 to train on, 300 for validation and 497 to test; a perceptron 64-32-10 with
tanh from Glorot's normal initialization trains for 500 steps on batches of 32. A search has the same weights and
batches in all its runs, starts from 0 and takes 10 outer steps: 5 learning rates and 1 momentum in [0, 1], 1 weight
decay in [0, 5e-3]. The schedule of lowest validation loss is trained again with 5 fresh seeds (weights and batches);
what diverged counts as log 10 and 10%. An outer step costs 1 + 2 x 7 runs, which random search at equal compute gets.
Prints a table, paired by seed, and writes benchmarks/results/fds_digits.json. Needs ev3x-fds[examples].
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from ev3x_fds import SGD, Rule, Schedule, chain, fds, random_search, train
from ev3x_fds.schedules import PAPER
from ev3x_fds.tasks import Digits
from ev3x_fds.tasks.digits import shuffled
from measure import write
from rich.console import Console
from rich.table import Table

import ev3x

HORIZON, BATCH, OUTER, RETRAINS = 500, 32, 10, 5
TASK = Digits()
Data = dict[str, dict[str, jax.Array]]
Search = tuple[Rule, Callable[[Any, Any, Any, jax.Array], dict[str, jax.Array]]]  # train loss, meta loss, params, key
RATES = Schedule("learning_rate", windows=5, step=3e-3, high=0.1)
FIXED = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}


def by_fds(schedules: tuple[Schedule, ...] = PAPER, rule: Rule = SGD, **options: Any) -> Search:
    """A search by hypergradients."""
    return (
        rule,
        lambda f, v, p, key: fds(f, v, p, schedules, horizon=HORIZON, outer=OUTER, rule=rule, **options).schedules,
    )


def by_chance(runs: int, schedules: tuple[Schedule, ...] = PAPER, rule: Rule = SGD) -> Search:
    """A random search with so many runs."""
    return (
        rule,
        lambda f, v, p, key: (
            random_search(f, v, p, key, schedules, horizon=HORIZON, runs=runs, rule=rule, together=10).schedules
        ),
    )


def equal(schedules: tuple[Schedule, ...]) -> int:
    """How many runs cost as much as the outer steps."""
    return OUTER * (1 + 2 * sum(s.windows for s in schedules))


ADAM = (RATES, Schedule("b1", start=0.5, step=0.1, high=0.99))
ADAMW = (*ADAM, Schedule("weight_decay", step=0.01, high=1.0))
NESTEROV = (PAPER[0], PAPER[1])
SEARCHES: dict[str, Search] = {
    "fixed .1, .9, 5e-4": (SGD, lambda f, v, p, key: {n: jnp.full(1, x, jnp.float32) for n, x in FIXED.items()}),
    "FDS": by_fds(),
    "random, 10 runs": by_chance(10),
    "random, equal compute": by_chance(equal(PAPER)),
    "greedy": by_fds(greedy=True),
    "FDS, the paper's clamps 3 and 1": by_fds(clip_gradient=3.0, clip_tangent=1.0),
    "FDS, Adam on hypergradients": by_fds(update="adam"),
    "optax.sgd, Nesterov": by_fds(NESTEROV, chain(functools.partial(optax.sgd, nesterov=True))),
    "optax.adam": by_fds(ADAM, chain(optax.adam)),
    "optax.adamw": by_fds(ADAMW, chain(optax.adamw)),
    "optax.adam, random, equal compute": by_chance(equal(ADAM), ADAM, chain(optax.adam)),
}


def loaded(seed: int) -> Data:
    """The three parts of the scans."""
    parts = zip(("train", "validation", "test"), shuffled(seed, (1000, 300)), strict=True)
    return {name: {n: jnp.asarray(x) for n, x in part.items()} for name, part in parts}


def mean_loss(params: Any, batch: Any) -> jax.Array:
    """The cross-entropy in nats."""
    return TASK.loss("labels", {"params": params}, batch, jax.random.key(0), {})[0].mean()


def problem(data: Data, key: jax.Array) -> tuple[Any, Any, Any]:
    """f_T, f_V and fresh weights."""
    weights, batches = jax.random.split(key)
    source = ev3x.Arrays(data["train"])
    drawn = source.draw(batches, HORIZON, BATCH)

    def train_loss(params: Any, step: jax.Array) -> jax.Array:
        return mean_loss(params, source.batch(drawn[step], BATCH))

    return train_loss, lambda params: mean_loss(params, data["validation"]), TASK.init(weights)["params"]


def searched(search: Search, data: Data, key: jax.Array) -> dict[str, jax.Array]:
    """The schedules that a search finds."""
    return search[1](*problem(data, jax.random.fold_in(key, 0)), jax.random.fold_in(key, 1))


def retrained(rule: Rule, data: Data, key: jax.Array, schedules: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Means over fresh seeds of what runs with these schedules reach."""

    def one(key: jax.Array) -> dict[str, jax.Array]:
        f, v, start = problem(data, key)
        params = train(f, start, schedules, horizon=HORIZON, rule=rule)
        value, test = v(params), mean_loss(params, data["test"])
        right = (TASK.predict({"params": params}, data["test"]).argmax(-1) == data["test"]["y"]).mean()
        sound = jnp.isfinite(value) & jnp.isfinite(test)
        found = {
            "validation": (value, jnp.log(10.0)),
            "test": (test, jnp.log(10.0)),
            "accuracy": (right, jnp.float32(0.1)),
        }
        return {n: jnp.where(sound, x, y) for n, (x, y) in found.items()} | {"diverged": (~sound).astype(jnp.float32)}

    found = jax.vmap(one)(jax.random.split(jax.random.fold_in(key, 2), RETRAINS))
    return jax.tree.map(lambda x: x.mean(0), found)


def measured(search: Search, data: Data, keys: jax.Array) -> dict[str, Any]:
    """What a method reaches on every seed, its mean schedules, and the seconds of the compiled search, all seeds."""
    start = time.perf_counter()
    program = jax.jit(jax.vmap(functools.partial(searched, search))).lower(data, keys).compile()
    compiled = time.perf_counter()
    schedules = jax.block_until_ready(program(data, keys))
    ran = time.perf_counter()
    found = jax.jit(jax.vmap(functools.partial(retrained, search[0])))(data, keys, schedules)
    return {
        **{n: np.asarray(x, np.float64) for n, x in found.items()},
        "schedules": {n: np.asarray(x, np.float64).mean(0).tolist() for n, x in schedules.items()},
        "seconds": ran - compiled,
        "compiling": compiled - start,
    }


def interval(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """The mean and its 95% t interval."""
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def main() -> None:
    """All searches on all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=list(SEARCHES), help="names of rows; FDS is always there")
    args = parser.parse_args()
    seeds = range(args.first, args.first + args.seeds)
    data = jax.tree.map(lambda *x: jnp.stack(x), *map(loaded, seeds))
    keys = jax.vmap(jax.random.key)(jnp.array(seeds))
    runs: dict[str, dict[str, Any]] = {}
    for name in {"FDS": None, **dict.fromkeys(args.only)}:
        runs[name] = measured(SEARCHES[name], data, keys)
        print(
            name,
            {n: round(float(np.mean(runs[name][n])), 4) for n in ("validation", "accuracy", "seconds")},
            flush=True,
        )
    columns = ("validation loss [95%]", "less FDS, paired", "test loss", "accuracy [95%]", "less FDS, paired")
    table = Table("", *columns, "diverged", "s", title=f"digits, {args.seeds} seeds x {RETRAINS} runs")
    summary: dict[str, Any] = {}
    for name, run in runs.items():
        found = {n: interval(run[n]) for n in ("validation", "test", "accuracy")}
        gaps = {n: interval(run[n] - runs["FDS"][n]) for n in ("validation", "accuracy")}
        summary[name] = {
            **found,
            "minus FDS": gaps,
            "diverged": float(run["diverged"].mean()),
            "seconds": run["seconds"],
        }
        v, a = found["validation"], found["accuracy"]
        table.add_row(
            name,
            "{:.4f} [{:.4f}, {:.4f}]".format(*v),
            "" if name == "FDS" else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*gaps["validation"]),
            f"{found['test'][0]:.4f}",
            "{:.2f} [{:.2f}, {:.2f}]%".format(*(100 * x for x in a)),
            "" if name == "FDS" else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * x for x in gaps["accuracy"])),
            f"{100 * run['diverged'].mean():.0f}%",
            f"{run['seconds']:.1f}",
        )
    Console(width=170).print(table)
    plain = {n: {k: x.tolist() if isinstance(x, np.ndarray) else x for k, x in run.items()} for n, run in runs.items()}
    print(write("fds_digits", {"settings": vars(args), "runs": plain, "summary": summary}))


if __name__ == "__main__":
    main()
