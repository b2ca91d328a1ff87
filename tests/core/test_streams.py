"""Streamed data: what is read and when, how a run resumes, and how streams end and fail."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Shift, evolver, make, same, sgd, splits

import ev3x
from ev3x.builtin.proposers.trajectories import Trajectories
from ev3x.core.streams import StreamEnded, StreamFault

MAKE = jax.jit(make, static_argnums=1)


def batch(i, n=16):
    return jax.tree.map(np.asarray, MAKE(jax.random.fold_in(jax.random.key(11), i), n))


def batches(offset=0, end=None, fail=None):
    """A function that returns a fresh iterator."""

    def fresh():
        for i in itertools.count():
            if i == end:
                return
            if i == fail:
                raise OSError("the disk is gone")
            yield batch(offset + i)

    return fresh


class Counter:
    """An iterator that knows where it is."""

    def __init__(self, offset, as_bytes=False):
        self.offset, self.i, self.as_bytes = offset, 0, as_bytes

    def __iter__(self):
        return self

    def __next__(self):
        self.i += 1
        return batch(self.offset + self.i - 1)

    def get_state(self):
        return str(self.i).encode() if self.as_bytes else {"i": self.i}

    def set_state(self, state):
        self.i = int(state) if self.as_bytes else state["i"]


KINDS = {
    "function": batches,
    "iterator, JSON": Counter,
    "iterator, bytes": lambda offset: Counter(offset, as_bytes=True),
}


def feed(kind=batches, explore=None, rounds=2):
    """Two rounds on a block of 4 explore, 4 assess and 16 decide batches of 16."""
    return ev3x.Feed(
        explore or ev3x.Stream(kind(0), batches=4),
        ev3x.Stream(kind(10_000), batches=4),
        ev3x.Stream(kind(20_000), batches=16),
        batch_size=8,
        rounds=rounds,
    )


PROPOSER = Trajectories(losses=["xent"], optimizers=[sgd(), sgd(0.5)], length=4)


def joined(*ids):
    return jax.tree.map(lambda *x: np.concatenate(x), *[batch(i) for i in ids])


def test_a_block_is_its_batches_in_order():
    stream = ev3x.Stream(batches(5), batches=3)
    assert same(stream.take("explore"), joined(5, 6, 7))
    assert same(stream.take("explore"), joined(8, 9, 10))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_stream_continues_from_its_position(kind):
    stream = ev3x.Stream(kind(0), batches=2)
    stream.take("explore")
    position = stream.position()
    expected = stream.take("explore")
    other = ev3x.Stream(kind(0), batches=2)
    other.seek(position, "explore")
    assert position.dtype == np.uint8 and same(other.take("explore"), expected)


def test_blocks_are_fetched_ahead_and_the_position_is_that_of_the_blocks_handed_out():
    source = Counter(0)
    data = feed(explore=ev3x.Stream(source, batches=4))
    first = data.next(0)
    position = data.position()
    second = data.next(16)
    assert source.i >= 8 and same(first.explore.source.tree, joined(0, 1, 2, 3))
    data.seek(position)
    again = data.next(16)
    for name in ("explore", "assess", "decide"):
        assert same(getattr(again, name).source.tree, getattr(second, name).source.tree)


@pytest.fixture(scope="module")
def whole():
    run = evolver(PROPOSER, data=feed())
    state = run.init(0)
    return state, *run.rounds(state, 6)


@pytest.mark.bits
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_resumed_run_ends_in_the_same_bits(whole, kind):
    start, end, records = whole
    run = evolver(PROPOSER, data=feed(kind))
    state, first = run.rounds(start, 4)
    position = run.data.position()
    resumed = evolver(PROPOSER, data=feed(kind))
    resumed.data.seek(position)
    state, second = resumed.rounds(state, 2)
    assert same(state, end) and same(records, jax.tree.map(lambda *x: jnp.concatenate(x), first, second))


@pytest.mark.bits
def test_rounds_on_a_feed_are_the_rounds_on_the_same_examples_on_the_device():
    """Decide examples are read in order in both cases; explore and assess stay on the device."""
    device = splits()
    streamed = ev3x.Feed(device.explore, device.assess, ev3x.Stream(batches(), batches=16), rounds=2)
    decide = ev3x.Decide(ev3x.Arrays(jax.tree.map(jnp.asarray, joined(*range(48)))))
    a = evolver(PROPOSER, data=streamed)
    b = evolver(PROPOSER, data=splits(decide=decide))
    after_a, records_a = a.rounds(a.init(0), 6)
    after_b, records_b = b.rounds(b.init(0), 6)
    assert records_a.round.tolist() == records_b.round.tolist() == list(range(6))
    np.testing.assert_allclose(records_a.confirmation.mean, records_b.confirmation.mean, rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), after_a.model, after_b.model)
    assert int(after_a.spent) == int(after_b.spent) == 12


def test_what_is_read_does_not_depend_on_how_the_rounds_are_called():
    run = evolver(PROPOSER, data=feed())
    state = run.init(0)
    state, records = run.chunk(state, ev3x.core.loop.Limit(jnp.int32(1)), capacity=64)
    assert records.round.tolist() == [0, 1]
    with pytest.raises(ValueError, match="rounds must be a multiple of 2, the rounds on one block of the feed, got 3"):
        run.rounds(state, 3)


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        (batches(end=10), StreamEnded, "the explore stream ended after 10 batches"),
        (batches(fail=10), StreamFault, r"the explore stream raised after 10 batches: OSError\('the disk is gone'\)"),
    ],
)
def test_a_stream_that_ends_or_fails_keeps_what_was_trained(source, kind, text):
    run = evolver(PROPOSER, data=feed(explore=ev3x.Stream(source, batches=4)))
    state, records = run.rounds(run.init(0), 8)
    assert records.round.tolist() == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(kind, match=text):
            run.rounds(state, 8)


def test_a_stream_shorter_than_the_position_to_resume_at_says_so():
    stream = ev3x.Stream(batches(), batches=4)
    stream.take("explore")
    with pytest.raises(StreamEnded, match="the explore stream ended after 3 batches; the run had read 4"):
        ev3x.Stream(batches(end=3), batches=4).seek(stream.position(), "explore")


def test_a_plain_iterator_is_refused():
    with pytest.raises(
        TypeError, match=r"a run must be able to resume.*function that returns a fresh iterator.*got list_iter"
    ):
        ev3x.Stream(iter([batch(0)]), batches=1)


def test_blocks_and_rounds_are_at_least_one():
    with pytest.raises(ValueError, match="Stream: batches must be at least 1, got 0"):
        ev3x.Stream(batches(), batches=0)
    with pytest.raises(ValueError, match="Feed: rounds must be at least 1, got 0"):
        feed(rounds=0)


def test_splits_of_a_feed_cannot_be_exchanged():
    data = splits()
    with pytest.raises(TypeError, match=r"Feed: `decide` must be a Stream or Decide\(...\), got Explore"):
        ev3x.Feed(data.explore, data.assess, data.explore)


def test_a_decide_block_too_small_for_a_confirmation_is_refused_in_any_block():
    data = ev3x.Feed(splits().explore, splits().assess, ev3x.Stream(batches(), batches=4))
    run = evolver(Shift((0.1,)), data=data)
    for spent in (0, 100):
        with pytest.raises(
            ValueError, match="the decide split has 64 examples but one round reads up to 128; give it more"
        ):
            run.plan.check(data.next(spent), rounds=1)


@pytest.mark.parametrize(
    "batch", [None, "ab", {}, {"x": 3.0}, {"x": np.array([None])}, {"x": np.array(["a"])}], ids=repr
)
def test_a_batch_that_is_none_ends_its_stream_by_name(batch):
    with pytest.raises(StreamFault, match="the explore stream must give batches alike, pytrees of arrays of numbers"):
        ev3x.Stream(lambda: iter([batch]), batches=1).take("explore")


def test_batches_that_differ_and_sources_that_are_none_are_told():
    uneven = iter([{"x": np.zeros((2, 2))}, {"x": np.zeros((2, 3))}])
    with pytest.raises(StreamFault, match="the explore stream must give batches alike"):
        ev3x.Stream(lambda: uneven, batches=2).take("explore")
    with pytest.raises(TypeError, match="`source` must return an iterator over batches, got NoneType"):
        ev3x.Stream(lambda: None, batches=1)
