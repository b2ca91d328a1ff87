"""Native code on the CPU, the jnp definition elsewhere: what the operations' lowerings have in common."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from . import native

T = TypeVar("T")
_FACTORS = inspect.signature(custom_partitioning.def_partition).parameters


@dataclasses.dataclass(frozen=True)
class Spread:
    """How an operation may be split over devices: the last axes of its arrays, a letter each.

    Leading axes are shared by all arrays and may be split. So may the first operand's axes, but for those in
    `whole`, along which it is gathered. `across(axes, *operands)` stands in for the operation where axes in `joined`
    are split: it is run on each device's part, with the mesh axes of each such letter, over which to combine.
    `targets` are those that only it calls.
    """

    operands: tuple[str, ...]
    results: tuple[str, ...]
    whole: str = ""
    joined: str = ""
    across: Callable[..., Any] | None = None
    targets: tuple[str, ...] = ()

    def axes(self, mesh: Any, spec: Sequence[Any], shape: tuple[int, ...]) -> Callable[[str], PartitionSpec]:
        """How arrays with these letters lie on the mesh, given the first operand's sharding and shape."""
        # Parts of unequal size would be padded.
        filled = [*spec, *[None] * (len(shape) - len(spec))]
        given = [a if n % _devices(mesh, a) == 0 else None for a, n in zip(filled, shape, strict=True)]
        lead = given[: len(shape) - len(self.operands[0])]
        own = dict(zip(self.operands[0], given[len(lead) :], strict=True)) | dict.fromkeys(self.whole)
        return lambda letters: PartitionSpec(*lead, *(own.get(letter) for letter in letters))


def choose(
    target: str,
    call: Callable[..., T],
    definition: Callable[..., T],
    *operands: Array,
    spread: Spread | None = None,
) -> T:
    """Returns `call(*operands)` where it runs on a CPU and `target` is usable, else `definition(*operands)`.

    With a spread, the native call is made on each device's part of sharded operands; without, they are gathered.
    Inside shard_map, it is made on the part that the operation is given.
    """
    mesh = jax.sharding.get_abstract_mesh()
    manual = AxisType.Manual in mesh.axis_types
    usable = native.ensure(target)
    # Whether operands are split is known only when the program is compiled, too late to bring a target up.
    if usable and spread and spread.targets and jax.device_count("cpu") > 1:
        usable = all(map(native.ensure, spread.targets))
    if not usable:
        run = definition
    elif manual:
        # This is one device's part already. Both branches must vary over the same devices, or they have two types.
        native_call, portable = (functools.partial(_varied, f) for f in (call, definition))
        run = functools.partial(lax.platform_dependent, cpu=native_call, default=portable)
    else:
        # Which platform a program is for is known when it is lowered, not here.
        run = functools.partial(lax.platform_dependent, cpu=split(call, spread) if spread else call, default=definition)
    if manual or spread is None or AxisType.Explicit not in mesh.axis_types:
        return run(*operands)

    # The types of arrays say how they lie on such a mesh; within, XLA is free to choose, as it is elsewhere.
    axes = spread.axes(mesh, jax.typeof(operands[0]).sharding.spec, operands[0].shape)
    results = jax.tree.unflatten(_structure(call, operands), map(axes, spread.results))
    return cast(T, jax.sharding.auto_axes(run, out_sharding=results)(*operands))


def _structure(call: Callable[..., Any], operands: Sequence[Array]) -> Any:
    """Of the results, whatever mesh there is."""
    shapes = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operands)
    return jax.tree.structure(jax.eval_shape(lambda *given: call(*given), *shapes))  # JAX keeps traces with a function


def _varied(function: Callable[..., T], *operands: Array) -> T:
    """What the function gives, as varying over the devices of a shard_map as any of the operands."""
    return jax.tree.map(lambda x: varying(x, *operands), function(*operands))


def varying(x: Array, *others: Array) -> Array:
    """`x` as varying over the devices of a shard_map as any of the others does: a loop's first values must be."""
    axes = frozenset().union(*map(_varying_axes, others)) - _varying_axes(x)
    if not axes:
        return x
    if hasattr(lax, "pcast"):
        return lax.pcast(x, tuple(axes), to="varying")
    pvary: Callable[..., Array] = lax.pvary  # type: ignore[attr-defined]  # before JAX 0.9
    return pvary(x, tuple(axes))


def _varying_axes(x: Array) -> frozenset[str]:
    kind: Any = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", None)
    return frozenset(manual.varying if manual is not None else getattr(kind, "vma", ()))


def custom_call(
    target: str, results: Sequence[jax.ShapeDtypeStruct], *operands: Array, **attributes: np.generic | np.ndarray
) -> Sequence[Array]:
    """Returns the target's results. Its handler takes any leading axes: vmap adds one to every operand."""
    return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*operands, **attributes)


def split(call: Callable[..., T], spread: Spread) -> Callable[..., T]:
    """`call`, which takes any leading axes, run on each device's part of its operands."""

    def partition(mesh: Any, operands: Sequence[Any], results: Any) -> tuple[Any, ...]:
        given = operands[0].sharding
        if isinstance(given, NamedSharding):
            spec = tuple(given.spec)
        else:  # of operands without a place: all devices hold all
            mesh = Mesh(np.array(sorted(given.device_set, key=lambda device: device.id)), ("devices",))
            spec = ()
        axes = spread.axes(mesh, spec, operands[0].shape)

        def place(letters: str) -> NamedSharding:
            return NamedSharding(mesh, axes(letters))

        joined = {letter: a for letter in spread.joined if (a := axes(letter)[-1]) is not None}
        lower = functools.partial(spread.across, joined) if spread.across and joined else call
        flat = lambda *parts: tuple(jax.tree.leaves(lower(*parts)))  # noqa: E731
        return mesh, flat, tuple(map(place, spread.results)), tuple(map(place, spread.operands))

    def rule(arrays: tuple[str, ...]) -> str:
        return ", ".join(" ".join(["...", *letters]) for letters in arrays)

    factors = {
        "reduction_factors": tuple(letter for letter in spread.joined if not any(letter in r for r in spread.results)),
        "need_replication_factors": tuple(spread.whole),
    }
    # The partitioner gives no trees, only tuples of arrays; older JAX lacks some kinds of factors.
    partitioned = custom_partitioning(lambda *parts: tuple(jax.tree.leaves(call(*parts))))
    partitioned.def_partition(
        partition=partition,
        sharding_rule=f"{rule(spread.operands)} -> {rule(spread.results)}",
        **{name: letters for name, letters in factors.items() if letters and name in _FACTORS},
    )

    # custom_partitioning has no rule for vmap: the axis becomes one more leading axis, of every operand.
    @custom_vmap
    def batched(*operands: Array) -> tuple[Array, ...]:
        return partitioned(*operands)

    @batched.def_vmap
    def _(size: int, split: list[bool], *operands: Array) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        full = (a if s else jnp.broadcast_to(a, (size, *a.shape)) for a, s in zip(operands, split, strict=True))
        return batched(*full), (True,) * len(spread.results)

    def run(*operands: Array) -> T:
        return cast(T, jax.tree.unflatten(_structure(call, operands), batched(*operands)))

    return run


def _devices(mesh: Any, axes: str | tuple[str, ...] | None) -> int:
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape[name] for name in names)


def agree(
    call: Callable[..., T],
    definition: Callable[..., T],
    operands: Sequence[np.ndarray],
    names: Sequence[str],
    rtol: float = 0,
    atol: float = 0,
) -> None:
    """Returns if both give the same leaves on the CPU; else raises RuntimeError with the name of the first other."""
    on_cpu = jax.device_put(list(operands), jax.local_devices(backend="cpu")[0])
    got, want = (jax.tree.leaves(jax.jit(f)(*on_cpu)) for f in (call, definition))
    for name, a, b in zip(names, got, want, strict=True):
        if not np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
            raise RuntimeError(f"self-test: `{name}` differs from the definition")
