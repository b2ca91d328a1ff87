"""The weights of a run's incumbent, for programs without ev3x."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..text import UNSEEN, command, shown
from .checkpoint import of_run
from .directory import CHECKPOINTS, RunError, check_run, config_text, draft, resuming
from .identity import edited, foreign
from .manifest import altered_in, reseal

# What a name must not hold as that of a file, on any system; `%`, so that there is a way back; and numpy's own ending.
_UNSAFE = re.compile(
    rf"""[{UNSEEN}%\\:*?"<>|] | (?:^|(?<=/))\.(?=\.?(?:/|$)) | (?:^|(?<=/))/ | /$ | \.(?=npy$)""",
    re.VERBOSE,
)


def export(directory: Path, to: Path | None = None) -> Path:
    """The file with the incumbent's weights: an .npz of arrays by path, for numpy alone (names: see `member`)."""
    check_run(directory)
    saved = of_run(directory / CHECKPOINTS)
    if saved is None:
        raise RunError(f"{shown(directory)} ended before its first checkpoint: `{resuming(directory)}` starts it again")
    if differences := edited(saved.meta, config_text(directory)):
        raise RunError(foreign(directory, differences))
    if names := altered_in(directory, CHECKPOINTS):
        more = f" (nor are {len(names) - 1} others)" if names[1:] else ""
        check = command("ev3x", "verify", directory)
        warnings.warn(f"{shown(names[0])} is not what it was when the run ended{more}: `{check}`", stacklevel=2)
    to = to or directory / "weights.npz"
    inside = to.absolute().is_relative_to(directory.absolute())  # whose links are anyone's
    with draft(to, follow=not inside) as new:
        save(new, saved.incumbent())
    reseal(directory, to)
    return to


def save(file: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write an .npz as `np.savez` does, with any names: those are keywords there, and paths of members as they are."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{member(name)}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def member(name: str) -> str:
    """The name of an array in the .npz for a parameter's path; `urllib.parse.unquote` is the way back.

    It is the path itself, but for what would lead out of a folder that the archive is unpacked to, what no file can be
    called, and what numpy takes for its own: these signs are `%` and two digits for each byte.
    """

    def escaped(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found.group().encode(errors="surrogatepass"))

    return _UNSAFE.sub(escaped, name)
