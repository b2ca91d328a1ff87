"""Kernels give the same for every instruction set: integers to the bit, floats but for the order of sums."""

import importlib
import importlib.util

import jax
import numpy as np
import pytest

from ev3x.ops import native, pareto_ranks, rank_metrics, score_moments, score_stats

pytestmark = pytest.mark.bits

if importlib.util.find_spec(native.MODULE) is None:
    pytest.skip("installed without native code", allow_module_level=True)
module = importlib.import_module(native.MODULE)
BEST = module.isas()[-1]


def draw(shape, kind="normal", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(np.float32)
    if kind == "ties":
        return x.round(0)
    if kind == "special":
        return np.where(
            rng.random(shape) < 0.3, rng.choice(np.array([np.nan, np.inf, -np.inf, 0, 1e-40], "f"), shape), x
        )
    return x


def labels(shape):
    return np.random.default_rng(0).random(shape) < 0.5


KINDS = ["normal", "ties", "special"]
# name -> (function, operands): sizes around and beyond a vector's, and a leading axis.
CASES = {
    **{
        f"pareto_ranks {kind} {shape}": (pareto_ranks, (draw(shape, kind),))
        for kind in KINDS
        for shape in [(200, 1), (2, 300, 2), (2, 700, 3), (65, 5)]
    },
    **{
        f"rank_metrics {kind} {n}": (rank_metrics, (draw((2, 3, n), kind), labels((2, n))))
        for kind in KINDS
        for n in (33, 3000)
    },
    **{
        f"{op.__name__} {name}": (op, (scores, scores[:, 0], *weights))
        for op in (score_stats, score_moments)
        for name, scores, weights in [
            ("plain", draw((2, 3, 2, 5003)) + 3, ()),
            ("bool", draw((2, 3, 2, 5003)) > 0, ()),
            ("weighted", draw((2, 3, 2, 5003)) + 3, (np.abs(draw((2, 2, 5003))),)),
        ]
    },
}


@pytest.fixture(autouse=True)
def _restored():
    yield
    module.use_isa(BEST)


@pytest.mark.skipif(len(module.isas()) == 1, reason="one instruction set here")
@pytest.mark.parametrize("name", CASES)
def test_all_sets_agree(name):
    function, operands = CASES[name]
    compute = jax.jit(function)
    want = None
    for isa in module.isas():
        module.use_isa(isa)
        assert module.isa() == isa
        got = jax.block_until_ready(compute(*operands))
        if want is None:
            want = got
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            if np.issubdtype(a.dtype, np.floating) and name.startswith("score"):
                np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)
            else:
                np.testing.assert_array_equal(a, b)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match=r"instruction set must be one of baseline.*; got sse9"):
        module.use_isa("sse9")
    assert module.isa() == BEST
