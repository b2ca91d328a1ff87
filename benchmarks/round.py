"""How long a round takes: against EV3 step by step (A), and against a scan written by hand (B).

    python benchmarks/round.py [--quick]

A is EV3's own example: 2 features, 2 classes, 8 hidden units; 3 temperatures x 2 optimizers, each trained for
100 steps at batch 32; 128 examples to select, 2,048 to decide. The opponents are those of baselines.py: their
batches are drawn beforehand, ours in the round. B trains 4 learning rates on a model of MNIST-1D's shape.
All do the same gradient steps on the same batches, score the same examples and end with the same parameters,
which is checked. Calls are interleaved in one process; a ratio is the median over pairs with a 95% interval.
Prints a table and writes benchmarks/results/round.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import baselines
import jax
import jax.numpy as jnp
import optax
import problems
import timing
from measure import write
from rich.console import Console
from rich.table import Table

import ev3x
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.published import Published
from ev3x.builtin.budgets.per_round import PerRound
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.loop import named

Array = jax.Array
PyTree = Any

Z = 1.96
DECIDE = 2048
MOMENTUM = 0.9
RATES = (0.1, 0.05, 0.025, 0.0125)
PAIRS = list(
    itertools.product(
        (0.5, 1.0, 4.0),
        (ev3x.Optimizer("sgd", learning_rate=0.1), ev3x.Optimizer("sgd", learning_rate=0.01, momentum=0.95)),
    )
)


@dataclasses.dataclass(frozen=True)
class Work:
    """The size of a round, how many of them a call runs, and how often calls are repeated."""

    steps: int
    select: int
    rounds: int
    repeats: int


def evolver(
    task: problems.Dense,
    data: ev3x.Splits,
    losses: list[ev3x.Loss],
    optimizers: list[ev3x.Optimizer],
    work: Work,
) -> ev3x.Evolver:
    """Our side: built-in components only, and the rule of the paper."""
    method = ev3x.Method(
        proposers=(Trajectories(losses=tuple(losses), optimizers=tuple(optimizers), length=work.steps),),
        select=MeanBounds(block=work.select),
        confirm=Published(block=DECIDE, blocks=1, z=Z),
        adapters=(Promote(),),
        budget=PerRound(),
    )
    return ev3x.Evolver(task, method, data)


def drawn(data: ev3x.Splits, state: ev3x.State, steps: int, r: Array | int) -> PyTree:
    """What round r of this state draws from its explore split."""
    return data.explore.draw(named(jax.random.fold_in(state.key, r), "trajectories"), steps)


def step_by_step(work: Work) -> tuple[list[dict[str, Any]], float]:
    """Case A: a row for each opponent and way of calling, and the largest difference of any parameter."""
    task = problems.TASKS["2-8-2"]
    losses = [ev3x.Loss("xent", temperature=t) for t in dict.fromkeys(t for t, _ in PAIRS)]
    optimizers = list(dict.fromkeys(o for _, o in PAIRS))
    ours: dict[str, Callable[[], Any]] = {}
    apart = 0.0
    for kind, fresh in (("4,096 examples", False), ("fresh examples", True)):
        data = problems.splits(task, fresh=fresh)
        mine = evolver(task, data, losses, optimizers, work)
        start = mine.init(0)
        feed = [_blocks(data, start, work, r) for r in range(5)]
        end, _ = mine.rounds(start, len(feed))
        for make in baselines.BASELINES.values():
            other = _opponent(task, make, start)
            for blocks in feed:
                other.run(*blocks)
            apart = max(apart, difference(end.model.current["params"], other.current))
            apart = max(apart, difference(end.model.incumbent["params"], other.stable))
        ours[f"{work.rounds} rounds a call, {kind}"] = functools.partial(mine.rounds, start, work.rounds)
        ours[f"1 round a call, {kind}"] = functools.partial(mine.rounds, start, 1)

    blocks = feed[0]
    theirs = {}
    for name, make in baselines.BASELINES.items():
        other = _opponent(task, make, start)
        theirs[name] = functools.partial(_run, other, blocks)
    seconds = timing.interleaved(ours | theirs, work.repeats)
    for name in ours:
        seconds[name] /= 1 if name.startswith("1 ") else work.rounds
    return [_row("A", a, b, seconds[a], seconds[b]) for a in ours for b in theirs], apart


def by_hand(name: str, work: Work) -> tuple[list[dict[str, Any]], float]:
    """Case B: a row for each way of calling, and the largest difference of any parameter."""
    task = problems.TASKS[name]
    data = problems.splits(task)
    optimizers = [ev3x.Optimizer("sgd", learning_rate=r, momentum=MOMENTUM) for r in RATES]
    mine = evolver(task, data, [ev3x.Loss("xent")], optimizers, work)
    start = mine.init(0)
    rows = []
    for n in (work.rounds, 1):
        calls = {
            "ours": functools.partial(mine.rounds, start, n),
            "by hand": functools.partial(scanned, task, work, n, data, start),
        }
        seconds = {side: s / n for side, s in timing.interleaved(calls, work.repeats).items()}
        way = f"{n} round{'s' * (n > 1)} a call"
        rows.append(_row(f"B, {name}", way, "scan by hand", seconds["ours"], seconds["by hand"]))
    model = mine.rounds(start, work.rounds)[0].model
    current, incumbent, _ = scanned(task, work, work.rounds, data, start)[0]
    apart = difference((model.current["params"], model.incumbent["params"]), (current, incumbent))
    return rows, apart


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def scanned(task: problems.Dense, work: Work, n: int, data: ev3x.Splits, start: ev3x.State) -> PyTree:
    """Case B by hand: nested scans, no framework, the faster layouts for training and for scoring."""
    sources = (data.explore.source, data.assess.source, data.decide.source)
    train_x, assess_x, decide_x = (s.tree for s in sources if isinstance(s, ev3x.Arrays))
    rates = jnp.array(RATES)

    def loss(params: PyTree, batch: problems.Batch) -> Array:
        return problems.xent(task.predict({"params": params}, batch), batch, 1.0).mean()

    def train(rate: Array, params: PyTree, opt_state: PyTree, indices: Array) -> PyTree:
        optimizer = optax.sgd(rate, momentum=MOMENTUM)

        def step(carry: PyTree, index: Array) -> tuple[PyTree, None]:
            params, opt_state = carry
            gradient = jax.grad(loss)(params, jax.tree.map(lambda x: x[index], train_x))
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, (params, opt_state), indices)[0]

    def right(params: PyTree, batch: problems.Batch) -> Array:
        return problems.correct(task.predict({"params": params}, batch), batch).astype(jnp.float32)

    def block(tree: problems.Batch, i: Array, size: int) -> problems.Batch:
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * size, size), tree)

    def round_(carry: PyTree, r: Array) -> tuple[PyTree, PyTree]:
        current, incumbent, opt_states = carry
        indices = drawn(data, start, work.steps, r)
        ends, moved = jax.vmap(train, (0, None, 0, None))(rates, current, opt_states, indices)

        batch = block(assess_x, r % (4096 // work.select), work.select)
        means = jax.lax.map(lambda p: right(p, batch).mean(), ends)
        reference = right(current, batch).mean()
        best = means.argmax()
        winner = jax.tree.map(lambda x: x[best], ends)

        batch = block(decide_x, r, DECIDE)
        three = jax.tree.map(lambda *x: jnp.stack(x), winner, current, incumbent)
        scores = jax.lax.map(lambda p: right(p, batch), three)
        mean, off = scores.mean(1), Z * scores.std(1, ddof=1) / DECIDE**0.5
        better = mean[0] - off[0] > mean[2] + off[2]
        worse = mean[0] + off[0] < mean[2] - off[2]
        incumbent = jax.tree.map(lambda a, b: jnp.where(better, a, b), winner, incumbent)
        current = jax.tree.map(lambda a, b: jnp.where(worse, a, b), incumbent, winner)
        won = (jnp.arange(len(RATES)) == best) & ~worse
        kept = jax.tree.map(lambda a, b: jnp.where(won.reshape(-1, *(1,) * (a.ndim - 1)), a, b), moved, opt_states)
        return (current, incumbent, kept), (means, reference, mean, off, better)

    params = start.model.current["params"]
    opt_states = jax.vmap(lambda rate: optax.sgd(rate, momentum=MOMENTUM).init(params))(rates)
    return jax.lax.scan(round_, (params, params, opt_states), jnp.arange(n))


def difference(a: PyTree, b: PyTree) -> float:
    """The largest absolute difference between any two leaves."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in pairs)


def _blocks(data: ev3x.Splits, start: ev3x.State, work: Work, r: int) -> tuple[list[PyTree], PyTree, PyTree]:
    indices = drawn(data, start, work.steps, r)
    explore = [data.explore.batch(indices[i]) for i in range(work.steps)]
    return explore, data.assess.block(r, work.select)[0], data.decide.block(jnp.int32(r), DECIDE)[0]


def _opponent(task: problems.Dense, make: Callable[..., baselines.Step], start: ev3x.State) -> baselines.StepByStep:
    pairs = [(t, o.build()) for t, o in PAIRS]
    steps = [make(task, t, o) for t, o in pairs]
    return baselines.StepByStep(task, steps, [o for _, o in pairs], start.model.current["params"], Z)


def _run(other: baselines.StepByStep, blocks: Any) -> PyTree:
    other.run(*blocks)
    return other.current


def _row(case: str, ours: str, theirs: str, a: timing.Times, b: timing.Times) -> dict[str, Any]:
    return {
        "case": case,
        "ours": ours,
        "theirs": theirs,
        "ours, ms": timing.median(1e3 * a),
        "theirs, ms": timing.median(1e3 * b),
        "theirs / ours": timing.median(b / a),
        "ours / theirs": timing.median(a / b),
    }


def _lines(rows: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        faster = row["case"] == "A"
        ratio = row["theirs / ours" if faster else "ours / theirs"]
        middle, low, high = (f"{ratio[x]:.{1 if faster else 3}f}" for x in ("median", "low", "high"))
        text = f"{middle} [{low}, {high}] {'x faster' if faster else 'x the time'}"
        ms = [f"{row[side]['median']:.2f}" for side in ("ours, ms", "theirs, ms")]
        yield row["case"], row["ours"], row["theirs"], *ms, text


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5 pairs instead of 40")
    quick = parser.parse_args().quick
    works = {
        "A": Work(steps=100, select=128, rounds=20, repeats=5 if quick else 40),
        "MLP-256": Work(steps=100, select=1024, rounds=10, repeats=5 if quick else 40),
        "CNN": Work(steps=20, select=1024, rounds=2, repeats=5 if quick else 40),
    }
    rows, apart = [], {}
    for name, work in works.items():
        found, apart[name] = step_by_step(work) if name == "A" else by_hand(name, work)
        rows += found
    table = Table("case", "ours", "theirs", "ours, ms", "theirs, ms", "median ratio, 95% interval")
    for line in _lines(rows):
        table.add_row(*line)
    Console(width=160).print(table)
    print("largest difference of any parameter:", {n: f"{d:.1e}" for n, d in apart.items()})
    if not all(d < 1e-3 for d in apart.values()):
        raise SystemExit("the two sides did not do the same work")
    settings = {name: dataclasses.asdict(work) for name, work in works.items()}
    print(write("round", {"settings": settings, "difference": apart, "rows": rows}))


if __name__ == "__main__":
    main()
