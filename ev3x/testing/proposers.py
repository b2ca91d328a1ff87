"""What is demanded of proposers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ..core import contract
from ..core.contract import finite
from ..core.layout import Site
from ..core.propose import Proposer, check_needs
from ..core.types import Array, Candidates, Decision, Feedback, Move, Outcome, PyTree, Variables
from . import common, trees
from .bench import Split, StateBench, because, fault, keys
from .checks import NothingToCheck, Unmet, check, demand

# What becomes of a round, case by case: the first candidate is promoted; nobody could win; the incumbent is restored.
FATES = (
    (Move.TAKE, Outcome.BETTER, True),
    (Move.KEEP, Outcome.UNDECIDED, False),
    (Move.RESTORE, Outcome.WORSE, False),
)


class ProposerBench(StateBench):
    """Begins, proposes, and learns what became of its candidates."""

    role = "proposer"
    moves = "learn"
    component: Proposer

    @property
    def k(self) -> int:
        """How many candidates it says that it makes."""
        return len(self.component.labels(self.site))

    @property
    def fixed(self) -> PyTree:
        """The explore split."""
        return self.splits.explore

    def run(self, component: Any, case: PyTree, fixed: PyTree) -> PyTree:
        """A fresh state, the candidates, and the state after their fate is known."""
        check_needs(type(component).__name__, component, self.task, fixed)
        one, two, three = case["keys"]
        made = component.propose(self.site, one, case["current"], case["state"], fixed)
        contract.returned(self.who, "propose", made, Candidates, "return ev3x.Candidates(...)")
        with because(fault(lambda: self.matched(made, case["current"]))):
            state = component.learn(self.site, two, case["state"], made, case["feedback"])
        fresh = component.init(self.site, three, case["current"])
        return {"fresh": fresh, "candidates": _shown(made), "state": state}

    def matched(self, made: Any, current: Variables) -> Candidates:
        """These candidates, if they match the model."""
        return contract.matched(self.who.label, made, current, self.k, self.who.kind)

    def draw(self, i: int) -> PyTree:
        """Fresh variables and state, and one of the three fates."""
        made, *others = keys(i, 5)
        current, state = self._start(self.component, made)
        return {
            "keys": tuple(others[:3]),
            "current": current,
            "state": state,
            "feedback": self.feedback(others[3], FATES[i]),
        }

    def feedback(self, key: Array, fate: tuple[Move, Outcome, bool]) -> Feedback:
        """What a proposer is told: values that fall from the first candidate to the last, and this fate."""
        k, m = self.k, len(self.task.metrics)
        move, outcome, won = fate
        spread = jnp.linspace(1.0, 0.0, k, dtype=jnp.float32) + 0.01 * jax.random.uniform(key, (k,), jnp.float32)
        mean = jnp.broadcast_to(spread[:, None], (k, m))
        decision = Decision(
            move=jnp.int32(move), promote=jnp.asarray(won), aims=jnp.ones(m, jnp.float32), calls=jnp.zeros(1, jnp.int32)
        )
        found = move != Move.KEEP
        value = spread if found else jnp.full(k, -jnp.inf, jnp.float32)
        return Feedback(value, mean, jnp.asarray(won) & (jnp.arange(k) == 0), jnp.int32(outcome), decision)

    def states(self) -> Iterator[tuple[str, str, str, PyTree, PyTree]]:
        """The state, and what it notes in a second round, which needs a sound state."""
        yield from super().states()
        case, first = self.inputs(0), self.shape()
        second = jax.eval_shape(
            lambda case, fixed: self.run(self.component, case, fixed), {**case, "state": first["state"]}, self.fixed
        )
        notes = [tree["candidates"]["notes"] for tree in (first, second)]
        yield "notes", "propose", "propose", notes[0], notes[1]

    def sharded(self, split: Split) -> tuple[PyTree, PyTree]:
        """Variables divided along their last axes, all else everywhere."""
        case = self.inputs(0)
        return split.whole(case) | {"current": split.along(-1, case["current"])}, split.whole(self.fixed)

    @functools.cached_property
    def _start(self) -> Any:
        def start(component: Proposer, key: Array) -> tuple[Variables, PyTree]:
            current = self.task.init(key)
            return current, component.init(self.site, key, current)

        return jax.jit(start, static_argnums=0)


@check("options")
def labels(bench: ProposerBench) -> None:
    """`labels` names every candidate, each by another string: people read them, and their number is K."""
    names = bench.component.labels(bench.site)
    sound = isinstance(names, tuple) and all(isinstance(n, str) and n for n in names) and len({*names}) == len(names)
    demand(sound and names, "a tuple of different names", repr(names), "name every candidate")


@check("labels", *common.SOUND)
def candidates_match(bench: ProposerBench) -> None:
    """Candidates are stacked on a leading axis of K, each in the structure, shapes and dtypes of the current variables.

    `eligible` is bool[K] and `steps` an i32[]; notes have one entry for each candidate.
    """
    case, k = bench.inputs(0), bench.k

    def propose(case: PyTree, fixed: PyTree) -> Candidates:
        made = bench.component.propose(bench.site, case["keys"][0], case["current"], case["state"], fixed)
        return bench.matched(made, case["current"])

    made = jax.eval_shape(lambda *a: _shown(propose(*a)), case, bench.fixed)
    for what, leaf, wanted in (("eligible", made["eligible"], f"bool[{k}]"), ("steps", made["steps"], "int32[]")):
        got = f"{leaf.dtype}{list(leaf.shape)}"
        demand(got == wanted, f"{what} to be {wanted}", got, f"give jnp.asarray(..., {wanted.partition('[')[0]})")
    for what, note in made["notes"].items():
        ok = len(note.shape) > 0 and note.shape[0] == k
        demand(
            ok, f"note {what!r} to have a leading axis of {k}", list(note.shape), "note one entry for each candidate"
        )


@check("candidates_match", "same_key_same_bits", *common.SOUND)
def other_key_differs(bench: ProposerBench) -> None:
    """Another key gives other candidates. Excuse it where nothing is drawn."""
    case = bench.inputs(0)
    other = bench.jitted(bench.component, {**case, "keys": bench.inputs(1)["keys"]}, bench.fixed)
    same = trees.differ(bench.outcome[0]["candidates"]["variables"], other["candidates"]["variables"]) is None
    demand(not same, "other candidates under another key", "the same", "draw from the key, or excuse: nothing is drawn")


@check("candidates_match", "same_key_same_bits", *common.SOUND)
def non_finite(bench: ProposerBench) -> None:
    """A round whose candidates are all NaN, and lose, leaves a state that is finite after the next sound round."""
    case = bench.inputs(1)
    sick = {**case, "current": trees.inexact(lambda x: jnp.full_like(x, jnp.nan), case["current"])}
    ends = []
    for first in (case, sick):
        after = bench.jitted(bench.component, first, bench.fixed)["state"]
        ends.append(bench.jitted(bench.component, {**bench.inputs(0), "state": after}, bench.fixed)["state"])
    fault = trees.poisoned(*ends)
    demand(fault is None, "a state that non-finite losers do not poison", fault, "keep the old state where nobody won")


@check("candidates_match", "same_key_same_bits", *common.SOUND)
def can_win(bench: ProposerBench) -> None:
    """From sound variables, in one of three rounds some candidate is finite and eligible.

    A class that says `idles = True` may wait: its candidates need only be finite.
    """
    made = [outcome["candidates"] for outcome in bench.outcome]
    sound = jnp.concatenate([finite(m["variables"], bench.k) for m in made])
    allowed = jnp.concatenate([m["eligible"] | bench.component.idles for m in made])
    got = f"of {sound.size}, {int((~sound).sum())} not finite and {int((sound & ~allowed).sum())} not eligible"
    do = "look for 0 * inf and 0 / 0; a class that waits on purpose says `idles = True`"
    demand(bool((sound & allowed).any()), "a candidate that could win", got, do)


@check("candidates_match", *common.SOUND)
def resize(bench: ProposerBench) -> None:
    """After the model grew, `resize` gives a state from which it proposes candidates of the new shape."""
    case = bench.inputs(0)
    if not bench.task.growths:
        raise NothingToCheck("the task cannot grow")
    task, current = bench.task.grow(bench.task.growths[0], case["keys"][0], case["current"])
    site = Site(task)
    for fresh in (False, True):
        state = bench.component.resize(site, case["keys"][1], current, case["state"], fresh=fresh)

        def propose(state: PyTree, fixed: PyTree, key: Array = case["keys"][2]) -> PyTree:
            return _shown(bench.matched(bench.component.propose(site, key, current, state, fixed), current))

        try:
            jax.eval_shape(propose, state, bench.fixed)
        except (ValueError, TypeError) as error:
            text = str(error).partition("\n")[0]
            raise Unmet(
                f"candidates of the grown model (fresh={fresh})", text, "rebuild in `resize` what has its shape"
            ) from error


CHECKS = (
    *common.ALWAYS,
    labels,
    *common.TRACED,
    candidates_match,
    *common.REPEATED,
    other_key_differs,
    *common.COMPILED,
    non_finite,
    can_win,
    resize,
    common.checkpoint_round_trip,
    common.sharded,
)


def _shown(made: Candidates) -> dict[str, Any]:
    """What others see of candidates; their memo is their own."""
    return {"variables": made.variables, "eligible": made.eligible, "steps": made.steps, "notes": made.notes}
