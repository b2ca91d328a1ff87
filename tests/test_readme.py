"""The README does what it says: its Python blocks run as they stand there."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import ev3x
from ev3x.host.host import Host

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
EMBED, PLUGIN = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ENTRY_POINT = re.search(r"`\[project\.entry-points\.ev3x\] (\w+) = \"(\w+)\"`", TEXT)
API = re.search(r"`\[project\.entry-points\.\"ev3x\.api\"\] (\w+) = \"(v\d+)\"`", TEXT)
USE = re.search(r'`use = "([\w:]+)"`', TEXT)

pytestmark = [pytest.mark.loose_types("a user's JAX is not strict"), pytest.mark.usefixtures("loose_ranks")]


@pytest.fixture(scope="module")
def loose_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def lines(block):
    return sum(bool(line.strip()) for line in block.splitlines())


@pytest.fixture(scope="module")
def embedded(loose_ranks):
    names = {"__name__": "readme"}
    exec(compile(EMBED, "README.md (embed)", "exec"), names)
    return names


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150 and lines(EMBED) <= 25 and lines(PLUGIN) <= 20


def test_the_embedded_run_promotes_after_its_first_round(embedded):
    records = embedded["records"]
    assert records.round.tolist() == list(range(20))
    assert records.decision.promote[1:].any()
    assert int(embedded["state"].round) == 20


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The plugin block as an installed distribution with the entry point that the README shows."""
    name, module = ENTRY_POINT.groups()
    (tmp_path / f"{module}.py").write_text(PLUGIN)
    info = tmp_path / "random_steps-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: random-steps\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[ev3x]\n{name} = {module}\n[ev3x.api]\n{API[1]} = {API[2]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield name, module
    sys.modules.pop(module, None)


def test_the_plugin_is_found_and_its_proposer_takes_part_in_a_round(embedded, installed):
    name, module = installed
    host = Host()
    assert str(host.index.plugins[name]) == "plugin 'random' of random-steps 1.2" and module not in sys.modules
    proposer = host.build("proposer", USE[1], {"count": 3})
    own = embedded["evolver"].plan.method
    method = ev3x.Method([("random", proposer)], own.select, own.confirm, own.adapters, own.budget)
    evolver = ev3x.Evolver(embedded["task"], method, embedded["splits"])
    _, record = evolver.round(evolver.init(0))
    assert evolver.plan.labels() == ("random/step 0", "random/step 1", "random/step 2")
    assert record.eligible.all() and jnp.isfinite(record.selection.value).all()
    assert len(jnp.unique(record.selection.mean[:, 0])) > 1
