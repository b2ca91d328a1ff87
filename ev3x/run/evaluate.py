"""The final report: every metric of one model over a whole set of examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..core.data import Arrays
from ..core.programs import compiled
from ..core.task import Task
from ..core.types import Batch, Predictions, Variables

BLOCK = 1024


def evaluate(task: Task, variables: Variables, examples: Arrays) -> dict[str, float]:
    """The mean of each per-example metric (with the task's weights), and each set-level metric over the whole set."""
    n = examples.size if jax.tree.leaves(examples.tree) else 0
    if not n:
        raise ValueError("the test set is empty")
    starts = range(0, n, BLOCK)
    batches = [jax.tree.map(lambda x, s=s: x[s : s + BLOCK], examples.tree) for s in starts]
    parts = [_predict(task, variables, batch) for batch in batches]
    predictions = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    weights = task.weigh(examples.tree)
    results = {}
    for metric in task.metrics:
        values = np.asarray(metric(predictions, examples.tree, n, type(task).__name__), np.float64)
        results[metric.name] = float(np.average(values, weights=weights) if metric.kind == "example" else values)
    return results


@compiled()
def _predict(task: Task, variables: Variables, batch: Batch) -> Predictions:
    return task.predict(variables, batch)
