"""The fold over blocks: which examples count, for metrics of every kind, however candidates are laid out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from toys import ACCURACY, LIKELIHOOD, Toy, examples, make

import ev3x
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.core.assess import assess

W = np.array([[1.0, 0.3], [-0.5, 2.0], [0.0, 1.0]], np.float32)


def stack(k=3):
    return {"params": {"w": jnp.asarray(W[:k]), "b": jnp.linspace(-0.2, 0.2, k)}}


def logits(batch, i):
    return np.asarray(batch["x"]) @ W[i] + np.linspace(-0.2, 0.2, 3)[i]


def run(task, source, assessor, layout=None, start=0, alone=None):
    site = ev3x.Site(task, layout or ev3x.Layout())
    reference = jax.tree.map(lambda x: x[0], stack())
    contenders = [(site, stack())] if alone is None else alone(site)
    question = ev3x.Question(jax.random.key(0), jnp.float32(0.05), jnp.ones(len(task.metrics)), jnp.ones(3, bool))
    read = ev3x.Assess(source).block
    result, used, _ = assess(assessor, contenders, (site, reference), read, jnp.int32(start), question)
    return result, int(used)


@pytest.mark.parametrize("n", [1, 64, 65, 200])
def test_every_example_counts_once_whatever_the_size(n):
    source = examples(0, n)
    blocks = -(-n // 64)
    got, used = run(Toy((LIKELIHOOD, ACCURACY)), source, MeanBounds(block=64, blocks=blocks))
    sign = np.where(source.tree["y"], 1, -1)
    for i in range(3):
        margin = sign * logits(source.tree, i)
        expected = [-np.log1p(np.exp(-margin)).mean(), (margin > 0).mean()]
        np.testing.assert_allclose(got.mean[i], expected, rtol=1e-5)
    assert used == blocks and int(got.examples) == n


def auroc(predictions, batch):
    return sklearn.metrics.roc_auc_score(batch["y"], predictions)


def mean_margin(predictions, batch):
    return jnp.where(batch["y"], predictions, -predictions).mean()


SETWISE = ev3x.Metric("auroc", auroc, kind="set", low=0, high=1, host=True)


def test_a_set_level_metric_in_plain_python_is_averaged_over_blocks():
    source = examples(1, 256)
    metrics = (SETWISE, ev3x.Metric("margin", mean_margin, kind="set"), LIKELIHOOD)
    got, _ = run(Toy(metrics), source, MeanBounds(block=64, blocks=4, z=1.0))
    for i in range(3):
        scores = logits(source.tree, i).reshape(4, 64)
        y = np.asarray(source.tree["y"]).reshape(4, 64)
        areas = np.array([sklearn.metrics.roc_auc_score(a, b) for a, b in zip(y, scores, strict=True)])
        margins = (np.where(y, 1, -1) * scores).mean(1)
        for m, values in enumerate((areas, margins)):
            error = values.std(ddof=1) / 2
            np.testing.assert_allclose(got.mean[i, m], values.mean(), rtol=1e-5)
            np.testing.assert_allclose(got.upper[i, m] - got.mean[i, m], error, rtol=1e-3, atol=1e-6)
        assert got.mean[i, 2] < 0


def host_margin(predictions, batch):
    return [(p if y else -p) for p, y in zip(predictions.tolist(), batch["y"].tolist(), strict=True)]


def test_a_plain_python_metric_per_example_is_the_same_as_its_jax_version():
    def on_device(predictions, batch):
        return jnp.where(batch["y"], predictions, -predictions)

    pair = (ev3x.Metric("host", host_margin, host=True), ev3x.Metric("device", on_device))
    got, _ = run(Toy(pair), examples(2, 100), MeanBounds(block=64, blocks=2))
    np.testing.assert_allclose(got.mean[:, 0], got.mean[:, 1], rtol=1e-6)


@pytest.mark.parametrize("chunk", [0, 2])
def test_candidates_in_chunks_score_as_one_by_one(chunk):
    source = ev3x.Generated(jax.random.key(0), make)
    task = Toy((LIKELIHOOD, SETWISE))
    one_by_one, _ = run(task, source, MeanBounds(block=64, blocks=2))
    got, _ = run(task, source, MeanBounds(block=64, blocks=2), ev3x.Layout(score_chunk=chunk))
    np.testing.assert_allclose(got.mean, one_by_one.mean, rtol=1e-6)


def test_scores_of_several_stacks_meet_in_order():
    def apart(site):
        return [(site, jax.tree.map(lambda x: x[:1], stack())), (site, jax.tree.map(lambda x: x[1:], stack()))]

    together, _ = run(Toy(), examples(0, 64), MeanBounds(block=64))
    got, _ = run(Toy(), examples(0, 64), MeanBounds(block=64), alone=apart)
    np.testing.assert_array_equal(got.mean, together.mean)


def test_the_first_contender_is_the_reference_and_differs_from_itself_by_nothing():
    got, _ = run(Toy(), examples(0, 128), Paired(block=64, blocks=2))
    assert float(got.difference[0, 0]) == 0 and float(got.p_value[0]) == 1
    assert float(got.reference[0]) == float(got.mean[0, 0])


def weighted(task_weights):
    class Weighted(Toy):
        def weigh(self, batch):
            return task_weights(batch)

    return Weighted()


def test_weights_of_the_task_make_a_weighted_mean():
    source = examples(0, 100)
    got, _ = run(weighted(lambda b: jnp.where(b["y"], 1.0, 0.0)), source, MeanBounds(block=64, blocks=2))
    y = np.asarray(source.tree["y"])
    expected = [((logits(source.tree, i) > 0) == y)[y].mean() for i in range(3)]
    np.testing.assert_allclose(got.mean[:, 0], expected, rtol=1e-6)
    assert int(got.examples) == y.sum()


def test_a_first_block_without_weight_is_passed_over():
    source = ev3x.Arrays({**examples(0, 128).tree, "late": jnp.arange(128) >= 64})
    got, _ = run(weighted(lambda b: b["late"].astype(jnp.float32)), source, MeanBounds(block=64, blocks=2))
    expected = ((logits(source.tree, 1) > 0) == np.asarray(source.tree["y"]))[64:].mean()
    np.testing.assert_allclose(got.mean[1, 0], expected, rtol=1e-6)


class Eager(Paired):
    """Stops when one block was read."""

    def enough(self, evidence, question, metrics):
        return evidence.weight.sum() > 0


def test_an_assessor_that_has_enough_stops_reading():
    got, used = run(Toy(), examples(0, 256), Eager(block=64, blocks=4))
    alone, _ = run(Toy(), examples(0, 256), Paired(block=64, blocks=1))
    assert used == 1 and int(got.examples) == 64
    np.testing.assert_array_equal(got.p_value, alone.p_value)
