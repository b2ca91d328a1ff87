"""Streamed data: the user's own iterators, cut into blocks; the next block is fetched while rounds use this one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ..values import integer
from .data import Arrays, Assess, Decide, Explore, Splits
from .types import Array, Batch

Position = Mapping[str, np.ndarray[Any, Any]]


@runtime_checkable
class Resumable(Protocol):
    """An iterator that can report its position and return to it (grain's, tf.data's wrappers, a user's own)."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __next__(self) -> Batch: ...
    def get_state(self) -> Any:
        """The position: bytes, or anything that JSON holds."""

    def set_state(self, state: Any) -> None:
        """Go to a position."""


class StreamEnded(Exception):
    """A stream has no more batches; what was trained so far is kept."""


class StreamFault(Exception):
    """A stream raised an error; what was trained so far is kept."""


class Stream:
    """An endless supply of batches for one split; a block is `batches` of them.

    `source` is a function that returns a fresh iterator, or an iterator with `get_state` and `set_state`: a run must
    be able to resume where it stopped, so a plain iterator is refused.
    """

    def __init__(self, source: Callable[[], Iterator[Batch]] | Resumable, *, batches: int) -> None:
        if not callable(source) and not isinstance(source, Resumable):
            raise TypeError(
                "Stream: a run must be able to resume, so `source` must be a function that returns a fresh iterator, "
                f"or an iterator with get_state() and set_state(); got {type(source).__name__}"
            )
        self.batches = integer("Stream: batches", batches)
        self._source = source
        self._count = 0
        fresh = source() if _is_factory(source) else source  # type: ignore[operator]
        if not isinstance(fresh, Iterable):
            raise TypeError(f"Stream: `source` must return an iterator over batches, got {type(fresh).__name__}")
        self._iterator: Iterator[Batch] = iter(fresh)

    def take(self, name: str) -> Batch:
        """The next block: its batches in one pytree of arrays, in order."""
        parts = []
        for _ in range(self.batches):
            try:
                parts.append(next(self._iterator))
            except StopIteration:
                raise StreamEnded(f"the {name} stream ended after {self._count} batches") from None
            except Exception as error:
                raise StreamFault(f"the {name} stream raised after {self._count} batches: {error!r}") from error
            self._count += 1
        try:
            block = jax.tree.map(lambda *x: np.concatenate([np.asarray(y) for y in x]), *parts)
            if {leaf.dtype.kind in "OSUMm" for leaf in jax.tree.leaves(block)} != {False}:
                raise ValueError(f"got {parts[0]!r}")
        except ValueError as error:
            text = "must give batches alike, pytrees of arrays of numbers with a leading axis of examples"
            raise StreamFault(f"the {name} stream {text}: {error}") from error
        return block

    def position(self) -> np.ndarray[Any, Any]:
        """The position of the stream, as bytes: u8[...]."""
        if _is_factory(self._source):
            text = b"n" + str(self._count).encode()
        else:
            state = self._source.get_state()  # type: ignore[union-attr]
            text = b"b" + state if isinstance(state, bytes) else b"j" + json.dumps(state).encode()
        return np.frombuffer(text, np.uint8)

    def seek(self, position: np.ndarray[Any, Any], name: str) -> None:
        """Go to this position; where the source is a function, a fresh iterator is read up to it."""
        kind, text = bytes(position[:1]), bytes(position[1:])
        if kind == b"n":
            self._iterator, self._count = iter(self._source()), 0  # type: ignore[operator]
            while self._count < int(text):
                if next(self._iterator, None) is None:
                    raise StreamEnded(
                        f"the {name} stream ended after {self._count} batches; the run had read {int(text)}"
                    )
                self._count += 1
        else:
            self._source.set_state(text if kind == b"b" else json.loads(text))  # type: ignore[union-attr]


@dataclasses.dataclass
class Feed:
    """Splits from streams, block by block; splits that are not streamed stay as they are.

    Each block serves `rounds` rounds, so a block of the decide stream must hold the examples of that many
    confirmations.
    """

    explore: Stream | Explore
    assess: Stream | Assess
    decide: Stream | Decide
    batch_size: int = 32
    rounds: int = 1

    def __post_init__(self) -> None:
        for name, kind in (("explore", Explore), ("assess", Assess), ("decide", Decide)):
            if not isinstance(getattr(self, name), Stream | kind):
                given = type(getattr(self, name)).__name__
                raise TypeError(f"Feed: `{name}` must be a Stream or {kind.__name__}(...), got {given}")
        self.rounds, self.batch_size = (
            integer("Feed: rounds", self.rounds),
            integer("Feed: batch_size", self.batch_size),
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ev3x-feed")
        self._next: Future[tuple[dict[str, Batch], dict[str, np.ndarray[Any, Any]]]] | None = None
        self._position = self._positions()

    def next(self, spent: Array | int) -> Splits:
        """The next block as splits; the one after it is fetched meanwhile. `spent` is the state's decide position."""
        blocks, position = (self._next or self._pool.submit(self._fetch)).result()
        self._next = self._pool.submit(self._fetch)
        self._position = position
        arrays = {name: Arrays(jax.tree.map(jnp.asarray, block)) for name, block in blocks.items()}
        return Splits(
            Explore(arrays["explore"], self.batch_size) if isinstance(self.explore, Stream) else self.explore,
            Assess(arrays["assess"]) if isinstance(self.assess, Stream) else self.assess,
            Decide(arrays["decide"], first=jnp.asarray(spent)) if isinstance(self.decide, Stream) else self.decide,
        )

    def position(self) -> Position:
        """The position of each stream behind the last block that `next` returned."""
        return self._position

    def seek(self, position: Position) -> None:
        """Continue behind the last block that `next` had returned at `position`."""
        if self._next is not None:
            self._next.cancel() or self._next.exception()
            self._next = None
        for name, stream in self._streams().items():
            stream.seek(np.asarray(position[name]), name)
        self._position = self._positions()

    def _streams(self) -> dict[str, Stream]:
        splits = {"explore": self.explore, "assess": self.assess, "decide": self.decide}
        return {name: s for name, s in splits.items() if isinstance(s, Stream)}

    def _positions(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: stream.position() for name, stream in self._streams().items()}

    def _fetch(self) -> tuple[dict[str, Batch], dict[str, np.ndarray[Any, Any]]]:
        blocks = {name: stream.take(name) for name, stream in self._streams().items()}
        return blocks, self._positions()


def _is_factory(source: Any) -> bool:
    return callable(source) and not isinstance(source, Resumable)
