"""The conformance kit: what ships passes it, and every mutant fails the one check that is made for its fault."""

import dataclasses
import re
import sys
from pathlib import Path

import jax
import pytest
from mutants import MUTANTS
from sound import Counter, Halving, Jitter, Line, Take, ZTest

import ev3x
import ev3x.testing.child
from ev3x.builtin.assessors.mean_bounds import MeanBounds
from ev3x.testing import (
    CHECKS,
    MINIMUM,
    ConformanceError,
    ask_ahead,
    calibration,
    check_component,
    check_proposer,
    trial,
)
from ev3x.testing.components import tried

EXCUSES = {
    "bernstein": {"sharded": "the code of betting", "null_calibration": "test_calibration.py has it"},
    "bootstrap": {"null_calibration": "test_bootstrap.py has it"},
}
# The same code as distill-digits and few-shot-digits, on more data.
LARGE = {"distill-mnist1d", "distill-cifar", "warped-mnist1d"}
SOUND = (Jitter(), ZTest(), Take(), Halving(), Line(), Counter())
# One component of each role, and one that selects, are quick; long tests have all of them, and all checks.
FIRST = {"trajectories", "betting", "mean_bounds", "promote", "over_run", "distill-digits", "progress"}
PLACED = {"SumsItsShare"}  # whose own check needs a child process


def builtin():
    host = ev3x.Host()
    for role in CHECKS:
        for name, kind in host.offers(role, "ev3").items():
            if name not in LARGE:
                component, excuse = tried(kind), EXCUSES.get(name, {})
                if name in FIRST:
                    yield pytest.param(component, {}, True, id=name)
                yield pytest.param(component, excuse, False, id=f"{name}, all of it", marks=pytest.mark.long)


@pytest.fixture(scope="module", autouse=True)
def asked(request):
    """Two child processes for all components that are checked here, instead of two for each."""
    here = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    whole = [p for p in here if not p.get("quick", True) and "component" in p]
    ask_ahead([p["component"] for p in whole if "sharded" in p["excuse"]], devices=False)
    ask_ahead([p["component"] for p in whole if "sharded" not in p["excuse"]])
    ask_ahead([Jitter(), *(kind() for kind in MUTANTS if kind.__name__ in PLACED)])
    if any(not p.get("quick", True) for p in here if "mutant" in p):
        ask_ahead([kind() for kind in MUTANTS if MUTANTS[kind] != "options"], devices=False)


@pytest.mark.parametrize(("component", "excuse", "quick"), list(builtin()))
@pytest.mark.filterwarnings("ignore:.*not drawn")
def test_what_ships_keeps_the_contract(component, excuse, quick, capsys):
    report = check_component(component, excuse=excuse, quick=quick)
    long = {check.name for check in CHECKS[component.role] if check.long}
    assert not report.failed and report.ran >= MINIMUM[component.role] - len(long) * quick
    assert {r.name for r in report.having("later")} == (long if quick else set())
    assert capsys.readouterr().out.startswith(f"{component.role} {type(component).__name__}: {report.ran} checks ran")


def sound():
    """All checks of one of them are quick; long tests have those of all."""
    for component in SOUND:
        name = type(component).__name__
        if name == "Jitter":
            yield pytest.param(component, {}, False, id=name)
        else:
            yield pytest.param(component, {}, True, id=name)
            yield pytest.param(component, {}, False, id=f"{name}, all of it", marks=pytest.mark.long)


@pytest.mark.parametrize(("component", "excuse", "quick"), list(sound()))
def test_what_the_mutants_are_made_of_is_sound(component, excuse, quick):
    report = check_component(component, excuse=excuse, quick=quick)
    assert not report.failed and {r.status for r in report.records} <= {"passed", "excused", "later"}


def mutants():
    """One quick mutant for every check, which runs that check and those that it builds on; long tests have all."""
    seen = set()
    for kind, check in MUTANTS.items():
        if check not in seen:
            yield pytest.param(kind, check, True, id=kind.__name__)
        yield pytest.param(kind, check, False, id=f"{kind.__name__}, all checks", marks=pytest.mark.long)
        seen.add(check)


@pytest.mark.parametrize(("mutant", "check", "quick"), list(mutants()))
def test_a_mutant_fails_the_one_check_that_is_made_for_it(mutant, check, quick, tmp_path, monkeypatch):
    if mutant.role == "observer":
        monkeypatch.chdir(tmp_path)  # one of them writes where it stands
    if quick:
        one = trial(mutant())
        text = f"  {check}: {one.finding(check).detail}"
        failed = {name for name, finding in one.findings.items() if finding.status == "failed"}
    else:
        # What takes longest is left out where other checks must find the mutant.
        excuse = {c.name: "not its fault" for c in CHECKS[mutant.role] if c.name in SLOW and c.name != check}
        with pytest.raises(ConformanceError) as caught:
            check_component(mutant(), excuse=excuse)
        failed, text = set(caught.value.report.failed), str(caught.value)
    assert failed == {check}
    assert re.search(rf"^  {check}: expected .*; got .*; ", text, re.M | re.S), text


SLOW = {"sharded", "null_calibration"}


def test_every_check_has_a_mutant():
    shared = [{check.name for check in CHECKS[role]} for role in ("proposer", "adapter")]
    common = shared[0] & shared[1]  # the same functions for all roles: a mutant of one role will do
    found = {(kind.role, check) for kind, check in MUTANTS.items()}
    found |= {(role, check) for role in CHECKS for check in BAD_MODULES}
    anywhere = {check for _, check in found}
    missing = [
        (role, check.name)
        for role, checks in CHECKS.items()
        for check in checks
        if (role, check.name) not in found and not (check.name in common | {"sharded"} and check.name in anywhere)
    ]
    assert missing == [("task", "other_key_differs")]  # as that of proposers


BAD_MODULES = {
    "no_backend_at_import": "ONES = jax.numpy.ones(3)",
    "quiet_import": "print('hello')",
    "no_config_change_at_import": "os.environ['XLA_FLAGS'] = '--xla_cpu_enable_fast_math=true'",
}


@pytest.mark.parametrize("check", BAD_MODULES)
def test_an_import_with_side_effects_is_found(check, tmp_path, monkeypatch):
    name = f"bad_{check}"
    text = f"import dataclasses, os, jax\nimport sound\n{BAD_MODULES[check]}\n\n"
    text += "@dataclasses.dataclass(frozen=True)\nclass Bad(sound.Jitter):\n    pass\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "")
    kind = getattr(__import__(name), "Bad")  # noqa: B009
    monkeypatch.setenv("XLA_FLAGS", "")
    one = trial(kind())
    found = {check: one.finding(check).status for check in BAD_MODULES}
    assert found == dict.fromkeys(BAD_MODULES, "passed") | {check: "failed"}


def test_an_import_that_ends_the_process_is_told(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text("import os, sound\nif 'pytest' not in __import__('sys').modules: os.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ev3x.testing.child.ChildError, match="ended with signal 6"):
        ev3x.testing.child.ask(ev3x.testing.child.Import("deadly"), ev3x.testing.child.Import("sound"))


def test_an_excused_check_is_not_run_and_its_reason_is_printed(capsys):
    report = check_component(Counter(), excuse={"quiet": "it talks to people"})
    assert "10 checks ran, 1 excused (quiet: it talks to people)" in capsys.readouterr().out
    assert [r.name for r in report.having("excused")] == ["quiet"]


@pytest.mark.parametrize(
    ("excuse", "text"),
    [
        ({"quite": "typo"}, "unknown check 'quite'; did you mean 'quiet'"),
        ({"quiet": " "}, "'quiet' needs a reason in words"),
    ],
)
def test_a_bad_excuse_is_an_error(excuse, text):
    with pytest.raises(ValueError, match=text):
        check_component(Counter(), excuse=excuse)


def test_whoever_excuses_too_much_fails():
    excuse = {check.name: "no" for check in CHECKS["observer"][2:]}
    with pytest.raises(ConformanceError, match=r"only 2 of 11 checks ran, at least 8 must"):
        check_component(Counter(), excuse=excuse)


def test_a_class_or_something_else_is_refused():
    with pytest.raises(TypeError, match=r"have you forgotten the \(\)\?"):
        check_proposer(Jitter)
    with pytest.raises(TypeError, match="one of the roles"):
        check_component(3)


def test_settings_are_put_back_after_a_component_that_changes_them():
    before = jax.config.values["jax_default_matmul_precision"]
    meddler = next(kind for kind in MUTANTS if kind.__name__ == "Meddles")
    assert trial(meddler()).finding("no_config_change").status == "failed"
    assert jax.config.values["jax_default_matmul_precision"] == before


def test_rates_of_an_exact_test_are_its_levels():
    """A z-test of 1,024 examples is calibrated: the interval holds its level, so the simulation is the null."""
    metrics = (ev3x.Metric("any", lambda p, b: p),)
    for rate in calibration.rates(ZTest(), metrics):
        low, high = rate.interval
        assert low <= rate.level <= high, rate


def test_the_page_lists_every_check_as_the_kit_has_it():
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    for checks in CHECKS.values():
        for check in checks:
            first = check.demand.split(":")[0].split(". ")[0].rstrip(".") + " (*long*)" * check.long
            assert f"| `{check.name}` | {first} |" in page, f"| `{check.name}` | {first} |"
    named = set(re.findall(r"^\| `(\w+)` \|", page.partition("## The checks")[2], re.MULTILINE))
    assert named == {check.name for checks in CHECKS.values() for check in checks}


def test_the_kit_imports_neither_pytest_nor_scipy():
    code = "import sys, ev3x.testing; print([n for n in ('pytest', 'scipy', 'flax', '_pytest') if n in sys.modules])"
    done = ev3x.testing.child.subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.long)], ids=["quick", "all"])
def test_nothing_in_the_kit_depends_on_the_component_being_built_in(quick):
    larger = dataclasses.replace(MeanBounds(), block=64)
    assert check_component(larger, quick=quick).component == "MeanBounds"


def test_the_former_name_of_findings_still_works_and_says_so():
    with pytest.warns(DeprecationWarning, match=r"testing\.Finding"):
        assert ev3x.testing.Record is ev3x.testing.Finding
    with pytest.raises(AttributeError, match="no attribute 'Recorder'"):
        ev3x.testing.Recorder  # noqa: B018
