"""Each check as an item of pytest, what a class says of its own tests, and samples of large families."""

import dataclasses
import unittest

import jax
import pytest
from sound import Counter, Jitter

import ev3x
from ev3x.testing import CHECKS, ConformanceError, check_component, each_check, sample, trial
from ev3x.testing.items import items

LONG = {check.name for check in CHECKS["observer"] if check.long}


@dataclasses.dataclass(frozen=True)
class Titled(Counter):
    """It needs a title, and talks to people."""

    title: str

    kit = ev3x.Kit({"title": "rounds"}, excuse={"quiet": "it talks to people"})

    def end(self, handle, summary):
        print(self.title)


@dataclasses.dataclass(frozen=True)
class Broken(Counter):
    """It ends no run."""

    def end(self, handle, summary):
        raise KeyError("handle")


@dataclasses.dataclass(frozen=True)
class Still(Jitter):
    """A proposer that draws nothing."""

    kit = ev3x.Kit({"count": 2}, excuse={"other_key_differs": "nothing is drawn"})

    def noise(self, key):
        return super().noise(jax.random.key(0))


def quick(components, **more):
    """The items of the quick tier, by name."""
    return {name: item for name, item in items(components, **more) if not item.trial.checks[item.name].long}


def test_every_check_of_every_component_is_an_item_marked_long_where_it_is():
    mark = each_check([Counter(), Counter, Titled]).mark
    names, parameters = mark.args
    assert (mark.name, names) == ("parametrize", "check")
    wanted = [f"{name}-{check.name}" for name in ("Counter", "Counter 2", "Titled") for check in CHECKS["observer"]]
    assert [p.id for p in parameters] == wanted
    assert {p.id.partition("-")[2] for p in parameters if [m.name for m in p.marks] == ["long"]} == LONG
    assert next(name for name, _ in items({"mine": Counter()})) == "mine-options"


def test_items_share_one_bench_and_run_nothing_that_is_not_asked_for():
    found = quick([Counter()])
    found["Counter-quiet"]()
    one = found["Counter-quiet"].trial
    assert set(one.findings) == {"options", "watches", "quiet"} and one.told == {"quiet"}
    bench = one.bench
    for item in found.values():
        item()
    assert one.bench is bench
    for name, item in items([Counter()], excuse=dict.fromkeys(LONG, "no child")):
        if name.endswith(tuple(LONG)):
            with pytest.raises(unittest.SkipTest, match="no child"):
                item()
        else:
            item()
    assert item.trial._bench is None, "after the last of them, the bench is free"


def test_a_failed_check_is_told_once_and_never_passed_over():
    found = quick([Broken()])
    with pytest.raises(ConformanceError, match=r"quiet was not run, because watches failed: .*KeyError: 'handle'"):
        found["Broken-quiet"]()  # as by -k quiet
    with pytest.raises(ConformanceError, match="Broken: watches: expected no exception; got KeyError"):
        found["Broken-watches"]()
    with pytest.raises(unittest.SkipTest, match="not run before watches is mended"):
        found["Broken-quiet"]()


def test_what_a_class_says_of_its_tests_holds_in_items_and_in_one_call():
    found = quick([Titled])
    for name in ("options", "watches"):
        found[f"Titled-{name}"]()
    with pytest.raises(unittest.SkipTest, match="it talks to people"):
        found["Titled-quiet"]()
    report = check_component(Titled("rounds"), quick=True)
    assert {r.name: r.status for r in report.records if r.status != "passed"} == {
        **dict.fromkeys(LONG, "later"),
        "quiet": "excused",
    }
    assert f"{len(LONG)} left to the whole kit (no_backend_at_import, quiet_import" in str(report)
    with pytest.raises(ConformanceError, match="quiet: expected nothing on standard output"):
        check_component(Loud(), quick=True)


@dataclasses.dataclass(frozen=True)
class Loud(Titled):
    """What its base excuses, it does not."""

    title: str = "loud"

    kit = ev3x.Kit()


def test_a_proposer_that_draws_nothing_passes_by_its_excuse():
    report = check_component(Still.build(Still.kit.options), quick=True)
    assert [(r.name, r.detail) for r in report.having("excused")] == [("other_key_differs", "nothing is drawn")]


def test_what_else_is_given_is_made_when_it_is_needed():
    made = []

    @dataclasses.dataclass(frozen=True)
    class Given(Counter):
        """It is given what observers do not take."""

        kit = ev3x.Kit(given=lambda: made.append(1) or {"splits": 3})

    one = trial(Given())
    assert not made
    with pytest.raises(TypeError, match="Given: unknown argument of the kit 'splits'; known: none"):
        one.finding("options")
    assert made == [1]


def test_what_a_class_must_say():
    @dataclasses.dataclass(frozen=True)
    class Bare(Titled):
        """Nothing is said of its options."""

        kit = ev3x.Kit()

    with pytest.raises(ValueError, match=r'title: is required.*let the class say kit = ev3x.Kit\(options=\{"title"'):
        list(items([Bare]))
    with pytest.raises(TypeError, match=r"Wrong.kit must be an ev3x.Kit\(...\), got \{'title': 'x'\}"):
        trial(type("Wrong", (Counter,), {"kit": {"title": "x"}, "__dataclass_params__": None})())
    with pytest.raises(ValueError, match="Counter: at least 8 of 11 checks must run, got 5: excuse fewer"):
        list(items([Counter], excuse={check.name: "no" for check in CHECKS["observer"][5:]}))


def test_a_sample_is_drawn_by_its_seed():
    family = {f"strategy_{i}": i for i in range(37)}
    drawn = sample(family, 4, seed=16)
    assert drawn == sample(dict(reversed(family.items())), 4, seed=16) and drawn.items() <= family.items()
    assert len(drawn) == 4 and drawn != sample(family, 4, seed=17)
    with pytest.raises(ValueError, match=r"n must be at least 1 and at most 37, .* got 38"):
        sample(family, 38, seed=0)
