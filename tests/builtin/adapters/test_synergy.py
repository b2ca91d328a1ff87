"""Synergy: passes from the smallest student to the largest, an archive, and archived students that teach."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import Shift, Widening, evolver, make, same, splits

import ev3x
from ev3x.builtin.adapters.promote import Promote
from ev3x.builtin.adapters.synergy import Student, Synergy
from ev3x.builtin.assessors.paired import Paired
from ev3x.builtin.budgets.per_round import PerRound
from ev3x.builtin.proposers.trajectories import Trajectories


@dataclasses.dataclass(frozen=True)
class Pupil(Widening):
    """A toy that widens, and learns from what archived students say."""

    @property
    def losses(self):
        return (*super().losses, "first", "second")

    def loss(self, name, variables, batch, key, hypers):
        if name not in ("first", "second"):
            return super().loss(name, variables, batch, key, hypers)
        nobody = jnp.full((len(batch["y"]), 2), jnp.nan)
        said = batch.get("students", nobody)[:, ("first", "second").index(name)]
        return jnp.square(self.predict(variables, batch) - said), variables


TASK = Pupil()
GOOD = {"params": {"w": jnp.full((1, 2), 3.0), "b": jnp.zeros(1)}}


def passing(*proposers, **options):
    synergy = Synergy(**{"patience": 2, "passes": 2, "most": 1, **options})
    confirm = Paired(block=256, blocks=2)
    proposers = proposers or (Shift((0.0,)),)
    return evolver(*proposers, task=TASK, adapters=(Promote(), synergy), confirm=confirm, budget=PerRound())


def words(run, records):
    adapter = run.plan.method.adapters[1][1]
    return [adapter.describe(int(c)) if c else "" for c in records.decision.calls[:, 1]]


@pytest.mark.long
def test_a_pass_ends_when_the_largest_student_stalls_and_the_next_begins_with_a_fresh_small_one():
    run = passing()
    state, records = run.rounds(run.init(0, GOOD), 20)
    calls = words(run, records)
    assert [word for word in calls if word] == ["grow", "pass", "grow", "done"] and calls[1] == "grow"
    # The first round of a fresh student is progress: it stays one round more.
    assert (np.diff(np.flatnonzero(calls)) >= 3).all()
    # Nothing was ever proven: the incumbent is what the run began with, in its shape.
    assert same(state.model.incumbent, GOOD) and run.plan.champion == TASK
    assert run.plan.task == Pupil(width=2) and state.model.current["params"]["w"].shape == (2, 2)
    kept = run.plan.method.adapters[1][1].keeps(state.adapters["synergy"])
    assert [(name, task.width) for name, (task, _) in kept.items()] == [("size 1", 1), ("size 2", 2)]
    assert int(state.adapters["synergy"].passes) == 2


@pytest.mark.parametrize(
    ("sign", "old", "new", "kept"),
    [
        (1, 0.5, 0.6, 0.6),
        (1, 0.5, 0.4, 0.5),
        (1, 0.5, 0.5, 0.5),
        (1, 0.5, np.nan, 0.5),
        (1, np.nan, 0.1, 0.1),
        (-1, 0.5, 0.6, 0.5),
        (-1, 0.5, 0.4, 0.4),
        (-1, 0.5, np.nan, 0.5),
    ],
)
def test_the_better_student_of_a_size_stays_in_the_archive(sign, old, new, kept):
    wide = Pupil(width=2)
    archive = tuple(Student(t, t.init(jax.random.key(t.width)), jnp.float32(old)) for t in (TASK, wide))
    begun = Synergy().init(ev3x.Site(TASK), TASK.metrics)
    state = dataclasses.replace(begun, archive=archive, sign=sign, score=jnp.float32(new))
    model = ev3x.Model(current=wide.init(jax.random.key(7)), incumbent=GOOD, aims=jnp.ones(1))
    after, form = Synergy().transform(jax.random.key(0), 2, state, ev3x.Form(wide, TASK, model), None)  # 2: done
    assert form.model is model and same(after.archive[0], archive[0])
    assert float(after.archive[1].score) == pytest.approx(kept)
    assert same(after.archive[1].variables, archive[1].variables if kept == old else model.current)
    proven, _ = Synergy().transform(jax.random.key(0), 2, state, ev3x.Form(TASK, None, model), None)
    assert same(proven.archive[0].variables, archive[0].variables if kept == old else GOOD)


@pytest.mark.long
def test_archived_students_teach_from_the_second_pass_on():
    optimizer = ev3x.Optimizer("sgd", learning_rate=0.3)
    run = passing(Trajectories(losses=["xent", "first", "second"], optimizers=[optimizer], length=10))
    _, records = run.rounds(run.init(0), 14)
    calls = words(run, records)
    assert calls.count("grow") == 2 and "pass" in calls
    taught = np.arange(14) > calls.index("pass")
    # In the first pass nobody is archived: those candidates are not finite, and cannot win.
    np.testing.assert_array_equal(records.eligible, np.stack([np.ones(14, bool), taught, taught], axis=1))


def test_a_student_that_learns_from_an_archived_one_comes_to_say_the_same():
    adapter, wide = Synergy(), Pupil(width=2)
    archive = tuple(Student(t, t.init(jax.random.key(t.width)), jnp.float32(0.5)) for t in (TASK, wide))
    begun = adapter.init(ev3x.Site(TASK), TASK.metrics)
    state = dataclasses.replace(begun, archive=archive, teaching=True)
    assert not adapter.prepare(begun, splits().explore).teachers
    explore, sgd, key = adapter.prepare(state, splits().explore), optax.sgd(0.3), jax.random.key(5)
    drawn, start = explore.draw(key, 60), TASK.init(jax.random.key(9))
    learned, _, finite = ev3x.training.train(
        TASK, ev3x.Loss("second"), sgd, start, sgd.init(start["params"]), explore, drawn, key, steps=60
    )
    batch = make(key, 64)
    said, says = wide.predict(archive[1].variables, batch), TASK.predict(learned, batch)
    assert bool(finite) and float(jnp.abs(said - says).max()) < 0.05 * float(jnp.abs(said).max())


@pytest.mark.long
def test_rollback_waits_while_a_fresh_student_catches_up_even_in_the_shape_of_the_incumbent():
    optimizer = ev3x.Optimizer("sgd", learning_rate=0.02)
    proposer = Trajectories(losses=["xent"], optimizers=[optimizer], length=5)
    run = passing(proposer, patience=3, morphism=True)
    state, records = run.rounds(run.init(0, GOOD), 14)
    second = words(run, records).index("pass") + 1
    worse = records.confirmation.outcome[second:, 0] == ev3x.Outcome.WORSE
    assert worse.any() and (records.decision.move[second:][worse] == ev3x.Move.TAKE).all()
    assert same(state.model.incumbent, GOOD)


def test_what_teaches_is_told_when_batches_cannot_hold_it():
    explore = ev3x.Explore(ev3x.Arrays(jnp.zeros((8, 2))), 4, teachers={"t": ev3x.Teacher(TASK, {})})
    with pytest.raises(TypeError, match="teachers add entries to a batch, which must be a mapping"):
        explore.batch(jnp.arange(4))


def test_teachers_predict_on_the_fly_one_as_it_is_and_several_stacked():
    one, two = TASK.init(jax.random.key(0)), Pupil(width=2).init(jax.random.key(1))
    a, b = ev3x.Teacher(TASK, one), ev3x.Teacher(Pupil(width=2), two)
    explore = dataclasses.replace(splits().explore, teachers={"teacher": a, "students": (a, b)})
    batch = explore.batch(explore.draw(jax.random.key(2), 1)[0])
    assert batch["teacher"].shape == (8,) and batch["students"].shape == (8, 2)
    np.testing.assert_array_equal(batch["teacher"], TASK.predict(one, batch))
    np.testing.assert_array_equal(batch["students"][:, 1], Pupil(width=2).predict(two, batch))


def test_teachers_may_not_replace_what_a_batch_has():
    explore = dataclasses.replace(splits().explore, teachers={"y": ev3x.Teacher(TASK, GOOD)})
    with pytest.raises(ValueError, match=r"teachers may not replace entries of a batch, which has \['y'\] already"):
        explore.batch(explore.draw(jax.random.key(2), 1)[0])
