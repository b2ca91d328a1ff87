"""The confirmation of statistics that are no means: medians, quantiles, ratios, AUROC."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtr, ndtri
from typing_extensions import Doc

from ...component import Count, Fault, Kit, Positive
from ...core.assess import Assessor
from ...core.objectives import find
from ...core.task import Metric
from ...core.types import Array, Assessment, Block, Outcome, Question
from ...ops import bootstrap_means
from ...ops.bootstrap_means import resample_weights
from ...stats.moments import Moments, pool
from ...stats.moments import begin as no_moments
from ...stats.moments import observe as more_moments
from . import weighted
from .base import conclude, own_bounds
from .paired import t_quantile

FEWEST = 20  # on either side of a quantile, of positives, of negatives; a mean or ratio needs twice as many
GROUPS = 200  # of the jackknife
_AT_ONCE = 1 << 20  # weighted values in memory at a time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sample:
    """The examples themselves, with a slot for each block; R is 2 for a ratio, else 1."""

    moments: Moments
    scores: Array  # f32[blocks, K, R, n], 0 where the weight is 0
    reference: Array  # f32[blocks, R, n]
    weights: Array  # f32[blocks, n]
    positive: Array | None  # f32[blocks, n]


@dataclasses.dataclass(frozen=True)
class Bootstrap(Assessor):
    """Better when a statistic of the contender beats the incumbent's on the same resampled examples.

    The statistic of the contender minus that of the reference is computed anew on examples drawn with replacement, the
    same ones for both (Efron, Annals of Statistics 7:1, 1979; from 1,024 examples on, by independent Poisson counts).
    The p-value is the smallest level whose one-sided interval leaves out zero: the interval of percentiles, or BCa
    (Efron, JASA 82:171, 1987), corrected for bias and for skewness, the latter by a jackknife that leaves out one
    example at a time, or one of 200 groups of neighbours where there are more than 200 examples. Percentiles are the
    default: at level .05, BCa called 8% of contenders better that are not, with medians of 200 examples of models that
    agree on four in five, and 9% with a ratio with heavy tails (percentiles: 3% and 7%).

    For the tested metric, `mean`, `reference`, `difference` and the bounds are those of the statistic; other metrics
    have their means, with the bounds of `paired`. A contender's own bounds of the statistic are percentiles. Worse
    means that the p-value of the opposite is at most `level`; equivalent, that the 1 - 2 * level interval of the
    difference lies within the metric's margin.

    The level is approximate: it becomes exact as the number of examples grows, for a smooth statistic. Count on it for
    medians from 200 examples on, and simulate your own case (`ev3x.testing`, benchmarks) before you rely on a small
    level. The test proves nothing with fewer than 20 examples on either side of a quantile, fewer than 20 positive or
    20 negative ones for AUROC, or fewer than 40 for a mean or ratio; nor with weights other than 0 and 1; nor where the
    statistic of some resample is undefined. No p-value is below 1 / (resamples + 1): where a budget over the run offers
    less in its later rounds, nothing can be promoted then. Raise `resamples`, or confirm with e-values.
    """

    block: Annotated[Count, Doc("examples scored at a time")] = 2048
    blocks: Annotated[Count, Doc("blocks read in a round")] = 4
    level: Annotated[Positive, Doc("the chance of a false promotion that the budget shares out")] = 0.05
    statistic: Annotated[
        Literal["mean", "median", "quantile", "ratio", "auroc"], Doc("what the models are compared by")
    ] = "median"
    q: Annotated[Positive | None, Doc("which quantile, between 0 and 1; for the statistic quantile")] = None
    metric: Annotated[str | None, Doc("the metric whose values are looked at; none named: the first")] = None
    denominator: Annotated[str | None, Doc("the metric whose sum a ratio divides by; for the statistic ratio")] = None
    label: Annotated[str, Doc("the entry of a batch that is 1 for positives, for auroc: the metric predicts it")] = "y"
    interval: Annotated[
        Literal["percentile", "bca"], Doc("percentile: as resampled; bca: corrected for bias and skewness")
    ] = "percentile"
    resamples: Annotated[Count, Doc("how often examples are drawn; no p-value is below 1 / (resamples + 1)")] = 1999

    kit = Kit({"statistic": "mean", "block": 256, "blocks": 2, "resamples": 99})

    def check(self) -> list[Fault]:
        """Faults of the options: a level too small for the resamples, `q` or `denominator` with another statistic."""
        faults = [Fault(("level",), f"must be below 0.5, got {self.level}")] if self.level >= 0.5 else []
        if (self.resamples + 1) * self.level < 1:
            few = f"must be at least 1 / level - 1 = {1 / self.level - 1:g}, got {self.resamples}"
            faults.append(Fault(("resamples",), few))
        if self.q is not None and self.q >= 1:
            faults.append(Fault(("q",), f"must be below 1, got {self.q}"))
        for name, value, of in (("q", self.q, "quantile"), ("denominator", self.denominator, "ratio")):
            if (value is None) == (self.statistic == of):
                text = f"is for statistic = {of!r}, which needs it; got {value!r} and statistic = {self.statistic!r}"
                faults.append(Fault((name,), text))
        return faults

    @property
    def promise(self) -> float:
        """The option `level`."""
        return self.level

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for metrics without values of each example, or fewer examples than can prove anything."""
        for i in (tested := self._tested(metrics)):
            if metrics[i].kind == "set":
                raise ValueError(
                    f"bootstrap: metric {metrics[i].name!r} is set-level: it has one value a block, and examples are "
                    "what is resampled; name a metric of examples, or confirm with `paired` on several blocks"
                )
            if metrics[i].constant:
                raise ValueError(f"bootstrap: metric {metrics[i].name!r} is constant: resampling tells nothing of it")
        if len(set(tested)) < len(tested):
            raise ValueError(f"bootstrap: denominator: must be another metric than {metrics[tested[0]].name!r}")
        read, q = self.block * self.blocks, self._q
        if read * min(q, 1 - q) < FEWEST:
            least = int(np.ceil(FEWEST / min(q, 1 - q)))
            raise ValueError(f"bootstrap: block * blocks must be at least {least} to prove anything, got {read}")

    def assumes(self, metrics: tuple[Metric, ...]) -> tuple[str, ...]:
        """The assumptions of the bootstrap, and the smallest possible p-value."""
        names = [metrics[i].name for i in self._tested(metrics)]
        what = {"quantile": f"{self.q:g}-quantile" if self.q else "", "auroc": "AUROC"}.get(self.statistic)
        return (
            "the examples are independent draws that chose neither model",
            "the sample is fixed: one look",
            f"{' / '.join(names)}, {what or self.statistic}: approximate ({self.interval} bootstrap): many examples, "
            "and a statistic that changes smoothly with them",
            f"no p-value is below 1/{self.resamples + 1}: at a smaller level nothing is promoted",
        )

    def leads(self, metrics: tuple[Metric, ...]) -> int:
        """Index of the metric that is tested."""
        return self._tested(metrics)[0]

    def begin(self, k: int, metrics: tuple[Metric, ...]) -> Sample:
        """No evidence: an empty slot for every block."""
        r, n, zeros = len(self._tested(metrics)), (self.blocks, self.block), jnp.zeros
        return Sample(
            moments=no_moments(self.blocks, k, len(metrics)),
            scores=zeros((self.blocks, k, r, self.block), jnp.float32),
            reference=zeros((self.blocks, r, self.block), jnp.float32),
            weights=zeros(n, jnp.float32),
            positive=zeros(n, jnp.float32) if self.statistic == "auroc" else None,
        )

    def observe(self, evidence: Sample, block: Block, question: Question, metrics: tuple[Metric, ...]) -> Sample:
        """The evidence with the examples of one more block, in its slot."""
        tested = np.array(self._tested(metrics))
        reference = block.reference[tested]
        # An example counts where all of its metrics do.
        weights = jnp.ones_like(reference[0]) if block.weights is None else block.weights[tested].min(0)

        def add(slot: Array, x: Array) -> Array:
            return slot.at[block.index].add(x)

        return Sample(
            moments=more_moments(evidence.moments, block),
            scores=add(evidence.scores, jnp.where(weights > 0, block.scores[:, tested], 0.0)),
            reference=add(evidence.reference, jnp.where(weights > 0, reference, 0.0)),
            weights=add(evidence.weights, weights),
            positive=None if evidence.positive is None else add(evidence.positive, self._positive(block)),
        )

    def conclude(self, evidence: Sample, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """The verdicts and p-values."""
        p, tested = pool(evidence.moments), self._tested(metrics)
        metric, i = metrics[tested[0]], tested[0]
        found = self._resample(evidence, question.key)
        sure = found.sure & p.counted[np.array(tested)].all()
        sign = 1.0 if metric.maximize else -1.0
        up, down = (jnp.where(sure, self._p_value(found, way), 1.0) for way in (sign, -sign))
        low, high = (jnp.where(sure, end, far) for end, far in zip(self._ends(found), (-jnp.inf, jnp.inf), strict=True))
        verdicts = [
            (up <= question.alpha, Outcome.BETTER),
            (down <= self.level, Outcome.WORSE),
            ((low > -metric.margin) & (high < metric.margin), Outcome.EQUIVALENT),
        ]
        # Other metrics than the tested one are shown with the bounds of their means; they decide nothing.
        t = t_quantile(self.level, p.examples - 1)[None]
        off = t * p.difference_error
        lower, upper = own_bounds(p, t * p.error, self.level, metrics)
        shown = dataclasses.replace(
            p,
            mean=p.mean.at[:, i].set(found.own),
            difference=p.difference.at[:, i].set(found.difference),
            reference=p.reference.at[i].set(found.reference),
        )
        own = _order_statistics(found.resampled, jnp.array([[self.level, 1 - self.level]], jnp.float32))
        ends = [jnp.where(sure, own[:, 0], -jnp.inf), jnp.where(sure, own[:, 1], jnp.inf)]
        return conclude(
            shown,
            dataclasses.replace(question, aims=jnp.zeros(len(metrics), jnp.float32).at[i].set(sign)),
            self._ranges(metrics),
            rank=sign * found.difference,
            value=sign * found.difference,
            lower=lower.at[:, i].set(ends[0]),
            upper=upper.at[:, i].set(ends[1]),
            outcome=jnp.select([v[0] for v in verdicts], [v[1] for v in verdicts], Outcome.UNDECIDED),
            p_values=jnp.full(p.mean.shape, jnp.nan).at[:, i].set(up),
            difference_lower=(p.difference - off).at[:, i].set(low),
            difference_upper=(p.difference + off).at[:, i].set(high),
        )

    @property
    def _q(self) -> float:
        return 0.5 if self.q is None else self.q

    def _tested(self, metrics: tuple[Metric, ...]) -> tuple[int, ...]:
        named = self.metric if self.metric is not None else metrics[0].name
        return find("bootstrap", (named,) if self.denominator is None else (named, self.denominator), metrics)

    def _ranges(self, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        """The metrics, where the tested one has the range of the statistic instead of the range of its values."""
        range_ = {"auroc": (0.0, 1.0), "ratio": (-np.inf, np.inf)}.get(self.statistic)
        if range_ is None:
            return metrics
        i = self.leads(metrics)
        other = Metric(metrics[i].name, metrics[i].fn, low=range_[0], high=range_[1])
        return (*metrics[:i], other, *metrics[i + 1 :])

    def _positive(self, block: Block) -> Array:
        batch, shape = block.batch, block.reference.shape[-1:]
        if not isinstance(batch, Mapping) or self.label not in batch:
            have = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"bootstrap: label: the batch must have {self.label!r}, got {have}; name what has the labels"
            )
        labels = jnp.asarray(batch[self.label])
        if labels.shape != shape:
            raise ValueError(f"bootstrap: label: {self.label!r} must be one per example, {shape}, got {labels.shape}")
        return (labels.astype(jnp.float32) == 1).astype(jnp.float32)

    def _resample(self, sample: Sample, key: Array) -> _Resampled:
        """The statistic on the examples, on all resamples, and without each group."""
        weights = sample.weights.reshape(-1)
        mask, n = weights > 0, weights.size
        models = jnp.concatenate([sample.scores, sample.reference[:, None]], 1)  # [blocks, K + 1, R, n]
        values = jnp.moveaxis(models, 0, 2).reshape(*models.shape[1:3], n)
        # A model with a score that is not finite proves nothing, and must not spoil the sums of the others.
        fit = jnp.isfinite(values).all((1, 2))
        values = jnp.where(fit[:, None, None], values, 0.0)
        count, shift = mask.sum().astype(jnp.float32), jnp.float32(0)
        enough = count * min(self._q, 1 - self._q) >= FEWEST
        if self.statistic == "mean":  # float32 would lose the difference of large means
            shift = (values[-1, 0] * weights).sum() / jnp.maximum(weights.sum(), 1.0)
            values = jnp.where(mask, values - shift, 0.0)
        if sample.positive is not None:
            positive = sample.positive.reshape(-1) > 0
            sides = jnp.stack([(positive & mask).sum(), (~positive & mask).sum()])
            enough = (sides >= FEWEST).all()
            statistic = weighted.aurocs(values[:, 0], mask, positive)
        elif self.statistic in ("median", "quantile"):
            statistic = weighted.quantiles(values[:, 0], mask, self._q, -(-n // GROUPS))
        elif self.statistic == "ratio":
            statistic = weighted.ratios(values[:, 0], values[:, 1])
        else:
            statistic = weighted.means(values[:, 0])

        # All models are resampled with the same draws, so that noise common to a pair cancels in its difference.
        each = statistic(weights[None])[0]
        seeds = jax.random.bits(key, (2,), jnp.uint32)
        if self.statistic in ("mean", "ratio"):  # linear in the weights: one native pass for all resamples
            sums = bootstrap_means(values.reshape(-1, n), seeds, self.resamples, mask=mask)
            rows = sums.reshape(self.resamples, *values.shape[:2])
            drawn = rows[..., 0] / rows[..., 1] if self.statistic == "ratio" else rows[..., 0]
        else:
            drawn = _in_parts(
                lambda at: statistic(resample_weights(seeds, at.astype(jnp.uint32), n, mask)),
                self.resamples,
                values.shape[0] * n,
            )
        acceleration = jnp.zeros(each.shape[0] - 1)
        if self.interval == "bca":
            acceleration = _acceleration(statistic, weights, values.shape[0] * n)
        own = jnp.where(fit, each + shift, jnp.nan)
        difference = jnp.where(fit[-1], each[:-1] - each[-1:], jnp.nan)
        differences = drawn[:, :-1] - drawn[:, -1:]
        return _Resampled(
            own=own[:-1],
            reference=own[-1],
            difference=jnp.where(fit[:-1], difference, jnp.nan),
            resampled=(drawn[:, :-1] + shift).T,
            differences=differences.T,
            acceleration=acceleration,
            sure=enough & fit[:-1] & fit[-1] & jnp.isfinite(differences).all(0) & jnp.isfinite(drawn[:, :-1]).all(0),
        )

    def _p_value(self, r: _Resampled, way: float) -> Array:
        """The one-sided p-value of way * difference > 0: f32[K]."""
        gains, gain = way * r.differences, (way * r.difference)[:, None]
        against = (~(gains > 0)).sum(-1)
        # The sample itself counts as one resample, so that no p-value is 0 (Davison and Hinkley 1997, 4.2).
        share = (1 + against).astype(jnp.float32) / (self.resamples + 1)
        if self.interval == "percentile":
            return share
        # Of the bound at level Phi(z): Phi(z0 + (z0 + z) / (1 - a (z0 + z))), Efron (1987), 2.3; here solved for z.
        z0, a = _bias(gains, gain), way * r.acceleration
        beyond = ndtri(jnp.minimum(share, 1 - 0.5 / (self.resamples + 1))) - z0
        stretch = 1 + a * beyond
        p = jnp.maximum(ndtr(beyond / stretch - z0), 1 / (self.resamples + 1))
        return jnp.where((stretch > 0) & (against < self.resamples), p, 1.0)

    def _ends(self, r: _Resampled) -> tuple[Array, Array]:
        """The lower and upper end of the difference's interval, each at `level`: f32[K]."""
        shares = jnp.array([[self.level, 1 - self.level]], jnp.float32)
        if self.interval == "bca":
            z0 = _bias(r.differences, r.difference[:, None])[:, None]
            z = z0 + ndtri(shares)
            shrink = 1 - r.acceleration[:, None] * z
            shares = jnp.where(shrink > 0, ndtr(z0 + z / shrink), jnp.where(z < 0, 0.0, 1.0))
        ends = _order_statistics(r.differences, shares)
        return ends[:, 0], ends[:, 1]


@dataclasses.dataclass(frozen=True)
class _Resampled:
    own: Array  # f32[K], NaN where a score is not finite
    reference: Array  # f32[]
    difference: Array  # f32[K]
    resampled: Array  # f32[K, resamples]
    differences: Array  # f32[K, resamples]
    acceleration: Array  # f32[K]
    sure: Array  # bool[K], whether anything may be proven


def _in_parts(f: Callable[[Array], Array], number: int, size: int) -> Array:
    """f applied to the indices 0 ... number - 1 in batches: f32[number, C], where f maps i32[b] to f32[b, C].

    A batch is as large as `_AT_ONCE` allows when each index takes `size` floats.
    """
    once = max(1, min(number, _AT_ONCE // size))
    starts = np.arange(0, number, once, dtype=np.int32)
    parts = lax.map(lambda start: f(start + lax.iota(jnp.int32, once)), jnp.asarray(starts))
    return parts.reshape(len(starts) * once, -1)[:number]


def _acceleration(statistic: weighted.Statistic, weights: Array, size: int) -> Array:
    """The skewness, divided by six, of what each group of examples adds to the difference: f32[K]; 0 without spread.

    The jackknife of Efron (1987), 6.6, with groups of neighbours in place of examples where there are many.
    """
    n = weights.size
    each = -(-n // GROUPS)
    number = -(-n // each)
    group = jnp.arange(n, dtype=jnp.int32) // each

    def without(groups: Array) -> Array:
        return statistic(jnp.where(group[None] == groups[:, None], 0.0, weights[None]))

    left = _in_parts(without, number, size)
    left = left[:, :-1] - left[:, -1:]
    there = (jnp.zeros(number).at[group].add(weights) > 0)[:, None]
    mean = jnp.where(there, left, 0.0).sum(0) / jnp.maximum(there.sum(), 1).astype(jnp.float32)
    adds = jnp.where(there, mean[None] - left, 0.0)  # groups without any example that counts add nothing
    scale = jnp.sqrt(jnp.square(adds).sum(0))
    return ((adds / jnp.where(scale > 0, scale, 1.0)[None]) ** 3).sum(0) / 6


def _bias(values: Array, at: Array) -> Array:
    """Phi^-1 of the share of resampled values f32[K, resamples] below f32[K, 1], equal ones by half: f32[K]."""
    below = (values < at).sum(-1).astype(jnp.float32) + 0.5 * (values == at).sum(-1).astype(jnp.float32)
    return ndtri((below + 0.5) / (values.shape[-1] + 1))


def _order_statistics(values: Array, shares: Array) -> Array:
    """The quantiles f32[K, 2] of values f32[K, resamples] at these shares f32[1 or K, 2], interpolated.

    The i-th smallest value, i = 1, 2, ..., has the share i / (resamples + 1), as for p-values; beyond the first and the
    last the quantile is infinite.
    """
    number = values.shape[-1]
    place = jnp.broadcast_to(shares * (number + 1), (values.shape[0], 2))
    low = jnp.clip(jnp.floor(place), 1, max(number - 1, 1))
    ordered = jnp.sort(values, -1)
    a, b = (jnp.take_along_axis(ordered, (i - 1).astype(jnp.int32), 1) for i in (low, jnp.minimum(low + 1, number)))
    # Float32 places of levels such as 1 / (resamples + 1) are good to a thousandth.
    ends = a + jnp.clip(place - low, 0, 1) * (b - a)
    return jnp.where(place < 0.999, -jnp.inf, jnp.where(place > number + 0.001, jnp.inf, ends))
