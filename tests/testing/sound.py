"""Small components that keep the contract, and compile fast: every mutant is one of them with one fault."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

import ev3x
from ev3x.testing import TinyTask


@dataclasses.dataclass(frozen=True)
class Jitter(ev3x.Proposer):
    """Candidates around the current variables; the scale grows when one wins."""

    count: int = 3

    def labels(self, site):
        return tuple(f"near {i}" for i in range(self.count))

    def init(self, site, key, current):
        return {"scale": jnp.float32(0.1), "seen": jnp.int32(0)}

    def noise(self, key):
        return jax.random.uniform(key, (self.count,), jnp.float32, -1.0, 1.0)

    def propose(self, site, key, current, state, explore):
        noise = state["scale"] * self.noise(key)
        stack = jax.tree.map(lambda x: x[None] + noise.reshape(-1, *(1,) * x.ndim), current)
        notes = {"scale": jnp.broadcast_to(state["scale"], (self.count,))}
        return ev3x.Candidates(stack, jnp.ones(self.count, bool), jnp.int32(0), memo=(), notes=notes)

    def learn(self, site, key, state, candidates, feedback):
        scale = state["scale"] * jnp.where(feedback.won.any(), 1.1, 0.9).astype(jnp.float32)
        return {"scale": scale, "seen": state["seen"] + 1}


@dataclasses.dataclass(frozen=True)
class ZTest(ev3x.Assessor):
    """Contenders against the reference by a paired z-test on the first metric, ranked by the mean difference."""

    block: int = 256
    blocks: int = 2
    level: float = 0.05

    @property
    def promise(self):
        return self.level

    def begin(self, k, metrics):
        m = len(metrics)
        zero = jnp.zeros((k, m), jnp.float32)
        return {"n": jnp.zeros(m), "mean": zero, "reference": jnp.zeros(m), "difference": zero, "square": zero}

    def observe(self, evidence, block, question, metrics):
        w = jnp.ones_like(block.reference) if block.weights is None else block.weights
        scores = jnp.where(w[None] > 0, block.scores, 0.0)  # 0 x NaN is NaN
        reference = jnp.where(w > 0, block.reference, 0.0)
        d = scores - reference[None]
        more = {
            "n": w.sum(-1),
            "mean": (w[None] * scores).sum(-1),
            "reference": (w * reference).sum(-1),
            "difference": (w[None] * d).sum(-1),
            "square": (w[None] * d * d).sum(-1),
        }
        return jax.tree.map(jnp.add, evidence, more)

    def rank(self, difference, question):
        gain = (question.aims[None] * difference).sum(-1)
        can_win = question.eligible & jnp.isfinite(gain)
        return jnp.where(can_win, gain, -jnp.inf), can_win

    def better(self, z, question):
        return norm.sf(z) <= question.alpha

    def conclude(self, evidence, question, metrics):
        n = evidence["n"]
        mean, reference = evidence["mean"] / n[None], evidence["reference"] / n
        difference, square = evidence["difference"] / n[None], evidence["square"] / n[None]
        error = jnp.sqrt(jnp.maximum(square - difference**2, 1e-12) / n[None])
        value, can_win = self.rank(difference, question)
        z = (question.aims[None] * difference / error)[:, 0]
        outcome = jnp.where(self.better(z, question) & can_win, ev3x.Outcome.BETTER, ev3x.Outcome.UNDECIDED)
        low, high = (jnp.array([getattr(m, end) for m in metrics], jnp.float32)[None] for end in ("low", "high"))
        return ev3x.Assessment(
            value=value,
            mean=mean,
            lower=jnp.clip(mean - error, low, high),
            upper=jnp.clip(mean + error, low, high),
            difference=difference,
            reference=reference,
            outcome=outcome.astype(jnp.int32),
            winner=jnp.where(can_win.any(), jnp.argmax(value), -1).astype(jnp.int32),
            p_value=norm.sf(z),
            p_values=jnp.full(mean.shape, jnp.nan, jnp.float32),
            examples=n[0].astype(jnp.int32),
        )


@dataclasses.dataclass(frozen=True)
class Take(ev3x.Adapter):
    """Takes every winner, promotes the better ones, and asks for a growth after eight rounds."""

    promotes = True
    grows = True

    def init(self, site, metrics):
        return {"rounds": jnp.int32(0), "gain": jnp.float32(0.0)}

    def decide(self, index, state, decision, selection, confirmation):
        found = selection.winner >= 0
        better = found & (confirmation.outcome[0] == ev3x.Outcome.BETTER)
        gain = jnp.where(jnp.isfinite(confirmation.difference[0, 0]), confirmation.difference[0, 0], 0.0)
        rounds = state["rounds"] + 1
        decision = dataclasses.replace(
            decision,
            move=jnp.where(found, ev3x.Move.TAKE, decision.move).astype(jnp.int32),
            promote=better,
            calls=decision.calls.at[index].set((rounds == 8).astype(jnp.int32)),
        )
        return decision, {"rounds": rounds, "gain": 0.5 * state["gain"] + gain}

    def transform(self, key, call, state, form, probe):
        task, current = form.task.grow("widen", key, form.model.current)
        return state, ev3x.Form(task, form.task, dataclasses.replace(form.model, current=current))


@dataclasses.dataclass(frozen=True)
class Halving(ev3x.Budget):
    """Half of what is left."""

    @property
    def words(self):
        return "the chance of any false promotion is at most {level}"

    def init(self):
        return jnp.zeros((), jnp.int32)

    def offer(self, state, level):
        return level * 0.5 ** (jnp.minimum(state, 99).astype(jnp.float32) + 1)

    def settle(self, state, alpha, confirmation):
        return state + 1

    def account(self, state, level):
        left = level * 0.5 ** jnp.minimum(state, 99).astype(jnp.float32)
        return {"spent": level - left, "left": left}


@dataclasses.dataclass(frozen=True)
class Line(TinyTask):
    """The kit's own task."""


@dataclasses.dataclass(frozen=True)
class Counter(ev3x.Observer):
    """Counts rounds, and writes their number into the run's directory."""

    def start(self, run, rows) -> Any:
        return {"directory": run.directory, "rounds": len(rows)}

    def rounds(self, handle, rows, progress):
        handle["rounds"] += len(rows)

    def end(self, handle, summary):
        if handle["directory"] is not None:
            (handle["directory"] / "count.txt").write_text(str(handle["rounds"]))
