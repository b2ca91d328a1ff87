"""The final report: every metric over a whole set of examples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import ACCURACY, LIKELIHOOD, Toy, examples, likelihood, right

import ev3x
from ev3x.run import evaluate as module
from ev3x.run.evaluate import evaluate


def spread(predictions, batch):
    return predictions.max() - predictions.min()


def plain(predictions, batch):
    assert isinstance(predictions, np.ndarray)
    return (predictions > 0) == batch["y"]


METRICS = (
    ACCURACY,
    LIKELIHOOD,
    ev3x.Metric("spread", spread, kind="set"),
    ev3x.Metric("plain", plain, binary=True, host=True),
)


@dataclasses.dataclass(frozen=True)
class Weighing(Toy):
    """Examples with a label count three times."""

    def weigh(self, batch):
        return jnp.where(batch["y"], 3.0, 1.0)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 20])
def test_metrics_of_the_whole_set_do_not_depend_on_the_blocks(monkeypatch, size):
    monkeypatch.setattr(module, "BLOCK", 8)
    task, data = Toy(METRICS), examples(3, size)
    variables = task.init(jax.random.key(0))
    scores = evaluate(task, variables, data)
    logits = np.asarray(task.predict(variables, data.tree))
    assert scores["accuracy"] == scores["plain"] == pytest.approx(np.mean((logits > 0) == data.tree["y"]))
    assert scores["likelihood"] == pytest.approx(float(np.mean(likelihood(logits, data.tree))), rel=1e-6)
    assert scores["spread"] == pytest.approx(logits.max() - logits.min(), abs=1e-6)


def test_examples_count_as_the_task_weighs_them():
    task, data = Weighing(), examples(3, 40)
    variables = task.init(jax.random.key(0))
    correct = np.asarray(right(task.predict(variables, data.tree), data.tree))
    expected = np.average(correct, weights=np.where(data.tree["y"], 3.0, 1.0))
    assert evaluate(task, variables, data) == {"accuracy": pytest.approx(expected)}


def test_an_empty_test_set_is_refused():
    with pytest.raises(ValueError, match="the test set is empty"):
        evaluate(Toy(), Toy().init(jax.random.key(0)), examples(0, 0))
