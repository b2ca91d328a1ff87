"""The teacher's cache: whole files or none, and never an error."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from ev3x.builtin.tasks import mnist1d, mnist1d_teacher
from ev3x.builtin.tasks.mnist1d_teacher import Settings, Teacher, cache_file, load
from ev3x.cache import write

TINY = Settings(channels=(2,), steps=3, batch_size=8)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EV3X_CACHE", str(tmp_path / "deep" / "cache"))
    return cache_file(TINY)


@pytest.mark.long
def test_full_teacher_beats_the_published_network(teacher: Teacher) -> None:
    assert teacher.accuracy > 0.965
    assert teacher.logits.shape == (4000, 10) and teacher.logits.dtype == np.float32
    assert np.mean(np.argmax(teacher.logits, axis=1) == mnist1d.standard().y) > 0.97


def test_trains_once_and_says_so(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(TINY)
    assert "training the teacher" in caplog.text and "teacher trained in" in caplog.text
    caplog.clear()
    second = load(TINY)
    assert not caplog.records
    assert _same(first, second)
    assert [p.name for p in cache.parent.iterdir()] == [cache.name]


def test_training_is_deterministic(cache: Path) -> None:
    assert _same(mnist1d_teacher.train(TINY), mnist1d_teacher.train(TINY))


def test_predict_gives_the_kept_logits(cache: Path) -> None:
    kept = load(TINY)
    again = mnist1d_teacher.predict(TINY, kept.weights, mnist1d.standard().x)
    assert again == pytest.approx(kept.logits, abs=1e-5)


def test_damaged_files_are_replaced(
    cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(TINY)
    monkeypatch.setattr(mnist1d_teacher, "train", lambda settings: whole)
    content = cache.read_bytes()
    wrong = {"logits": np.zeros((3, 10), np.float32), "accuracy": np.float64(1)}
    for damage in (b"", b"PK", content[: len(content) // 2], content[:500] + b"!" + content[501:], None):
        if damage is None:
            other = io.BytesIO()
            np.savez(other, **wrong)
            write(cache, other.getvalue())
        else:
            cache.write_bytes(damage)
        caplog.clear()
        assert _same(load(TINY), whole)
        assert "unusable" in caplog.text and str(cache) in caplog.text
        assert cache.read_bytes() == content


def test_pickles_are_not_loaded(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = io.BytesIO()
    np.savez(content, logits=np.array([_Bomb()], dtype=object), accuracy=np.float64(1))
    write(cache, content.getvalue())
    assert load(TINY).logits.dtype == np.float32
    assert "allow_pickle" in caplog.text


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (3,)


def test_unwritable_cache_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EV3X_CACHE", str(tmp_path / "file" / "cache"))
    assert load(TINY).logits.shape == (4000, 10)
    assert "it will be trained again next time" in caplog.text


def test_interrupted_write_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(TINY)
    assert list(cache.parent.iterdir()) == []


def test_place_and_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EV3X_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_file(TINY).parent == tmp_path / "ev3x"
    assert cache_file(TINY) != cache_file(Settings())
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_file(TINY).parent == tmp_path / "home" / ".cache" / "ev3x"


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="ev3x")


def _same(a: Teacher, b: Teacher) -> bool:
    same = np.array_equal(a.logits, b.logits) and a.accuracy == b.accuracy
    same &= a.weights.keys() == b.weights.keys()
    return same and all(np.array_equal(a.weights[k], b.weights[k]) for k in a.weights)
