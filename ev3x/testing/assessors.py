"""What is demanded of assessors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import contract
from ..core.assess import Assessor
from ..core.task import Metric
from ..core.types import Assessment, Block, Outcome, PyTree, Question
from . import calibration, common, trees, worlds
from .bench import RoundBench, Split, because, fault, keys
from .checks import NothingToCheck, check, demand

BLOCKS = 2  # the most that are read
GAINS = (0.0, 0.15, -0.15, 0.4)  # of four contenders: the last is the best by far
BEST = len(GAINS) - 1
ALPHA = 0.05


class AssessorBench(RoundBench):
    """Four contenders of known worth against a reference; a tenth of the last block is masked."""

    role = "assessor"
    component: Assessor

    def __init__(self, component: Assessor, metrics: tuple[Metric, ...] | None = None) -> None:
        super().__init__(component, metrics=metrics)
        self.metrics = worlds.METRICS if metrics is None else metrics
        self.blocks = min(component.blocks, BLOCKS)

    def run(self, component: Any, case: PyTree, fixed: PyTree) -> PyTree:
        """The evidence of all blocks, whether it is enough, and what it says."""
        component.accept(self.metrics)
        evidence = self.evidence(component, case, range(self.blocks))
        ask = self.question(case)
        with because(self.changed(evidence, component.begin(case["eligible"].shape[0], self.metrics))):
            return {
                "evidence": evidence,
                "enough": component.enough(evidence, ask, self.metrics),
                "assessment": component.conclude(evidence, ask, self.metrics),
            }

    def evidence(self, component: Any, case: PyTree, blocks: Any) -> PyTree:
        """The evidence of these blocks."""
        evidence = empty = component.begin(case["eligible"].shape[0], self.metrics)
        for i in blocks:
            weights = None if case["weights"] is None else case["weights"][i]
            block = Block(case["scores"][i], case["reference"][i], weights, None, jnp.int32(i))
            with because(self.changed(evidence, empty)):
                evidence = component.observe(evidence, block, self.question(case), self.metrics)
        return evidence

    def changed(self, evidence: PyTree, empty: PyTree) -> contract.BoundaryError | None:
        """What `observe` made of another kind in this evidence than it was in that of no block."""
        return fault(lambda: contract.state(self.who, "observe", evidence, empty, "evidence", "begin"))

    def question(self, case: PyTree) -> Question:
        """What the assessor is asked."""
        return Question(case["key"], case["alpha"], case["aims"], case["eligible"])

    def draw(self, i: int) -> PyTree:
        """Other scores in every case."""
        n = self.component.block
        rng = np.random.default_rng(i)
        scores, reference = worlds.scores(rng, self.metrics, GAINS, 0.3, (self.blocks, n))
        mask = np.ones((self.blocks, n), np.float32)
        mask[-1, n - n // 10 :] = 0.0
        return {
            "key": keys(i, 1)[0],
            "alpha": jnp.float32(ALPHA),
            "aims": jnp.array([1.0 if m.maximize else -1.0 for m in self.metrics], jnp.float32),
            "eligible": jnp.ones(len(GAINS), bool),
            "scores": jnp.asarray(scores),
            "reference": jnp.asarray(reference),
            "weights": jnp.asarray(worlds.weights(self.metrics, mask)),
        }

    def states(self) -> Iterator[tuple[str, str, str, PyTree, PyTree]]:
        """The evidence, which a loop carries."""
        k = len(GAINS)
        empty = jax.eval_shape(lambda: self.component.begin(k, self.metrics))
        yield "evidence", "observe", "begin", empty, self.shape()["evidence"]

    def sharded(self, split: Split) -> tuple[PyTree, PyTree]:
        """Scores and weights divided along the examples."""
        case = self.inputs(0)
        long = {name: split.along(-1, case[name]) for name in ("scores", "reference", "weights")}
        return split.whole({n: x for n, x in case.items() if n not in long}) | long, ()

    def told(self, outcome: PyTree) -> PyTree:
        """All but the evidence, which is the assessor's own."""
        return {name: x for name, x in outcome.items() if name != "evidence"}

    def says(self, *, eagerly: bool = False, **other: Any) -> Assessment:
        """The assessment of case 0 with other entries; compiled, once for all of the same shapes, or eagerly."""
        run: Any = self.run if eagerly else self.jitted
        answer: Assessment = run(self.component, {**self.inputs(0), **other}, self.fixed)["assessment"]
        return jax.tree.map(np.asarray, answer)


@check(*common.SOUND)
def assessment_shapes(bench: AssessorBench) -> None:
    """An `Assessment` with the shapes and dtypes of its documentation, its winner among the contenders."""
    k, shape = len(GAINS), bench.shape()
    contract.assessment(bench.who, shape["assessment"], k, len(bench.metrics))
    enough = shape["enough"]
    have = f"{enough.dtype}{list(enough.shape)}"
    demand(have == "bool[]", "enough to be bool[]", have, "reduce with .all() or .any()")
    said = bench.says()
    within = -1 <= said.winner < k and set(said.outcome.tolist()) <= {int(o) for o in Outcome}
    demand(
        within, f"a winner of -1 ... {k - 1} and outcomes of Outcome", f"{said.winner}, {said.outcome}", "see types.py"
    )


@check(*common.SOUND)
def promise(bench: AssessorBench) -> None:
    """`promise` is a level above 0, and 1 where none is stated."""
    level = bench.component.promise
    demand(
        isinstance(level, float) and 0 < level <= 1, "a float above 0, 1 at most", repr(level), "state the error level"
    )


@check(*common.SOUND)
def zero_evidence(bench: AssessorBench) -> None:
    """`begin` is all zeros: it is what a device or host without a block adds."""
    empty = bench.component.begin(len(GAINS), bench.metrics)
    other = [x for x in jax.tree.leaves(empty) if np.any(trees.plain(x) != 0)]
    demand(not other, "zeros", f"{len(other)} leaves that are not", "shift what begins elsewhere, or keep logarithms")


@check(*common.SOUND)
def merge(bench: AssessorBench) -> None:
    """`merge` is the leafwise sum: devices and hosts add up their evidence with `psum`, which knows nothing else."""
    parts = [bench.evidence(bench.component, bench.inputs(i), range(1)) for i in (0, 1)]
    fault = trees.far(jax.tree.map(jnp.add, *parts), bench.component.merge(*parts), 1e-6)
    demand(fault is None, "a leafwise sum", fault, "leave `merge` as it is, and choose evidence that adds")


@check("zero_evidence", *common.SOUND)
def evidence_adds(bench: AssessorBench) -> None:
    """The evidence of two blocks observed in sequence is the sum of what each gives alone, to 1e-4."""
    case = bench.inputs(0)
    if bench.blocks == 1:  # a second block in the same place would not be one of this round
        parts = [bench.evidence(bench.component, case, range(1)), bench.component.begin(len(GAINS), bench.metrics)]
    else:
        parts = [bench.evidence(bench.component, case, [i]) for i in (0, 1)]
    together = bench.evidence(bench.component, case, range(len(parts[: bench.blocks])))
    fault = trees.far(jax.tree.map(jnp.add, *parts), together)
    demand(fault is None, "evidence that adds", fault, "keep sums, counts, or slots by block.index; no running maximum")


@check("assessment_shapes", "same_key_same_bits", *common.SOUND)
def masked(bench: AssessorBench) -> None:
    """Examples of weight 0 do not count, whatever their scores: a short last block is filled up with old examples."""
    case = bench.inputs(0)
    hidden = jnp.zeros_like(case["weights"]) == case["weights"]
    low = [m.low if np.isfinite(m.low) else -3.0 for m in bench.metrics]
    for value in (low, [jnp.nan] * len(low)):
        other = jnp.array(value, jnp.float32)[None, :, None]
        said = bench.says(
            scores=jnp.where(hidden[:, None], other[:, None], case["scores"]),
            reference=jnp.where(hidden, other, case["reference"]),
        )
        fault = trees.far(bench.says(), said)
        do = "jnp.where(w > 0, w * x, 0), as 0 * NaN is NaN; divide by the sum of the weights"
        demand(fault is None, "the same whatever masked scores are", fault, do)


@check("assessment_shapes", "same_key_same_bits", *common.SOUND)
def unweighted(bench: AssessorBench) -> None:
    """No weights mean equal ones: a block without a mask comes with `weights=None`."""
    if any(metric.kind == "set" for metric in bench.metrics):
        raise NothingToCheck("set-level metrics always come with weights")
    ones = bench.says(weights=jnp.ones_like(bench.inputs(0)["weights"]))
    fault = trees.far(ones, bench.says(eagerly=True, weights=None))
    demand(fault is None, "the same as with weights of 1", fault, "treat block.weights = None as ones")


@check("assessment_shapes", "same_key_same_bits", "evidence_adds", "masked", *common.SOUND)
def means(bench: AssessorBench) -> None:
    """`mean`, `reference` and `difference` are the weighted means that records and pictures show, to 1e-4."""
    case = jax.tree.map(
        lambda x: np.asarray(x, np.float64), {n: bench.inputs(0)[n] for n in ("scores", "reference", "weights")}
    )
    w = case["weights"]
    total = w.sum((0, 2))
    reference = (w * case["reference"]).sum((0, 2)) / total
    mean = (w[:, None] * case["scores"]).sum((0, 3)) / total
    said = bench.says()
    for name, want in (("reference", reference), ("mean", mean), ("difference", mean - reference)):
        fault = trees.far(want, np.asarray(getattr(said, name), np.float64))
        demand(fault is None, f"{name} to be the weighted mean", fault, "sum(w * score) / sum(w), over all blocks")


@check("assessment_shapes", "same_key_same_bits", *common.SOUND)
def bounds(bench: AssessorBench) -> None:
    """`lower` is at most `upper`, and both lie in the range of the metric: an accuracy of 1.0017 is none."""
    said = bench.says()
    low, high = (np.array([getattr(m, end) for m in bench.metrics]) for end in ("low", "high"))
    ordered = ~(said.lower > said.upper)
    within = ~((said.lower < low) | (said.upper > high))
    demand(ordered.all(), "lower <= upper", f"{said.lower} and {said.upper}", "swap them")
    demand(within.all(), f"bounds in {low} ... {high}", f"{said.lower} and {said.upper}", "jnp.clip to low and high")


@check("assessment_shapes", "same_key_same_bits", *common.SOUND)
def power(bench: AssessorBench) -> None:
    """A large true gain is found: the best contender by far wins.

    It is called better, too, unless its class says that it `ranks_only`: a method warns where such a one confirms.
    """
    said = bench.says()
    demand(said.winner == BEST, f"the best contender, {BEST}, to win", int(said.winner), "rank by the gain; see GAINS")
    if bench.component.promise == 1:  # power_at_level asks those that state one
        better = Outcome.BETTER in said.outcome[[BEST]]
        alone, do = bench.component.ranks_only, "let the class say ranks_only = True, or not, as is true"
        demand(better != alone, f"the best {'not ' * alone}to be called better", said.outcome, do)


@check("promise", "power", *common.SOUND, long=True)
def power_at_level(bench: AssessorBench) -> str:
    """At a stated level, nine of ten large gains are called better: whoever never says anything keeps every promise."""
    if bench.component.promise == 1:
        raise NothingToCheck("it states no error level (promise is 1)")
    notes = []
    for metrics in _sets(bench):
        rates = calibration.rates(
            bench.component, metrics, gain=0.8, levels=(bench.component.promise,), repeats=calibration.AT_ONCE
        )
        notes += [str(rate) for rate in rates]
        for rate in rates:
            demand(rate.hits >= 0.9 * rate.repeats, "nine of ten large gains called better", rate, "let it find gains")
    return "; ".join(notes)


@check("power", *common.SOUND)
def direction(bench: AssessorBench) -> None:
    """Of a metric that is minimised, and so has a negative aim, the lowest mean wins."""
    flipped = tuple(dataclasses.replace(m, maximize=not m.maximize) for m in bench.metrics)
    said = AssessorBench(bench.component, flipped).says(eagerly=True)
    demand(
        said.winner == BEST, f"the best contender, {BEST}, to win", int(said.winner), "go by the sign of question.aims"
    )


@check("power", *common.SOUND)
def ineligible(bench: AssessorBench) -> None:
    """Who is not eligible never wins: its value is -inf, and without anybody eligible the winner is -1."""
    said = bench.says(eligible=jnp.arange(len(GAINS)) != BEST)
    lost = said.winner not in (BEST, -1) and said.value[BEST] == -np.inf
    demand(lost, f"a winner other than {BEST}, whose value is -inf", f"{said.winner}, {said.value}", "mask by eligible")
    said = bench.says(eligible=jnp.zeros(len(GAINS), bool))
    demand(
        said.winner == -1, "winner -1 where nobody is eligible", int(said.winner), "jnp.where(can_win.any(), best, -1)"
    )


@check("power", "ineligible", *common.SOUND)
def non_finite(bench: AssessorBench) -> None:
    """NaN and infinite scores never win and are never better, and they leave the values of others as they are."""
    scores, clean = bench.inputs(0)["scores"], bench.says()
    others = np.arange(len(GAINS)) != BEST
    for bad in (np.nan, np.inf, -np.inf):
        for where in (np.s_[:, BEST], np.s_[0, BEST, :, 0]):
            said = bench.says(scores=scores.at[where].set(bad))
            demand(said.winner not in (BEST, -1), f"{bad} not to win", int(said.winner), "mask with jnp.isfinite")
            demand(
                said.outcome[BEST] != Outcome.BETTER, f"{bad} not to be better", said.outcome, "mask with jnp.isfinite"
            )
            kept = (clean.value[others] > -np.inf) == (said.value[others] > -np.inf)
            demand(kept.all(), "the other contenders to be able to win", said.value, "keep contenders apart")
    said = bench.says(scores=jnp.full_like(scores, jnp.nan))
    demand(said.winner == -1, "winner -1 where all are NaN", int(said.winner), "jnp.where(can_win.any(), best, -1)")


@check("assessment_shapes", "same_key_same_bits", *common.SOUND)
def single(bench: AssessorBench) -> None:
    """One contender alone is assessed too."""
    case = bench.inputs(0)
    said = bench.says(scores=case["scores"][:, BEST:], eligible=jnp.ones(1, bool))
    demand(said.winner == 0 and said.value.shape == (1,), "the only contender to win", said.winner, "allow K = 1")


@check("assessment_shapes", "same_key_same_bits", *common.SOUND)
def permutation(bench: AssessorBench) -> None:
    """Contenders in another order get the same assessment in that order, to 1e-4: a place in the list is no merit."""
    order = np.array([2, 0, 3, 1])
    said, other = bench.says(), bench.says(scores=bench.inputs(0)["scores"][:, order])
    alone = ("reference", "winner", "examples")
    for field in dataclasses.fields(Assessment):
        x, y = getattr(said, field.name), getattr(other, field.name)
        if field.name not in alone and x is not None:
            fault = trees.far(x[order], y)
            demand(fault is None, f"{field.name} in the other order", fault, "treat all contenders alike")
    demand(
        order[other.winner] == said.winner, "the same winner", int(order[other.winner]), "treat all contenders alike"
    )


@check("power_at_level", "merge", "evidence_adds", *common.SOUND, long=True)
def null_calibration(bench: AssessorBench) -> str:
    """Contenders that are no better than the reference are called better at the stated rate at most.

    Simulated at levels 0.2, 0.05 and 0.01, for a metric of 0 and 1 and a skewed one without a lower bound (or for the
    given metrics), with contenders that agree with the reference on none and on nine tenths of the examples. The exact
    99.9% interval of each rate must not lie above its level.
    """
    if bench.component.promise == 1:
        raise NothingToCheck("it states no error level (promise is 1)")
    worst: list[calibration.Rate] = []
    for metrics in _sets(bench):
        for copied in calibration.COPIED:
            worst += calibration.rates(bench.component, metrics, copied=copied)
    for rate in worst:
        told = f"called better at {rate}"
        demand(
            rate.interval[0] <= rate.level,
            f"a false 'better' at level {rate.level:g} at most",
            told,
            "correct the test",
        )
    return "; ".join(str(rate) for rate in sorted(worst, key=lambda r: -r.hits / r.repeats / r.level)[:2])


CHECKS = (
    *common.ALWAYS,
    *common.IN_A_ROUND,
    assessment_shapes,
    promise,
    zero_evidence,
    merge,
    evidence_adds,
    masked,
    unweighted,
    means,
    bounds,
    power,
    power_at_level,
    direction,
    ineligible,
    non_finite,
    single,
    permutation,
    null_calibration,
    common.sharded,
)


def _sets(bench: AssessorBench) -> list[tuple[Metric, ...]]:
    """The metrics that are simulated: those given, or each of the default ones alone.

    For an assessor that refuses metrics without a range, the unbounded one is replaced.
    """
    if (given := bench.given["metrics"]) is not None:
        return [given]
    sets: list[tuple[Metric, ...]] = []
    for metric in worlds.METRICS:
        try:
            bench.component.accept((metric,))
        except ValueError:
            metric = worlds.SHARE
        sets.append((metric,))
    return sets
