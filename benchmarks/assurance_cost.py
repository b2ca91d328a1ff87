"""How much of a round goes into the arithmetic of assurance: evidence, looks, verdicts, and the budget.

    python benchmarks/assurance_cost.py [--quick]

The round is the dearest for it: MLP-256 (40-256-10) of benchmarks/round.py with 16 candidates of 100 steps, all of them
scored on 32,768 examples to select, and a confirmation that reads all of its 32,768 in 128 looks (nothing is ever
proven at its level, and it never gives up). The arithmetic alone is the same folds over recorded scores. Calls are
interleaved in one process. Prints a table and writes benchmarks/results/assurance_cost.json.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import problems
import timing
from measure import write

import ev3x
from ev3x import wrong_sums
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.assessors.bernstein import Bernstein
from ev3x.builtin.assessors.betting import Betting
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.assess import Assessor

wrong_sums.spare()

K, EXAMPLES, GOAL = 16, 32_768, 0.03
# Nothing is proven at this level, and no candidate given up: all blocks are read, with a look after each.
ANYTIME: dict[str, Any] = {"level": 1e-30, "futility": 1e-30}
CONFIRM = {
    "betting": Betting(**ANYTIME),
    "bernstein": Bernstein(**ANYTIME),
    "paired": Paired(block=2048, blocks=16),
}
SELECT = MeanBounds(block=2048, blocks=EXAMPLES // 2048)
Scores = tuple[jax.Array, jax.Array]
METRICS = (ev3x.Metric("accuracy", problems.correct, binary=True),)


def fold(assessor: Assessor, scores: jax.Array, reference: jax.Array, alpha: Any, asked: int) -> ev3x.Assessment:
    """The assessment of recorded scores [B, K, 1, n] against [B, 1, n], as a round asks about the first of them."""
    question = ev3x.Question(jax.random.key(0), jnp.float32(alpha), jnp.ones(1), jnp.arange(scores.shape[1]) < asked)

    def more(carry: tuple[jax.Array, Any]) -> jax.Array:
        return (carry[0] < assessor.blocks) & ~assessor.enough(carry[1], question, METRICS)

    def add(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        i, evidence = carry
        block = ev3x.Block(scores[i], reference[i], None, None, i)
        return i + 1, assessor.observe(evidence, block, question, METRICS)

    _, evidence = jax.lax.while_loop(more, add, (jnp.int32(0), assessor.begin(scores.shape[1], METRICS)))
    return assessor.conclude(evidence, question, METRICS)


@functools.partial(jax.jit, static_argnums=0)
def arithmetic(confirm: Assessor, to_select: Scores, to_confirm: Scores) -> Any:
    """Both assessments and the budget of a round."""
    budget, level = OverRun(), jnp.float32(confirm.promise)
    state = budget.init()
    selection = fold(SELECT, to_select[0], to_select[1], 1.0, K)
    confirmation = fold(confirm, to_confirm[0], to_confirm[1], budget.offer(state, level), 1)
    return selection, confirmation, budget.settle(state, level, confirmation)


def recorded(k: int, blocks: int) -> Scores:
    """Scores of models that are all right on seven of ten examples."""
    rng = np.random.default_rng(k)
    shape = (blocks, 1, EXAMPLES // blocks)
    reference, scores = (rng.random(s) < 0.7 for s in (shape, (blocks, k, *shape[1:])))
    return jnp.asarray(scores, jnp.float32), jnp.asarray(reference, jnp.float32)


def rounds(confirm: Assessor) -> Any:
    """A call of a whole round."""
    task = problems.TASKS["MLP-256"]
    rates = 0.05 * 0.9 ** np.arange(K)
    optimizers = [ev3x.Optimizer("sgd", learning_rate=float(rate), momentum=0.9) for rate in rates]
    proposer = Trajectories(losses=(ev3x.Loss("xent"),), optimizers=tuple(optimizers), length=100)
    method = ev3x.Method((proposer,), SELECT, confirm, (Promote(),), OverRun())
    evolver = ev3x.Evolver(task, method, problems.splits(task, fresh=True))
    return functools.partial(evolver.rounds, evolver.init(0), 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="few repeats")
    repeats = 5 if parser.parse_args().quick else 30
    rows = []
    print(f"{'confirm':10}{'round':>9}{'arithmetic':>12}   share of the round [95% interval]")
    for name, confirm in CONFIRM.items():
        whole = rounds(confirm)
        alone = functools.partial(arithmetic, confirm, recorded(K, SELECT.blocks), recorded(2, confirm.blocks))
        seconds = timing.interleaved({"round": whole, "arithmetic": alone}, repeats)
        share = timing.median(seconds["arithmetic"] / seconds["round"])
        medians = {part: float(np.median(s)) for part, s in seconds.items()}
        rows.append({"confirm": name, **medians, "share": share, "goal": GOAL, "reached": share["median"] <= GOAL})
        ms = [f"{1e3 * medians[part]:.1f} ms" for part in ("round", "arithmetic")]
        interval = f"[{100 * share['low']:.2f}, {100 * share['high']:.2f}]"
        verdict = "ok" if rows[-1]["reached"] else "NOT REACHED"
        print(f"{name:10}{ms[0]:>9}{ms[1]:>12}   {100 * share['median']:.2f}% {interval} {verdict}", flush=True)
    print(write("assurance_cost", {"repeats": repeats, "candidates": K, "examples": EXAMPLES, "rows": rows}))


if __name__ == "__main__":
    main()
