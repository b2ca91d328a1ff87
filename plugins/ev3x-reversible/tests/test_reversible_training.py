"""Runs lead back bit for bit, hypergradients are exact, and whatever goes wrong is told."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev3x_reversible import Tape, hypergradient, record, rewind, train
from ev3x_reversible.fixed_point import wide
from reversible_problems import (
    drawn,
    error,
    hypers,
    meta_loss,
    params,
    plain,
    rational,
    schedules,
    train_loss,
)

HORIZON = 120
MOMENTA = (0.5, 0.9, 0.98)
pytestmark = pytest.mark.filterwarnings("error")


def found(horizon, momentum, dtype, form):
    """The hypergradient by all there is."""
    rates, momenta, decays = schedules(horizon, momentum, dtype)

    @jax.jit
    def run(params, hypers, rates, momenta, decays):
        options = {"batches": drawn, "decays": decays, "form": form, "least_momentum": momentum}
        return hypergradient(train_loss, meta_loss, params, hypers, rates, momenta, **options)

    return run(params(dtype), hypers(dtype), rates, momenta, decays)


def expected(horizon, momentum, dtype, form):
    """The same by differentiating the run in floating point, in float64; of momenta that are really used."""
    arrays = (params(dtype), hypers(dtype), *schedules(horizon, momentum, dtype))
    p, h, rates, _, decays = jax.tree.map(lambda x: x.astype(jnp.float64), arrays)
    momenta = jnp.full(horizon, rational(momentum), jnp.float64)

    @jax.jit
    @functools.partial(jax.grad, argnums=tuple(range(5)))
    def slopes(*args):
        return meta_loss(plain(*args, form=form))

    return slopes(p, h, rates, momenta, decays)


@pytest.mark.parametrize(
    ("dtype", "momentum", "form", "bound"),
    [
        (jnp.float32, 0.9, "classical", 2e-5),
        pytest.param(jnp.float32, 0.5, "damped", 2e-5, marks=pytest.mark.long),
        pytest.param(jnp.float64, 0.98, "classical", 1e-6, marks=pytest.mark.long),
        (jnp.float64, 0.9, "damped", 1e-6),
    ],
)
@pytest.mark.loose_types("a run in float64 mixes its types with those of drawn indices")
def test_hypergradients_are_those_of_automatic_differentiation(ev3x_x64, dtype, momentum, form, bound):
    """Of each kind, and apart: of the initial weights, penalties, training inputs, rates, momenta, and decays."""
    got = found(HORIZON, momentum, dtype, form).gradient
    for kind, x, y in zip(got._fields, got, expected(HORIZON, momentum, dtype, form), strict=True):
        for name in x if kind == "hypers" else [None]:
            wrong = error(x[name], y[name]) if name else error(x, y)
            assert wrong <= bound, (kind, name, wrong)


@pytest.mark.bits
@pytest.mark.parametrize("momentum", [pytest.param(m, marks=[pytest.mark.long] * (m != 0.9)) for m in MOMENTA])
def test_a_run_that_was_saved_leads_back_bit_for_bit(momentum, tmp_path):
    rates, momenta, _ = schedules(HORIZON, momentum)
    given = (params(), hypers(), rates, momenta)
    options = {"batches": drawn, "least_momentum": momentum}
    end, tape = jax.jit(functools.partial(record, train_loss, **options))(*given)
    tape.save(tmp_path / "tape.npz")
    again = Tape.load(tmp_path / "tape.npz")
    assert [x.dtype.name for x in again] == ["int64", "int64", "float64", "uint16", "bool"]
    _, back = jax.jit(functools.partial(rewind, train_loss, **options))(again, end, *given)
    assert back
    bits, exact = np.asarray(again.bits()), HORIZON * math.log2(1 / rational(momentum))
    assert abs(bits.mean() - exact) < 2
    assert 16 * again.words.shape[0] + 64 <= exact + 64


def test_the_end_is_that_of_a_plain_run():
    rates, _, decays = schedules(HORIZON, 0.9)
    given = (params(), hypers(), rates, jnp.full(HORIZON, rational(0.9)))
    end = train(train_loss, *given, batches=drawn, decays=decays, form="damped")
    assert error(end, plain(*given, decays, form="damped")) < 1e-5
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(end))


# --- in a program of the user's


def short(p, h, rates, momenta, **options):
    return meta_loss(train(train_loss, p, h, rates, momenta, **{"batches": drawn, "least_momentum": 0.9} | options))


@pytest.fixture(scope="module")
def small():
    """Arguments of a short run, and its hypergradient by rates."""
    rates, momenta, _ = schedules(6, 0.9)
    args = (params(), hypers(), rates, momenta)
    return args, jax.grad(short, argnums=2)(*args)


@pytest.fixture(scope="module")
def directions(small):
    """The end and the tape of the short run, and a compiled way back, of (tape, slope)."""
    args, _ = small
    end, tape = record(train_loss, *args, batches=drawn)
    return end, tape, jax.jit(lambda tape, slope: rewind(train_loss, tape, slope, *args, batches=drawn))


def test_both_directions_are_what_the_gradient_is_made_of(small, directions):
    _, slope = small
    end, tape, back = directions
    gradient, leads_back = back(tape, jax.grad(meta_loss)(end))
    assert leads_back
    np.testing.assert_allclose(gradient.rates, slope, rtol=1e-5)


def test_the_gradient_of_a_compiled_function_is_the_compiled_gradient(small):
    args, slope = small
    for of in (jax.jit(jax.grad(short, argnums=2)), jax.grad(jax.jit(short), argnums=2)):
        np.testing.assert_allclose(of(*args), slope, rtol=1e-5)


def test_what_the_loss_closes_over_has_a_gradient_too(small):
    (p, h, rates, momenta), _ = small
    given = {"batches": drawn, "least_momentum": 0.9}

    def by_closure(x):
        return meta_loss(train(lambda p, h, b: train_loss(p, {**h, "x": x}, b), p, h, rates, momenta, **given))

    @jax.jit
    def both(p, h):
        return jax.grad(by_closure)(h["x"]), jax.grad(short, argnums=1)(p, h, rates, momenta)["x"]

    np.testing.assert_allclose(*both(p, h), rtol=1e-5, atol=1e-7)


def test_runs_side_by_side_are_single_runs(small):
    (p, h, rates, momenta), slope = small
    both = jax.vmap(jax.grad(short, argnums=2), (None, None, 0, None))(p, h, jnp.stack([rates, rates]), momenta)
    np.testing.assert_allclose(both, jnp.stack([slope, slope]), rtol=1e-4)


def test_parts_of_the_parameters_may_have_schedules_of_their_own_and_one_number_stands_for_one(small):
    (p, h, rates, momenta), _ = small
    parts = jax.grad(short, argnums=(2, 3))(p, h, {"v": rates, "w": rates}, {"v": 0.9, "w": momenta}, form="damped")
    alone = jax.grad(short, argnums=(2, 3))(p, h, rates, momenta, form="damped")
    np.testing.assert_allclose(parts[0]["v"] + parts[0]["w"], alone[0], rtol=1e-4)
    np.testing.assert_allclose(parts[1]["v"] + parts[1]["w"].sum(), alone[1].sum(), rtol=1e-4)
    assert not np.allclose(parts[0]["v"], parts[0]["w"])


def test_keys_may_be_part_of_batches_and_of_what_the_loss_reads(small):
    (p, h, rates, _), _ = small

    @jax.jit
    def noisy(rates, key):
        def loss(p, h, batch):
            rows, noise = batch
            return train_loss(p, h, rows) + 0.1 * (jax.random.normal(noise) + jax.random.normal(key)) * p["v"].sum()

        def batches(step):
            return drawn(step), jax.random.fold_in(key, step)

        return jax.grad(lambda rates: meta_loss(train(loss, p, h, rates, 0.9, batches=batches)))(rates)

    assert jnp.isfinite(noisy(rates, jax.random.key(5))).all()


def test_the_loss_sees_the_setting_of_the_user(small):
    args, _ = small
    seen = []

    def loss(p, h, rows):
        seen.append(jnp.asarray(1.0).dtype)
        return train_loss(p, h, rows)

    end = train(loss, *args, batches=drawn)
    assert set(seen) == {jnp.dtype("float32")} and jnp.result_type(float) == jnp.float32
    assert end["w"].dtype == jnp.float32


# --- what goes wrong is told


@pytest.fixture(scope="module")
def program():
    """One compiled hypergradient for all that is traced."""

    def run(p, h, rates, momenta, decays):
        return short(p, h, rates, momenta, decays=decays)

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2, 3, 4)))


@pytest.mark.parametrize(
    "change",
    [
        {"rates": jnp.full(6, 1e4)},  # leaves the range
        {"params": jax.tree.map(lambda x: x.at[0].set(jnp.nan), params())},
        {"params": jax.tree.map(lambda x: x.at[0].set(1e9), params())},
        {"momenta": jnp.full(6, 0.8)},  # below what was declared
        {"momenta": jnp.full(6, 1.0)},
        {"rates": jnp.full(6, jnp.nan)},
        {"hypers": jax.tree.map(lambda x: x * jnp.nan, hypers())},
        {"decays": jnp.full(6, 1e30)},
    ],
)
def test_a_run_that_fails_is_not_a_number(small, program, change):
    given = dict(zip(("params", "hypers", "rates", "momenta"), small[0], strict=True)) | {"decays": jnp.zeros(6)}
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(program(*given.values())))
    assert all(jnp.isnan(x).all() for x in jax.tree.leaves(program(*(given | change).values())))


@pytest.mark.parametrize("field", ["weights", "velocity", "head"])
def test_a_tape_that_does_not_lead_back_gives_no_gradient(directions, field):
    end, tape, back = directions
    bad = np.asarray(getattr(tape, field)).copy()
    bad[3] += 1
    with wide():
        tape = tape._replace(**{field: jnp.asarray(bad)})
    gradient, leads_back = back(tape, end)
    assert not leads_back and all(jnp.isnan(x).all() for x in jax.tree.leaves(gradient))


def test_a_tape_of_32_bits_is_refused(directions):
    end, tape, back = directions
    with pytest.raises(ValueError, match=r"rewind: tape.weights must be int64, got int32: read it with Tape.load"):
        back(Tape(*(np.asarray(x) for x in tape)), end)  # compiled functions take 64 bits of numpy for 32


GOOD = {"params": params(), "hypers": hypers(), "rates": jnp.full(4, 0.1), "momenta": 0.9, "batches": drawn}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rates": jnp.zeros(0)}, r"rates must hold at least one step, got horizon 0"),
        ({"rates": 0.1}, r"rates must hold one number for each step, f\[T\], got shapes \[\[\]\]"),
        ({"rates": jnp.array([0.1, jnp.inf])}, r"rates must be numbers in \(-512, 512\)"),
        ({"decays": 1e4}, r"decays must be numbers in"),
        ({"momenta": jnp.full(3, 0.9)}, r"momenta must be one floating point number or 4, got float32\[3\]"),
        ({"momenta": 0.0}, r"least_momentum must lie above 0 .*: got 0, n = 0 \(0 forgets everything\)"),
        ({"momenta": 1.0}, r"least_momentum .* n = 65536 \(a momentum of 1 forgets nothing and never ends\)"),
        ({"momenta": 0.999999}, r"got 0.999999, n = 65536"),
        ({"momenta": 1e-6}, r"got 1e-06, n = 0"),
        ({"momenta": 1.0, "least_momentum": 0.5}, r"momenta must lie above 0 and below 1, .* n = 65536"),
        ({"momenta": 0.4, "least_momentum": 0.5}, r"momenta: 0.4 is below least_momentum, 0.5"),
        ({"momenta": {"v": 0.9}}, r"momenta must be an array, or a pytree that params begin with"),
        ({"form": "nesterov"}, r"form must be 'classical' or 'damped', got 'nesterov'"),
        ({"params": {"v": jnp.ones(2, jnp.bfloat16)}}, r"params\['v'\] must be float32 or float64, got bfloat16"),
        ({"params": {"v": jnp.full(2, 1e4)}}, r"params\['v'\] must lie in \(-512, 512\)"),
        ({"params": {}}, r"params hold no numbers"),
        ({"hypers": {"x": jnp.arange(3)}}, r"hypers\['x'\] must be floating point, got int32"),
    ],
)
def test_bad_input_is_refused_by_name(change, text):
    given = {**GOOD, **change}
    with pytest.raises(ValueError, match=text):
        train(train_loss, given.pop("params"), given.pop("hypers"), given.pop("rates"), given.pop("momenta"), **given)


def test_momenta_that_are_traced_need_a_declaration():
    with pytest.raises(ValueError, match=r"momenta are traced: declare least_momentum"):
        jax.jit(lambda m: train(train_loss, params(), hypers(), jnp.full(4, 0.1), m, batches=drawn))(0.9)


def test_batches_that_read_what_is_differentiated_by_are_refused():
    def by(x):
        def batches(step):
            return x[drawn(step)]

        def loss(p, h, rows):
            return (rows @ p["w"]).mean()

        return train(loss, params(), {}, jnp.full(4, 0.1), 0.9, batches=batches)["w"].sum()

    with pytest.raises(ValueError, match=r"batches read what the gradient is by: read it in train_loss"):
        jax.grad(by)(hypers()["x"])


@pytest.mark.parametrize(("loss", "got"), [(lambda p, h, b: p["v"], r"float32\[6\]"), (lambda *_: 1, r"int32\[\]")])
def test_a_loss_that_is_not_one_number_is_refused(loss, got):
    with pytest.raises(ValueError, match=rf"train_loss must return one floating point number, got {got}"):
        train(loss, params(), {}, jnp.full(4, 0.1), 0.9)


def test_without_a_local_switch_64_bit_types_must_be_on(monkeypatch):
    monkeypatch.setattr("ev3x_reversible.checks.x64_missing", lambda: True)
    with pytest.raises(ValueError, match=r"jax_enable_x64 is off, .* or use JAX 0.8 or newer"):
        train(train_loss, params(), hypers(), jnp.full(4, 0.1), 0.9, batches=drawn)


# --- the figures of the issue


@pytest.mark.long
@pytest.mark.bits
@pytest.mark.parametrize("momentum", MOMENTA)
def test_information_is_that_of_the_declared_momentum(momentum):
    horizon = 1000
    rates, momenta, _ = schedules(horizon, momentum)
    run = functools.partial(record, train_loss, batches=drawn, least_momentum=momentum)
    _, tape = jax.jit(run)(params(), hypers(), rates, momenta)
    exact = horizon * math.log2(1 / rational(momentum))
    assert abs(float(np.mean(np.asarray(tape.bits()))) / exact - 1) <= 0.03
    assert 16 * tape.words.shape[0] + 64 <= exact + 64


@pytest.mark.long
@pytest.mark.loose_types("a run in float64 mixes its types with those of drawn indices")
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 2e-5), (jnp.float64, 1e-6)])
def test_hypergradients_of_a_thousand_steps_are_exact(ev3x_x64, dtype, bound):
    got = found(1000, 0.9, dtype, "classical").gradient
    for x, y in zip(got, expected(1000, 0.9, dtype, "classical"), strict=True):
        assert error(x, y) <= bound


@pytest.mark.long
def test_ten_thousand_steps_need_two_hundred_times_less_memory_than_copies():
    sizes = {"w": (64, 32), "b": (32,), "v": (32, 10), "c": (10,)}
    start = {name: jnp.zeros(shape) for name, shape in sizes.items()}
    x = jnp.zeros((1000, 64))

    def outputs(p, x):
        return jnp.tanh(x @ p["w"] + p["b"][None]) @ p["v"] + p["c"][None]

    def run(p, rates, momenta, x):  # an argument: a constant would be copied, whatever the horizon
        def loss(p, h, examples):
            return (outputs(p, examples) ** 2).mean()

        def batches(step):
            return x[jax.random.randint(jax.random.fold_in(jax.random.key(0), step), (32,), 0, 1000)]

        def meta(p):
            return (outputs(p, x[:300]) ** 2).mean()

        return hypergradient(loss, meta, p, {}, rates, momenta, batches=batches, least_momentum=0.9)

    horizon = 10_000
    program = jax.jit(run).lower(start, jnp.zeros(horizon), jnp.full(horizon, 0.9), x).compile()
    copies = 2 * 4 * horizon * sum(x.size for x in start.values())
    assert 200 * program.memory_analysis().temp_size_in_bytes <= copies
