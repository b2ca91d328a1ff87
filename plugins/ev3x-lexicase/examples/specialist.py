"""Lexicase selection keeps a specialist that selection by means drops.

    python specialist.py

One example in five follows a rule of its own, the opposite of that of all others. Ten candidates are trained on all
examples, at different rates, and are right on four in five; one is trained on the rare ones alone, and is right on one
in five. By its mean it is the last. But whatever tournament begins with a rare example is its own, and the ten share
all others: so it wins the most. Prints a row for each candidate, and who wins.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from ev3x_lexicase import Lexicase

import ev3x

Array = jax.Array
Batch = dict[str, Array]


def make(key: Array, n: int) -> Batch:
    """n examples on a line; labels say which side they are on, of rare ones the other one."""
    a, b = jax.random.split(key)
    rare = jax.random.bernoulli(a, 0.2, (n,))
    x = jax.random.normal(b, (n,))
    return {"x": x, "rare": rare, "y": (x > 0) ^ rare}


def predict(params: Array, batch: Batch) -> Array:
    """One logit for each example."""
    return params * batch["x"]


def loss(logits: Array, batch: Batch) -> Array:
    """Cross entropy."""
    return jax.nn.softplus(jnp.where(batch["y"], -logits, logits))


def right(logits: Array, batch: Batch) -> Array:
    """Whether the label is the one."""
    return (logits > 0) == batch["y"]


def evolver(select: ev3x.Assessor, crowd: int = 10) -> ev3x.Evolver:
    """A crowd and a specialist in each round, of which `select` chooses one."""
    losses = {"all": loss, "rare": lambda logits, batch: jnp.where(batch["rare"], loss(logits, batch), 0)}
    task = ev3x.make_task(lambda key: jnp.zeros(()), predict, losses, [ev3x.Metric("accuracy", right, binary=True)])
    optimizers = [ev3x.Optimizer("sgd", learning_rate=(i + 1) / 10) for i in range(crowd)]
    many = ev3x.methods.ev3(["all"], optimizers, length=30)
    one = ev3x.methods.ev3(["rare"], optimizers[:1], length=30)
    method = ev3x.Method(
        proposers=[("crowd", many.proposers[0][1]), ("specialist", one.proposers[0][1])],
        select=select,
        confirm=many.confirm,
        adapters=many.adapters,
        budget=many.budget,
    )
    explore, assess, decide = (ev3x.Generated(key, make) for key in jax.random.split(jax.random.key(1), 3))
    splits = ev3x.Splits(ev3x.Explore(explore, batch_size=64), ev3x.Assess(assess), ev3x.Decide(decide))
    return ev3x.Evolver(task, method, splits)


def main() -> None:
    """Run a round and print its table."""
    ev3x.Host().load("lexicase")  # so that its native code is found; a config does so by `use = "lexicase:lexicase"`
    run = evolver(Lexicase())
    _, record = run.round(run.init(0))
    labels, selection = run.plan.labels(), record.selection
    means = selection.mean[:, 0]
    print(f"{'candidate':44s}   mean  share of tournaments")
    for label, mean, share in zip(labels, means.tolist(), selection.value.tolist(), strict=True):
        print(f"{label:44s}  {mean:.3f}  {share:.3f}")
    print(f"the best mean:         {labels[int(means.argmax())]}")
    print(f"the most tournaments:  {labels[int(selection.winner)]}")


if __name__ == "__main__":
    main()
