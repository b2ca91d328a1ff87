"""Gradient steps: hyperparameters may be pytrees, and what a loss fixes stays fixed."""

import dataclasses
import pydoc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Toy, make, method, same, sgd, splits

import ev3x
from ev3x import training
from ev3x.builtin.proposers.hyperparameters import Hyperparameters
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.contract import BoundaryError


@dataclasses.dataclass(frozen=True)
class Weighted(Toy):
    """A toy whose loss weighs the two classes by a pytree."""

    @property
    def hypers(self):
        return {**super().hypers, "classes": {"positive": np.float32(1.0), "negative": np.ones(2, np.float32)}}

    def loss(self, name, variables, batch, key, hypers):
        each, variables = super().loss(name, variables, batch, key, hypers)
        weights = hypers["classes"]
        return jnp.where(batch["y"], weights["positive"], weights["negative"].mean()) * each, variables


TASK = Weighted()
VARIABLES = TASK.init(jax.random.key(0))


def value(loss, **hypers):
    batch = splits(64).explore.batch(splits(64).explore.draw(jax.random.key(1), 1)[0])
    return training.loss_value(TASK, loss, VARIABLES, batch, jax.random.key(2), hypers)[0]


def test_a_pytree_of_hyperparameters_reaches_the_loss_and_has_a_gradient():
    loss = ev3x.Loss("xent")
    half = {"positive": jnp.float32(0.5), "negative": jnp.full(2, 0.5)}
    assert value(loss) == pytest.approx(float(2 * value(loss, classes=half)))
    slope = jax.grad(lambda classes: value(loss, classes=classes))(half)
    assert slope["positive"] > 0 and (slope["negative"] > 0).all()


def test_what_the_loss_fixes_stays_fixed():
    fixed = ev3x.Loss("xent", temperature=2.0)
    assert value(fixed) == value(fixed, temperature=7.0) != value(ev3x.Loss("xent"), temperature=7.0)


def test_only_numbers_can_be_fixed_or_sampled():
    assert training.numbers(TASK) == {"temperature": 1.0}
    fault = training.check_loss(TASK, ev3x.Loss("xent", classes=2.0))
    assert fault == "loss 'xent': the hyperparameter 'classes' is a whole pytree and cannot be 2"
    proposer = Hyperparameters(ev3x.Loss("xent"), sgd(), ranges={"classes": {"low": 0.0, "high": 1.0}})
    with pytest.raises(ValueError, match="unknown range 'classes'"):
        ev3x.Evolver(TASK, method(proposer), splits()).init(0)


def test_other_proposers_train_with_the_defaults():
    proposer = Trajectories(losses=["xent"], optimizers=[sgd()], length=3)
    run = [ev3x.Evolver(task, method(proposer), splits()) for task in (Toy(), TASK)]
    assert same(*(e.rounds(e.init(0), 2)[0].model.current for e in run))


def test_an_optimizer_state_is_carried_over_where_it_fits():
    old = {"same": jnp.arange(3.0), "grown": jnp.ones((2, 2)), "shrunk": jnp.ones(4), "kind": jnp.ones(2), "gone": 1.0}
    first = {"same": jnp.zeros(3), "grown": jnp.zeros((3, 4)), "shrunk": jnp.zeros(3), "kind": jnp.zeros(2, int)}
    got = training.carried(old, {**first, "new": jnp.full(2, 5.0)})
    assert got["same"].tolist() == [0, 1, 2] and got["new"].tolist() == [5, 5]
    assert got["grown"].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert got["shrunk"].tolist() == [0, 0, 0] and got["kind"].tolist() == [0, 0]


@dataclasses.dataclass(frozen=True)
class OnlyEach(Toy):
    def loss(self, name, variables, batch, key, hypers):
        return super().loss(name, variables, batch, key, hypers)[0]


def test_a_loss_without_the_moved_variables_is_named():
    said = r"loss must return the loss of each example and the variables, got float32 of shape .*`OnlyEach.loss`"
    with pytest.raises(BoundaryError, match=said):
        training.loss_value(OnlyEach(), ev3x.Loss("xent"), VARIABLES, make(jax.random.key(0), 4), jax.random.key(1), {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("init", r"an Optimizer is a value; call build\(\) first, build\(\)\.init$"),
        ("update", r"an Optimizer is a value; call build\(\) first, build\(\)\.update$"),
        ("unit", "'Optimizer' object has no attribute 'unit'$"),
    ],
)
def test_an_optimizer_that_is_not_built_says_so(name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(sgd(0.1), name)


def test_help_lists_what_proposers_are_made_of():
    said = pydoc.plain(pydoc.render_doc(ev3x.training))
    assert [name for name in ev3x.training.__all__ if f"    {name}(" not in said] == []


def test_the_former_name_of_where_still_works_and_says_so():
    with pytest.warns(DeprecationWarning, match="training.where"):
        assert ev3x.training.select is ev3x.training.where
    with pytest.raises(AttributeError, match="no attribute 'train_me'"):
        ev3x.training.train_me  # noqa: B018
