"""count_stats against counting in plain Python and numpy, and under JAX's transformations."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import strict_and_wide

from ev3x.ops import CountStats, count_stats, native

definition = importlib.import_module("ev3x.ops.count_stats").definition
TARGETS = ["ev3x_count_stats"]
SIZES = [0, 1, 2, 3, 63, 64, 65, 4095, 4096, 4097]
EXTREMES = np.array([-1, 0, 2**31 - 1, -(2**31), 2**24 + 1, 2**24], np.int32)

needs_native = pytest.mark.skipif(
    not all(native.ensure(target) for target in TARGETS), reason="native targets are not in use here"
)
quick = settings(deadline=None, max_examples=25)
by_op, by_definition = jax.jit(lambda *a: count_stats(*a)), jax.jit(definition)
both = pytest.mark.parametrize("compute", [by_op, by_definition], ids=["op", "definition"])
masking = pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])


def oracle(predictions, labels, reference, mask=None):
    """One [K, n] at a time: tables of agreement, by sets of examples."""
    keep = {i for i in range(len(labels)) if mask is None or mask[i]}
    right = [{i for i in keep if row[i] == labels[i]} for row in predictions]
    reference_right = {i for i in keep if reference[i] == labels[i]}
    return CountStats(
        np.array([len(r) for r in right], np.int32),
        np.int32(len(reference_right)),
        np.array([len(r - reference_right) for r in right], np.int32),
        np.array([len(reference_right - r) for r in right], np.int32),
    )


def check(got, *operands):
    leading = operands[0].shape[:-2]
    for at in np.ndindex(leading):
        want = oracle(*(a[at] for a in operands))
        for name, a, b in zip(CountStats._fields, got, want, strict=True):
            assert a.dtype == np.int32, name
            np.testing.assert_array_equal(a[at], b, err_msg=name)
    assert got.wins.shape == operands[0].shape[:-1] and got.reference_correct.shape == leading


def same(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def draw(rng, shape, masked=False, kind="classes"):
    row = (*shape[:-2], shape[-1])
    shapes = (shape, row, row)
    if kind == "extremes":
        operands = [rng.choice(EXTREMES, s) for s in shapes]
    else:
        operands = [rng.integers(0, 1 if kind == "all right" else 3, s, dtype=np.int32) for s in shapes]
    return [*operands, rng.random(row) < rng.choice([0, 0.6])] if masked else operands


@both
@masking
def test_every_size(compute, masked):
    rng = np.random.default_rng(1)
    for n in SIZES if compute is by_op else [0, 1, 65]:
        data = draw(rng, (3, n), masked)
        check(compute(*data), *data)


@both
@masking
@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["classes", "extremes", "all right"]),
    shape=st.sampled_from([(0, 5), (1, 9), (2, 3, 2, 33)]),
)
def test_against_sets(compute, masked, seed, kind, shape):
    data = draw(np.random.default_rng(seed), shape, masked, kind)
    check(compute(*data), *data)


@needs_native
@masking
@pytest.mark.parametrize("shape", [(3, 700_001), (300, 2, 5000), (5000, 2, 3)])
def test_native_equals_definition_over_several_tasks(masked, shape):
    data = draw(np.random.default_rng(2), shape, masked)
    same(by_op(*data), by_definition(*data))


@both
def test_the_discordant_pairs_are_those_of_a_contingency_table(compute):
    from scipy.stats.contingency import crosstab

    predictions, labels, reference = draw(np.random.default_rng(3), (1, 501))
    got = compute(predictions, labels, reference)
    table = crosstab(predictions[0] == labels, reference == labels).count
    assert (got.losses[0], got.wins[0]) == (table[0, 1], table[1, 0])
    assert got.correct[0] - got.reference_correct == got.wins[0] - got.losses[0]


@both
def test_a_mask_equals_leaving_examples_out(compute):
    *operands, mask = draw(np.random.default_rng(4), (3, 200), masked=True)
    mask = np.arange(200) % 3 > 0
    same(compute(*operands, mask), compute(*(np.ascontiguousarray(a[..., mask]) for a in operands)))


def test_transposed_and_sliced_operands():
    p, y, r = draw(np.random.default_rng(5), (90, 4))
    p = p[:80]
    y, r = (np.resize(a, 40) for a in (y, r))
    got = jax.jit(lambda p, y, r: count_stats(p.T[:, ::2], y[::-1], r))(p, y, r)
    check(got, p.T[:, ::2], y[::-1], r)


@both
@masking
def test_vmap(compute, masked):
    data = draw(np.random.default_rng(6), (4, 3, 50), masked)
    same(jax.jit(jax.vmap(compute))(*data), compute(*data))
    predictions, *rest = data
    got = jax.vmap(compute, in_axes=(0, *[None] * len(rest)))(predictions, *(a[0] for a in rest))
    check(got, predictions, *(np.broadcast_to(a[:1], a.shape) for a in rest))


def test_scan_and_while_loop():
    data = [jnp.asarray(a) for a in draw(np.random.default_rng(7), (4, 3, 50))]
    _, scanned = jax.lax.scan(lambda c, a: (c, count_stats(*a)), 0, data)
    same(scanned, by_op(*data))

    def body(state):
        i, wins = state
        return i + 1, wins.at[i].set(count_stats(*(a[i] for a in data)).wins)

    loop = jax.jit(lambda: jax.lax.while_loop(lambda s: s[0] < 4, body, (0, jnp.zeros((4, 3), jnp.int32))))
    np.testing.assert_array_equal(loop()[1], scanned.wins)


def test_no_derivative_flows_through_the_counts():
    _, labels, reference = draw(np.random.default_rng(8), (2, 6))
    logits = np.random.default_rng(8).normal(size=(2, 6, 3)).astype(np.float32)

    def loss(logits):
        counts = count_stats(logits.argmax(-1).astype(jnp.int32), labels, reference)
        return (logits.sum((1, 2)) * counts.correct.astype(jnp.float32)).sum()

    correct = (logits.argmax(-1) == labels).sum(-1).astype(np.float32)
    got = jax.jit(jax.grad(loss))(logits)
    np.testing.assert_array_equal(got, np.broadcast_to(correct[:, None, None], logits.shape))


@pytest.mark.parametrize(
    ("argument", "value", "error", "text"),
    [
        ("predictions", np.zeros(8, "i"), ValueError, r"must have shape \(..., K, n\), got \(8,\)"),
        ("predictions", np.zeros((4, 8), "f"), TypeError, r"must be int32, got float32; use .astype\(jnp.int32\)"),
        (
            "predictions",
            jax.ShapeDtypeStruct((2, 2**31), np.int32),
            ValueError,
            r"must have n < 2\*\*31, got 2147483648",
        ),
        ("labels", np.zeros((4, 8), "i"), ValueError, r"must have shape \(8,\) \(predictions without .*, got \(4, 8\)"),
        ("labels", np.zeros(8, np.int8), TypeError, r"must be int32, got int8; use .astype\(jnp.int32\)"),
        ("reference", np.zeros(7, "i"), ValueError, r"must have shape \(8,\) .*, got \(7,\)"),
        ("reference", np.zeros(8, bool), TypeError, r"must be int32, got bool"),
        ("mask", np.ones((4, 8), bool), ValueError, r"must have shape \(8,\) .*, got \(4, 8\)"),
        ("mask", np.ones(8, "f"), TypeError, r"must be bool, got float32; use .astype\(jnp.bool\)"),
    ],
)
def test_errors_name_the_argument(argument, value, error, text):
    arguments = {"predictions": np.zeros((4, 8), "i"), "labels": np.zeros(8, "i"), "reference": np.zeros(8, "i")}
    with pytest.raises(error, match=f"count_stats: `{argument}` {text}"):
        jax.eval_shape(count_stats, **(arguments | {argument: value}))


@needs_native
@masking
def test_compiled_code_holds_the_custom_call_and_no_conditional(masked):
    text = by_op.lower(*draw(np.random.default_rng(0), (3, 7), masked)).compile().as_text()
    assert 'custom_call_target="ev3x_count_stats"' in text
    assert " conditional(" not in text


@masking
def test_works_under_strict_jax_and_x64(masked):
    data = draw(np.random.default_rng(9), (2, 3, 20), masked)

    def compute(*a):
        return count_stats(*a), definition(*a)

    for got in strict_and_wide(compute, data):
        check(got, *data)
