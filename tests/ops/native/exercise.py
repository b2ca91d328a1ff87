"""Calls native code of a build folder: `exercise.py FOLDER` every target of its `_native` module, in place of the
installed one; `exercise.py FOLDER BUG` its probe, with one of the bugs that a sanitizer must find.

To be run in a process of its own, for a sanitizer comes first among its libraries or not at all.
"""

import ctypes
import importlib.util
import itertools
import sys
import threading
from pathlib import Path

import jax
import numpy as np

BUGS = ("none", "write beyond", "read beyond", "overflow", "race")  # probe.cc
MODULE = "ev3x.ops._native"
NAMED = {"bootstrap_means": ("mask", 2)}  # from which operand


def load(folder: Path) -> None:
    """From here on ev3x finds this module instead of its own."""
    (path,) = folder.glob("_native*.so")
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec and spec.loader
    sys.modules[MODULE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def probe(folder: Path, bug: str) -> None:
    """One call of the probe. XLA's buffers are heap blocks of their own; 16 tasks are slow enough for all threads."""
    library = ctypes.CDLL(str(folder / "libprobe.so"))
    jax.ffi.register_ffi_target("ev3x_probe", jax.ffi.pycapsule(library.ev3x_probe), platform="cpu")
    x = np.arange(1, 17, dtype=np.int32)
    call = jax.ffi.ffi_call("ev3x_probe", jax.ShapeDtypeStruct(x.shape, x.dtype))
    y = call(x, bug=np.int64(BUGS.index(bug)))
    print(np.asarray(y).tolist())


def floats(rng, *shape):
    """Ties, and what is not finite, among ordinary numbers."""
    x = rng.normal(size=shape).astype(np.float32)
    kind = rng.integers(0, 20, shape)
    for value, code in ((np.nan, 0), (np.inf, 1), (-np.inf, 2), (1e-40, 3), (0.5, 4), (0.5, 5), (3e38, 6)):
        x = np.where(kind == code, np.float32(value), x)
    return x if rng.random() < 0.5 else rng.integers(0, 3, shape).astype(np.float32)


def cases(rng):
    """(operation, static arguments, operands): the edges of every target, then shapes beyond blocks and tasks."""
    from ev3x import ops

    edges = (0, 1, 2, 3, 17, 63, 257)
    rows, kinds = itertools.cycle(((), (2,), (0,), (3,))), itertools.cycle(("float32", "bfloat16", "bool"))
    for n in (*edges, 4097, 65_537, 300_001, 300_001, 300_001):
        k, m, batch, kind = (
            int(rng.integers(1, 4)),
            int(rng.integers(1, 3)),
            next(rows) if n < 300_000 else (),
            next(kinds),
        )
        scores, reference = floats(rng, *batch, k, m, n), floats(rng, *batch, m, n)
        x, y = (a > 0 if kind == "bool" else jax.numpy.asarray(a, kind) for a in (scores, reference))
        operands = (x, y, rng.integers(0, 3, reference.shape).astype(np.float32))[: 2 + n % 2]
        yield ops.score_stats, {"z": 1.5}, operands
        yield ops.score_moments, {}, operands
    for n in (*edges, 2000, 30_000):
        k, batch = int(rng.integers(0, 4)), next(rows)
        yield ops.rank_metrics, {}, (floats(rng, *batch, k, n), rng.random((*batch, n)) < rng.choice([0, 0.1, 0.5, 1]))
        seeds = rng.integers(0, 2**32, (*batch, 2), dtype=np.uint32)
        mask = [rng.random((*batch, n)) < 0.7] * (n % 2)
        for scheme in ("poisson", "multinomial"):
            sizes = {"resamples": 300 if n > 1000 else n % 7, "scheme": scheme}
            yield ops.bootstrap_means, sizes, (floats(rng, *batch, k, min(n, 3000)), seeds, *mask[: n < 3000])
        yield ops.pareto_ranks, {}, (floats(rng, *batch, min(n, 1500), int(rng.integers(1, 4))),)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def exercise(folder: Path) -> None:
    """Every target, with every instruction set, from two threads at a time, which must come to the same bits."""
    load(folder)
    from ev3x.ops import native

    module = importlib.import_module(MODULE)
    assert Path(str(module.__file__)).parent == folder, module.__file__
    records = native.status()
    assert records and {r.state for r in records} == {"native"}, records
    met, count = set(), 0
    for operation, arguments, operands in cases(np.random.default_rng(0)):
        named, from_ = NAMED.get(operation.__name__, ("", len(operands)))
        given, extra = operands[:from_], dict.fromkeys([named], operands[from_]) if operands[from_:] else {}
        run = jax.jit(lambda *a, f=operation, k=arguments, **e: f(*a, **k, **e))
        compiled = run.lower(*given, **extra).compile()
        met |= {r.target for r in records if r.target in str(compiled.as_text())}
        for isa in module.isas():
            module.use_isa(isa)
            results: list[list[bytes]] = []

            def once(compiled=compiled, given=given, extra=extra, results=results):
                results.append(bits(compiled(*given, **extra)))

            threads = [threading.Thread(target=once) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(results) == 2 and results[0] == results[1], (operation, isa)
            count += 1
    missing = {r.target for r in records} - met
    assert not missing, f"no call of {missing}"
    print(f"{count} calls of {len(met)} targets in {folder}")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if len(sys.argv) > 2:
        probe(where, sys.argv[2])
    else:
        exercise(where)
