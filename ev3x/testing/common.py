"""What is demanded of every component, and of everything that runs inside a round."""

from __future__ import annotations

import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..builtin.adapters.accept import Accept
from ..builtin.assessors.mean_bounds import MeanBounds
from ..builtin.assessors.published import Published
from ..builtin.budgets.per_round import PerRound
from ..core import contract, loop
from ..core.adapt import Adapter
from ..core.budget import Budget
from ..core.plan import Method, Plan
from ..core.propose import Proposer
from ..core.types import Array, Candidates, PyTree
from ..host.faults import remedy
from ..run import checkpoint
from . import child, trees
from .bench import CASES, Bench, RoundBench, Setting, Split, rebuild
from .checks import NothingToCheck, Unmet, check, demand

SOUND = ("options", "traces", "no_config_change", "nothing_on_self", "stable_tree")


@check()
def options(bench: Any) -> None:
    """It is a frozen dataclass, hashable, and equal when it is built anew from the same options.

    Compiled programs are kept by the component: what is not equal to itself is compiled anew in every call.
    """
    component, kind = bench.component, type(bench.component)
    frozen = kind.__dataclass_params__.frozen and "__dataclass_fields__" in vars(kind)
    demand(
        frozen,
        "a frozen dataclass",
        kind.__name__,
        "decorate the class itself with @dataclasses.dataclass(frozen=True)",
    )
    try:
        number = hash(component)
    except TypeError as error:
        raise Unmet("a hash", error, "give options of types that have one: tuples, not lists") from error
    again = dataclasses.replace(component)
    same = again == component and hash(again) == number
    demand(same, "equality of two that have the same options", "inequality", "leave __eq__ and __hash__ to dataclass")


@check("options")
def config(bench: Any) -> None:
    """`build(to_config())` gives it back: a run's record of its own configuration can be run again."""
    component = bench.component
    table = component.to_config()
    try:
        again = type(component).build(table)
    except Exception as error:
        raise Unmet(
            f"build({table!r}) to give it back", error, "give options of types that a config can say"
        ) from error
    demand(again == component, f"{component!r}", again, "let its options be all that it is made of")


@check("options", long=True)
def no_backend_at_import(bench: Any) -> None:
    """Importing its module initialises no backend of JAX.

    Whoever imports it later could not choose devices, platforms or 64-bit types any more. Make arrays inside functions,
    constants with numpy.
    """
    found = imported(bench)
    demand(not found["backend"], "an import that makes no array", "an initialised backend", "make arrays in functions")


@check("options", long=True)
def quiet_import(bench: Any) -> None:
    """Importing its module prints nothing on standard output, which belongs to `--json`."""
    text = imported(bench)["printed"]
    demand(not text.strip(), "nothing on standard output", repr(text[:80]), "log, or print to sys.stderr")


@check("options", long=True)
def no_config_change_at_import(bench: Any) -> None:
    """Importing its module changes neither JAX's configuration nor JAX_* and XLA_*: they are the user's."""
    changes = imported(bench)["changes"]
    demand(not changes, "no change", "; ".join(changes), "leave settings to the user")


@check("options", "labels")
def traces(bench: Any) -> None:
    """All that it does in a round can be traced: nothing in it depends on the values of arrays in Python."""
    try:
        bench.shape()
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        text = str(error).partition("\n")[0]
        raise Unmet("a program that can be traced", text, remedy(error) or "mend what raises it") from error


@check("options", "traces")
def no_config_change(bench: Any) -> None:
    """Its work changes neither JAX's configuration nor JAX_* and XLA_*: they are the user's."""
    changes = changed(bench, bench.shape)
    demand(not changes, "no change", "; ".join(changes), "leave settings to the user, or use JAX's context managers")


@check("options", "traces")
def nothing_on_self(bench: Any) -> None:
    """It keeps nothing on itself: what is remembered under a trace is lost, or leaks into other runs."""
    now = vars(bench.component)
    changed = sorted(n for n in now.keys() | bench.kept.keys() if now.get(n, bench) is not bench.kept.get(n, bench))
    demand(not changed, "the attributes that it was built with", f"others: {changed}", "carry it in the state")


@check("options", "traces", "no_config_change")
def no_tracer_leak(bench: Any) -> None:
    """No traced array outlives its trace, in a global or on an object (`jax.checking_leaks`)."""
    try:
        with jax.checking_leaks():
            bench.shape()
    except Exception as error:
        if "Leaked" not in str(error):
            raise
        text = " ".join(str(error).split())[:120]
        raise Unmet("no traced array left behind", text, "return what is needed later, in the state or memo") from error


@check("options", "traces", "no_config_change")
def no_callbacks(bench: Any) -> None:
    """It calls nothing on the host from inside a round: that stops the device and cannot be replayed."""
    case = bench.inputs(0)
    text = str(jax.make_jaxpr(lambda case, fixed: bench.run(bench.component, case, fixed))(case, bench.fixed))
    found = sorted(set(re.findall(r"\b(\w*callback|debug_print)\[", text)))
    demand(not found, "a program without callbacks", ", ".join(found), "remove jax.debug.print and callbacks")


@check("options", "traces", "no_config_change", "nothing_on_self")
def stable_tree(bench: Any) -> None:
    """Structure, shapes and dtypes of its state are the same after a round as before: rounds run in one program."""
    for what, method, begin, before, after in bench.states():
        contract.state(bench.who, method, after, before, what, begin)


@check(*SOUND)
def inputs_untouched(bench: Any) -> None:
    """It writes into no dict or list that it is given: others read the same state after it."""
    same = bench.eager[1]
    demand(same, "arguments as they were", "changed ones", "build a new dict: {**state, 'n': n}")


@check(*SOUND)
def same_key_same_bits(bench: Any) -> None:
    """The same key and the same inputs give the same bits, traced anew and run again: a run can be repeated."""
    case, fixed = bench.inputs(0), bench.fixed
    once = bench.outcome[0]
    fault = trees.differ(once, bench.jitted(bench.component, case, fixed))
    demand(fault is None, "the same bits from one program twice", fault, "draw from the given key alone")
    texts = [_fresh(bench).lower(case, fixed).as_text() for _ in range(2)]
    if texts[0] != texts[1]:
        fault = trees.differ(*(_fresh(bench)(case, fixed) for _ in range(2)))
        demand(fault is None, "the same bits when traced anew", fault, "no numpy.random, time or counters in a trace")


@check("same_key_same_bits", "inputs_untouched", *SOUND)
def jit_equals_eager(bench: Any) -> None:
    """Compiled and op by op it gives the same, to 1e-4 of max(1, |value|); integers and flags exactly."""
    fault = trees.far(bench.outcome[0], bench.eager[0])
    demand(
        fault is None, "the same compiled and not", fault, "no Python side effects, nothing that asks if it is traced"
    )


@check("same_key_same_bits", *SOUND)
def vmap_equals_loop(bench: Any) -> None:
    """Under `jax.vmap` over keys, states and values it gives what it gives one by one, to 1e-4: seeds in one call."""
    cases = trees.stack([bench.inputs(i) for i in range(CASES)])
    mapped = jax.jit(jax.vmap(lambda case, fixed: bench.run(bench.component, case, fixed), in_axes=(0, None)))
    fault = trees.far(trees.stack(bench.outcome), mapped(cases, bench.fixed))
    demand(fault is None, "the same for every case", fault, "reduce over named axes; give ffi_call a vmap_method")


@check("same_key_same_bits", *SOUND)
def one_trace(bench: Any) -> None:
    """An equal component built anew, other values, and the state of the next round need no second trace.

    Weak types count too: a state that begins as `jnp.asarray(0.0)` has another type after its first round.
    """
    bench.outcome  # noqa: B018 - compiled here if not before
    before = bench.traces
    bench.jitted(rebuild(bench.component), bench.inputs(1), bench.fixed)
    following = bench.following()
    if following is not None:
        bench.jitted(bench.component, following, bench.fixed)
    more = bench.traces - before
    demand(not more, "one trace", f"{more} more", "give the state its dtypes: jnp.zeros((), jnp.float32)")


@check("same_key_same_bits", *SOUND, long=True)
def sharded(bench: Any) -> None:
    """On two devices it gives what it gives on one, to 1e-4.

    Where there is one device only, a child process with two CPU devices tries it: some four seconds.
    """
    if jax.device_count() >= child.DEVICES:
        fault = divided(bench, jax.devices()[: child.DEVICES])
    else:
        fault = child.ask(child.OnDevices.of(bench.role, bench.given))[0]["difference"]
    demand(
        fault is None, "the same on two devices", fault, "leave placement to jit; give native calls their partitioning"
    )


@check("same_key_same_bits", *SOUND)
def checkpoint_round_trip(bench: Any) -> None:
    """Its state goes through a checkpoint and gives the same bits from there on: a killed run resumes."""
    case = bench.following()
    before = case["state"]
    state = loop.init(_plan(bench), jax.random.key(0))
    state = dataclasses.replace(state, **_placed(bench, before))
    ids = {"kit": "kit:it", "select": "ev3:mean_bounds", "other": "ev3:accept", "budget": "kit:it"}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.Checkpoints(Path(folder), ids).save(state, None, {}, {})
        saved = checkpoint.load(Path(folder))
    if saved is None:
        raise Unmet("a checkpoint", "none", "this is a fault of the kit: report it")
    restored = saved.state(state, ids)
    back = restored.budget if bench.role == "budget" else getattr(restored, f"{bench.role}s")["kit"]
    fault = trees.differ(before, back) or trees.differ(
        bench.jitted(bench.component, case, bench.fixed),
        bench.jitted(bench.component, {**case, "state": back}, bench.fixed),
    )
    demand(fault is None, "the same bits from a restored state", fault, "let the state hold arrays only")


# The check lists of all roles are made of these; what a role demands besides stands between and behind them.
ALWAYS = (options, config, no_backend_at_import, quiet_import, no_config_change_at_import)
TRACED = (traces, no_config_change, nothing_on_self, no_tracer_leak, no_callbacks, stable_tree)
REPEATED = (inputs_untouched, same_key_same_bits)
COMPILED = (jit_equals_eager, vmap_equals_loop, one_trace)
IN_A_ROUND = (*TRACED, *REPEATED, *COMPILED)


def divided(bench: RoundBench, devices: list[Any]) -> str | None:
    """Where a round on these devices differs from that on one."""
    whole = bench.jitted(bench.component, bench.inputs(0), bench.fixed)
    parts = _fresh(bench)(*bench.sharded(Split(devices)))
    return trees.far(*(jax.device_get(bench.told(outcome)) for outcome in (whole, parts)))


@dataclasses.dataclass(frozen=True)
class _Still(Proposer):
    """Proposes what is there, where a method needs a proposer."""

    def labels(self, site: Any) -> tuple[str, ...]:
        return ("same",)

    def propose(self, site: Any, key: Array, current: PyTree, state: PyTree, explore: Any) -> Candidates:
        return Candidates(jax.tree.map(lambda x: x[None], current), jnp.ones(1, bool), jnp.int32(0), ())


def _plan(bench: Any) -> Plan:
    """A plan with the component in its place, under the label `kit`."""
    it = bench.component
    proposers = [("kit", it if isinstance(it, Proposer) else _Still())]
    adapters: list[tuple[str, Adapter]] = [("kit", it)] if isinstance(it, Adapter) else []
    if not any(adapter.promotes for _, adapter in adapters):
        adapters = [("other", Accept()), *adapters]
    budget = it if isinstance(it, Budget) else PerRound()
    return Plan(bench.task, Method(proposers, MeanBounds(), Published(), adapters, budget))


def _placed(bench: Any, state: PyTree) -> dict[str, Any]:
    others = {"other": ()} if bench.role == "adapter" and not bench.component.promotes else {}
    return {"budget": state} if bench.role == "budget" else {f"{bench.role}s": {"kit": state, **others}}


def _fresh(bench: RoundBench) -> Any:
    return jax.jit(lambda case, fixed: bench.run(bench.component, case, fixed))


def changed(bench: Bench, work: Callable[[], object]) -> list[str]:
    """What this work changes of JAX's settings."""
    bench.before.restore()
    before = Setting.now()
    work()
    changes = before.changes(Setting.now())
    before.restore()
    return changes


def importable(component: object) -> bool:
    """Whether its module is a file that another process can import."""
    module = type(component).__module__
    return module != "__main__" and getattr(sys.modules.get(module), "__file__", None) is not None


def imported(bench: Bench) -> dict[str, Any]:
    """What importing the component's module did in a child process."""
    module = type(bench.component).__module__
    if not importable(bench.component):
        raise NothingToCheck(f"{module} is no file that another process can import")
    return child.ask(child.Import(module))[0]
