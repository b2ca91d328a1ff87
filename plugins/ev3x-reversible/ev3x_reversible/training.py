"""Training as a function that can be differentiated: SGD with momentum, run backwards instead of remembered."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from .checks import (
    array,
    check_schedule,
    check_setting,
    check_trees,
    columns,
    horizon,
    least_numerator,
    number,
    smallest,
)
from .fixed_point import floating, wide
from .tape import Draw, Form, Leaves, Program, Schedule, Tape, Value, flat

Array = jax.Array
PyTree = Any
TrainLoss = Callable[[PyTree, PyTree, Any], Array]
Batches = Callable[[Array], Any]
MetaLoss = Callable[[PyTree], Array]


class Hypergradient(NamedTuple):
    """The gradient of the meta loss by what the run was given, the meta loss f[], and the parameters it belongs to."""

    gradient: Gradient
    meta_loss: Array
    params: PyTree


class Gradient(NamedTuple):
    """Each in the form of the argument of this name; `decays` is None where none were given."""

    params: PyTree
    hypers: PyTree
    rates: PyTree
    momenta: PyTree
    decays: PyTree


def train(
    train_loss: TrainLoss,
    params: PyTree,
    hypers: PyTree,
    rates: PyTree,
    momenta: PyTree,
    *,
    batches: Batches | None = None,
    decays: PyTree = None,
    form: Form = "classical",
    least_momentum: float | None = None,
) -> PyTree:
    """The parameters after T steps of SGD with momentum from velocity 0; `jax.grad` of what contains it runs it back.

    `train_loss(params, hypers, batch)` is one number; the batch is `batches(step)`, step i32[], or without `batches`
    the step itself. Batches are not kept: the run backwards draws them again. What else the loss reads is
    differentiated by as `hypers` are; what `batches` read is not. The loss is differentiated forward over reverse.

    `rates` f[T], and `momenta` and `decays`, f[T] or one number, are what each step uses; instead of one array there
    may be a pytree of them, for parts of the parameters (a prefix of their pytree). Momentum is the rational
    n / 2^16 nearest to what is given. With γ, α, ξ for a step's, and g the gradient of the loss:

        classical (optax.sgd)    v ← γ v + (g + ξ w)              w ← w - α v
        damped (the paper's)     v ← γ v - (1 - γ) (g + ξ w)      w ← w + α v

    `least_momentum` declares the smallest, from which follows how much information is kept: log2(1 / least_momentum)
    bits a step and parameter. None: that of `momenta`, which then must not be traced.

    Where numbers leave the range of the fixed point (|x| < 2^9), are NaN, or momenta are not as declared, the
    parameters are NaN. So is the gradient, also where the run backwards does not end at the start, bit for bit.
    Source: arXiv 1502.03492; equations stand beside the lines, and in docs/reversible.md.
    """
    make = _Run(train_loss, params, hypers, rates, momenta, batches, decays, form, least_momentum)
    return make.end(_differentiable(make.program)(make.leaves, make.others, make.sources, make.schedule))


def hypergradient(
    train_loss: TrainLoss,
    meta_loss: MetaLoss,
    params: PyTree,
    hypers: PyTree,
    rates: PyTree,
    momenta: PyTree,
    *,
    batches: Batches | None = None,
    decays: PyTree = None,
    form: Form = "classical",
    least_momentum: float | None = None,
) -> Hypergradient:
    """The exact hypergradient of `meta_loss(params)`, one number, at the end of `train`; arguments as there."""
    if least_momentum is None:
        least_momentum = smallest(momenta)  # before they are traced

    def meta(params: PyTree, hypers: PyTree, rates: PyTree, momenta: PyTree, decays: PyTree) -> tuple[Array, PyTree]:
        options: dict[str, Any] = {"batches": batches, "decays": decays, "form": form, "least_momentum": least_momentum}
        end = train(train_loss, params, hypers, rates, momenta, **options)
        return number("meta_loss", meta_loss(end)), end

    given = jax.tree.map(array, (params, hypers, rates, momenta, decays))
    (value, end), slopes = jax.value_and_grad(meta, argnums=tuple(range(5)), has_aux=True)(*given)
    return Hypergradient(Gradient(*slopes), value, end)


def record(
    train_loss: TrainLoss,
    params: PyTree,
    hypers: PyTree,
    rates: PyTree,
    momenta: PyTree,
    *,
    batches: Batches | None = None,
    decays: PyTree = None,
    form: Form = "classical",
    least_momentum: float | None = None,
) -> tuple[PyTree, Tape]:
    """The parameters that `train` returns, and the tape of the run, which may be saved."""
    run = _Run(train_loss, params, hypers, rates, momenta, batches, decays, form, least_momentum)
    with wide():
        tape = run.program.forward(run.leaves, run.others, run.sources, run.schedule)
        return run.end(_ends(run.program, tape)), tape


def rewind(
    train_loss: TrainLoss,
    tape: Tape,
    slope: PyTree,
    params: PyTree,
    hypers: PyTree,
    rates: PyTree,
    momenta: PyTree,
    *,
    batches: Batches | None = None,
    decays: PyTree = None,
    form: Form = "classical",
    least_momentum: float | None = None,
) -> tuple[Gradient, Array]:
    """The hypergradient of what has this slope by the end of the tape, and whether the tape leads back to `params`.

    `slope` has the form of the parameters; all but it and the tape is as it was for `record`. Where the tape does not
    lead back, bit for bit, the gradient is NaN.
    """
    run = _Run(train_loss, params, hypers, rates, momenta, batches, decays, form, least_momentum)
    leaves = jax.tree.leaves(jax.tree.map(array, slope))
    for name, x, kind in zip(Tape._fields, tape, ("int64", "int64", "float64", "uint16", "bool"), strict=True):
        if x.dtype != kind:
            raise ValueError(f"rewind: tape.{name} must be {kind}, got {x.dtype}: read it with Tape.load")
    with wide():
        given = (run.leaves, run.others, run.sources, run.schedule)
        slopes, back = _derivatives(run.program, tape, given, leaves, run.hypers)
    return Gradient(*run.unpack((slopes.weights, slopes.others, slopes.schedule))), back


class _Run:
    """What the user gave, checked, as the program and its arguments."""

    def __init__(
        self,
        train_loss: TrainLoss,
        params: PyTree,
        hypers: PyTree,
        rates: PyTree,
        momenta: PyTree,
        batches: Batches | None,
        decays: PyTree,
        form: Form,
        least_momentum: float | None,
    ) -> None:
        check_setting(form)
        # Before they are arrays, which a trace makes of numbers too.
        steps, least = horizon(rates), least_numerator(least_momentum, momenta)
        check_schedule(rates, momenta, decays, least)
        params, hypers, rates, momenta, decays = jax.tree.map(array, (params, hypers, rates, momenta, decays))
        check_trees(params, hypers)

        def pack(params: PyTree, hypers: PyTree, rates: PyTree, momenta: PyTree, decays: PyTree) -> Any:
            given = {"rates": rates, "momenta": momenta} | ({} if decays is None else {"decays": decays})
            made = {n: columns(n, x, params, steps) for n, x in given.items()}
            width = max(x.shape[1] for x in made.values())
            equal = {n: jnp.broadcast_to(x, (steps, width)) for n, x in made.items()}
            schedule = Schedule(equal["rates"], equal["momenta"], equal.get("decays"))
            return jax.tree.leaves(params), jax.tree.leaves(hypers), schedule

        (self.leaves, given, self.schedule), self.unpack = jax.vjp(pack, params, hypers, rates, momenta, decays)
        self._structure = jax.tree.structure(params)
        self.sources, draw, batch = _hoisted_draw(batches)
        consts, value = _hoisted_loss(train_loss, params, hypers, batch)
        self.others, self.hypers = [*given, *consts], tuple(range(len(given)))
        like = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in self.leaves)
        x64 = jnp.result_type(float) == jnp.float64
        self.program = Program(value, draw, like, steps, least, form, x64)

    def end(self, leaves: Leaves) -> PyTree:
        """The parameters."""
        return jax.tree.unflatten(self._structure, leaves)


def _hoisted_draw(batches: Batches | None) -> tuple[list[Array], Draw, Any]:
    """What `batches` close over, the batch as a function of that and the step, and the shapes of a batch.

    What is traced elsewhere may only enter a function with a derivative of its own as an argument.
    """
    draw, batch = jax.make_jaxpr(batches or (lambda step: step), return_shape=True)(jnp.int32(0))
    structure = jax.tree.structure(batch)

    def drawn(sources: Leaves, step: Array) -> Any:
        return jax.tree.unflatten(structure, jaxpr_as_fun(ClosedJaxpr(draw.jaxpr, sources))(step))

    return list(draw.consts), drawn, batch


def _hoisted_loss(train_loss: TrainLoss, params: PyTree, hypers: PyTree, batch: Any) -> tuple[list[Array], Value]:
    """What the loss closes over, and the loss of (leaves, others, batch); others end with what it closes over."""
    of_params, of_hypers = jax.tree.structure(params), jax.tree.structure(hypers)

    def numbered(leaves: Leaves, given: Leaves, batch: Any) -> Array:
        return number(
            "train_loss",
            train_loss(jax.tree.unflatten(of_params, leaves), jax.tree.unflatten(of_hypers, given), batch),
        )

    loss = jax.make_jaxpr(numbered)(jax.tree.leaves(params), jax.tree.leaves(hypers), batch)
    kept = len(loss.consts)

    def value(leaves: Leaves, others: Leaves, batch: Any) -> Array:
        given, consts = others[: len(others) - kept], others[len(others) - kept :]
        (found,) = jaxpr_as_fun(ClosedJaxpr(loss.jaxpr, consts))(*leaves, *given, *jax.tree.leaves(batch))
        return found

    return list(loss.consts), value


def _differentiable(program: Program) -> Any:
    """The ends of a run as a function of (leaves, others, sources, schedule); its derivative is the run backwards."""

    @jax.custom_vjp
    def run(leaves: Leaves, others: Leaves, sources: Leaves, schedule: Schedule) -> Leaves:
        with wide():
            return _ends(program, program.forward(leaves, others, sources, schedule))

    def forward(*asked: Any) -> tuple[Leaves, Any]:
        if any(x.perturbed for x in asked[2]):
            raise ValueError("batches read what the gradient is by: read it in train_loss, and draw only its indices")
        given = jax.tree.map(lambda x: x.value, asked)
        wanted = _Wanted(tuple(i for i, x in enumerate(asked[1]) if x.perturbed))
        with wide():
            tape = program.forward(*given)
            return _ends(program, tape), (tape, given, wanted)

    def backward(kept: Any, slope: Any) -> tuple[Leaves, list[Array | None], None, Schedule]:
        tape, given, wanted = kept
        with wide():
            pairs = zip(slope, given[0], strict=True)
            slope = [jnp.zeros_like(w) if isinstance(x, SymbolicZero) else x for x, w in pairs]
            found, _ = _derivatives(program, tape, given, slope, wanted.which)
        by_other: list[Array | None] = [None] * len(given[1])
        for i, x in zip(wanted.which, found.others, strict=True):
            by_other[i] = x
        return found.weights, by_other, None, found.schedule

    run.defvjp(forward, backward, symbolic_zeros=True)
    return run


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Wanted:
    """By which of the things that a loss reads there is a derivative to find."""

    which: tuple[int, ...]


class _Found(NamedTuple):
    weights: Leaves
    others: Leaves
    schedule: Schedule


def _ends(program: Program, tape: Tape) -> Leaves:
    """The parameters at the end, in their dtypes: NaN unless the run was sound."""
    return [jnp.where(tape.sound, x, jnp.nan) for x in program.leaves(floating(tape.weights))]


def _derivatives(
    program: Program,
    tape: Tape,
    given: tuple[Leaves, Leaves, Leaves, Schedule],
    slope: Leaves,
    wanted: tuple[int, ...],
) -> tuple[_Found, Array]:
    """The derivatives in the dtypes of what they are by, NaN unless the run led back to its start, and whether it did.

    The gradients of the run backwards come from another program, and must have had the same bits.
    """
    leaves, others, sources, schedule = given
    rebuilt, slopes = program.backward(tape, others, sources, schedule, flat(slope), wanted)
    start = program.start(leaves)
    same = [(x == y).all() for x, y in zip(rebuilt, start, strict=True)]
    back = jnp.stack([tape.sound, *same]).all()

    def told(x: Array, like: Array) -> Array:
        return jnp.where(back, x, jnp.nan).astype(like.dtype)

    weights = [x.astype(jnp.float64) for x in program.leaves(slopes.weights)]
    found = (weights, slopes.others, slopes.schedule)
    return _Found(*jax.tree.map(told, found, (leaves, [others[i] for i in wanted], schedule))), back
