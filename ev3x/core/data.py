"""The three splits of a round. They are different types with different methods, so that they cannot be confused.

Explore draws training batches and may repeat; Assess reads blocks to choose among candidates; Decide reads blocks in
order and spends them, because evidence counts only on examples that took no part in a choice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ..values import flag, integer, short
from .types import Array, Batch


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Arrays:
    """A finite set of examples on the device: a pytree of arrays with one leading axis of examples."""

    tree: Batch

    @property
    def size(self) -> int:
        """How many examples there are."""
        return int(np.shape(jax.tree.leaves(self.tree)[0])[0])

    def blocks(self, n: int) -> int | None:
        """How many blocks of n examples there are; the last may be short."""
        return -(-self.size // n)

    def block(self, index: Array | int, n: int) -> tuple[Batch, Array | None]:
        """Block `index` of n examples and a mask f32[n] (None when every block is full).

        A short last block is filled up with examples of the block before, to which the mask gives 0.
        """
        n_read = min(n, self.size)
        start = jnp.minimum(jnp.asarray(index, jnp.int32) * n, self.size - n_read)
        batch = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, n_read), self.tree)
        if self.size % n == 0 or self.size < n:
            return batch, None
        return batch, (start + jnp.arange(n_read) >= jnp.asarray(index, jnp.int32) * n).astype(jnp.float32)

    def draw(self, key: Array, steps: int, n: int) -> Array:
        """Indices i32[steps, n]: shuffled passes over the examples, one after another, none repeated within a pass."""
        wanted = steps * n
        places = jnp.arange(min(self.size, wanted), dtype=jnp.uint32)
        passes = jax.random.split(key, -(-wanted // self.size))
        return jax.vmap(lambda k: _shuffled(k, places, self.size))(passes).reshape(-1)[:wanted].reshape(steps, n)

    def batch(self, drawn: Array, n: int) -> Batch:
        """The examples at the drawn indices i32[n]."""
        return jax.tree.map(lambda x: x[drawn], self.tree)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Generated:
    """An endless stream of fresh examples, made on the device: `make(key, n)` returns n of them.

    Block i of the stream depends on the key, i and n alone, so a position is one number and a resumed run sees the same
    examples. `make` is part of the key of the compile cache: use a module-level function or a frozen dataclass.

    With a `pool`, n examples are `make(key, n, pool)`. It holds the real data that they are made of (the scans that
    episodes draw from): a pytree of arrays with one leading axis of rows, which are arguments of the program, not
    constants in it. Pools of two splits may share no row, and what is proven on a split concerns examples that are made
    of its pool. Tables that all splits read belong into `make`.
    """

    key: Array
    make: Callable[..., Batch] = dataclasses.field(metadata={"static": True})
    pool: Batch = None

    def blocks(self, n: int) -> int | None:
        """None: the stream does not end."""
        return None

    def block(self, index: Array | int, n: int) -> tuple[Batch, Array | None]:
        """Block `index` of n fresh examples; no mask."""
        return self.batch(jax.random.fold_in(self.key, index), n), None

    def draw(self, key: Array, steps: int, n: int) -> Array:
        """A key for each step."""
        return jax.random.split(jax.random.fold_in(key, jax.random.bits(self.key, dtype=jnp.uint32)), steps)

    def batch(self, drawn: Array, n: int) -> Batch:
        """n examples made from the drawn key."""
        if self.pool is None:
            return self.make(drawn, n)
        # Outside of a program it may hold arrays of numpy, which no traced index can read.
        return self.make(drawn, n, jax.tree.map(jnp.asarray, self.pool))


Source = Arrays | Generated


class Predictor(Protocol):
    """Anything that predicts from variables and a batch: a task, say."""

    def predict(self, variables: Any, batch: Batch, /) -> Any:
        """The predictions."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained model that others learn from."""

    predictor: Predictor = dataclasses.field(metadata={"static": True})
    variables: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Explore:
    """The split that proposers train on: it gives as many batches as they like.

    `meta` is a second split, with other examples and batches of its own, for methods that learn hyperparameters.
    `teachers` predict on every batch. Their predictions are added to the batch under these names: those of one teacher
    as they are, those of several stacked on axis 1.
    """

    source: Source
    batch_size: int = dataclasses.field(default=32, metadata={"static": True})
    meta: Explore | None = None
    teachers: Mapping[str, Teacher | tuple[Teacher, ...]] = dataclasses.field(default_factory=dict)

    def draw(self, key: Array, steps: int) -> Any:
        """What `batch` needs for each step, with a leading axis of steps."""
        return self.source.draw(key, steps, self.batch_size)

    def batch(self, drawn: Any) -> Batch:
        """The training batch of one step."""
        batch = self.read(drawn)
        if not self.teachers:
            return batch
        if not isinstance(batch, Mapping):
            raise TypeError(f"teachers add entries to a batch, which must be a mapping, got {type(batch).__name__}")
        if taken := sorted(self.teachers.keys() & batch.keys()):
            raise ValueError(f"teachers may not replace entries of a batch, which has {taken} already")
        return {**batch, **{name: _taught(of, batch) for name, of in self.teachers.items()}}

    def read(self, drawn: Any) -> Batch:
        """The examples of one step, without what teachers add."""
        return self.source.batch(drawn, self.batch_size)


def _as_it_is(key: Array, batch: Batch) -> Batch:
    return batch


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Varied(Explore):
    """An explore split that passes each batch through `vary(key, batch)` whenever it is read, with a fresh key.

    `vary` is part of the key of the compile cache, like `Generated.make`. Other entries of the source (precomputed
    logits, for instance) stay those of the plain example unless `vary` changes them too; `teachers` see the varied
    batch.
    """

    vary: Callable[[Array, Batch], Batch] = dataclasses.field(default=_as_it_is, metadata={"static": True})

    def draw(self, key: Array, steps: int) -> Any:
        """What the source needs for each step, and a key for each."""
        return super().draw(key, steps), jax.random.split(jax.random.fold_in(key, 2**31 + 1), steps)

    def read(self, drawn: Any) -> Batch:
        """The varied examples of one step."""
        examples, key = drawn
        return self.vary(key, super().read(examples))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assess:
    """The split that candidates are compared on. A finite source is read block by block, again and again."""

    source: Source

    def block(self, position: Array | int, n: int) -> tuple[Batch, Array | None]:
        """Block `position` of n examples, starting over at the end, and its mask."""
        total = self.source.blocks(n)
        return self.source.block(position if total is None else position % total, n)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decide:
    """The split that confirms a winner. Its blocks are read once, in order; a block that was read is spent.

    With `reuse=True` a finite source starts over at its end, and every record says that its evidence is in-sample.
    `first` is the position at which this source begins (streamed data bring a new source with every block).
    """

    source: Source
    reuse: bool = dataclasses.field(default=False, metadata={"static": True})
    first: Array | int = 0

    def block(self, position: Array | int, n: int) -> tuple[Batch, Array | None]:
        """Block `position` of n examples and its mask."""
        total = self.source.blocks(n)
        index = position - self.first
        return self.source.block(index if total is None else index % total, n)

    def left(self, position: Array | int, n: int) -> Array | None:
        """How many blocks can still be read, i32[]; None: no limit."""
        total = self.source.blocks(n)
        return None if total is None or self.reuse else jnp.maximum(jnp.int32(total) - (position - self.first), 0)

    def uses(self, position: Array | int, blocks: Array | int, n: int) -> Array:
        """The most earlier passes over the source in which an example of these blocks was read: i32[]."""
        total = self.source.blocks(n)
        last = jnp.asarray(position - self.first + blocks - 1, jnp.int32)
        return jnp.int32(0) if total is None else jnp.maximum(last // total, 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Splits:
    """The data of a round. Call `check` once on the host before using them."""

    explore: Explore
    assess: Assess
    decide: Decide

    def check(self, *, disjoint: bool = True) -> Splits:
        """These splits, or an error: wrong types, empty sources, batches larger than the data, shared examples.

        The search for shared examples reads all data on the host; `disjoint=False` skips it.
        """
        for name, kind in (("explore", Explore), ("assess", Assess), ("decide", Decide)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"splits: `{name}` must be {kind.__name__}(...), got {type(value).__name__}")
        trained = {"explore": self.explore}
        if self.explore.meta is not None:
            if not isinstance(self.explore.meta, Explore):
                raise TypeError(f"splits: `explore.meta` must be Explore(...), got {type(self.explore.meta).__name__}")
            trained["explore.meta"] = self.explore.meta
        sources = {name: split.source for name, split in trained.items()}
        sources |= {"assess": self.assess.source, "decide": self.decide.source}
        for name, source in sources.items():
            check_source(name, source)
        flag("splits: `reuse` of decide", self.decide.reuse)
        if not isinstance(self.decide.first, jax.Array):
            integer("splits: `first` of decide", self.decide.first, least=0)
        for name, split in trained.items():
            integer(f"splits: {name} batch_size", split.batch_size)
            _check_explored(name, split)
            if isinstance(split.source, Arrays) and split.batch_size > split.source.size:
                raise ValueError(
                    f"splits: {name} batch_size is {split.batch_size} but there are only {split.source.size} examples"
                )
        if disjoint:
            _check_disjoint(sources)
        return self


def _taught(of: Teacher | tuple[Teacher, ...], batch: Batch) -> Any:
    if isinstance(of, Teacher):
        return of.predictor.predict(of.variables, batch)
    return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *(_taught(teacher, batch) for teacher in of))


def _shuffled(key: Array, places: Array, size: int) -> Array:
    """What a shuffle of 0 ... size - 1 holds at these places: i32[len(places)], without sorting all of them.

    A keyed bijection of 0 ... 2^bits - 1 (odd multiplier, offset, xor of the upper half); a result of `size` or more is
    mapped again (cycle walking, Black and Rogaway 2002). `jax.random.permutation` sorts the whole set: 50 times slower
    for 60,000 examples. Pseudo-random: good for batches, not for tests that need every order equally likely.
    """
    bits = max((size - 1).bit_length(), 1)
    mask, half = jnp.uint32(2**bits - 1), jnp.uint32((bits + 1) // 2)
    numbers = jax.random.bits(key, (6, 2), jnp.uint32)

    def mix(x: Array) -> Array:
        for factor, offset in numbers:
            x = (x * (factor | jnp.uint32(1)) + offset) & mask
            x = x ^ (x >> half)
        return x

    end = jnp.uint32(size)
    walked = jax.lax.while_loop(lambda x: (x >= end).any(), lambda x: jnp.where(x < end, x, mix(x)), mix(places))
    return walked.astype(jnp.int32)


def check_source(name: str, source: Source) -> None:
    if not isinstance(source, Arrays | Generated):
        raise TypeError(
            f"splits: the source of `{name}` must be Arrays(...) or Generated(...), got {type(source).__name__}; "
            f"a stream stands in Feed({name.partition('.')[0]}=Stream(...), ...), which takes the place of Splits(...)"
        )
    if isinstance(source, Arrays):
        _check_rows(f"`{name}`", source.tree)
        return
    form = "a key and n" if source.pool is None else "a key, n and a pool"
    if not callable(source.make) or not _takes(source.make, 2 if source.pool is None else 3):
        raise TypeError(f"splits: `make` of `{name}` must be a function of {form}, got {short(source.make)}")
    if not _is_key(source.key):
        raise TypeError(f"splits: `key` of `{name}` must be a key, as jax.random.key(0), got {short(source.key)}")
    if source.pool is not None:
        _check_rows(f"the pool of `{name}`", source.pool)


def _check_rows(what: str, tree: Batch) -> None:
    """Raises unless this is a pytree of arrays of numbers, with one leading axis that is not empty."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not isinstance(leaf, jax.Array) and (kind := np.asarray(leaf).dtype).kind in "OSUMm":
            where = jax.tree_util.keystr(path)
            raise TypeError(f"splits: {where} of {what} must hold numbers or bools, got {kind}: encode it first")
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"splits: all arrays of {what} need one leading axis of examples, got lengths {sorted(map(str, lengths))}"
        )
    if lengths == {0}:
        raise ValueError(f"splits: {what} is empty")


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    """Whether this function can be called with so many arguments, as far as its signature is known."""
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # some that are written in C have no signature
        return True
    return True


def _is_key(value: Any) -> bool:
    """Whether this is one key of JAX, of either form, or several."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or not isinstance(value, jax.Array | np.ndarray):
        return False
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key)) or (dtype == np.uint32 and value.shape == (2,))


def _check_explored(name: str, split: Explore) -> None:
    """Raises for teachers and functions that are none; they would fail inside the compiled program."""
    if not isinstance(split.teachers, Mapping):
        text = f"must be a mapping {{name: Teacher(...)}}, got {short(split.teachers)}"
        raise TypeError(f"splits: `teachers` of {name} {text}")
    for entry, of in split.teachers.items():
        for teacher in of if isinstance(of, tuple) and of else (of,):
            if not isinstance(teacher, Teacher):
                text = f"must be a Teacher(...) or a tuple of them, got {short(teacher)}"
                raise TypeError(f"splits: teacher {entry!r} of {name} {text}")
    if isinstance(split, Varied) and not callable(split.vary):
        raise TypeError(f"splits: `vary` of {name} must be a function of a key and a batch, got {short(split.vary)}")


def _check_disjoint(sources: dict[str, Source]) -> None:
    """Raises ValueError when two sources hold the same example, in arrays or in pools, or generate the same ones."""
    held = {name: source.tree for name, source in sources.items() if isinstance(source, Arrays)}
    generated = {name: source for name, source in sources.items() if isinstance(source, Generated)}
    held |= {f"{name}.pool": source.pool for name, source in generated.items() if source.pool is not None}
    known: dict[tuple[str, frozenset[Any]], list[bytes]] = {}

    def rows(name: str, paths: frozenset[Any]) -> list[bytes]:
        return known.get((name, paths)) or known.setdefault((name, paths), _rows(held[name], paths))

    for one, other in itertools.combinations(held, 2):
        paths = _common(held[one], held[other])
        places = {row: i for i, row in reversed([*enumerate(rows(one, paths))])}
        if found := next(((i, places[row]) for i, row in enumerate(rows(other, paths)) if row in places), None):
            raise _shared(f"{other} example {found[0]} is also {one} example {found[1]}")
    streams: dict[bytes, str] = {}
    for name, source in generated.items():
        if (first := streams.setdefault(_stream(source), name)) != name:
            raise _shared(f"{name} and {first} generate from the same key")


def _shared(what: str) -> ValueError:
    return ValueError(
        f"splits: explore, assess and decide must not share examples, but {what}; "
        "remove duplicates or split by another key"
    )


def _stream(source: Generated) -> bytes:
    """What all examples of this source follow from: its function, its key and its pool."""
    rows = [] if source.pool is None else _rows(source.pool, _paths(source.pool))
    return repr(source.make).encode() + np.asarray(jax.random.key_data(source.key)).tobytes() + b"".join(rows)


def _paths(tree: Batch) -> frozenset[Any]:
    return frozenset(path for path, _ in jax.tree_util.tree_leaves_with_path(tree))


def _common(a: Batch, b: Batch) -> frozenset[Any]:
    """The paths of the entries by which two trees are compared, without those that only one has (logits, say).

    They are the entries that both have, provided that one of them has no others; else all entries.
    """
    common = _paths(a) & _paths(b)
    return common if common in (_paths(a), _paths(b)) else _paths(a) | _paths(b)


def _rows(tree: Batch, paths: frozenset[Any]) -> list[bytes]:
    """A digest of each example, in the types that a program reads: numpy's 64 bits are JAX's 32."""
    leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if path in paths]
    columns = [np.asarray(leaf, jnp.result_type(leaf)) for leaf in leaves]
    joined = (b"".join(c[i].tobytes() for c in columns) for i in range(len(columns[0])))
    return [hashlib.blake2b(row, digest_size=16).digest() for row in joined]
