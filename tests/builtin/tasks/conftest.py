"""One teacher for the whole session, in a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ev3x.builtin.tasks import mnist1d_teacher
from ev3x.builtin.tasks.mnist1d_teacher import Teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teacher]:
    """The full teacher (20 s). Task.load() finds it in the cache from here on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EV3X_CACHE", str(tmp_path_factory.mktemp("teacher")))
        yield mnist1d_teacher.load()
