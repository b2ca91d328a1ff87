"""How often a confirmation promotes a candidate that is no better than the incumbent, and one that is.

    python benchmarks/null.py [--repeats 20000]

A candidate copies the incumbent's outcome on a fraction of the examples (they are as alike as models of one run are)
and is drawn anew on the others. Every repeat is one confirmation stage as a round runs it: blocks of scores, evidence,
verdict. Prints a table with exact (Clopper-Pearson) 95% intervals and writes benchmarks/results/null.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools

import jax
import jax.numpy as jnp
import scipy.stats
from measure import write

import ev3x
from ev3x import wrong_sums
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.published import Published
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.budgets.per_round import PerRound

wrong_sums.spare()

BLOCK = 2048
AT_ONCE = 100
RULES = {
    "paired, per round": (Paired(block=BLOCK), PerRound()),
    "paired, over the run (round 1)": (Paired(block=BLOCK), OverRun()),
    "published, z = 1.96": (Published(block=BLOCK, z=1.96), PerRound()),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A metric, the candidate's true gain, the fraction of outcomes that it copies, and the examples it is tried on."""

    metric: str
    gain: float
    copied: float
    n: int

    @property
    def metrics(self) -> tuple[ev3x.Metric, ...]:
        return (ev3x.Metric(self.metric, _never, binary=self.metric == "accuracy"),)

    def draw(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The scores of the incumbent and the candidate, f32[n] each; the candidate is better by `gain` on average."""
        own, fresh, copy = jax.random.split(key, 3)
        extra = self.gain / (1 - self.copied)
        if self.metric == "accuracy":
            old, new = _bernoulli(own, 0.7, self.n), _bernoulli(fresh, 0.7 + extra, self.n)
        else:  # a log-likelihood: skewed, without a lower bound
            old = -jax.random.exponential(own, (self.n,))
            new = -jax.random.exponential(fresh, (self.n,)) + extra
        return old, jnp.where(_bernoulli(copy, self.copied, self.n) > 0, old, new)


def _never(predictions: object, batch: object) -> None:
    raise AssertionError("scores are drawn, not computed")


def _bernoulli(key: jax.Array, p: float, n: int) -> jax.Array:
    return (jax.random.bits(key, (n,), jnp.uint16) < round(p * 2**16)).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=("rules", "case", "repeats"))
def promotions(rules: tuple[str, ...], case: Case, repeats: int) -> jax.Array:
    """How often each of the rules calls the candidate better: i32[rules]."""
    blocks = case.n // BLOCK

    def once(key: jax.Array) -> jax.Array:
        reference, scores = case.draw(key)
        better = []
        for rule in rules:
            assessor, budget = RULES[rule]
            assessor = dataclasses.replace(assessor, blocks=blocks)
            alpha = budget.offer(budget.init(), jnp.float32(assessor.promise))
            question = ev3x.Question(key, alpha, jnp.ones(1), jnp.ones(1, bool))
            evidence = assessor.begin(1, case.metrics)
            for i in range(blocks):
                at = slice(i * BLOCK, (i + 1) * BLOCK)
                block = ev3x.Block(scores[None, None, at], reference[None, at], None, None, jnp.int32(i))
                evidence = assessor.observe(evidence, block, question, case.metrics)
            better.append(assessor.conclude(evidence, question, case.metrics).outcome[0] == ev3x.Outcome.BETTER)
        return jnp.stack(better)

    keys = jax.random.split(jax.random.key(0), (repeats // AT_ONCE, AT_ONCE))
    return jax.lax.map(jax.vmap(once), keys).sum((0, 1), dtype=jnp.int32)


def interval(hits: int, repeats: int) -> tuple[float, float]:
    """The Clopper-Pearson 95% interval."""
    found = scipy.stats.binomtest(hits, repeats).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def level(rule: str) -> float | None:
    """The stated error level of a rule; None where there is none."""
    assessor, budget = RULES[rule]
    return float(budget.offer(budget.init(), jnp.float32(assessor.promise))) if assessor.promise < 1 else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=20_000)
    given = parser.parse_args()
    gains = {"accuracy": (0.0, -0.002, 0.01), "likelihood": (0.0, -0.01, 0.05)}
    rows = []
    print(f"{'metric':11}{'gain':>7}{'copied':>8}{'n':>7}  {'rule':31}{'level':>7}{'promoted':>10}   95% interval")
    for metric, n in ((m, n) for m in gains for n in (2048, 8192)):
        for gain, copied in ((g, c) for g in gains[metric] for c in (0.0, 0.8, 0.98)):
            case = Case(metric, gain, copied, n)
            if not 0 <= 0.7 + gain / (1 - copied) <= 1:
                continue  # so unlike and so alike at once cannot be
            for rule, hits in zip(RULES, promotions(tuple(RULES), case, given.repeats).tolist(), strict=True):
                low, high = interval(hits, given.repeats)
                row = {**dataclasses.asdict(case), "rule": rule, "level": level(rule), "promoted": hits / given.repeats}
                rows.append({**row, "low": low, "high": high})
                stated = "-" if row["level"] is None else f"{row['level']:.4f}"
                rate = f"{hits / given.repeats:10.4f}   [{low:.4f}, {high:.4f}]"
                print(f"{metric:11}{gain:7g}{copied:8g}{n:7}  {rule:31}{stated:>7}{rate}")
    print(write("null", {"repeats": given.repeats, "rows": rows}))


if __name__ == "__main__":
    main()
