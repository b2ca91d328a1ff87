"""The benchmark of damaged files in its short form: nothing silent, each damage named by `ev3x verify`."""

import faults
import pytest


@pytest.mark.long
def test_no_damage_is_silent(monkeypatch, capsys):
    written = {}
    monkeypatch.setattr(faults, "write", lambda name, results: written.update(results))
    with pytest.raises(SystemExit) as end:
        faults.main(150, seed=1, seconds=60)
    assert end.value.code == 0, capsys.readouterr().out
    assert written["tries"] > 20 and not written["bad"]
    counts = written["kinds"].values()
    assert all(count["verify"] == count["tries"] and not count["SILENT"] for count in counts)
