"""Candidates ranked by how often lexicase selection would choose them."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
from annotated_types import Ge, Le
from typing_extensions import Doc

from ev3x import Assessment, Assessor, Block, Kit, Metric, Outcome, Question, ops
from ev3x.component import Count, Names, Real, unknown

from .shares import MOST, selection_shares

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cases:
    """The scores themselves, a slot for each block, so that merging is a sum. Slots not filled weigh nothing."""

    scores: Array  # f32[blocks, K, M, n]
    reference: Array  # f32[blocks, M, n]
    weights: Array  # f32[blocks, M, n]


@dataclasses.dataclass(frozen=True)
class Lexicase(Assessor):
    """The candidate that wins the most lexicase tournaments, in which every example of every metric is a case.

    A candidate that is best where all others fail wins those tournaments that begin there, however bad its mean: so
    specialists are chosen that selection by means drops. The value of a candidate is its share of the tournaments, an
    estimate of the chance that lexicase selection draws it; of equal shares the first candidate wins. Only eligible
    candidates with finite means take part.

    Cases count alike: an example with weight 0 is none, of others the weight does not matter, and metrics have none
    here. A set-level metric is one case a block. For selection only: shares of tournaments are no evidence of a better
    mean, so the outcome is undecided for all that can win, and nothing is promoted where this assessor is to confirm.
    The scores of all candidates on all cases are held until the end, 4 K M n bytes.
    """

    ranks_only = True
    weighted = False
    # In blocks of 32, shares of tournaments need not favour the best mean, as `direction` demands.
    kit = Kit({"block": 64, "tournaments": 256})

    block: Annotated[Count, Doc("examples scored at a time")] = 1024
    blocks: Annotated[Count, Doc("blocks read in a round")] = 1
    tournaments: Annotated[Count, Le(MOST), Doc("random orders of the cases that shares are estimated from")] = 1024
    epsilon: Annotated[
        Real | None,
        Ge(0),
        Doc("how far behind the best one stays in; none: each case's median absolute deviation"),
    ] = None
    metrics: Annotated[Names, Doc("the metrics whose values are cases; none named: all")] = ()

    def accept(self, metrics: tuple[Metric, ...]) -> None:
        """Raise ValueError for metrics that there are not."""
        self._places(metrics)

    def leads(self, metrics: tuple[Metric, ...]) -> int:
        """The first of the metrics whose values are cases."""
        return self._places(metrics)[0]

    def begin(self, k: int, metrics: tuple[Metric, ...]) -> Cases:
        """Empty slots for every block."""
        row = (self.blocks, len(metrics), self.block)
        return Cases(jnp.zeros((self.blocks, k, *row[1:])), jnp.zeros(row), jnp.zeros(row))

    def observe(self, evidence: Cases, block: Block, question: Question, metrics: tuple[Metric, ...]) -> Cases:
        """The cases with those of one more block in its slot."""
        weights = jnp.ones_like(block.reference) if block.weights is None else block.weights
        more = Cases(block.scores, block.reference, weights)
        return jax.tree.map(lambda slots, x: slots.at[block.index].set(x), evidence, more)

    def conclude(self, evidence: Cases, question: Question, metrics: tuple[Metric, ...]) -> Assessment:
        """All candidates by their shares of the tournaments."""
        scores, reference, weights = (_in_a_row(x) for x in (evidence.scores, evidence.reference, evidence.weights))
        stats = ops.score_stats(scores, reference, weights)
        places = jnp.array(self._places(metrics))
        signs = jnp.array([1.0 if m.maximize else -1.0 for m in metrics])[places]
        can_win = question.eligible & jnp.isfinite(stats.mean[:, places]).all(1)
        cases = scores[:, places] * signs[None, :, None]
        share = selection_shares(
            cases.reshape(cases.shape[0], -1),
            jax.random.bits(question.key, (2,), jnp.uint32),
            self.tournaments,
            epsilon=self.epsilon,
            eligible=can_win,
            counts=(weights[places] > 0).reshape(-1),
        )
        value, nothing = jnp.where(can_win, share, -jnp.inf), jnp.full_like(stats.mean, jnp.nan)
        return Assessment(
            value=value,
            mean=stats.mean,
            lower=stats.mean,
            upper=stats.mean,
            difference=stats.difference,
            reference=stats.reference_mean,
            outcome=jnp.where(can_win, Outcome.UNDECIDED, Outcome.WORSE).astype(jnp.int32),
            winner=jnp.where(can_win.any(), jnp.argmax(value), -1).astype(jnp.int32),
            p_value=nothing[:, 0],
            p_values=nothing,
            examples=jnp.round((weights > 0).sum(1).max()).astype(jnp.int32),
        )

    def _places(self, metrics: tuple[Metric, ...]) -> tuple[int, ...]:
        """Of the metrics whose values are cases."""
        known = {metric.name: i for i, metric in enumerate(metrics)}
        for name in self.metrics:
            if name not in known:
                raise ValueError(f"lexicase: {unknown('metric', name, known)}")
        return tuple(known[name] for name in self.metrics) or tuple(known.values())


def _in_a_row(x: Array) -> Array:
    """[blocks, ..., n] as [..., blocks * n]."""
    return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)
