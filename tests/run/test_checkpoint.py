"""Checkpoints: what goes in comes out, what does not fit is named, and a broken one is told in words."""

import json
import pickle
import shlex
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import Shift, evolver, same

import ev3x
from ev3x.run import checkpoint as checkpoint_
from ev3x.run.checkpoint import CheckpointError, Checkpoints, PlaceError, fill, leaves, load, of_run
from ev3x.run.digests import broken, seal
from ev3x.run.directory import RunError

HOMES = {"a": "ev3@v1", "b/c": "other@v1", "grow": "other@v1", "budget": "ev3@v1"}


def state(proposers=None, adapters=None, budget=(), params=None, key=None, at=0):
    variables = {"params": {"w": jnp.arange(3.0)} if params is None else params}
    return ev3x.State(
        key=jax.random.key(3) if key is None else key,
        round=jnp.int32(at),
        spent=jnp.int32(0),
        model=ev3x.Model(variables, jax.tree.map(jnp.array, variables), jnp.ones(1)),
        proposers=proposers or {},
        adapters=adapters or {},
        budget=budget,
    )


def last(directory):
    found = load(directory)
    assert found is not None
    return found


def saved(directory, what, history=None, positions=None):
    Checkpoints(directory, HOMES).save(what, history, positions or {}, {"some": "meta"})
    return last(directory)


PARAMS = {
    "w": jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
    "half": jnp.array([1.5, -0.0, np.nan], jnp.bfloat16),
    "bool": jnp.array([True, False]),
    "none": jnp.zeros((0, 4)),
    "scalar": jnp.float32(np.inf),
    "bytes": jnp.array([1, 255], jnp.uint8),
    "mlp/~/linear_0": {"a.b": jnp.ones(2), "": jnp.zeros(1), "ö %": jnp.int32(-1)},
    "layers": [jnp.ones(1), (jnp.zeros(2), None)],
}
STATES = {
    "parameters of all kinds": dict(params=PARAMS),
    "optimizers": dict(
        proposers={
            "a": optax.chain(optax.clip(1.0), optax.adamw(1e-3), optax.ema(0.9)).init({"w": jnp.ones(3)}),
            "b/c": (jnp.int32(1), optax.EmptyState(), {}, jnp.zeros((0,))),
        }
    ),
    "nothing": dict(proposers={"a": ()}, adapters={"grow": ()}),
    "adapters and budget": dict(adapters={"grow": {"at": jnp.int32(2)}}, budget=(jnp.float32(0.05), jnp.bool_(True))),
    "keys": dict(proposers={"a": {"keys": jax.random.split(jax.random.key(0), 3)}}),
    "keys of other kinds": dict(
        key=jax.random.key(0, impl="rbg"), proposers={"a": jax.random.split(jax.random.key(1, impl="unsafe_rbg"))}
    ),
}


@pytest.mark.parametrize("parts", STATES.values(), ids=STATES.keys())
def test_a_state_comes_back_as_it_was(tmp_path, parts):
    before = state(**parts)
    blank = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.zeros_like(x), before)
    after = saved(tmp_path, before).state(blank, HOMES)
    assert same(after, before)
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(before)]


def test_plugin_states_stand_under_plugin_and_api_version_and_the_rest_under_its_path(tmp_path):
    found = saved(
        tmp_path,
        state(
            proposers={"a": jnp.ones(1), "b/c": {"x": jnp.ones(2)}},
            adapters={"grow": jnp.int32(0)},
            budget={"left": jnp.ones(1)},
        ),
        positions={"explore": np.frombuffer(b"n12", np.uint8)},
    )
    assert {name: sorted(branch) for name, branch in found.plugins.items()} == {
        "ev3@v1": ["budget/left", "proposers/a"],
        "other@v1": ["adapters/grow", "proposers/b/c/x"],
    }
    assert sorted(found.run) == [
        "key",
        "model/aims",
        "model/current/params/w",
        "model/incumbent/params/w",
        "round",
        "spent",
    ]
    assert bytes(found.streams["explore"]) == b"n12" and found.records == {} and found.meta == {"some": "meta"}


def test_missing_and_mismatching_leaves_are_all_named(tmp_path):
    found = saved(tmp_path, state(proposers={"a": {"x": jnp.ones(2)}}))
    with pytest.raises(CheckpointError, match="does not fit this configuration") as caught:
        found.state(state(params={"w": jnp.zeros(3, jnp.bfloat16)}, proposers={"a": {"y": jnp.ones(2)}}), HOMES)
    assert "model/current/params/w must be bfloat16[3], got float32[3]" in str(caught.value)
    assert "proposers/a/y is missing" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"key must be uint32\[4\], got uint32\[2\]"):
        found.state(state(key=jax.random.key(0, impl="rbg")), HOMES)


def test_a_plugin_that_cannot_read_its_state_may_start_anew(tmp_path):
    found = saved(tmp_path, state(proposers={"a": jnp.ones(2), "b/c": jnp.ones(2)}))
    like = state(proposers={"a": jnp.zeros(2), "b/c": jnp.full(3, 7.0)})
    with pytest.raises(CheckpointError, match=r"plugin 'other': proposers/b/c must be .*--drop-plugin-state"):
        found.state(like, HOMES)
    with pytest.warns(UserWarning, match="starts anew: plugin 'other': proposers/b/c must be"):
        after = found.state(like, HOMES, drop=True)
    assert after.proposers["a"].tolist() == [1, 1] and after.proposers["b/c"].tolist() == [7, 7, 7]
    with pytest.raises(CheckpointError, match="plugin 'other': proposers/b/c is there no more"):
        found.state(state(proposers={"a": jnp.zeros(2)}), HOMES)
    moved = {**HOMES, "b/c": "other@v2", "grow": "other@v2"}
    with pytest.raises(CheckpointError, match="plugin 'other': its states were saved by other@v1, it is other@v2 now"):
        found.state(state(proposers={"a": jnp.zeros(2), "b/c": jnp.ones(2)}), moved)
    with pytest.raises(CheckpointError, match="params/w must be"):
        found.state(state(params={"w": jnp.zeros(9)}, proposers={"a": jnp.zeros(2)}), HOMES, drop=True)


def test_a_state_of_another_plugin_is_not_taken_for_ones_own(tmp_path):
    found = saved(tmp_path, state(proposers={"a": jnp.ones(2)}))
    with pytest.raises(CheckpointError, match="proposers/a is missing"):
        found.state(state(proposers={"a": jnp.ones(2)}), {**HOMES, "a": "fork@v1"})


def test_leaves_with_the_same_path_are_refused():
    twice = {"a": {"b": jnp.ones(1)}, "a/b": jnp.zeros(1)}
    with pytest.raises(CheckpointError, match=r"two leaves of the state have the same path: \['a/b'\]"):
        fill(twice, {})
    with pytest.raises(CheckpointError, match=r"\['a/b'\]; rename one"):
        leaves(twice)  # else one of them would be lost when it is saved


def test_records_come_back_with_their_leading_axis(tmp_path):
    run = evolver(Shift((0.1,)))
    end, records = run.rounds(run.init(0), 2)
    ids = {"shift": "ev3:s", "promote": "ev3:p", "budget": "ev3:b"}
    Checkpoints(tmp_path, ids).save(end, records, {}, {})
    found = last(tmp_path)
    one = jax.eval_shape(ev3x.core.loop.round_.of(run.plan), run.data, end)[1]
    assert same(found.history(one), records) and same(found.state(run.init(1), ids), end)


def test_the_last_two_are_kept_and_the_leftovers_of_a_kill_are_removed(tmp_path):
    leftover = tmp_path / "7.orbax-checkpoint-tmp-0"
    leftover.mkdir()
    store = Checkpoints(tmp_path, HOMES)
    for at in (1, 2, 3, 3):
        store.save(state(at=at), None, {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    assert last(tmp_path).run["round"] == 3


def test_reading_writes_nothing(tmp_path):
    saved(tmp_path, state())
    (tmp_path / "1.orbax-checkpoint-tmp-0").mkdir()
    before = sorted(tmp_path.rglob("*"))
    load(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_without_checkpoints_has_none(tmp_path, made):
    place = tmp_path / "checkpoints"
    if made:
        place.mkdir()
        (place / "0.orbax-checkpoint-tmp-0").mkdir()
    assert load(place) is None


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [empty, cut])
@pytest.mark.parametrize("part", ["tree/d/*", "tree/manifest.ocdbt", "tree/_METADATA", "meta/metadata"])
def test_a_damaged_checkpoint_is_told_in_words_with_a_way_back(tmp_path, part, damage, capfd, caplog):
    """In ours alone: Orbax logs nothing, and reads that it gave up leave no traceback (a warning of pytest's)."""
    store = Checkpoints(tmp_path, HOMES)
    store.save(state(at=1), None, {}, {})
    store.save(state(at=2), None, {}, {})
    found = list((tmp_path / "2").glob(part))
    assert found
    for path in found:
        damage(path)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert f"checkpoint 2 in {tmp_path} cannot be read" in str(caught.value)
    assert "; checkpoint 1 is sound, to go back to it: `mkdir -p " in str(caught.value)
    assert "\n" not in str(caught.value) and "tensorstore_spec" not in str(caught.value)
    assert not caplog.records and capfd.readouterr() == ("", "")


def test_of_very_many_checkpoints_the_last_are_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_, "TRIED", 3)
    tried = []
    Checkpoints(tmp_path, HOMES).save(state(at=1), None, {}, {})
    monkeypatch.setattr(checkpoint_, "too_large", lambda path, size: tried.append(path.name))
    for n in range(2, 6):
        (tmp_path / str(n)).mkdir()
    for n in range(6, 2000):
        (tmp_path / str(n)).touch()
    with pytest.raises(CheckpointError, match=r"checkpoint 1999 in .* cannot be read: .*; no other in .* is sound"):
        load(tmp_path)
    assert tried == ["1999", "5", "4", "3"]


def edited(directory):
    path = directory / "2/meta/metadata"
    path.write_text(path.read_text().replace('"some": 2', '"some": 3'))


def without_digests(directory):
    (directory / "2/meta/metadata").write_text(json.dumps({"some": 2}))


def older_arrays(directory):
    shutil.rmtree(directory / "2/tree")
    shutil.copytree(directory / "1/tree", directory / "2/tree")


def older_whole(directory):
    shutil.rmtree(directory / "2")
    shutil.copytree(directory / "1", directory / "2")


def higher_copy(directory):
    shutil.copytree(directory / "2", directory / "99")


def only_a_number(directory):
    (directory / "99").mkdir()


@pytest.mark.parametrize(
    ("damage", "text", "sound"),
    [
        (edited, "checkpoint 2 in {} cannot be used: its metadata are not what was saved; ", 1),
        (without_digests, "checkpoint 2 in {} cannot be used: it has no digests, so ", 1),
        (older_arrays, "checkpoint 2 in {} cannot be used: run/round is not what was saved; ", 1),
        (older_whole, "checkpoint 2 in {} cannot be used: it holds the state after 1 rounds; ", 1),
        (higher_copy, "checkpoint 99 in {} cannot be used: it holds the state after 2 rounds; ", 2),
        (only_a_number, "checkpoint 99 in {} cannot be read: ", 2),
    ],
)
def test_what_was_not_saved_so_is_not_believed_and_the_command_leads_to_the_sound_one(tmp_path, damage, text, sound):
    store = Checkpoints(tmp_path, HOMES)
    for at in (1, 2):
        store.save(state(at=at), None, {}, {"some": at})
    damage(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(text.format(tmp_path))
    before, _, commands = str(caught.value).partition(f"; checkpoint {sound} is sound, to go back to it: `")
    assert before and commands.endswith("`")
    for line in commands[:-1].split(" && "):
        subprocess.run(shlex.split(line), check=True)
    assert last(tmp_path).run["round"] == sound
    again = Checkpoints(tmp_path, HOMES)
    again.goes_on(last(tmp_path))
    again.save(state(at=3), None, {}, {})
    assert last(tmp_path).run["round"] == 3 and (tmp_path / "damaged").is_dir()


def test_where_no_checkpoint_is_sound_this_is_said(tmp_path):
    Checkpoints(tmp_path, HOMES).save(state(at=1), None, {}, {})
    (tmp_path / "1").rename(tmp_path / "4")
    with pytest.raises(CheckpointError, match=r"after 1 rounds; no other in .* is sound$"):
        load(tmp_path)


TREE = {"run": {"round": np.int32(4), "w": np.ones(2, np.float32)}, "history": {"a/b": np.zeros((2, 0), np.int8)}}


def test_each_array_its_name_type_and_shape_and_all_metadata_are_covered():
    sealed = json.loads(json.dumps(seal(4, TREE, {"x": 0.1, "y": [1]})))
    assert broken(4, TREE, sealed) is None
    for name, other in {
        "w": np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32),
        "round": np.int64(4),
    }.items():
        changed = {**TREE, "run": TREE["run"] | {name: other}}
        assert broken(4, changed, sealed) == f"run/{name} is not what was saved"
    assert broken(4, {**TREE, "run": TREE["run"] | {"w": np.ones((2, 1), np.float32)}}, sealed)
    assert broken(4, {**TREE, "streams": {"s": np.ones(1)}}, sealed) == "streams/s was not saved with it"
    assert broken(4, {"run": TREE["run"]}, sealed) == "history/a/b is missing"
    for other in (sealed | {"round": 5}, sealed | {"arrays": {}}, sealed | {"meta": {"x": 0.1, "y": [2]}}):
        assert broken(4, TREE, other) == "its metadata are not what was saved"


def test_a_checkpoint_that_cannot_be_written_because_of_another_is_an_error(tmp_path):
    store = Checkpoints(tmp_path, HOMES)
    store.save(state(at=1), None, {}, {})
    shutil.copytree(tmp_path / "1", tmp_path / "9")
    for there in (store, Checkpoints(tmp_path, HOMES)):
        with pytest.raises(
            CheckpointError, match=r"checkpoint 2 cannot be written to .*/9 is there, which this run did"
        ):
            there.save(state(at=2), None, {}, {})
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    shutil.rmtree(tmp_path / "9")
    with pytest.raises(CheckpointError, match=r"checkpoint 2 cannot be written to .*/2 is there, which this run did"):
        store.save(state(at=2), None, {}, {})


def test_what_orbax_leaves_out_in_silence_is_an_error(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path, HOMES)
    monkeypatch.setattr(store._manager, "save", lambda *args, **options: False)
    with pytest.raises(CheckpointError, match=r"checkpoint 0 cannot be written to .*: Orbax did not save it"):
        store.save(state(), None, {}, {})


def test_a_save_that_was_complete_when_it_was_interrupted_counts(tmp_path):
    Checkpoints(tmp_path, HOMES).save(state(at=1), None, {}, {})
    store = Checkpoints(tmp_path, HOMES)
    store.save(state(at=1), None, {}, {})
    store.save(state(at=2), None, {}, {})
    assert last(tmp_path).run["round"] == 2


def test_the_first_checkpoint_is_read_back_before_anything_goes_on(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path, HOMES)
    write = store._manager.save

    def lossy(step, args):
        written = write(step, args=args)
        empty(tmp_path / str(step) / "tree/manifest.ocdbt")
        return written

    monkeypatch.setattr(store._manager, "save", lossy)
    with pytest.raises(
        PlaceError, match=r"^checkpoints in .* cannot be read back, choose another --out: checkpoint 0 in"
    ):
        store.save(state(), None, {}, {})


@pytest.mark.parametrize("name", ["a[1]", "**", "what?"])
def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path, name):
    with pytest.raises(RunError, match=r"the path of a run must not hold [*?[], because"):
        Checkpoints(tmp_path / name, HOMES)
    (tmp_path / name / "1").mkdir(parents=True)
    with pytest.raises(RunError, match=r"the path of a run must not hold [*?[], because"):
        load(tmp_path / name)


def test_what_orbax_finds_wrong_and_goes_on_with_is_a_warning_in_one_line(tmp_path, caplog):
    Checkpoints(tmp_path, HOMES).save(state(at=1), None, {}, {})
    cut(tmp_path / "1" / "_CHECKPOINT_METADATA")
    with pytest.warns(UserWarning, match=r"^Orbax reports: Failed to json parse.{,180}$"):
        assert last(tmp_path).run["round"] == 1
    assert not caplog.records


def test_a_half_removed_old_checkpoint_disturbs_nobody(tmp_path):
    store = Checkpoints(tmp_path, HOMES)
    store.save(state(at=1), None, {}, {})
    store.save(state(at=2), None, {}, {})
    for path in (tmp_path / "1").rglob("*"):
        if path.is_file():
            path.unlink()
    assert last(tmp_path).run["round"] == 2
    again = Checkpoints(tmp_path, HOMES)
    again.save(state(at=3), None, {}, {})
    assert last(tmp_path).run["round"] == 3


def test_a_save_that_fails_is_told_in_words(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path, HOMES)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._manager, "save", full)
    with pytest.raises(
        CheckpointError, match=r"checkpoint 0 cannot be written to .*No space left.*earlier ones are kept"
    ):
        store.save(state(), None, {}, {})


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    saved(tmp_path, state(**STATES["optimizers"]))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(path.read_bytes().startswith(b"\x80") for path in files)


def test_weights_for_numpy_know_only_its_types(tmp_path):
    weights = saved(
        tmp_path, state(params={"half": jnp.array([1.5, 2.5], jnp.bfloat16), "w": jnp.arange(2)})
    ).incumbent()
    assert {name: x.dtype.name for name, x in weights.items()} == {"params/half": "float32", "params/w": "int32"}
    assert weights["params/half"].tolist() == [1.5, 2.5]


def test_a_checkpoint_without_what_a_run_writes_beside_its_state_is_told(tmp_path):
    saved(tmp_path, state())
    with pytest.raises(
        CheckpointError,
        match="cannot be used: its metadata: it lacks changes, config, data, seed, task, totals, versions",
    ):
        of_run(tmp_path)
    assert of_run(tmp_path / "none") is None
