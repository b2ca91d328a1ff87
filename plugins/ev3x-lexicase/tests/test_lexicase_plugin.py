"""The distribution as a plugin: it is found without being imported, offers what it says, and uses public names only."""

import tomllib
import unittest
from pathlib import Path

import ev3x_lexicase

import ev3x
import ev3x.config
from ev3x.testing.distribution import DistributionTests

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / "examples" / "lexicase.toml").read_text()


class TestDistribution(DistributionTests):
    config = EXAMPLE
    mistakes = (
        ('"lexicase:lexicase"', '"lexicase:lexicas"', r"unknown assessor 'lexicase:lexicas'; did you mean"),
        ("tournaments = 1024", "tournament = 1024", r"tournament.*did you mean 'tournaments'"),
        ("tournaments = 1024", "tournaments = 0", r"tournaments.*greater than or equal to 1, got 0"),
    )

    def offers(self):
        return {"assessor": {"lexicase": ev3x_lexicase.Lexicase}}

    def test_it_keeps_the_contract(self, check, monkeypatch):
        """Only what is about an error level has nothing to check: it states none."""
        monkeypatch.delenv("EV3X_NATIVE", raising=False)  # the kit's children load no plugin, so no native code
        try:
            super().test_it_keeps_the_contract(check)
        except unittest.SkipTest:
            assert check.name in ("power_at_level", "null_calibration")


def test_native_code_is_offered_for_the_cpu_alone():
    host = ev3x.Host()
    assert [t.name for t in host.targets("lexicase", "cpu")] in ([], ["ev3x_lexicase_votes"])
    assert host.targets("lexicase", "CUDA") == []


def test_the_config_builds_the_assessor():
    setup = ev3x.config.loads(EXAMPLE)
    assert setup.method.select == ev3x_lexicase.Lexicase(block=300, tournaments=1024)


def test_the_native_build_takes_the_headers_of_the_oldest_jaxlib_that_is_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (oldest,) = (d.removeprefix("jax>=") for d in project["project"]["dependencies"] if d.startswith("jax>="))
    built, *_ = (r for r in project["tool"]["scikit-build"]["build"]["requires"] if r.startswith("jaxlib"))
    assert built.split(";")[0] == f"jaxlib=={oldest}.0"
