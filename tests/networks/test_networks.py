"""Networks: both frameworks compute the same, growth changes nothing, and what was added can learn."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ev3x.component import OptionError
from ev3x.networks import MLP, Network, ResNet, layers

pytestmark = pytest.mark.loose_types("flax mixes integers and floats")

LINE = ResNet((1, 2), filters=3, classes=5, dims=1)
IMAGE = ResNet((1, 1), filters=2, classes=5, dims=2)
PERCEPTRON = MLP((7, 6), classes=5)
SHAPES = {LINE: (16, 9), IMAGE: (16, 6, 5, 3), PERCEPTRON: (16, 9)}
GROWTHS = [(network, how) for network in SHAPES for how in network.growths]
BOTH = pytest.mark.parametrize("framework", ["linen", pytest.param("nnx", marks=pytest.mark.long)])


def inputs(network):
    return jax.random.normal(jax.random.key(2), SHAPES[network])


def loss(network, params, variables, x):
    logits, moved = network.apply({**variables, "params": params}, x, train=True)
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(len(x)) % 5).mean(), moved


@functools.partial(jax.jit, static_argnums=0)
def step(network, variables, x):
    grads, moved = jax.grad(functools.partial(loss, network), has_aux=True)(variables["params"], variables, x)
    return {**moved, "params": jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads)}


@functools.cache
def trained(network):
    """Variables of which none is at its initial value, batch statistics included."""
    x, variables = inputs(network), network.init(jax.random.key(0), inputs(network))
    for _ in range(4):
        variables = step(network, variables, x)
    return variables


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(network, variables, x, train):
    return network.apply(variables, x, train)


@pytest.mark.parametrize(("n", "count"), [(1, 83_892), (2, 181_108), (4, 375_540), (8, 764_404)])
def test_resnets_have_the_published_sizes(n, count):
    assert ResNet((n, n, n)).parameters(jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)) == count


@pytest.mark.parametrize("network", SHAPES, ids=repr)
@pytest.mark.parametrize("train", [False, True])
def test_both_frameworks_compute_the_same_and_move_the_same_statistics(network, train):
    variables, x = trained(network), inputs(network)
    other = dataclasses.replace(network, framework="nnx")
    one, two = run(network, variables, x, train), run(other, variables, x, train)
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, one[1]["params"], variables["params"]))
    if "batch_stats" in variables:
        still = jax.tree.map(np.array_equal, one[1]["batch_stats"], variables["batch_stats"])
        assert all(same != train for same in jax.tree.leaves(still))


@pytest.mark.parametrize(
    ("network", "how"),
    [pytest.param(*growth, marks=[pytest.mark.long] if growth[0] == IMAGE else []) for growth in GROWTHS],
    ids=str,
)
@pytest.mark.parametrize("train", [False, True])
def test_growth_changes_no_prediction(network, how, train):
    variables, x = trained(network), inputs(network)
    larger, grown = network.grow(how, jax.random.key(3), variables)
    assert larger.parameters(x) > network.parameters(x)
    before, after = run(network, variables, x, train)[0], run(larger, grown, x, train)[0]
    assert np.abs(before - after).max() <= 1e-5
    # Once trained on, it is another function: the comparison has teeth.
    assert np.abs(run(larger, step(larger, grown, x), x, train)[0] - before).max() > 1e-3


@pytest.mark.parametrize(("network", "how"), GROWTHS, ids=str)
def test_old_entries_lead_and_the_grown_tree_is_that_of_the_larger_network(network, how):
    variables = trained(network)
    larger, grown = network.grow(how, jax.random.key(3), variables)
    fresh = larger.init(jax.random.key(0), inputs(network))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), grown) == jax.tree.map(lambda a: (a.shape, a.dtype), fresh)
    flat = dict(jax.tree_util.tree_leaves_with_path(grown))
    for path, old in jax.tree_util.tree_leaves_with_path(variables):
        np.testing.assert_array_equal(flat[path][tuple(slice(n) for n in old.shape)], old)


@pytest.mark.parametrize("network", SHAPES, ids=repr)
def test_what_widening_adds_can_learn(network):
    variables, x = trained(network), inputs(network)
    larger, grown = network.grow("widen", jax.random.key(3), variables)
    grads = jax.jit(jax.grad(functools.partial(loss, larger), has_aux=True))(grown["params"], grown, x)[0]
    old = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])}
    checked = 0
    for path, slope in jax.tree_util.tree_leaves_with_path(grads):
        n_in, n_out = (*old[path], 0)[-2:] if slope.ndim == 1 else old[path][-2:]
        if slope.ndim > 1 and slope.shape[-2] > n_in:
            checked += 1
            assert (jnp.abs(slope[..., n_in:, :n_out]).sum(axis=tuple(range(slope.ndim - 1))) > 0).any(), path
    assert checked >= 2


@pytest.mark.parametrize(("how", "blocks", "filters"), [
    ("widen", (2, 1, 1), 32), ("deepen_one", (2, 1, 2), 16), ("deepen_all", (4, 2, 2), 16),
])  # fmt: skip
def test_how_resnets_grow(how, blocks, filters):
    assert ResNet((2, 1, 1)).larger(how) == ResNet(blocks, filters=filters)


def test_how_perceptrons_grow():
    assert MLP((3, 2)).larger("widen") == MLP((6, 4)) and MLP((3, 2)).larger("deepen") == MLP((3, 2, 2))
    assert MLP(()).growths == ()


def test_stages_become_alive_after_deepening():
    variables, x = trained(LINE), inputs(LINE)
    larger, grown = LINE.grow("deepen_one", jax.random.key(3), variables)
    after = step(larger, step(larger, grown, x), x)["params"]["stage0_block1"]
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), after, grown["params"]["stage0_block1"])
    assert all(jax.tree.leaves(moved))


@BOTH
def test_under_vmap_scan_and_grad_without_leaks(framework):
    network = ResNet((1,), filters=3, classes=5, dims=1, framework=framework)
    x = jax.random.normal(jax.random.key(1), (3, 8, 9))
    with jax.checking_leaks():
        stack = jax.vmap(lambda k: network.init(k, x[0]))(jax.random.split(jax.random.key(0), 3))
        body = lambda v, _: (step(network, v, x[0]), None)  # noqa: E731
        walked = jax.jit(jax.vmap(lambda v: jax.lax.scan(body, v, length=2)[0]))(stack)
    single = jax.tree.map(lambda a: a[1], stack)
    for _ in range(2):
        single = step(network, single, x[0])
    for a, b in zip(jax.tree.leaves(walked), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 3, 4])
@pytest.mark.parametrize("sizes", [(7,), (8,), (7, 8)])
def test_windows_are_the_convolution(sizes, window, stride):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, *sizes, 3))
    kernel = jax.random.normal(keys[1], (window,) * len(sizes) + (3, 4))
    one, two = (f(x, kernel, stride) for f in (layers.by_windows, layers.by_xla))
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_fresh_weights_have_the_variance_of_their_initializers():
    params = MLP((400, 300)).init(jax.random.key(0), jnp.zeros((1, 200)))["params"]
    assert float(params["hidden_0"]["kernel"].var()) == pytest.approx(1 / 200, rel=0.03)
    params = ResNet((1,), filters=64, dims=1).init(jax.random.key(0), jnp.zeros((1, 9)))["params"]
    assert float(params["stage0_block0"]["conv1"]["kernel"].var()) == pytest.approx(2 / (3 * 64), rel=0.03)


def test_wrong_options_shapes_and_names_say_what_to_do():
    with pytest.raises(ValueError, match="unknown growth 'wider'; did you mean 'widen'"):
        PERCEPTRON.grow("wider", jax.random.key(0), trained(PERCEPTRON))
    with pytest.raises(ValueError, match=r"dims = 2 reads inputs with 3 or 4 axes .* got shape \(4, 9\)"):
        IMAGE.init(jax.random.key(0), jnp.zeros((4, 9)))
    with pytest.raises(OptionError, match=r"framework: must be 'linen' or 'nnx', got 'haiku'"):
        MLP((3,), framework="haiku")
    for wrong in ({"blocks": (1, 0)}, {"blocks": ()}, {"filters": 0}, {"dims": 3}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            ResNet(**wrong)


def test_networks_are_values():
    assert ResNet((1, 2)) == ResNet.build({"blocks": [1, 2]}) and hash(ResNet((1, 2))) == hash(ResNet((1, 2)))
    assert isinstance(PERCEPTRON, Network)


def test_inputs_without_channels_have_one():
    x = inputs(LINE)
    np.testing.assert_array_equal(*(run(LINE, trained(LINE), a, False)[0] for a in (x, x[..., None])))


def test_flax_is_imported_when_a_network_runs_and_not_before():
    code = (
        "import sys, jax, jax.numpy as jnp, ev3x;"
        "v = ev3x.networks.MLP((3,)).init(jax.random.key(0), jnp.zeros((1, 4))); print('flax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", done.stderr
