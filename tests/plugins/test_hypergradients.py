"""Every hypergradient of the official plugins on one loss, in one convention: they agree where they mean the same.

Three programs with nothing in common: FDS carries tangents forward, ev3x-reversible runs backwards in fixed point, and
JAX differentiates the unrolled loop. The plugins must be installed: CI does that before the long tests.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.long

HORIZON, WINDOWS = 15, 3
DENOMINATOR = 2**16
# Momenta as reversible learning uses them, rationals n / d: all three then differentiate the same function.
MOMENTA = np.round(np.array([0.9, 0.6, 0.8]) * DENOMINATOR) / DENOMINATOR
RATES, DECAYS = np.array([0.1, 0.3, 0.2]), np.array([0.02, 0.0, 0.01])
BATCHES = np.random.default_rng(0).normal(size=(HORIZON + 1, 8, 4))


def start():
    """The weights of a perceptron with one hidden layer."""
    a, b = jax.random.split(jax.random.key(3))
    return {"w": jax.random.normal(a, (3, 4), jnp.float64), "v": 0.5 * jax.random.normal(b, (4,), jnp.float64)}


def loss(params, index):
    """The mean squared error on a batch."""
    batch = jnp.asarray(BATCHES)[index]
    return ((jnp.tanh(batch[:, :3] @ params["w"]) @ params["v"] - batch[:, 3]) ** 2).mean()


def decayed(params, decay, index):
    """The same, with the decay as a term."""
    return loss(params, index) + 0.5 * decay * sum((x**2).sum() for x in params.values())


def unrolled(rates, momenta, decays):
    """The meta loss after SGD in the classical form, without any scan: v' = μ v + g + ξ w, w' = w - α v'."""
    params = start()
    velocity = jax.tree.map(jnp.zeros_like, params)
    for t in range(len(rates)):
        slope = jax.grad(loss)(params, t)
        velocity = {n: momenta[t] * velocity[n] + slope[n] + decays[t] * params[n] for n in params}
        params = {n: params[n] - rates[t] * velocity[n] for n in params}
    return loss(params, -1)


def by_window(gradient):
    """The gradients of all steps as those of the windows that they lie in."""
    return np.asarray(gradient).reshape(WINDOWS, -1).sum(1)


def close(got, expected):
    """Asserts that each kind agrees to 1e-6 of its norm: one kind may hide the others."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape and np.linalg.norm(expected) > 1e-4
    assert np.linalg.norm(got - expected) <= 1e-6 * np.linalg.norm(expected)


def test_forward_backward_and_automatic_differentiation_agree(ev3x_x64):
    import ev3x_fds
    import ev3x_reversible

    steps = [jnp.asarray(np.repeat(x, HORIZON // WINDOWS)) for x in (RATES, MOMENTA, DECAYS)]
    value, expected = jax.jit(jax.value_and_grad(unrolled, argnums=(0, 1, 2)))(*steps)
    schedules = dict(
        zip(("learning_rate", "momentum", "weight_decay"), map(jnp.asarray, (RATES, MOMENTA, DECAYS)), strict=True)
    )
    forward = ev3x_fds.hypergradient(loss, lambda p: loss(p, -1), start(), schedules, horizon=HORIZON, chunk=4)
    backward = ev3x_reversible.hypergradient(
        lambda params, hypers, t: loss(params, t),
        lambda params: loss(params, -1),
        start(),
        (),
        steps[0],
        steps[1],
        decays=steps[2],
    )
    assert forward.finite
    np.testing.assert_allclose([forward.value, backward.meta_loss], value, rtol=1e-9)
    found = backward.gradient
    for name, each, own in zip(schedules, (found.rates, found.momenta, found.decays), expected, strict=True):
        close(each, own)
        close(forward.gradient[name], by_window(own))


def test_a_window_a_step_is_the_gradient_of_every_step(ev3x_x64):
    import ev3x_fds

    steps = [jnp.asarray(np.repeat(x, 2)) for x in (RATES, MOMENTA, DECAYS)]
    expected = jax.grad(unrolled, argnums=(0, 1, 2))(*steps)
    schedules = dict(zip(("learning_rate", "momentum", "weight_decay"), steps, strict=True))
    found = ev3x_fds.hypergradient(loss, lambda p: loss(p, -1), start(), schedules, horizon=6)
    for name, own in zip(schedules, expected, strict=True):
        # In the first step no momentum and in the last no decay of later steps is at work.
        close(found.gradient[name], own)


def test_after_one_step_all_four_agree(ev3x_x64):
    """The decay is the hyperparameter: an option of the optimizer, or a term of the loss."""
    import ev3x_evograd
    import ev3x_fds
    import ev3x_reversible

    rate, decay = 0.2, jnp.float64(0.03)
    meta = lambda params: loss(params, -1)  # noqa: E731
    one = ev3x_evograd.one_step(lambda p, h: decayed(p, h, 0), meta, start(), decay, learning_rate=rate)
    schedules = {"learning_rate": jnp.array([rate]), "weight_decay": decay[None]}
    forward = ev3x_fds.hypergradient(loss, meta, start(), schedules, horizon=1)
    rates, momentum = jnp.array([rate]), jnp.array([0.5])
    backward = ev3x_reversible.hypergradient(decayed, meta, start(), decay, rates, momentum)
    apart = ev3x_reversible.hypergradient(
        lambda p, h, t: loss(p, t), meta, start(), (), rates, momentum, decays=decay[None]
    )
    expected = jax.grad(unrolled, argnums=2)(rates, momentum, decay[None])
    own = [one.gradient, forward.gradient["weight_decay"], backward.gradient.hypers, apart.gradient.decays]
    for gradient in own:
        close(jnp.reshape(gradient, (1,)), expected)


@pytest.mark.parametrize("hyper", [0.1, 0.5, 2.0])
def test_the_mean_of_evograd_has_the_sign_of_the_exact_hypergradient(hyper):
    """On the paper's line: f_T = (x - 1)² + λ x², f_V = (x - 1/2)², whose minimum moves with λ as 1 / (1 + λ)."""
    import ev3x_evograd

    def one(key):
        at, noise = jax.random.split(key)
        return ev3x_evograd.evograd(
            lambda x, h: (x - 1) ** 2 + h * x**2,
            lambda x: (x - 0.5) ** 2,
            jax.random.normal(at),
            jnp.float32(hyper),
            noise,
            copies=100,
            sigma=1.0,
            tau=0.5,
            noise="gaussian",
        ).gradient

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 1000))
    exact = jax.grad(lambda h: (1 / (1 + h) - 0.5) ** 2)(hyper)
    error = found.std() / np.sqrt(found.size)
    assert np.sign(found.mean()) == np.sign(exact) and abs(found.mean()) > 3 * error
