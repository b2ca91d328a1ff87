"""An export is an .npz for numpy alone, whatever the parameters are called; no name leads out of a folder."""

import zipfile
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import unquote

import numpy as np
import pytest

from ev3x.run.export import member, save

NAMES = ["file", "allow_pickle", "a/b", "../../x", "..", "./a", "/etc/passwd", "a//b", "a/", "C:\\x", "a\x1b[31m"]
NAMES += ["x", "x.npy", "größe", "a%2Fb", "a b", "a|b", "%", "...", ".hidden", "a\n", "-"]


def test_every_name_comes_back(tmp_path):
    arrays = {name: np.full(2, i) for i, name in enumerate(NAMES)}
    save(tmp_path / "w.npz", arrays)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as kept:
        assert {unquote(name): kept[name].tolist() for name in kept} == {n: [i, i] for i, n in enumerate(NAMES)}
    with zipfile.ZipFile(tmp_path / "w.npz") as archive:
        for name in archive.namelist():
            assert not name.startswith("/") and not {"..", "."} & {*name.split("/")}
            assert not PureWindowsPath(name).drive and PurePosixPath(name).as_posix() == name
            assert name.isprintable()


@pytest.mark.parametrize("name", ["params/Dense_0/kernel", "layers/0/weight", "größe", "a b", "a.b", ".hidden"])
def test_usual_names_stay_as_they_are(name):
    assert member(name) == name
