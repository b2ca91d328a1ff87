"""Components with one fault each. `MUTANTS` maps the name of a class to the check that must find it."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.scipy.stats import norm
from jax.sharding import NamedSharding, PartitionSpec
from sound import Counter, Halving, Jitter, Line, Take, ZTest

import ev3x

MUTANTS: dict[type, str] = {}
counter = itertools.count()
left_behind: list[jax.Array] = []


def caught_by(check):
    """The decorator of a mutant that this check must find, and no other."""

    def mark(cls):
        made = cls if "__dataclass_fields__" in vars(cls) else dataclasses.dataclass(frozen=True)(cls)
        MUTANTS[made] = check
        return made

    return mark


@caught_by("options")
class Unequal(Jitter):
    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__


@caught_by("options")
class Unhashable(Jitter):
    __hash__ = None  # type: ignore[assignment]


@caught_by("config")
class Unsaid(Jitter):
    def to_config(self):
        return {"count": self.count + 1}


@caught_by("labels")
class SameNames(Jitter):
    def labels(self, site):
        return ("near",) * self.count


@caught_by("traces")
class Branches(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        return super().learn(site, key, state, candidates, feedback) if feedback.won.any() else state


@caught_by("no_config_change")
class Meddles(Jitter):
    def init(self, site, key, current):
        jax.config.update("jax_default_matmul_precision", "float32")
        return super().init(site, key, current)


@caught_by("nothing_on_self")
class Remembers(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        object.__setattr__(self, "rounds", getattr(self, "rounds", 0) + 1)
        state = super().learn(site, key, state, candidates, feedback)
        return {**state, "scale": state["scale"] * self.rounds}


@caught_by("no_tracer_leak")
class Leaks(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        left_behind.append(state["scale"] + 1)
        return super().learn(site, key, state, candidates, feedback)


@caught_by("no_callbacks")
class Prints(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        jax.debug.print("scale {}", state["scale"])
        return super().learn(site, key, state, candidates, feedback)


@caught_by("stable_tree")
class Widens(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        state = super().learn(site, key, state, candidates, feedback)
        return {**state, "seen": state["seen"].astype(jnp.float32)}


@caught_by("stable_tree")
class OtherNotes(Jitter):
    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        return dataclasses.replace(made, notes={f"scale {next(counter)}": made.notes["scale"]})


@caught_by("candidates_match")
class WrongAxis(Jitter):
    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        stack = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), made.variables)
        return dataclasses.replace(made, variables=stack)


@caught_by("candidates_match")
class OneLabelMore(Jitter):
    def labels(self, site):
        return (*super().labels(site), "another")


@caught_by("inputs_untouched")
class Scribbles(Jitter):
    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        state["seen"] = state["seen"] + 1
        return made


@caught_by("same_key_same_bits")
class NumpyNoise(Jitter):
    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        shift = np.float32(np.random.default_rng().normal())
        return dataclasses.replace(made, variables=jax.tree.map(lambda x: x + shift, made.variables))


@caught_by("same_key_same_bits")
class CountsTraces(Jitter):
    def init(self, site, key, current):
        return {**super().init(site, key, current), "seen": jnp.int32(next(counter))}


@caught_by("other_key_differs")
class OneKey(Jitter):
    def noise(self, key):
        return super().noise(jax.random.key(0))


@caught_by("jit_equals_eager")
class KnowsThatItIsTraced(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        state = super().learn(site, key, state, candidates, feedback)
        return {**state, "seen": state["seen"] + jnp.int32(isinstance(state["seen"], jax.core.Tracer))}


@jax.custom_batching.custom_vmap
def halved(x):
    return x / 2


@halved.def_vmap
def _(size, batched, x):
    return x / 3, True


@caught_by("vmap_equals_loop")
class WrongBatching(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        state = super().learn(site, key, state, candidates, feedback)
        return {**state, "scale": halved(state["scale"])}


@caught_by("one_trace")
class WeakBegin(Jitter):
    def init(self, site, key, current):
        return {**super().init(site, key, current), "scale": jnp.asarray(0.1)}


@caught_by("non_finite")
class FollowsLosers(Jitter):
    def learn(self, site, key, state, candidates, feedback):
        state = super().learn(site, key, state, candidates, feedback)
        drift = sum(x.mean() for x in jax.tree.leaves(candidates.variables))
        return {**state, "scale": 0.9 * state["scale"] + 0.001 * drift}


@caught_by("can_win")
class NeverEligible(Jitter):
    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        return dataclasses.replace(made, eligible=jnp.zeros_like(made.eligible))


@caught_by("can_win")
class NeverFinite(Jitter):
    def propose(self, site, key, current, state, explore):
        made = super().propose(site, key, current, state, explore)
        first, *others = jax.tree.leaves(made.variables)
        spoilt = jax.tree.unflatten(jax.tree.structure(made.variables), [first + jnp.inf, *others])
        return dataclasses.replace(made, variables=spoilt)


@caught_by("resize")
class KeepsShape(Jitter):
    def init(self, site, key, current):
        return {**super().init(site, key, current), "mean": jax.tree.map(jnp.zeros_like, current)}

    def propose(self, site, key, current, state, explore):
        ahead = jax.tree.map(jnp.add, current, state["mean"])
        return super().propose(site, key, ahead, state, explore)

    def learn(self, site, key, state, candidates, feedback):
        return {**super().learn(site, key, state, candidates, feedback), "mean": state["mean"]}

    def resize(self, site, key, current, state, *, fresh):
        return state


@caught_by("checkpoint_round_trip")
class SamePaths(Jitter):
    def init(self, site, key, current):
        return {**super().init(site, key, current), "a/b": jnp.int32(1), "a": {"b": jnp.int32(2)}}

    def learn(self, site, key, state, candidates, feedback):
        return state | super().learn(site, key, state, candidates, feedback)


@caught_by("assessment_shapes")
class CountsOutcomes(ZTest):
    def conclude(self, evidence, question, metrics):
        said = super().conclude(evidence, question, metrics)
        return dataclasses.replace(said, outcome=said.outcome.sum())


@caught_by("promise")
class Certain(ZTest):
    @property
    def promise(self):
        return 0.0


@caught_by("zero_evidence")
class BeginsAtOne(ZTest):
    def begin(self, k, metrics):
        return {**super().begin(k, metrics), "n": jnp.full(len(metrics), 1e-3)}


@caught_by("merge")
class Maximum(ZTest):
    def merge(self, a, b):
        return jax.tree.map(jnp.maximum, a, b)


@caught_by("evidence_adds")
class Forgets(ZTest):
    def observe(self, evidence, block, question, metrics):
        fading = jax.tree.map(lambda x: 0.99 * x, evidence)
        return super().observe(fading, block, question, metrics)


@caught_by("masked")
class MultipliesNaN(ZTest):
    def observe(self, evidence, block, question, metrics):
        more = super().observe(evidence, block, question, metrics)
        spread = 0.0 if block.weights is None else (jnp.sign(block.weights) * block.reference).sum(-1)
        return {**more, "reference": more["reference"] + 0.0 * spread}


@caught_by("masked")
class Unmasked(ZTest):
    def observe(self, evidence, block, question, metrics):
        return super().observe(evidence, dataclasses.replace(block, weights=None), question, metrics)


@caught_by("unweighted")
class WantsWeights(ZTest):
    def observe(self, evidence, block, question, metrics):
        if block.weights is None:
            block = dataclasses.replace(block, weights=0.5 * jnp.ones_like(block.reference))
        return super().observe(evidence, block, question, metrics)


@caught_by("means")
class ShiftedMeans(ZTest):
    def conclude(self, evidence, question, metrics):
        said = super().conclude(evidence, question, metrics)
        return dataclasses.replace(said, difference=said.mean)


@caught_by("bounds")
class BeyondOne(ZTest):
    def conclude(self, evidence, question, metrics):
        said = super().conclude(evidence, question, metrics)
        return dataclasses.replace(said, upper=said.upper + 1.0)


@caught_by("power")
class WorstWins(ZTest):
    def rank(self, difference, question):
        value, can_win = super().rank(difference, question)
        return jnp.where(can_win, -value, -jnp.inf), can_win


@caught_by("power_at_level")
class NeverBetter(ZTest):
    def better(self, z, question):
        return z > 1e9


@caught_by("direction")
class AlwaysUp(ZTest):
    def rank(self, difference, question):
        return super().rank(difference, dataclasses.replace(question, aims=jnp.abs(question.aims)))


@caught_by("ineligible")
class AnyoneMayWin(ZTest):
    def rank(self, difference, question):
        return super().rank(difference, dataclasses.replace(question, eligible=jnp.ones_like(question.eligible)))


@caught_by("non_finite")
class NaNWins(ZTest):
    def rank(self, difference, question):
        gain = (question.aims[None] * difference).sum(-1)
        return jnp.where(question.eligible, jnp.where(jnp.isnan(gain), jnp.inf, gain), -jnp.inf), question.eligible


@caught_by("single")
class NeedsARival(ZTest):
    def rank(self, difference, question):
        value, can_win = super().rank(difference, question)
        return value, can_win & (value.shape[0] > 1)


@caught_by("permutation")
class FirstComesFirst(ZTest):
    def rank(self, difference, question):
        value, can_win = super().rank(difference, question)
        return value - 0.001 * jnp.arange(value.shape[0], dtype=jnp.float32), can_win


@caught_by("null_calibration")
class TripleAlpha(ZTest):
    def better(self, z, question):
        return norm.sf(z) <= 3 * question.alpha


@caught_by("null_calibration")
class LooksTwice(ZTest):
    """Takes the better of two looks at the evidence, without paying for it."""

    def better(self, z, question):
        return norm.sf(z + 0.5) <= question.alpha


@custom_partitioning
def row_sums(x):
    return x.sum(-1)


def without_adding_up(mesh, arguments, result):
    given = arguments[0].sharding
    return mesh, lambda x: x.sum(-1), NamedSharding(mesh, PartitionSpec(*given.spec[:-1])), (given,)


row_sums.def_partition(partition=without_adding_up, sharding_rule="m n -> m")


@caught_by("sharded")
class SumsItsShare(ZTest):
    """Sums the reference by a native-like call that forgets to add up what the devices hold."""

    @property
    def promise(self):
        return 1.0

    def observe(self, evidence, block, question, metrics):
        w = jnp.ones_like(block.reference) if block.weights is None else block.weights
        own = jax.custom_batching.sequential_vmap(row_sums)(jnp.where(w > 0, w * block.reference, 0.0))
        more = super().observe(evidence, block, question, metrics)
        return {**more, "reference": evidence["reference"] + own}


@caught_by("decision_shapes")
class ManyMoves(Take):
    def decide(self, index, state, decision, selection, confirmation):
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, move=decision.move[None]), state


@caught_by("own_call")
class ClearsCalls(Take):
    def decide(self, index, state, decision, selection, confirmation):
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, calls=jnp.zeros_like(decision.calls)), state


@caught_by("aims_kept")
class MovesAims(Take):
    def decide(self, index, state, decision, selection, confirmation):
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, aims=0.9 * decision.aims), state


@caught_by("nobody_won")
class PromotesNobody(Take):
    def decide(self, index, state, decision, selection, confirmation):
        decision, state = super().decide(index, state, decision, selection, confirmation)
        return dataclasses.replace(decision, promote=confirmation.outcome[0] == ev3x.Outcome.BETTER), state


@caught_by("flags")
class PromotesUnsaid(Take):
    promotes = False


@caught_by("non_finite")
class LearnsFromNaN(Take):
    def decide(self, index, state, decision, selection, confirmation):
        decision, after = super().decide(index, state, decision, selection, confirmation)
        return decision, {**after, "gain": 0.5 * state["gain"] + confirmation.difference[0, 0]}


@caught_by("prepare")
class PreparesNothing(Take):
    def prepare(self, state, explore):
        return None


@caught_by("transition")
class PromotesTheMean(Take):
    """Puts the mean of both models in the place of the one that was just promoted: nobody has tested it."""

    def decide(self, index, state, decision, selection, confirmation):
        decision, state = super().decide(index, state, decision, selection, confirmation)
        call = jnp.where(decision.promote & (state["rounds"] > 1), 2, 0).astype(jnp.int32)
        return dataclasses.replace(decision, calls=decision.calls.at[index].set(call)), state

    def transform(self, key, call, state, form, probe):
        mean = jax.tree.map(lambda x, y: 0.5 * x + 0.25 * y, form.model.current, form.model.incumbent)
        model = dataclasses.replace(form.model, current=mean, incumbent=jax.tree.map(jnp.array, mean))
        return state, ev3x.Form(form.task, form.champion, model)


@caught_by("transition")
class BreaksOnceGrown(Take):
    """Forgets its state in a growth."""

    def transform(self, key, call, state, form, probe):
        _, form = super().transform(key, call, state, form, probe)
        return {"rounds": state["rounds"]}, form


@caught_by("transition")
class GrowsHalf(Take):
    def transform(self, key, call, state, form, probe):
        task, _ = form.task.grow("widen", key, form.model.current)
        return state, ev3x.Form(task, form.task, form.model)


@caught_by("transition")
class GrowsUnsaid(Take):
    grows = False


@caught_by("offer")
class Doubles(Halving):
    def offer(self, state, level):
        return 2 * level


@caught_by("words")
class Wordless(Halving):
    @property
    def words(self):
        return "all will be well"


@caught_by("non_finite")
class LedgerOfScores(Halving):
    def init(self):
        return jnp.float32(1.0)

    def offer(self, state, level):
        return level * jnp.minimum(state, 1.0)

    def settle(self, state, alpha, confirmation):
        return state * 0.9 + 0.0 * confirmation.difference[0, 0]

    def account(self, state, level):
        return {"left": level}


@caught_by("account")
class Refunds(Halving):
    def account(self, state, level):
        return {"spent": level - self.offer(state, level) * (state % 2).astype(jnp.float32)}


@caught_by("account")
class DividesByNothing(Halving):
    def account(self, state, level):
        return {"left": level / (state - 50).astype(jnp.float32)}


@caught_by("names")
class SameLoss(Line):
    @property
    def losses(self):
        return ("hinge", "hinge")


@caught_by("variables")
class BeginsAtInfinity(Line):
    def init(self, key):
        made = super().init(key)
        return {**made, "spare": {"unused": jnp.float32(jnp.inf)}}

    def loss(self, name, variables, batch, key, hypers):
        each, moved = super().loss(name, variables, batch, key, hypers)
        return each, {**moved, "spare": variables["spare"]}

    def grow(self, how, key, variables):
        task, wider = super().grow(how, key, variables)
        return task, {**wider, "spare": variables["spare"]}


@caught_by("losses")
class InfiniteGradient(Line):
    def loss(self, name, variables, batch, key, hypers):
        each, moved = super().loss(name, variables, batch, key, hypers)
        return jnp.sqrt(jnp.maximum(each - each, 0.0)) + each, moved


@caught_by("params_unmoved")
class MovesParams(Line):
    def loss(self, name, variables, batch, key, hypers):
        each, moved = super().loss(name, variables, batch, key, hypers)
        return each, {**moved, "params": jax.tree.map(lambda x: 0.9 * x + 0.1, moved["params"])}


@caught_by("scores")
class NotBinary(Line):
    @property
    def metrics(self):
        half = ev3x.Metric("half", lambda predictions, batch: 0.5 * jnp.ones_like(predictions), binary=True)
        return (half, *super().metrics)


@caught_by("weights")
class NegativeWeights(Line):
    def weigh(self, batch):
        return batch["x"][:, 0]


@caught_by("examples_apart")
class BatchMean(Line):
    def predict(self, variables, batch):
        logits = super().predict(variables, batch)
        return logits - logits.mean()


@caught_by("loads")
class OtherDataEachTime(Line):
    def load(self, seed):
        return super().load(next(counter))


@caught_by("loads")
class SharesExamples(Line):
    def load(self, seed):
        data = super().load(seed)
        splits = dataclasses.replace(data.splits, decide=ev3x.Decide(data.splits.assess.source))
        return dataclasses.replace(data, splits=splits)


@caught_by("growths")
class GrowsElsewhere(Line):
    def grow(self, how, key, variables):
        task, wider = super().grow(how, key, variables)
        return task, {**wider, "params": jax.tree.map(lambda x: x + 1.0, wider["params"])}


@caught_by("watches")
class NeedsAWinner(Counter):
    def rounds(self, handle, rows, progress):
        handle["rounds"] += sum(len(row["winner"]) for row in rows)


@caught_by("quiet")
class Chatters(Counter):
    def end(self, handle, summary):
        print(handle["rounds"])


@caught_by("arguments_untouched")
class RewritesRows(Counter):
    def rounds(self, handle, rows, progress):
        for row in rows:
            row["verdict"] = "splendid"


@caught_by("own_directory")
class WritesAnywhere(Counter):
    def end(self, handle, summary):
        Path("count.txt").write_text(str(handle["rounds"]))


@caught_by("nothing_on_self")
class CountsOnItself(Counter):
    def start(self, run, rows):
        object.__setattr__(self, "runs", 1)
        return super().start(run, rows)
