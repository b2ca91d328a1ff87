"""What is promised over a whole run, and what it costs: false promotions, power, examples, and the score reported.

    python benchmarks/assurance.py [--repeats 1000]

A metric of 0 and 1; the incumbent's accuracy is .70, a candidate copies its outcome on a fraction c of the examples and
is drawn anew on the others. Assessors and budgets are the defaults. Confirmation is on fresh examples, so that its
verdict depends on the candidate that was chosen, and not on how. All intervals are 95%: Clopper-Pearson for rates,
normal for means. Writes benchmarks/results/assurance.json; the exit status is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import functools
import time
from typing import Any

import confirmations
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from confirmations import Floats, Integers, Read, World
from measure import write
from null import Case
from numpy.typing import NDArray

import ev3x
from ev3x import wrong_sums
from ev3x.builtin.assessors.anytime import Anytime
from ev3x.builtin.assessors.bernstein import Bernstein
from ev3x.builtin.assessors.betting import Betting
from ev3x.builtin.assessors.bootstrap import Bootstrap
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.assessors.published import Published
from ev3x.builtin.budgets.elond import Elond
from ev3x.builtin.budgets.lord import Lord
from ev3x.builtin.budgets.over_run import OverRun
from ev3x.builtin.budgets.saffron import Saffron

wrong_sums.spare()

ANYTIME = {"betting": Betting(), "bernstein": Bernstein()}
BUDGETS = {"over_run": OverRun(), "lord": Lord(), "saffron": Saffron(), "elond": Elond()}
BOOTSTRAP = Bootstrap(statistic="mean")
LEVEL, CANDIDATES = Betting().level, 16
ROUNDS = 100, 1_000
PUBLISHED = {f"published, z = {z:g}, n = {n:,}": (Published(z=z), n) for z in (1.96, 1.0) for n in (8_192, 32_768)}
NOBODY: dict[str, Any] = dict.fromkeys(ev3x.Assessment.__dataclass_fields__)

Row = dict[str, Any]


def rate(hits: int, repeats: int) -> Row:
    """A rate with its limits."""
    found = scipy.stats.binomtest(hits, repeats).proportion_ci(0.95, "exact")
    return {"rate": hits / repeats, "low": float(found.low), "high": float(found.high)}


def mean(x: Floats | Integers) -> Row:
    """A mean with its limits."""
    half = 1.96 * float(np.std(x, ddof=1)) / len(x) ** 0.5
    return {"mean": float(np.mean(x)), "low": float(np.mean(x)) - half, "high": float(np.mean(x)) + half}


def levels(rounds: int) -> Floats:
    """The level of each round by `over_run`: f32[rounds]."""
    return np.asarray(LEVEL * OverRun().share(jnp.arange(1, rounds + 1)))


def promotions(rule: str, world: World, alpha: Floats, seed: int) -> tuple[NDArray[np.bool_], Integers]:
    """Whom a rule promotes at these levels, and the examples it reads: bool and i64 of the shape of alpha."""
    rng, flat = np.random.default_rng(seed), alpha.ravel()
    if rule in ANYTIME:
        assessor = ANYTIME[rule]
        said = confirmations.confirm(assessor, flat, world.reader(rng, assessor.block))
        better, n = said.better, said.blocks * assessor.block
    else:
        fixed, size = PUBLISHED.get(rule, (Paired(), Paired().block * Paired().blocks))
        wins, losses = world.chances
        both = world.accuracy - losses
        drawn = rng.multinomial(size, [wins, losses, both, 1 - wins - losses - both], size=flat.shape)
        won, lost, right = (np.asarray(x, np.float32) for x in drawn.T[:3])
        if isinstance(fixed, Paired):
            better = confirmations.paired(fixed, flat, won, lost)
        else:
            better = confirmations.published(fixed, right + lost, won, lost, size)
        n = np.full(flat.shape, size)
    return better.reshape(alpha.shape), n.reshape(alpha.shape)


def any_false(rule: str, gain: float, copied: float, repeats: int, rounds: int = ROUNDS[-1], seed: int = 0) -> Row:
    """P(any false promotion) in 100 rounds and in all of them, of `over_run`; mean examples of a round."""
    alpha, hits, read = levels(rounds), np.zeros(2, int), 0.0
    for first in range(0, repeats, 100):  # runs at once
        some = min(100, repeats - first)
        better, n = promotions(rule, World(gain, copied), np.tile(alpha, (some, 1)), seed + 1 + first)
        hits += better[:, : ROUNDS[0]].any(1).sum(), better.any(1).sum()
        read += n.sum()
    found = {name: rate(int(x), repeats) for name, x in zip(("early", "all"), hits, strict=True)}
    return {"rule": rule, "gain": gain, "copied": copied, "examples": read / repeats / rounds} | found


@functools.partial(jax.jit, static_argnums=0)
def _bootstrap(case: Case, key: jax.Array, alpha: jax.Array) -> jax.Array:
    """Whether the bootstrap of the mean calls a candidate better, on scores that are drawn one by one."""
    reference, scores = case.draw(key)
    question = ev3x.Question(key, alpha, jnp.ones(1), jnp.ones(1, bool))
    evidence = BOOTSTRAP.begin(1, case.metrics)
    for i in range(BOOTSTRAP.blocks):
        at = slice(i * BOOTSTRAP.block, (i + 1) * BOOTSTRAP.block)
        block = ev3x.Block(scores[None, None, at], reference[None, at], None, None, jnp.int32(i))
        evidence = BOOTSTRAP.observe(evidence, block, question, case.metrics)
    return BOOTSTRAP.conclude(evidence, question, case.metrics).outcome[0] == ev3x.Outcome.BETTER


def bootstrap(gain: float, copied: float, repeats: int) -> Row:
    """P(any promotion in 100 rounds), and in the first; levels of later ones are below what resamples can tell."""
    alpha = levels(ROUNDS[0])
    alpha = alpha[alpha * (BOOTSTRAP.resamples + 1) >= 1]
    size = BOOTSTRAP.block * BOOTSTRAP.blocks
    keys = jax.random.split(jax.random.key(6), (repeats, len(alpha)))
    case = Case("accuracy", gain, copied, size)
    better = np.array([[bool(_bootstrap(case, k, a)) for k, a in zip(run, alpha, strict=True)] for run in keys])
    found = {"any": rate(int(better.any(1).sum()), repeats), "first": rate(int(better[:, 0].sum()), repeats)}
    return {"gain": gain, "copied": copied, "repeats": repeats, "rounds": len(alpha), "examples": size} | found


def power(rule: str, gain: float, round_: int, repeats: int, copied: float = 0.8) -> Row:
    """P(promotion) and mean examples in a round."""
    better, n = promotions(rule, World(gain, copied), np.full(repeats, levels(round_)[-1]), round_)
    found = {"power": rate(int(better.sum()), repeats), "examples": mean(n)}
    return {"rule": rule, "gain": gain, "copied": copied, "round": round_} | found


@functools.partial(jax.jit, static_argnums=0)
def _offer(budget: Any, state: Any) -> jax.Array:
    return jax.vmap(lambda s: budget.offer(s, jnp.float32(LEVEL)))(state)


@functools.partial(jax.jit, static_argnums=0)
def _settle(budget: Any, state: Any, alpha: jax.Array, outcome: jax.Array, p_value: jax.Array) -> Any:
    def one(state: Any, alpha: jax.Array, outcome: jax.Array, p_value: jax.Array) -> Any:
        said = {"outcome": outcome[None], "p_value": p_value[None]}
        return budget.settle(state, alpha, ev3x.Assessment(**NOBODY | said))

    return jax.vmap(one)(state, alpha, outcome, p_value)


def shares(name: str, assessor: Anytime, repeats: int, copied: float, rounds: int = ROUNDS[0]) -> Row:
    """The expected share of false promotions where a candidate in twenty gains 1 pt, and what is found of the gains.

    The candidate that is confirmed has the best mean of 16 on 2,048 fresh examples, on which all meet one incumbent.
    """
    rng, budget, n = np.random.default_rng(3), BUDGETS[name], 2048
    worlds = np.array([World(0.0, copied), World(0.01, copied)])
    win, lose = np.array([w.chances for w in worlds]).T / [[1 - worlds[0].accuracy], [worlds[0].accuracy]]
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (repeats, *x.shape)), budget.init())
    found, false, gains, read = (np.zeros(repeats) for _ in range(4))
    for _ in range(rounds):
        gain = (rng.random((repeats, CANDIDATES)) < 0.05).astype(int)
        right = rng.binomial(n, worlds[0].accuracy, (repeats, 1))
        ahead = rng.binomial(n - right, win[gain]) - rng.binomial(right, lose[gain])
        best = gain[np.arange(repeats), ahead.argmax(1)]
        alpha = np.asarray(_offer(budget, state))
        said = confirmations.confirm(assessor, alpha, _mixed(rng, worlds[best], assessor.block))
        state = _settle(budget, state, alpha, said.outcome.astype(np.int32), said.p_value)
        found += said.better
        false += said.better & (best == 0)
        gains += best
        read += said.blocks * assessor.block
    row = {"budget": name, "copied": copied, "share": mean(false / np.maximum(found, 1))}
    ratio = float(false.mean() / np.maximum(found, 1).mean())
    power = float((found - false).sum() / gains.sum())
    return row | {"ratio": ratio, "power": power, "promotions": mean(found), "examples": mean(read / rounds)}


def _mixed(rng: np.random.Generator, worlds: NDArray[np.object_], n: int) -> Read:
    """Reads fresh blocks of n examples, of another world for each trial."""

    def read(some: Integers, start: int, stop: int) -> tuple[Floats, Floats]:
        wins, losses = np.empty((2, len(some), stop - start), np.float32)
        for world in set(worlds[some]):
            at = worlds[some] == world
            wins[at], losses[at] = world.draw(rng, n, (int(at.sum()), stop - start))
        return wins, losses

    return read


def _recorded(wins: Integers, losses: Integers, position: Integers) -> Read:
    """Reads what stands there, from each trial's position on; after the last block the first comes again."""

    def read(some: Integers, start: int, stop: int) -> tuple[Floats, Floats]:
        at = some[:, None], (position[some, None] + np.arange(start, stop)) % wins.shape[1]
        return wins[at].astype(np.float32), losses[at].astype(np.float32)

    return read


def inflation(repeats: int, copied: float, *, reuse: bool, decide: int = 2048, rounds: int = ROUNDS[0]) -> Row:
    """Reported less true score of the incumbent after null rounds, on a decide split of so many examples.

    Reported is the mean that it had when it was last confirmed, or stood against a contender. The counts of every block
    are a chain: a contender loses some of the examples that its incumbent is right on, and wins some of the others.
    """
    rng, truth = np.random.default_rng(4), World(0.0, copied).accuracy
    block = Betting().block
    there = decide // block
    assessor = Betting(blocks=there) if reuse else Betting()  # in a round no example may be read twice
    right = rng.binomial(block, truth, (repeats, there))
    position, confirmed, promoted = np.zeros((3, repeats), int)
    told = np.full(repeats, np.nan)
    everyone, alpha = np.arange(repeats)[:, None], levels(rounds + 1)
    for _ in range(rounds):
        losses = rng.binomial(right, (1 - copied) * (1 - truth))
        wins = rng.binomial(block - right, (1 - copied) * truth)
        left = None if reuse else there - position
        said = confirmations.confirm(assessor, alpha[confirmed], _recorded(wins, losses, position), left)
        right += np.where(said.better[:, None], wins - losses, 0)
        order = (position[:, None] + np.arange(there)) % there
        counted = np.arange(there) < said.blocks[:, None]
        total = (right[everyone, order] * counted).sum(1) / np.maximum(block * said.blocks, 1)
        told = np.where(said.blocks > 0, total, told)
        position += said.blocks
        confirmed += said.blocks > 0
        promoted += said.better
    name = f"betting, decide split of {decide:,}" + (", in-sample: Decide(reuse=True)" if reuse else "")
    return {"rule": name, "copied": copied, "excess": mean(told - truth), "promotions": float(promoted.mean())}


def argmax(repeats: int, copied: float, candidates: int = 8, n: int = 2048, rounds: int = ROUNDS[0]) -> Row:
    """The same where the best of 8 on one reused holdout takes the place of the incumbent if it is ahead there."""
    rng, truth = np.random.default_rng(5), World(0.0, copied).accuracy
    right, promoted = rng.binomial(n, truth, repeats), np.zeros(repeats)
    for _ in range(rounds):
        losses = rng.binomial(right[:, None], (1 - copied) * (1 - truth), (repeats, candidates))
        ahead = (rng.binomial(n - right[:, None], (1 - copied) * truth, losses.shape) - losses).max(1)
        right, promoted = right + np.maximum(ahead, 0), promoted + (ahead > 0)
    found = {"excess": mean(right / n - truth), "promotions": float(promoted.mean())}
    return {"rule": f"argmax on one holdout of {n:,}", "copied": copied} | found


class Goals:
    """What was to be reached, and whether all of it was."""

    def __init__(self) -> None:
        self.missed = 0

    def __call__(self, met: bool) -> str:
        self.missed += not met
        return "ok" if met else "NOT"


def shown(x: Row, digits: int = 4) -> str:
    """A figure with its interval."""
    value = x["rate"] if "rate" in x else x["mean"]
    return f"{value:,.{digits}f} [{x['low']:,.{digits}f}, {x['high']:,.{digits}f}]"


def table_of_false_promotions(repeats: int, goals: Goals) -> list[Row]:
    """Rounds in which all candidates are equal to the incumbent, or all worse."""
    print(f"\nP(any false promotion), over_run, level {LEVEL:g}; the lower limit must not exceed it")
    print("| rule | gain | c | in 100 rounds | in 1,000 rounds | mean examples | |\n|---|---|---|---|---|---|---|")
    rows = []
    rules = [*ANYTIME, "paired", *(r for r in PUBLISHED if "8,192" in r)]
    for rule, gain, copied in ((r, g, c) for r in rules for g in (0.0, -0.002) for c in (0.0, 0.8, 0.98)):
        row = any_false(rule, gain, copied, repeats)
        rows.append(row)
        ok = goals(max(row["early"]["low"], row["all"]["low"]) <= LEVEL) if "published" not in rule else ""
        print(
            f"| {rule} | {100 * gain:+.1f} pt | {copied:g} | {shown(row['early'])} | {shown(row['all'])} "
            f"| {row['examples']:,.0f} | {ok} |",
            flush=True,
        )
    return rows


# By gain and round: the least power, and the most examples.
POWER_GOALS = {(0.01, 1): (0.99, 8_000), (0.01, 100): (0.90, 23_000), (-0.01, 1): (0.0, 2_500)}


def table_of_power(repeats: int, goals: Goals) -> list[Row]:
    """What becomes of candidates with true gains, and without."""
    print("\nPower, c = .8, at most 32,768 examples")
    print("| rule | gain | nth round | promoted | mean examples | |\n|---|---|---|---|---|---|")
    rows = []
    for rule, gain, round_ in (
        (r, g, t) for r in (*ANYTIME, "paired") for g in (0.01, 0.005, 0.0, -0.01) for t in (1, 20, 100)
    ):
        row = power(rule, gain, round_, repeats)
        rows.append(row)
        least, most = POWER_GOALS.get((gain, round_), (0.0, np.inf))
        wanted = rule == "betting" and (gain, round_) in POWER_GOALS
        ok = goals(row["power"]["rate"] >= least and row["examples"]["mean"] <= most) if wanted else ""
        said = f"| {shown(row['power'])} | {shown(row['examples'], 0)} | {ok} |"
        print(f"| {rule} | {100 * gain:+.1f} pt | {round_} {said}", flush=True)
    for rule, gain in ((r, g) for r in PUBLISHED for g in (0.01, 0.005, 0.0, -0.01)):
        rows.append(power(rule, gain, 1, repeats))
        print(f"| {rule} | {100 * gain:+.1f} pt | any | {shown(rows[-1]['power'])} | {PUBLISHED[rule][1]:,} | |")
    return rows


def table_of_bootstrap(repeats: int, goals: Goals) -> list[Row]:
    """A fixed sample that is resampled, on few repeats: a confirmation takes some 25 ms."""
    print(f"\nBootstrap of the mean, {BOOTSTRAP.resamples:,} resamples, over_run; {repeats} runs")
    print("| gain | c | any promotion in 100 rounds | in the first | examples | |\n|---|---|---|---|---|---|")
    rows = []
    for gain, copied in ((0.0, 0.0), (0.0, 0.8), (0.0, 0.98), (0.01, 0.8)):
        row = bootstrap(gain, copied, repeats)
        rows.append(row)
        ok = "" if gain else goals(row["any"]["low"] <= LEVEL)
        said = f"{shown(row['any'], 3)} | {shown(row['first'], 3)} | {row['examples']:,}"
        print(f"| {100 * gain:+.1f} pt | {copied:g} | {said} | {ok} |", flush=True)
    return rows


def table_of_shares(repeats: int, goals: Goals) -> list[Row]:
    """The budgets that earn back, beside the family-wise one."""
    print(
        f"\nShare of false promotions in 100 rounds, betting, level {LEVEL:g}; a candidate in 20 gains 1 pt, others 0"
    )
    print("| budget | c | expected share (FDR) | E[false] / E[all or 1] | gains found | promotions | mean examples | |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name in BUDGETS:
        row = shares(name, Betting(), repeats, 0.8)
        rows.append(row)
        ok = goals(row["share"]["low"] <= LEVEL)
        print(
            f"| {name} | {row['copied']:g} | {shown(row['share'])} | {row['ratio']:.4f} | {row['power']:.3f} "
            f"| {shown(row['promotions'], 1)} | {shown(row['examples'], 0)} | {ok} |",
            flush=True,
        )
    return rows


def table_of_inflation(repeats: int, goals: Goals) -> list[Row]:
    """How far the reported score is from the truth."""
    print("\nReported less true score after 100 null rounds, in points")
    print("| rule | c | excess | promotions | |\n|---|---|---|---|---|")
    rows = []
    for copied in (0.0, 0.8, 0.95, 0.98):
        clean = [inflation(repeats, copied, reuse=False, decide=n) for n in (2_048, 32_768)]
        others = [inflation(repeats, copied, reuse=True), argmax(repeats, copied)]
        for row in clean + others:
            rows.append(row)
            excess = {k: 100 * v for k, v in row["excess"].items()}
            ok = goals(abs(excess["mean"]) <= 0.5) if row in clean else ""
            print(f"| {row['rule']} | {copied:g} | {shown(excess, 3)} | {row['promotions']:.3f} | {ok} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=1_000, help="of runs; single rounds: ten times that")
    repeats = parser.parse_args().repeats
    if wrong_sums.wrong():
        raise SystemExit(f"this process computes some sums wrongly: {wrong_sums.advice()}")
    goals, began = Goals(), time.perf_counter()
    results = {
        "repeats": repeats,
        "power": table_of_power(10 * repeats, goals),
        "inflation": table_of_inflation(repeats, goals),
        "shares": table_of_shares(repeats, goals),
        "bootstrap": table_of_bootstrap(max(repeats // 5, 20), goals),
        "false_promotions": table_of_false_promotions(repeats, goals),
        "seconds": time.perf_counter() - began,
    }
    print(f"\n{write('assurance', results)}, {results['seconds']:.0f} s, goals missed: {goals.missed}")
    raise SystemExit(goals.missed > 0)


if __name__ == "__main__":
    main()
