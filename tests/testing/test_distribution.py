"""What the tests of distributions share: a sound one passes, and each fault fails the one test that is made for it."""

import importlib
import re
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import ev3x
from ev3x.testing.distribution import DistributionTests, built, imported, snippets
from ev3x.testing.items import items

SOURCE = """
import dataclasses
from typing import Annotated

import ev3x
from ev3x.component import Count
from typing_extensions import Doc

__all__ = ["Idle"]

@dataclasses.dataclass(frozen=True)
class Idle(ev3x.Observer):
    '''Does nothing, so many times.'''
    times: Annotated[Count, Doc("how often")] = 1

@ev3x.hookimpl
def ev3x_observers():
    return [ev3x.Offer("idle", Idle)]
"""
POINTS = {"ev3x": {"mine": "module_of_mine"}, "ev3x.api": {"mine": "v1"}}


class Sound(DistributionTests):
    project = {"name": "ev3x-mine", "entry-points": POINTS}  # noqa: RUF012
    config = 'rounds = 2\nobserve = ["progress", "mine:idle"]'
    mistakes = (("mine:idle", "mine:idel", r"unknown observer 'mine:idel'; did you mean 'mine:idle'"),)
    heavy = ("flax",)

    def offers(self):
        return {"observer": {"idle": importlib.import_module("module_of_mine").Idle}}


@pytest.fixture
def failing(site, monkeypatch):
    """`failing(source, **attributes)`: the tests that fail of a distribution with this source, and of such a class."""
    monkeypatch.setenv("PYTHONPATH", str(site.folder))

    def run(source=SOURCE, **attributes):
        site("mine", source)
        tests = type("Tests", (Sound,), attributes)()
        failed = set()
        for name in (name for name in dir(tests) if name.startswith("test_")):
            try:
                if name == "test_a_config_with_a_mistake_is_refused":
                    for mistake in tests.mistakes:
                        tests.test_a_config_with_a_mistake_is_refused(mistake)
                elif name == "test_it_keeps_the_contract":
                    for _, item in items(tests.tried()):
                        if not item.trial.checks[item.name].long:
                            tests.test_it_keeps_the_contract(item)
                else:
                    getattr(tests, name)()
            except (AssertionError, pytest.fail.Exception):
                failed.add(name)
        return failed

    return run


def test_a_sound_distribution_passes(failing):
    assert failing() == set()


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("is_found_through_its_entry_points", {"project": {**Sound.project, "name": "ev3x-other"}}),
        (
            "is_found_through_its_entry_points",
            {"project": {**Sound.project, "entry-points": POINTS | {"ev3x.api": {}}}},
        ),
        ("a_list_of_plugins_imports_nothing_of_it_and_no_jax", {"heavy": ("ev3x",)}),
        ("it_offers_what_it_says_and_nothing_else", {"offers": lambda self: {}}),
        ("a_config_can_name_them", {"config": 'rounds = 2\nobserve = ["progress"]', "mistakes": ()}),
        ("a_config_with_a_mistake_is_refused", {"mistakes": (("mine:idle", "mine:idle", "did you mean"),)}),
        ("a_config_with_a_mistake_is_refused", {"mistakes": (("mine:other", "mine:idel", "did you mean"),)}),
        ("what_the_package_names_it_has", {"project": {**Sound.project, "classifiers": ["Typing :: Typed"]}}),
    ],
)
def test_what_a_distribution_says_and_is_not(failing, name, attributes):
    (found,) = failing(**attributes)
    assert found.endswith(name)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("every_component_and_every_option_says_what_it_is", 'Annotated[Count, Doc("how often")]', "int"),
        ("only_public_names_of_ev3x_are_imported", "import ev3x\n", "import ev3x, ev3x.cache\n"),
        ("only_public_names_of_ev3x_are_imported", "import ev3x\n", "import ev3x\nfrom ev3x import cache\n"),
        ("only_public_names_of_ev3x_are_imported", "import Count\n", "import Count, _fault\n"),
        ("what_the_package_names_it_has", '["Idle"]', '["Idle", "Busy"]'),
        ("it_keeps_the_contract", "= 1\n", "= 1\n    def end(self, handle, summary):\n        print(summary)\n"),
    ],
)
def test_what_is_wrong_in_a_package(failing, name, good, bad):
    assert good in SOURCE
    (found,) = failing(SOURCE.replace(good, bad))
    assert found.endswith(name)


def test_components_of_one_name_in_two_roles_are_both_tried():
    kinds = {"observer": {"same": Sound, "other": Sound}, "adapter": {"same": DistributionTests}}
    found = type("Tests", (Sound,), {"offers": lambda self: kinds})().tried()
    assert found == {"same": Sound, "other": Sound, "adapter same": DistributionTests}


def test_a_class_must_say_what_is_offered():
    with pytest.raises(TypeError, match="offers"):
        type("Tests", (DistributionTests,), {})()


def test_imports_are_found_wherever_they_stand(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "import os, ev3x.ops\nfrom .ev3x import a\nfrom ev3xtra import b\ndef f():\n    from ev3x import c\n"
    )
    assert [*imported(file)] == ["ev3x.ops", "ev3x.c"]


def test_snippets_are_the_blocks_of_one_language(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("A ```toml``` word.\n```toml\na = 1\n```\n```python\nprint()\n```\n```toml\nb = 2\n```\n")
    assert snippets(page, "toml") == ["a = 1\n", "b = 2\n"] and snippets(page, "python") == ["print()\n"]


def test_tables_build_components():
    found = built(
        'select = { use = "mean_bounds", block = 64 }\n[[adapt]]\nuse = "ev3:promote"\n[[adapt]]\nuse = "accept"'
    )
    assert list(found) == ["mean_bounds", "ev3:promote", "accept"]
    assert isinstance(found["mean_bounds"], ev3x.Assessor) and found["mean_bounds"].block == 64


def test_the_page_shows_a_class_as_it_is_and_lists_every_test(monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    monkeypatch.setitem(sys.modules, "ev3x_rule", types.SimpleNamespace(RandomSteps=ev3x.Proposer))
    (block,) = re.findall(r'```python title="tests/test_ev3x_rule.py"\n(.*?)```', page, re.DOTALL)
    names = {}
    exec(compile(block, "testing.md", "exec"), names)
    kind = names["TestDistribution"]
    assert kind().offers() == {"proposer": {"steps": ev3x.Proposer}}
    assert {name for name in vars(kind) if not name.startswith("_")} == {"config", "mistakes", "heavy", "offers"}
    assert {"config", "mistakes", "heavy"} <= {*DistributionTests.__annotations__}
    (table,) = re.findall(r"\| test \| demand \|\n\| --- \| --- \|\n(.*?)\n\n", page, re.DOTALL)
    assert len(table.splitlines()) == sum(name.startswith("test_") for name in vars(DistributionTests))


def test_ranks_and_types_are_strict():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones(3) + jnp.ones((2, 3))
    with pytest.raises(jax.dtypes.TypePromotionError, match="no available implicit dtype promotion"):
        jnp.ones(3, jnp.float32) + jnp.ones(3, jnp.int32)


@pytest.mark.loose_types("they are mixed on purpose")
def test_types_are_loose_where_a_test_says_so():
    assert (jnp.ones(3, jnp.float32) + jnp.ones(3, jnp.int32)).dtype == jnp.float32


def test_64_bit_types_for_one_test(ev3x_x64):
    assert jnp.ones(3, float).dtype == jnp.float64
