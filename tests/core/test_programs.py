"""Programs go with the last holder of their plan; those of equal plans are shared, and the last few wait for one."""

import copy
import dataclasses
import gc
import pickle
import weakref

import jax
import jax.numpy as jnp
import pytest
from toys import Shift, Toy, evolver

from ev3x.core import loop
from ev3x.core.programs import KEPT, compiled, programs

traced: list[int] = []


@dataclasses.dataclass(frozen=True)
class Number:
    value: int


@dataclasses.dataclass(frozen=True)
class Counted(Shift):
    def propose(self, *given):
        traced.append(0)
        return super().propose(*given)


@compiled("times")
def added(number: Number, x: jax.Array, times: int = 1) -> jax.Array:
    traced.append(number.value)
    return x + number.value * times


@pytest.fixture(autouse=True)
def nobody():
    """No program is kept from before, none is left behind."""
    forget()
    traced.clear()
    yield
    forget()


def forget():
    """Nothing is among the last any more."""
    for i in range(KEPT):
        programs(("another", i))
    gc.collect()


def executables():
    gc.collect()
    return len(jax.local_devices()[0].client.live_executables())


def test_equal_values_share_programs_while_one_is_held():
    held = programs(Number(2))
    assert added(Number(2), jnp.int32(3)) == 5
    forget()
    assert programs(Number(2)) is held
    assert added(Number(2), jnp.int32(4)) == 6 and added(Number(2), jnp.int32(4), times=3) == 10
    assert traced == [2, 2]  # once for each static argument


def test_the_last_values_find_their_programs_again_though_nobody_held_them():
    for _ in range(2):
        for i in range(KEPT):
            assert added(Number(i), jnp.int32(1)) == 1 + i
    assert traced == list(range(KEPT))
    added(Number(KEPT), jnp.int32(1))
    added(Number(0), jnp.int32(1))  # was the oldest
    assert traced == [*range(KEPT), KEPT, 0]


def test_programs_that_nobody_holds_are_freed():
    x = jnp.int32(1)
    for i in range(KEPT):
        added(Number(i), x)
    before, first = executables(), weakref.ref(added.of(Number(0)))
    for i in range(KEPT, 3 * KEPT):
        added(Number(i), x)
    assert executables() == before
    assert first() is None


def test_evolvers_of_equal_plans_share_a_program_and_the_last_takes_it_along():
    first = evolver(Counted((0.125,)))
    first.rounds(first.init(0), 1)  # JAX 0.12 keeps the frames of the first round that a process traces
    one, before = evolver(Counted((0.5,))), executables()
    state, _ = one.rounds(one.init(0), 1)
    program = weakref.ref(loop.rounds.of(one.plan))
    assert executables() > before
    other = evolver(Counted((0.5,)))
    assert other.plan is not one.plan
    del one
    forget()
    assert loop.rounds.of(other.plan) is program()
    times = len(traced)
    other.rounds(other.init(1), 1)
    assert len(traced) == times > 0
    del other, state
    forget()
    assert program() is None


def test_an_evolver_keeps_the_programs_of_the_plans_that_it_had():
    run = evolver(Shift((0.25,)))
    first, program = run.plan, weakref.ref(loop.rounds.of(run.plan))
    run.plan = dataclasses.replace(first, native="off")
    forget()
    assert program() is not None and loop.rounds.of(first) is program()


def test_a_plan_without_a_hash_is_refused_by_name():
    class Free(Toy):
        __hash__ = None

    with pytest.raises(TypeError, match=r"`task` must have a hash, .* got Free: unhashable type: 'Free'; make it"):
        evolver(task=Free())


def test_copies_of_an_evolver_share_its_programs_and_it_can_be_pickled():
    run = evolver(Shift((0.75,)))
    for other in (copy.copy(run), copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert other.plan == run.plan and loop.rounds.of(other.plan) is loop.rounds.of(run.plan)
