"""The attacks of the fault benchmark in their short form, from its command: nothing is wrong, and nothing silent."""

import json

import attack_files
import faults
import measure
import pytest

TRIES = {  # parts of their full counts: three minutes together
    "flips": 0.01,
    "damages": 0.035,
    "hostile": 0.03,
    "kills": 0.015,
    "places": 0.067,
    "signals": 0.05,
    "lives": 0.125,
    "bits": 0.5,
}


@pytest.mark.long
@pytest.mark.parametrize("name", faults.ATTACKS)
def test_no_attack_finds_anything(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    with pytest.raises(SystemExit) as end:
        faults.main([name], TRIES[name], seed=1)
    assert end.value.code == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))["attacks"][name]
    assert found["tries"] == sum(found["counts"].values()) == round(faults.ATTACKS[name][0] * TRIES[name])
    assert not found["wrong"] and not {"SILENT", "wrong"} & found["counts"].keys()


def test_results_of_other_attacks_stay_and_what_is_wrong_ends_with_1(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(
        faults, "write", lambda name, results: (tmp_path / f"{name}.json").write_text(json.dumps(results))
    )
    for name, wrong in (("good", []), ("bad", ["try 3"])):
        made = attack_files.Found(name, 3, {"named": 3}, wrong)
        monkeypatch.setitem(faults.ATTACKS, name, (10, lambda tries, seed, made=made: made))
        with pytest.raises(SystemExit) as end:
            faults.main([name], 0.3, seed=0)
        assert end.value.code == bool(wrong)
    assert "wrong: try 3" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "faults.json").read_text())["attacks"]) == ["good", "bad"]
