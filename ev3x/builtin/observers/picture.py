"""Functions of the observers that draw. matplotlib is optional, and imported only here."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.observe import RunInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#222222", "#e8e8e8"


def drawable(path: Path) -> bool:
    """Whether pictures can be drawn; if not, one line says why this one is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        print(f'{path.name} not drawn: pip install "ev3x[examples]"', file=sys.stderr)
        return False
    return True


@contextmanager
def picture(path: Path, size: tuple[float, float], about: str) -> Iterator[Figure]:
    """A figure of this size in inches, saved to the path at the end.

    The figure names the data: someone who gets the picture alone must see when the data are made up.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.edgecolor": "#bbbbbb", "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.suptitle(textwrap.fill(about, 170), fontsize=7, color="#666666", x=0.01, ha="left")
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        figure.savefig(path, dpi=150)


def plain(axes: Axes) -> None:
    """Give the axes two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def title(run: RunInfo, summary: dict[str, Any]) -> str:
    """The title of a picture: the run, and how many promotions it had."""
    rounds, promotions = summary["rounds"], summary["promotions"]
    return f"{run.task}, seed {run.seed}: {promotions} promotion{'' if promotions == 1 else 's'} in {rounds} rounds"
