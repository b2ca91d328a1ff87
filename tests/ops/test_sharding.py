"""Sharded operands of native operations stay where they are, read from the compiled programs, and give the same.

The programs run in a process of their own, on 8 forced host devices: this file as a script prints what became of each.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ev3x.ops import bootstrap_means, native, pareto_ranks, rank_metrics, score_moments, score_stats

pytestmark = pytest.mark.bits

SIZES = {"l": 8, "k": 8, "m": 2, "n": 512, "s": 2, "b": 16}  # l: a leading axis
MESH = {"a": 2, "b": 4}


@dataclasses.dataclass(frozen=True)
class Operation:
    function: Callable
    operands: tuple[str, ...]  # of letters
    kinds: str  # of each operand: f(loat), w(eight), b(ool), u(nsigned)
    results: str  # letters of the largest
    own: str = ""  # letters along which operands are gathered


OPERATIONS = {
    "score_stats": Operation(score_stats, ("kmn", "mn"), "ff", "km"),
    "score_stats weighted": Operation(score_stats, ("kmn", "mn", "mn"), "ffw", "km"),
    "score_stats bool": Operation(score_stats, ("kmn", "mn"), "bb", "km"),
    "score_moments": Operation(lambda *a: score_moments(*a).conclude(), ("kmn", "mn"), "ff", "km"),
    "rank_metrics": Operation(rank_metrics, ("kn", "n"), "fb", "k", own="n"),
    "pareto_ranks": Operation(pareto_ranks, ("km",), "f", "k", own="km"),
    "Poisson": Operation(functools.partial(bootstrap_means, resamples=16, scheme="poisson"), ("kn", "s"), "fu", "bk"),
    "Poisson masked": Operation(
        lambda x, s, m: bootstrap_means(x, s, 16, scheme="poisson", mask=m), ("kn", "s", "n"), "fub", "bk"
    ),
    "multinomial": Operation(
        functools.partial(bootstrap_means, resamples=16, scheme="multinomial"), ("kn", "s"), "fu", "bk", own="n"
    ),
}
# How letters lie on the mesh, with how the operation is called.
LAYOUTS = {
    "candidates": {"k": "b"},
    "examples": {"n": "b"},
    "candidates and examples": {"k": "a", "n": "b"},
    "examples over all": {"n": ("a", "b")},
    "metrics": {"m": "a"},
    "leading": {"l": "b"},
    "leading and candidates": {"l": "a", "k": "b"},
}
CALLS = ["jit", "vmap", "scan", "shard_map", "some manual", "first", "uneven", "explicit", "explicit, no place"]


def layouts(name, call):
    """The LAYOUTS that mean something to an operation, fewer where they would only say the same again."""
    operation = OPERATIONS[name]
    letters = set("".join(operation.operands)) | {"l"}
    some = {
        "jit": LAYOUTS,
        "vmap": ["leading", "candidates"],
        "scan": ["candidates and examples", "leading"],
        "shard_map": ["candidates", "leading"],
        "some manual": ["candidates", "leading"],
        "first": ["examples", "leading"],
        "uneven": ["candidates and examples"],
        "explicit": ["candidates", "examples", "leading"],
        "explicit, no place": ["leading"],
    }[call]
    if " " in name:  # a variant
        some = ["candidates and examples", "leading"] if call == "jit" else []
    found = {name: LAYOUTS[name] for name in some if set(LAYOUTS[name]) <= letters}
    # Candidates of pareto_ranks know each other: a device's own are another population.
    return {
        name: o
        for name, o in found.items()
        if call not in ("shard_map", "some manual") or not set(o) & set(operation.own)
    }


CASES = [(o, call, name) for o in OPERATIONS for call in CALLS for name in layouts(o, call)]
# Of every operation; all others, and every way to call one, are long.
QUICK = [(o, "jit", next(iter(layouts(o, "jit")))) for o in OPERATIONS]


def draw(letters, kind, sizes, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(sizes[letter] for letter in letters)
    draws = {
        "f": lambda: rng.normal(size=shape).astype(np.float32),
        "w": lambda: rng.random(shape, dtype=np.float32),
        "b": lambda: rng.random(shape) < 0.6,
        "u": lambda: rng.integers(0, 2**32, shape, dtype=np.uint32),
    }
    return draws[kind]()


def traffic(text):
    """Per collective of a compiled program the most elements of an array that it gives."""
    names = "all-gather|all-reduce|collective-permute|all-to-all|reduce-scatter|collective-broadcast"
    for shapes, name in re.findall(rf"= (.*?) ((?:{names})(?:-start)?)\(", text):
        arrays = re.findall(r"\[([\d,]*)\]", shapes)
        yield name, max(math.prod(map(int, filter(None, dims.split(",")))) for dims in arrays)


def report(operation, call, layout):
    """What is wrong with one case: "" if nothing is."""
    axes = (AxisType.Explicit if "explicit" in call else AxisType.Auto,) * len(MESH)
    mesh = jax.make_mesh(tuple(MESH.values()), tuple(MESH), axis_types=axes)
    sizes = SIZES | ({"k": 7, "n": 509} if call == "uneven" else {})
    letters = [("l" if "l" in layout or call == "vmap" else "") + o for o in operation.operands]
    operands = [draw(o, kind, sizes, seed) for seed, (o, kind) in enumerate(zip(letters, operation.kinds, strict=True))]
    specs = [PartitionSpec(*(layout.get(letter) for letter in o)) for o in letters]
    if call == "first":
        specs[1:] = [PartitionSpec()] * len(specs[1:])
    places = [NamedSharding(mesh, spec) for spec in specs]

    function = run = operation.function
    if call == "vmap":
        run = jax.vmap(function)
    elif call == "scan":

        def run(first, *rest):
            def step(x, _):
                return (~x if x.dtype == bool else -x), function(x, *rest)

            return jax.tree.map(lambda x: x[0], jax.lax.scan(step, first, length=2)[1])
    elif call in ("shard_map", "some manual"):
        out = PartitionSpec(*(layout.get(letter) for letter in "l" * ("l" in layout) + operation.results))
        function = lambda *a: by_candidate(operation.function(*a))  # noqa: E731
        names = {} if call == "shard_map" else {"axis_names": {"b"}}
        run = jax.shard_map(function, mesh=mesh, in_specs=tuple(specs), out_specs=out, **names)
    elif call == "uneven":

        def run(*operands):
            return function(*map(jax.lax.with_sharding_constraint, operands, places))

    want = jax.jit(jax.vmap(function) if call == "vmap" else function)(*operands)
    if call not in ("uneven", "explicit, no place"):
        operands = list(map(jax.device_put, operands, places))
    with jax.set_mesh(mesh) if "explicit" in call else contextlib.nullcontext():
        program = jax.jit(run).lower(*operands).compile()
        got = program(*operands)

    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        exact = not np.issubdtype(b.dtype, np.floating)
        np.testing.assert_allclose(a, b, rtol=0 if exact else 2e-5, atol=0 if exact else 2e-6)
    text = program.as_text()
    if 'custom_call_target="ev3x_' not in text:
        return "no native call in the program"
    if call in ("uneven", "explicit, no place") or set(layout) & set(operation.own):
        return ""  # may be gathered
    most = math.prod(sizes[letter] for letter in operation.results) * (sizes["l"] if "l" in letters[0] else 1)
    return "; ".join(f"{name} of {size} elements" for name, size in traffic(text) if size > most)


def by_candidate(results):
    names = ("mean", "variance", "auroc", "rank")
    return [x for name, x in results._asdict().items() if name in names] if isinstance(results, tuple) else results


def key(case):
    return ", ".join(case)


def main(quick):
    found = {}
    for operation, call, layout in CASES:
        if ((operation, call, layout) in QUICK) != quick:
            continue
        try:
            found[key((operation, call, layout))] = report(OPERATIONS[operation], call, LAYOUTS[layout])
        except Exception:
            found[key((operation, call, layout))] = traceback.format_exc(limit=-3)
    print(json.dumps(found))


@functools.cache
def outcome(quick):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={math.prod(MESH.values())}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "EV3X_NATIVE": "require"}
    done = subprocess.run([sys.executable, Path(__file__), str(quick)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not native.ensure("ev3x_score_stats"), reason="native targets are not in use here")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else pytest.mark.long, id=key(case)) for case in CASES]
)
def test_only_small_arrays_travel(case):
    if "explicit" in case[1] and tuple(map(int, jax.__version__.split(".")[:2])) < (0, 8):
        pytest.skip("jax < 0.8 cannot leave explicit axes to XLA for custom_partitioning")
    assert outcome(case in QUICK)[key(case)] == ""


if __name__ == "__main__":
    main(sys.argv[1] == "True")
