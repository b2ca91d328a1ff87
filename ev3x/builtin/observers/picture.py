"""Functions of the observers that draw. matplotlib is optional, and imported only here."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.observe import RunInfo
from ...text import draft, shown, standard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GRID = "#222222", "#e8e8e8"
LINES = 8  # of what the data were, at most: the picture needs its place
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": "#bbbbbb",
    "text.color": INK,
    "axes.labelcolor": INK,
    # Names and descriptions are users' text: a dollar sign in them is one, whatever a matplotlibrc says.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}


def drawable(path: Path) -> bool:
    """Whether pictures can be drawn; if not, one line says why this one is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        standard("stderr").write(f'{path.name} not drawn: pip install "ev3x[examples]"\n')
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

    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a box stands in its place
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        lines = textwrap.fill(shown(about), 170, max_lines=LINES)
        figure.suptitle(lines, fontsize=7, color="#666666", x=0.01, ha="left")
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        with draft(path) as new:
            figure.savefig(new, dpi=150, format="png")


def plain(axes: Axes) -> None:
    """Give the axes two spines and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def title(run: RunInfo, summary: dict[str, Any]) -> str:
    """The title of a picture: the run, and how many promotions it had."""
    rounds, promotions = summary["rounds"], summary["promotions"]
    many = "" if promotions == 1 else "s"
    return shown(f"{run.task}, seed {run.seed}: {promotions} promotion{many} in {rounds} rounds")
