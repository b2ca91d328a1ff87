"""Hypergradients: against the definition that they differentiate, against theory, and what they take in memory."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_evograd import evograd, one_step
from evograd_problems import close, hypers, meta_loss, network, plain, same, train_loss

KEY = jax.random.key(8)


@functools.partial(jax.jit, static_argnums=0)
def all_forms(options, params, hypers, key):
    """EvoGrad with kept noise, with noise made again, and by differentiating its definition."""
    given, options = (train_loss, meta_loss, params, hypers, key), dict(options)
    kept, again = (tuple(evograd(*given, **options, regenerate=r)) for r in (False, True))
    return kept, again, plain(*given, **options)


# Each takes seconds to compile.
@pytest.mark.parametrize(
    ("noise", "antithetic", "copies"),
    [("sign", False, 5), ("gaussian", True, 4)],
)
def test_evograd_is_the_gradient_of_its_definition(noise, antithetic, copies):
    options = dict(noise=noise, antithetic=antithetic, copies=copies, sigma=0.3, tau=1.0)
    kept, again, expected = all_forms(tuple(options.items()), network(), hypers(), KEY)
    close(kept, expected, 2e-5)
    close(again, expected, 2e-5)
    assert abs(expected[0]["rate"]) > 1e-3


def test_evograd_is_the_gradient_of_its_definition_in_64_bits(ev3x_x64):
    options = dict(noise="sign", antithetic=True, copies=2, sigma=0.1, tau=0.5)
    given = network(dtype=jnp.float64), hypers(dtype=jnp.float64)
    kept, again, expected = all_forms(tuple(options.items()), *given, KEY)
    assert kept[1].dtype == again[1].dtype == jnp.float64
    close(kept, expected, 1e-10)
    close(again, expected, 1e-10)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float64])
def test_losses_of_any_floating_point_type_are_accepted_with_strict_types(ev3x_x64, dtype):
    found = evograd(
        lambda p, h: (h * p**2).astype(dtype), lambda p: (p**3).astype(dtype), jnp.float32(1), jnp.float32(1), KEY
    )
    assert np.isfinite(found.gradient)


SHAPES = ((1, 1), (2, 33))


@functools.cache
def compiled(shape):
    """Both forms for one shape, in 64 bits; sigma and tau are arguments."""

    def both(params, hypers, key, sigma, tau):
        options = dict(copies=3, sigma=sigma, tau=tau, noise="gaussian", antithetic=False)
        given = (train_loss, meta_loss, params, hypers, key)
        return tuple(evograd(*given, **options)), plain(*given, **options)

    return jax.jit(both)


@pytest.mark.long
@hypothesis.given(
    shape=st.sampled_from(SHAPES), sigma=st.floats(1e-3, 1), tau=st.floats(0.02, 2), seed=st.integers(0, 2**31 - 1)
)
@hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_evograd_is_the_gradient_of_its_definition_for_any_size_of_noise(ev3x_x64, shape, sigma, tau, seed):
    params = network(shape, jnp.float64, seed=seed % 5)
    got, expected = compiled(shape)(
        params, hypers(shape, jnp.float64), jax.random.key(seed), jnp.float64(sigma), jnp.float64(tau)
    )
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-10)
    for x, y in zip(jax.tree.leaves(got[0]), jax.tree.leaves(expected[0]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-11)


def test_one_step_is_the_gradient_through_a_gradient_step():
    params = {n: x for n, x in network().items() if n != "count"}

    def after(hypers):
        step = jax.grad(train_loss)(params, hypers)
        return meta_loss(jax.tree.map(lambda p, g: p - 0.2 * g, params, step))

    value, gradient = jax.jit(jax.value_and_grad(after))(hypers())
    got = jax.jit(lambda h: one_step(train_loss, meta_loss, params, h, learning_rate=0.2))(hypers())
    close(tuple(got), (gradient, value), 1e-5)


# --- the one-dimensional illustration: its limit for many copies is known


def line_trial(key, hyper, copies):
    """One hypergradient at a random x, and x."""
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key)
    found = evograd(
        lambda x, h: (x - 1) ** 2 + h * x**2,
        lambda x: (x - 0.5) ** 2,
        x,
        hyper,
        noise_key,
        copies=copies,
        sigma=1.0,
        tau=0.5,
        noise="gaussian",
    )
    return found.gradient, x


@pytest.mark.parametrize("hyper", [0.1, 0.5, 1.0, 2.0])
def test_on_the_line_many_copies_reach_the_known_limit(hyper):
    gradients, _ = _line(jax.random.split(jax.random.key(1), 2000), jnp.float32(hyper), 1000)
    expected = (64 * hyper - 56) / (5 + 4 * hyper) ** 3
    error = gradients.std() / np.sqrt(gradients.size)
    assert abs(gradients.mean() - expected) < 3 * error


def test_on_the_line_the_bias_falls_with_the_number_of_copies():
    hyper, found = 1.0, {}
    for copies in (10, 100):
        gradients, x = _line(jax.random.split(jax.random.key(2), 20_000), jnp.float32(hyper), copies)
        t = (x + 4) / (5 + 4 * hyper)
        apart = gradients - 2 * (t - 0.5) * (-4 * t / (5 + 4 * hyper))  # the spread over x cancels
        found[copies] = abs(float(apart.mean())), float(apart.std() / np.sqrt(x.size))
    (few, few_error), (many, many_error) = found[10], found[100]
    assert few > 2 * many + 4 * (few_error + 2 * many_error)


_line = jax.jit(lambda keys, hyper, copies: jax.vmap(lambda k: line_trial(k, hyper, copies))(keys), static_argnums=2)


def test_raw_keys_are_accepted():
    found = [
        evograd(lambda p, h: h * p**2, lambda p: p**3, jnp.float32(1), jnp.float32(1), key, copies=6)
        for key in (jax.random.PRNGKey(3), jax.random.key(3))
    ]
    assert same(*found)
    assert abs(found[0].gradient) > 1e-6


# --- errors


def quadratic(params, hypers):
    return hypers["rate"] * params["w"] @ params["w"]


def size(params):
    return params["w"].sum()


GOOD = dict(
    train_loss=quadratic, meta_loss=size, params={"w": jnp.ones(2)}, hypers={"rate": jnp.float32(1)}, key=KEY, copies=2
)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"copies": 1}, r"evograd: copies must be at least 2, got 1"),
        ({"copies": 3, "antithetic": True}, r"antithetic noise comes in pairs, so copies must be even, got 3"),
        ({"params": {"w": jnp.ones(2, jnp.bfloat16)}}, r"params\['w'\] are bfloat16, too coarse for small steps"),
        ({"params": {"w": jnp.ones(2, jnp.float16)}}, r"params\['w'\] are float16.*keep float32 parameters"),
        ({"params": {"w": jnp.ones(2, jnp.int32)}}, r"params hold no floating point numbers: there is nothing"),
        ({"params": {"w": jnp.ones(0)}}, r"params hold no floating point numbers: there is nothing"),
        ({"hypers": {"rate": jnp.int32(1)}}, r"hypers\['rate'\] must be floating point, got int32"),
        ({"hypers": {"rate": 1}}, r"hypers\['rate'\] must be floating point, got int32"),
        ({"hypers": {}}, r"hypers hold nothing: there is nothing to differentiate by"),
        (
            {"train_loss": lambda p, h: h["rate"] * p["w"]},
            r"train_loss must return one floating point number, got float32\[2\]",
        ),
        ({"meta_loss": lambda p: p["w"]}, r"meta_loss must return one floating point number, got float32\[2\]"),
        (
            {"train_loss": lambda p, h: jnp.int32(1)},
            r"train_loss must return one floating point number, got int32\[\]",
        ),
    ],
)
@pytest.mark.parametrize("regenerate", [False, True])
def test_what_evograd_cannot_use_is_refused(changes, text, regenerate):
    with pytest.raises(ValueError, match=text):
        evograd(**{**GOOD, "regenerate": regenerate, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"params": {"w": jnp.ones(2, jnp.bfloat16)}}, r"params\['w'\] are bfloat16, too coarse"),
        ({"params": {"w": jnp.ones(2, jnp.int32)}}, r"params hold no floating point numbers"),
        ({"hypers": {"rate": jnp.int32(1)}}, r"hypers\['rate'\] must be floating point, got int32"),
        ({"hypers": {}}, r"hypers hold nothing"),
        ({"params": {"w": jnp.ones(2), "n": jnp.ones(2, jnp.int32)}}, r"params\['n'\] are int32: no gradient step"),
        ({"train_loss": lambda p, h: h["rate"] * p["w"]}, r"train_loss must return one floating point number"),
        ({"meta_loss": lambda p: p["w"]}, r"meta_loss must return one floating point number, got float32\[2\]"),
    ],
)
def test_what_one_step_cannot_use_is_refused(changes, text):
    given = {n: v for n, v in GOOD.items() if n not in ("key", "copies")}
    with pytest.raises(ValueError, match=text):
        one_step(**{**given, **changes}, learning_rate=0.1)


# --- memory: what the compiler sets aside is the same each time


def temporary(kind, width, batch, depth=20):
    """Bytes that the compiled hypergradient of a deep network needs besides arguments and results."""

    def predict(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return x

    def train(params, hyper, x):
        return ((predict(params, hyper * x) - x) ** 2).mean()

    def meta(params, x):
        return ((predict(params, x) - 1) ** 2).mean()

    def found(params, hyper, x, x_meta, key):
        losses = (lambda p, h: train(p, h, x), lambda p: meta(p, x_meta))
        if kind == "one_step":
            return one_step(*losses, params, hyper, learning_rate=0.1)
        return evograd(*losses, params, hyper, key, regenerate=True)

    shapes = ([jnp.zeros((width, width))] * depth, jnp.float32(1), *[jnp.zeros((batch, width))] * 2, KEY)
    return jax.jit(found).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.long
def test_with_few_activations_made_again_noise_takes_less_memory_than_the_exact_step():
    assert temporary("evograd", 512, 64) < temporary("one_step", 512, 64)


@pytest.mark.long
def test_with_many_activations_evograd_takes_at_most_half_of_the_memory_of_the_exact_step():
    assert temporary("evograd", 256, 1024) <= temporary("one_step", 256, 1024) / 2
