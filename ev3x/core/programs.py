"""Programs that go with the value that they are compiled for: a plan, a task, a network."""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")  # hashable by value, which protocols of values need not say

KEPT = 8  # values whose programs stay although nobody holds them


class Programs:
    """All that is compiled for one value. Equal values have the same one, as long as somebody holds it."""

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self._jitted: dict[Compiled[Any, Any, Any], Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return programs, (self.value,)  # another process compiles its own

    def of(self, function: Compiled[Any, Any, Any]) -> Any:
        """The function of this value, jitted."""
        if (jitted := self._jitted.get(function)) is None:
            jitted = self._jitted.setdefault(function, function.bound(self.value))
        return jitted


_held: weakref.WeakValueDictionary[Hashable, Programs] = weakref.WeakValueDictionary()
_latest: OrderedDict[Hashable, Programs] = OrderedDict()
_lock = threading.RLock()


def programs(value: Any) -> Programs:
    """The programs of a value: those of an equal one that somebody holds, or that was among the last `KEPT`.

    A function that is jitted once, with the value as a static argument, would keep those of every value that a process
    ever had. The last few stay, so that of equal `Evolver`s one after another only the first is compiled.
    """
    with _lock:
        if (found := _held.get(value)) is None:
            found = _held[value] = Programs(value)
        _latest[found.value] = found
        _latest.move_to_end(found.value)
        if len(_latest) > KEPT:
            _latest.popitem(last=False)
    return found


class Compiled(Generic[V, P, R]):
    """A function of a value and of arrays, which is compiled for each value apart."""

    def __init__(self, function: Callable[Concatenate[V, P], R], static: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._static = function, static

    def __call__(self, value: V, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.of(value)(*args, **kwargs)
        return result

    def of(self, value: V) -> Any:
        """The jitted function of the other arguments."""
        return programs(value).of(self)

    def bound(self, value: V) -> Any:
        """The same, made anew: JAX frees the traces and executables of a function with it."""

        def function(*args: Any, **kwargs: Any) -> Any:
            return self._function(value, *args, **kwargs)

        # JAX reads static names from the signature, and errors show the name: a partial would show the whole plan.
        function.__name__, function.__qualname__ = self._function.__name__, self._function.__qualname__
        signature = inspect.signature(self._function)
        function.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
        return jax.jit(function, static_argnames=self._static)


def compiled(*static: str) -> Callable[[Callable[Concatenate[V, P], R]], Compiled[V, P, R]]:
    """Makes a function compiled for each value of its first argument; `static` names others that are no arrays."""
    return lambda function: Compiled(function, static)
