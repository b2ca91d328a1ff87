"""The picture: drawn from rows as they come, whatever they hold, and a line in its place without matplotlib."""

import dataclasses
import json
import sys

import pytest
from sample_rows import ROWS, info, row

from ev3x.builtin.observers.curve import Curve, _points
from ev3x.builtin.observers.lineage import Lineage
from ev3x.core.observe import Progress

SUMMARY = {"rounds": 9, "promotions": 1, "test": {"m": 0.5}, "baseline": {"m": 0.1}}


def draw(directory, before, after):
    observer = Curve()
    handle = observer.start(info(directory), before)
    observer.rounds(handle, after, Progress(9, 1, 0, 1, 1, 1.0, None))
    observer.end(handle, json.loads(json.dumps(SUMMARY)))


@pytest.mark.parametrize(("before", "after"), [([], ROWS), (ROWS, []), (ROWS[:2], ROWS[2:]), ([], ROWS[3:4])])
def test_the_picture_is_drawn_of_all_rounds(tmp_path, before, after):
    draw(tmp_path, before, after)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_says_what_the_data_were(tmp_path):
    pictures = []
    for about in ("real", "synthetic, and so long that it takes several lines" * 9):
        handle = Curve().start(dataclasses.replace(info(tmp_path), about=about), ROWS)
        Curve().end(handle, SUMMARY)
        pictures.append((tmp_path / "curve.png").read_bytes())
    assert pictures[0] != pictures[1]


SIGNS = r"$x_{$ costs 100\% of \frac, [bold] :smile: größe"


def test_text_is_drawn_as_it_is_whatever_a_matplotlibrc_says(tmp_path, monkeypatch):
    """No text of a picture is read as mathematics or by LaTeX: names and descriptions are users'."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn = []

    def seen(figure, path, **options):
        drawn.append(figure.findobj(Text))
        path.touch()

    monkeypatch.setattr(Figure, "savefig", seen)
    with rc_context({"text.usetex": True, "text.parse_math": True, "axes.formatter.use_mathtext": True}):
        for observer, rows in ((Curve(), ROWS), (Lineage(), [row(0, calls={"grow": "grow"})])):
            run = dataclasses.replace(info(tmp_path), about=SIGNS, task=SIGNS)
            observer.end(observer.start(run, rows), SUMMARY)
    assert len(drawn) == 2
    for texts in drawn:
        assert not [t.get_text() for t in texts if t.get_parse_math() or t.get_usetex()]
        said = [t.get_text() for t in texts]
        assert SIGNS in said and any(t.startswith(f"{SIGNS}, seed 0: ") for t in said)


def test_no_text_spoils_the_picture(tmp_path):
    about = "日本 \U0001f600, no character \udcff, \x00, " + "x" * 10_000
    handle = Curve().start(dataclasses.replace(info(tmp_path), about=about), ROWS[:1])
    Curve().end(handle, SUMMARY)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_rounds_have_the_numbers_of_the_records():
    assert [p.round for p in _points(info(None), ROWS)] == [0, 1, 2, 3]


def test_many_rounds_and_far_differences(tmp_path):
    far = row(7, "better")
    far["confirm"]["winner"]["difference"]["m"] = 5.0
    draw(tmp_path, [], [row(i) for i in range(300)] + [far])
    assert (tmp_path / "curve.png").stat().st_size > 10_000


@pytest.mark.parametrize("rows", [[], [ROWS[4]]])
def test_without_winners_there_is_nothing_to_draw(tmp_path, rows):
    draw(tmp_path, [], rows)
    draw(None, [], ROWS)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    draw(tmp_path, [], ROWS)
    captured = capsys.readouterr()
    assert captured.err == 'curve.png not drawn: pip install "ev3x[examples]"\n' and captured.out == ""
