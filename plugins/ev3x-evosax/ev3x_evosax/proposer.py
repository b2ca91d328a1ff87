"""What all strategies share as proposers: asked in `propose`, told in `learn`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from annotated_types import Ge
from typing_extensions import Doc

from ev3x import Candidates, Explore, Feedback, Kit, Move, Proposer, Site
from ev3x.component import Count, Fault, Many, Positive
from ev3x.training import where

from . import strategies, views
from .options import Numbers
from .strategies import MEMORY, Built, Kind, Shaping, foreign, settled

Array = jax.Array
PyTree = Any
TRIAL = 64  # dimensions in which options are tried out before the model is known


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Place:
    """Where the strategy's space lies in that of the parameters: its point `origin` stands for `anchor`."""

    anchor: PyTree
    origin: Array  # f[d]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Search:
    """evosax's state, where its space lies, and what happened since it was told."""

    strategy: PyTree
    place: Place
    projection: Array | None  # the key of the subspace
    moved: Array  # bool[]: the current variables became others' in the last round
    anew: Array  # bool[]: the next round begins anew: no population was evaluated yet, or the last was not finite


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Asked:
    """What `learn` needs of what was proposed."""

    before: PyTree  # the strategy's state, should nothing come of this round
    after: PyTree  # the same, asked
    population: Array  # f[K, d]
    place: Place
    fresh: Array  # bool[]: a population drawn by us, without ancestors


@dataclasses.dataclass(frozen=True)
class Strategy(Proposer):
    """A generation per round: the strategy's population are the candidates, their values its fitness. No gradients.

    The population lies about the variables that were current when the strategy began, a unit of its space `std` wide.
    Candidates that cannot win are told as bad as the worst that can; a round in which none can win is forgotten. After
    candidates that are not finite, the strategy begins anew at the current variables. Only `params` are moved; other
    collections are those of the current variables.
    """

    kind: ClassVar[Kind]
    kit: ClassVar[Kit] = Kit({"population": 8})
    constructor: ClassVar[tuple[str, ...]] = ()
    refused: ClassVar[str] = ""

    population: Annotated[Many, Ge(2), Doc("candidates per round (of each population, where there are several)")] = 16
    std: Annotated[Positive, Doc("one unit of the strategy's space: with evosax's params, mostly the first spread")] = (
        0.1
    )
    view: Annotated[
        Literal["flat", "subspace"], Doc("whether it moves every parameter, or coordinates in a random subspace")
    ] = "flat"
    dimensions: Annotated[Count | None, Doc("of the subspace; none in the flat view")] = None
    when_moved: Annotated[
        Literal["follow", "stay"],
        Doc("when another proposer won or the model was rolled back: move to the new current variables, or go on"),
    ] = "follow"
    fitness_shaping: Annotated[Shaping | None, Doc("how values become fitness; none: as the strategy does")] = None
    params: Annotated[Numbers, Doc("name = number: parameters of the strategy other than evosax's")] = Numbers()

    def check(self) -> list[Fault]:
        """The view has its dimensions, the parameters are the strategy's, and evosax accepts the rest."""
        if self.refused:
            return [Fault((), self.refused)]
        faults = []
        if self.view == "subspace" and self.dimensions is None:
            faults.append(Fault(("dimensions",), "is required with view = 'subspace'"))
        if self.view == "flat" and self.dimensions is not None:
            faults.append(Fault(("dimensions",), f"needs view = 'subspace', got {self.dimensions} with 'flat'"))
        for name, value in self.params:
            if text := strategies.parameter_fault(self.kind, name, value):
                faults.append(Fault(("params",), text))
        if not faults:
            numbers = [value for _, value in self._options() if isinstance(value, int)]
            try:
                self._construct(self.dimensions or max(TRIAL, *numbers, 0))
            except ValueError as error:
                path = ("population",) if "population" in str(error.__cause__).lower() else ()
                faults.append(Fault(path, str(error)))
        return faults

    def labels(self, site: Site) -> tuple[str, ...]:
        """The numbers of the candidates."""
        return tuple(map(str, range(self.population * getattr(self, "num_populations", 1))))

    def init(self, site: Site, key: Array, current: PyTree) -> Search:
        """A first state about these variables; ValueError when they or evosax do not suit."""
        params = current["params"]
        subspace_key, mean_key, begin_key = jax.random.split(key, 3)
        built, d = self._built(params), self._length(params)
        origin = jnp.zeros(d, _dtype())
        with foreign():
            if strategies.keeps_population(self.kind):
                population = jnp.zeros((built.count, d), _dtype())
                state = built.strategy.init(begin_key, population, jnp.zeros(built.count, _dtype()), built.params)
            else:
                state = built.strategy.init(begin_key, _means(built, mean_key, origin), built.params)
        return Search(
            settled(state),
            Place(params, origin),
            subspace_key if self.view == "subspace" else None,
            moved=jnp.asarray(False),
            anew=jnp.asarray(strategies.keeps_population(self.kind)),
        )

    def propose(self, site: Site, key: Array, current: PyTree, state: Search, explore: Explore) -> Candidates:
        """The population that the strategy is asked for."""
        built = self._built(current["params"])
        follows = state.anew | (state.moved & (self.when_moved == "follow"))
        with foreign():
            if strategies.keeps_population(self.kind):
                before, fresh = state.strategy, follows
                place = jax.lax.cond(
                    follows, lambda: dataclasses.replace(state.place, anchor=current["params"]), lambda: state.place
                )
                population, after = jax.lax.cond(
                    fresh,
                    lambda: (_spread(key, built.count, place.origin), before),
                    lambda: self._ask(built, key, before),
                )
            else:
                # Selected, not under lax.cond: that was no faster, and for CMA-ES slower.
                followed = self._followed(built, key, state, current["params"])
                before, place = where(follows, followed, (state.strategy, state.place))
                fresh = jnp.asarray(False)
                population, after = self._ask(built, key, before)
        anchor, origin = place.anchor, place.origin
        steps = self.std * (population - origin[None])
        if state.projection is None:
            moved = views.shifted(anchor, steps)
        else:
            moved = views.projected(anchor, steps, state.projection)
        stack = jax.tree.map(
            lambda x: jnp.broadcast_to(x[None], (built.count, *jnp.shape(x))), {**current, "params": ()}
        )
        return Candidates(
            {**stack, "params": moved},
            eligible=jnp.ones(built.count, bool),
            steps=jnp.int32(0),
            memo=Asked(before, after, population, place, fresh),
        )

    def learn(self, site: Site, key: Array, state: Search, candidates: Candidates, feedback: Feedback) -> Search:
        """The told state, and whether the current variables became others'."""
        asked: Asked = candidates.memo
        built = self._built(asked.place.anchor)
        can_win = candidates.eligible & jnp.isfinite(feedback.value)
        fitness = -feedback.value.astype(_dtype())  # evosax minimises
        fitness = jnp.where(can_win, fitness, jnp.max(jnp.where(can_win, fitness, -jnp.inf)))
        with foreign():

            def told() -> PyTree:
                return settled(built.strategy.tell(key, asked.population, fitness, asked.after, built.params)[0])

            def begun() -> PyTree:
                return settled(built.strategy.init(key, asked.population, fitness, built.params))

            def learned() -> PyTree:
                if strategies.keeps_population(self.kind):
                    return jax.lax.cond(asked.fresh, begun, told)
                return told()

            strategy = where(can_win.any(), learned(), asked.before)
        move = feedback.decision.move
        return Search(
            strategy,
            asked.place,
            state.projection,
            moved=(move == Move.RESTORE) | ((move == Move.TAKE) & ~feedback.won.any()),
            # All were eligible when they were made; those that no longer are hold numbers that are not finite.
            anew=~candidates.eligible.all() | (asked.fresh & ~can_win.any()),
        )

    def _ask(self, built: Built, key: Array, state: PyTree) -> tuple[Array, PyTree]:
        population, asked = built.strategy.ask(key, state, built.params)
        if population.shape[0] != built.count:
            raise ValueError(
                f"{self.kind.__name__} made {population.shape[0]} candidates with population = {self.population}: "
                f"choose population = {population.shape[0]}"
            )
        return population, settled(asked)

    def _followed(self, built: Built, key: Array, state: Search, params: PyTree) -> tuple[PyTree, Place]:
        """The state of a distribution that has followed the current variables, and where its space lies then.

        It keeps its shape, its centre becomes the new origin, and single solutions are forgotten; unless all of it
        begins anew.
        """
        origin = jnp.zeros_like(state.place.origin)
        first = settled(built.strategy.init(key, _means(built, key, origin), built.params))
        if self.when_moved == "stay":  # then it is here to begin anew
            return first, Place(params, origin)
        names = {field.name for field in dataclasses.fields(first)} & {*MEMORY}
        moved = state.strategy.replace(**{name: getattr(first, name) for name in names})
        if strategies.draws_about_zero(self.kind):
            centre = state.place.origin
        else:
            centre = state.strategy.mean.reshape(-1, origin.size).mean(0)
        return where(state.anew, (first, Place(params, origin)), (moved, Place(params, centre)))

    def _length(self, params: PyTree) -> int:
        n = views.size(params)
        if self.dimensions is not None and self.dimensions > n:
            raise ValueError(f"dimensions = {self.dimensions} are more than the {n} parameters of the model")
        return self.dimensions or n

    def _options(self) -> tuple[tuple[str, Any], ...]:
        return tuple((name, getattr(self, name)) for name in self.constructor)

    def _construct(self, dimensions: int) -> Any:
        return strategies.construct(
            self.kind, self.population, dimensions, self._options(), self.fitness_shaping, _dtype()
        )

    def _built(self, params: PyTree) -> Built:
        kind: Any = self.kind
        return strategies.build(
            kind,
            self.population,
            self._length(params),
            self._options(),
            self.fitness_shaping,
            self.params,
            _dtype(),
        )


def _dtype() -> Any:
    """What evosax calculates with: JAX's default."""
    return jnp.result_type(float)


def _means(built: Built, key: Array, origin: Array) -> Array:
    """Where distributions begin: the first at the origin, others of several a unit of spread away."""
    number = getattr(built.strategy, "num_populations", None)
    return origin if number is None else _spread(key, number, origin)


def _spread(key: Array, number: int, origin: Array) -> Array:
    """Points about the origin, which is the first of them."""
    noise = jax.random.normal(key, (number, origin.size), origin.dtype)
    return origin[None] + noise.at[0].set(0.0)
