"""The three splits: what is drawn, what is read, and what is spent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import examples, make, same, splits

import ev3x


def rows(n):
    return ev3x.Arrays({"i": jnp.arange(n)})


@pytest.mark.parametrize(("size", "steps", "n"), [(12, 3, 4), (10, 7, 3), (5, 10, 5), (7, 1, 7)])
def test_every_example_is_drawn_once_per_pass(size, steps, n):
    drawn = np.asarray(rows(size).draw(jax.random.key(0), steps, n))
    assert drawn.shape == (steps, n)
    flat = drawn.ravel()
    for i in range(0, len(flat), size):
        one_pass = flat[i : i + size]
        assert len(set(one_pass.tolist())) == len(one_pass)


def test_passes_are_shuffled_anew_and_by_key():
    drawn = np.asarray(rows(64).draw(jax.random.key(0), 2, 64))
    other = np.asarray(rows(64).draw(jax.random.key(1), 2, 64))
    assert (drawn[0] != drawn[1]).any() and (drawn != other).any()
    assert same(rows(64).draw(jax.random.key(0), 2, 64), drawn)


def test_batches_of_a_split_are_its_examples():
    split = ev3x.Explore(examples(0, 20), batch_size=6)
    drawn = split.draw(jax.random.key(0), 2)
    np.testing.assert_array_equal(split.batch(drawn[1])["x"], split.source.tree["x"][drawn[1]])


def test_a_block_of_a_generator_depends_on_its_position_alone():
    source = ev3x.Generated(jax.random.key(0), make)
    block = jax.jit(source.block, static_argnums=1)
    batch, mask = block(5, 16)
    again, _ = block(jnp.int32(5), 16)
    assert mask is None and same(batch, again)
    assert not same(batch, block(6, 16)[0])


def test_generators_with_different_keys_give_different_batches_for_one_draw():
    a, b = (ev3x.Explore(ev3x.Generated(jax.random.key(i), make), 4) for i in range(2))
    key = jax.random.key(9)
    assert not same(a.batch(a.draw(key, 1)[0]), b.batch(b.draw(key, 1)[0]))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 10, 11, 25])
def test_blocks_cover_all_examples_once(n):
    source, seen = rows(10), []
    for i in range(source.blocks(n)):
        batch, mask = source.block(i, n)
        kept = np.ones(len(batch["i"])) if mask is None else np.asarray(mask)
        seen += np.asarray(batch["i"])[kept == 1].tolist()
    assert seen == list(range(10))


def test_assess_reads_in_turn_and_starts_over():
    split = ev3x.Assess(rows(10))
    read = [split.block(jnp.int32(i), 4)[0]["i"].tolist() for i in range(4)]
    assert read == [[0, 1, 2, 3], [4, 5, 6, 7], [6, 7, 8, 9], [0, 1, 2, 3]]


def test_decide_says_what_is_left_and_counts_from_its_first_position():
    split = ev3x.Decide(rows(10))
    assert [int(split.left(jnp.int32(i), 4)) for i in range(5)] == [3, 2, 1, 0, 0]
    later = ev3x.Decide(rows(10), first=100)
    assert later.block(jnp.int32(101), 4)[0]["i"].tolist() == [4, 5, 6, 7]
    assert [int(later.left(jnp.int32(100 + i), 4)) for i in range(4)] == [3, 2, 1, 0]
    assert ev3x.Decide(ev3x.Generated(jax.random.key(0), make)).left(jnp.int32(10**6), 4) is None


def test_decide_counts_how_often_its_examples_were_read():
    split = ev3x.Decide(rows(10), reuse=True)
    assert split.left(jnp.int32(99), 4) is None
    assert [int(split.uses(jnp.int32(i), 2, 4)) for i in range(6)] == [0, 0, 1, 1, 1, 2]
    assert int(ev3x.Decide(rows(10)).uses(jnp.int32(0), 0, 4)) == 0
    assert int(ev3x.Decide(ev3x.Generated(jax.random.key(0), make)).uses(jnp.int32(10**6), 2, 4)) == 0


def test_fingerprints_tell_data_apart_and_are_stable():
    data = [ev3x.Data(splits(), examples(i, 8)) for i in (1, 1, 2)]
    prints = [d.fingerprint() for d in data]
    assert prints[0] == prints[1] != prints[2]


def picked(key, n, pool):
    """n rows of the pool, in which each is known by its number."""
    return {"i": pool["i"][jax.random.randint(key, (n,), 0, len(pool["i"]))]}


def pooled(seed, low, high):
    return ev3x.Generated(jax.random.key(seed), picked, {"i": np.arange(low, high)})


def test_a_pool_is_an_argument_of_the_program_and_its_rows_are_what_examples_are_made_of():
    traced = []

    @jax.jit
    def read(source):
        traced.append(source)
        return source.block(3, 100)[0]["i"], jax.vmap(lambda d: source.batch(d, 4)["i"])(source.draw(source.key, 2, 4))

    for low in (0, 50):
        block, batches = read(pooled(0, low, low + 10))
        assert sorted(set(block.tolist())) == list(range(low, low + 10)) and batches.shape == (2, 4)
        assert same(block, pooled(0, low, low + 10).block(3, 100)[0]["i"])
    assert len(traced) == 1


def test_a_pool_is_part_of_the_fingerprint_and_none_is_no_part():
    data = [ev3x.Data(splits(assess=ev3x.Assess(pooled(1, 0, n))), examples(1, 8)) for n in (8, 8, 9)]
    prints = [d.fingerprint() for d in data]
    assert prints[0] == prints[1] != prints[2]
    leaves = jax.tree_util.tree_leaves_with_path(ev3x.Generated(jax.random.key(0), make))
    assert [jax.tree_util.keystr(path) for path, _ in leaves] == [".key"]  # as it was before there were pools


@pytest.mark.parametrize(
    ("decide", "text"),
    [
        (pooled(1, 20, 30), None),  # one key is no harm where pools differ
        (pooled(2, 15, 30), "decide.pool example 0 is also assess.pool example 5"),
        (pooled(2, 10, 20), "decide.pool example 0 is also assess.pool example 0"),
        (rows(20), "assess.pool example 0 is also decide example 10"),
        (ev3x.Generated(jax.random.key(1), picked, {"i": jnp.arange(20, 30), "more": jnp.ones(10)}), None),
        (ev3x.Generated(jax.random.key(2), picked, {"i": np.arange(19, 29), "more": np.ones(10)}), "decide.pool exam"),
    ],
)
def test_pools_share_no_row(decide, text):
    given = splits(assess=ev3x.Assess(pooled(1, 10, 20)), decide=ev3x.Decide(decide))
    if text is None:
        given.check()
    else:
        with pytest.raises(ValueError, match=f"must not share examples, but {text}"):
            given.check()
        given.check(disjoint=False)


def test_a_pool_of_other_entries_hides_no_example_that_other_splits_share():
    """Each two sources are compared by what they have in common, whatever a third one holds."""
    decide = ev3x.Decide(ev3x.Generated(jax.random.key(1), picked, {"i": np.arange(9)}))
    shared = {"x": np.arange(8.0)}
    explore = ev3x.Explore(ev3x.Arrays({**shared, "teacher": np.ones(8)}), batch_size=2)
    with pytest.raises(ValueError, match="assess example 0 is also explore example 0"):
        splits(explore=explore, assess=ev3x.Assess(ev3x.Arrays(shared)), decide=decide).check()


def _jitter(key, batch):
    return {**batch, "x": batch["x"] + jax.random.uniform(key, batch["x"].shape)}


def test_a_varied_split_draws_as_the_plain_one_and_varies_each_time_it_is_read():
    source = ev3x.Arrays({"x": 10 * jnp.arange(6.0), "y": jnp.arange(6)})
    plain, varied = ev3x.Explore(source, 3), ev3x.Varied(source, 3, vary=_jitter)
    drawn, plainly = varied.draw(jax.random.key(0), 4), plain.draw(jax.random.key(0), 4)
    batches = jax.vmap(varied.batch)(drawn)
    assert jnp.array_equal(batches["y"], jax.vmap(plain.batch)(plainly)["y"])
    noise = batches["x"] - 10 * batches["y"].astype(jnp.float32)
    assert (noise >= 0).all() and (noise < 1).all() and len(jnp.unique(noise)) == 12
    again = jax.jit(lambda split, d: split.batch(jax.tree.map(lambda x: x[1], d)))(varied, drawn)
    assert jnp.array_equal(again["x"], batches["x"][1])
    assert hash(jax.tree.structure(varied)) == hash(jax.tree.structure(ev3x.Varied(source, 3, vary=_jitter)))
    ev3x.Splits(
        varied,
        ev3x.Assess(ev3x.Generated(jax.random.key(1), _pairs)),
        ev3x.Decide(ev3x.Generated(jax.random.key(2), _pairs)),
    ).check()


def _pairs(key, n):
    return {"x": jax.random.uniform(key, (n,)), "y": jnp.zeros(n, jnp.int32)}
