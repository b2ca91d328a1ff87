"""rank_metrics against all pairs in float64 and scikit-learn, and under JAX's transformations."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import strict_and_wide
from scipy.stats import rankdata

from ev3x.ops import RankMetrics, native, rank_metrics

pytestmark = pytest.mark.bits

definition = importlib.import_module("ev3x.ops.rank_metrics").definition
TARGET = "ev3x_rank_metrics"
SIZES = [0, 1, 2, 3, 7, 255, 256, 257, 1023, 1024, 1025]
SPECIAL = np.array([np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 2e-38, 3e-38], np.float32)

needs_native = pytest.mark.skipif(not native.ensure(TARGET), reason="native targets are not in use here")
quick = settings(deadline=None, max_examples=25)
by_op, by_definition = jax.jit(lambda *a: rank_metrics(*a)), jax.jit(definition)
both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])


@np.errstate(invalid="ignore")
def oracle(scores, labels):
    """One row, in float64, by comparing all pairs and all thresholds."""
    if np.isnan(scores).any() or not labels.any():
        return np.nan, np.nan
    scores = np.where(np.abs(scores) < np.finfo(np.float32).tiny, 0, scores).astype(np.float64)
    right, wrong = scores[labels], scores[~labels]
    wins = (right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2 if len(wrong) else np.nan
    precision = np.mean([(right >= bar).sum() / (scores >= bar).sum() for bar in right])
    return wins, precision


def check(got, scores, labels):
    for name, a in zip(RankMetrics._fields, got, strict=True):
        assert a.dtype == np.float32, name
        assert a.shape == scores.shape[:-1], name
    for at in np.ndindex(scores.shape[:-1]):
        auroc, precision = oracle(scores[at], labels[at[:-1]])
        np.testing.assert_allclose(got.auroc[at], auroc, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(got.average_precision[at], precision, rtol=1e-6)


def same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)


def draw(rng, shape, kind="normal"):
    """(scores, labels) for shape (..., K, n)."""
    labels = rng.random((*shape[:-2], shape[-1])) < {"rare": 0.03, "right": 1, "wrong": 0}.get(kind, 0.4)
    scores = (rng.normal(size=shape) + labels[..., None, :]).astype(np.float32)
    if kind in ("ties", "rare"):
        scores = scores.round()
    elif kind == "constant":
        scores = np.full(shape, 0.1, np.float32)
    elif kind == "special":
        scores = np.where(rng.random(shape) < 0.5, rng.choice(SPECIAL, shape), scores.round(1))
    elif kind == "nan" and shape[-1]:
        scores[..., 0, rng.integers(shape[-1])] = np.nan
    elif kind == "perfect":
        scores = np.where(labels[..., None, :], np.abs(scores), -np.abs(scores) - 1)
    return scores, labels


KINDS = ["normal", "ties", "rare", "right", "wrong", "constant", "special", "nan", "perfect"]


@needs_native
@pytest.mark.parametrize("kind", ["normal", "ties", "special"])
def test_every_size(kind):
    rng = np.random.default_rng(1)
    for n in SIZES:
        data = draw(rng, (2, n), kind)
        check(by_op(*data), *data)


@pytest.mark.parametrize("shape", [(2, 0), (1, 1), (0, 3), (3, 2)])
def test_the_definition_at_the_smallest_sizes(shape):
    data = draw(np.random.default_rng(2), shape)
    check(by_definition(*data), *data)


@both
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from([(1, 33), (3, 600), (2, 2, 2, 17)]),
)
def test_against_all_pairs(compute, seed, kind, shape):
    data = draw(np.random.default_rng(seed), shape, kind)
    check(compute(*data), *data)


@both
@pytest.mark.parametrize("kind", ["normal", "ties", "rare", "special", "perfect"])
def test_against_scikit_learn(compute, kind):
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels = draw(np.random.default_rng(3), (2, 20_001), kind)
    got = compute(scores, labels)
    flushed = np.where(np.abs(scores) < np.finfo(np.float32).tiny, 0, scores)
    for k, ranks in enumerate(rankdata(flushed, axis=-1)):  # scikit-learn takes no infinite scores
        np.testing.assert_allclose(got.auroc[k], roc_auc_score(labels, ranks), rtol=2e-6)
        np.testing.assert_allclose(got.average_precision[k], average_precision_score(labels, ranks), rtol=2e-6)


@needs_native
def test_the_native_results_are_rounded_once():
    scores, labels = draw(np.random.default_rng(4), (2, 2001), "ties")
    for k, (auroc, _) in enumerate(oracle(row, labels) for row in scores):
        assert by_op(scores, labels).auroc[k] == np.float32(auroc)


@needs_native
def test_same_bits_on_repetition_and_for_a_lone_candidate():
    scores, labels = draw(np.random.default_rng(5), (6, 20_001))
    once = by_op(scores, labels)
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, once, by_op(scores, labels))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[3:4], b), once, by_op(scores[3:4], labels))


@both
def test_what_is_undefined_is_nan(compute):
    scores = np.array([[0.1, 0.2, 0.3], [0.1, np.nan, 0.3]], np.float32)
    right, wrong = compute(scores, np.ones(3, bool)), compute(scores, np.zeros(3, bool))
    np.testing.assert_array_equal(right.auroc, [np.nan, np.nan])
    np.testing.assert_array_equal(right.average_precision, [1, np.nan])
    assert np.isnan(wrong.auroc).all() and np.isnan(wrong.average_precision).all()


def test_transposed_and_sliced_operands():
    scores, labels = draw(np.random.default_rng(6), (80, 3), "ties")
    labels = np.arange(40) % 3 == 0
    got = jax.jit(lambda x, y: rank_metrics(x.T[:, ::2], y[::-1]))(scores, labels)
    check(got, scores.T[:, ::2], labels[::-1])


@both
def test_vmap(compute):
    scores, labels = draw(np.random.default_rng(7), (4, 3, 50), "ties")
    same(jax.jit(jax.vmap(compute))(scores, labels), compute(scores, labels))
    got = jax.vmap(compute, in_axes=(None, 0), out_axes=1)(scores[0], labels)
    for i in range(4):
        same([a[:, i] for a in got], compute(scores[0], labels[i]))


def test_scan_and_while_loop():
    scores, labels = (jnp.asarray(a) for a in draw(np.random.default_rng(8), (4, 3, 50), "ties"))
    _, scanned = jax.lax.scan(lambda c, a: (c, rank_metrics(*a)), 0, (scores, labels))
    same(scanned, by_op(scores, labels))

    def body(state):
        i, auroc = state
        return i + 1, auroc.at[i].set(rank_metrics(scores[i], labels[i]).auroc)

    loop = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros((4, 3)))))
    np.testing.assert_array_equal(loop()[1], scanned.auroc)


def test_no_derivative_flows_through_the_ranks():
    scores, labels = draw(np.random.default_rng(9), (2, 30))
    got = jax.jit(jax.grad(lambda x: (x.sum(-1) * rank_metrics(x, labels).auroc).sum()))(scores)
    np.testing.assert_allclose(got, np.broadcast_to(by_op(scores, labels).auroc[:, None], scores.shape))


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    [
        ("scores", np.zeros(8, "f"), ValueError, r"must have shape \(..., K, n\), got \(8,\)"),
        ("scores", np.zeros((4, 8), "i"), TypeError, r"must be float32, got int32; use .astype\(jnp.float32\)"),
        ("scores", jax.ShapeDtypeStruct((2, 2**31), np.float32), ValueError, r"must have n < 2\*\*31, got 2147483648"),
        ("labels", np.zeros((4, 8), bool), ValueError, r"must have shape \(8,\) \(scores without .*, got \(4, 8\)"),
        ("labels", np.zeros(8, "i"), TypeError, r"must be bool, got int32; use .astype\(jnp.bool\)"),
    ],
)
def test_errors_name_the_argument(argument, value, error, text):
    arguments = {"scores": np.zeros((4, 8), "f"), "labels": np.zeros(8, bool), argument: value}
    with pytest.raises(error, match=f"rank_metrics: `{argument}` {text}"):
        jax.eval_shape(rank_metrics, **arguments)


@needs_native
def test_compiled_code_holds_the_custom_call_and_no_conditional():
    text = by_op.lower(*draw(np.random.default_rng(0), (3, 7))).compile().as_text()
    assert f'custom_call_target="{TARGET}"' in text
    assert " conditional(" not in text


def test_works_under_strict_jax_and_x64():
    data = draw(np.random.default_rng(10), (2, 3, 20), "special")

    def compute(*a):
        return rank_metrics(*a), definition(*a)

    for got in strict_and_wide(compute, data):
        check(got, *data)
