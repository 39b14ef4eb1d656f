"""One look for every figure: colours, sizes, and how a figure is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType
from numpy.typing import NDArray

from fhlib.files import atomic_path

AxesGrid = NDArray[Any]
"""A figure's axes, (rows, columns)."""
Look = dict[str, Any]
"""Keywords of what matplotlib draws."""
PALETTE = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
"""seaborn's "colorblind". Written out like STYLE, so that a picture of a case needs no seaborn."""
REFERENCE_COLOUR = "#56B4E9"
# Reference first, then models. Hue, lightness and line style all differ, so that the lines survive colour blindness
# and grey print.
CONTOURS: tuple[tuple[str, LineStyleType], ...] = (
    (REFERENCE_COLOUR, "solid"),
    ("#FF9F1C", (0, (4, 1.5))),
    ("#F6F05A", "solid"),
    ("#F78FC7", (0, (1, 1))),
)
DARK = ".15"
COLUMN, PAGE = 4.6, 9.7
"""Widest figure in inches for one column of a journal (85 mm) and for two (180 mm): its smallest letters, SMALL, then have 7 points."""
SMALL = 9.68
STYLE = {
    "figure.dpi": 110, "savefig.dpi": 200, "figure.constrained_layout.use": True,
    "svg.hashsalt": "fhlib",  # the same figure gives the same file
    "font.size": 10.56,
    "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "Bitstream Vera Sans", "sans-serif"],
    "text.color": DARK, "axes.labelcolor": DARK, "axes.edgecolor": DARK, "xtick.color": DARK, "ytick.color": DARK,
    "axes.titlesize": 10.56, "axes.labelsize": 10.56, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
    "axes.linewidth": 1, "axes.spines.top": False, "axes.spines.right": False, "axes.prop_cycle": f"cycler(color={list(PALETTE)})",
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E3E3E3", "grid.linewidth": 0.6,
    "xtick.major.size": 4.8, "ytick.major.size": 4.8, "xtick.major.width": 1, "ytick.major.width": 1,
    "xtick.minor.size": 3.2, "ytick.minor.size": 3.2, "xtick.minor.width": 0.8, "ytick.minor.width": 0.8,
    "legend.frameon": False, "legend.fontsize": SMALL, "legend.title_fontsize": 10.56,
    "lines.linewidth": 1.2, "lines.markersize": 4.8, "lines.solid_capstyle": "round",
    "patch.linewidth": 0.8, "patch.edgecolor": "w", "patch.force_edgecolor": True,
}  # fmt: skip
"""seaborn's style "ticks" in the context "paper", its font a tenth larger, with a quiet grid."""
pyplot.style.use(STYLE)


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 4.0), title: str | None = None, **kwargs: Any
) -> tuple[Figure, AxesGrid]:
    """A figure and its axes as a (rows, columns) array.

    It is closed for pyplot, so that a notebook shows it once, and its memory is freed.

    Args:
        rows: of axes.
        columns: of axes.
        size: width and height in inches.
        title: above all axes.
        kwargs: for `pyplot.subplots`.
    """
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)
    pyplot.close(figure)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, axes


def save_figure(figure: Figure, folder: Path | str, name: str) -> tuple[Path, Path]:
    """Write a figure as PNG and as SVG, each atomically and without a date.

    Args:
        figure: what is saved.
        folder: where.
        name: of both files, without suffix.

    Returns:
        The two paths.
    """
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    for path, metadata in ((png, {"Software": None}), (svg, {"Date": None})):
        with atomic_path(path) as temporary:
            figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    return png, svg
