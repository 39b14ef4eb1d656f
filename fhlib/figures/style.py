"""One look for every figure: colours, sizes, and how a figure is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import seaborn
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType
from numpy.typing import NDArray

from fhlib.files import atomic_path

AxesGrid = NDArray[Any]
"""A figure's axes, (rows, columns)."""
PALETTE = seaborn.color_palette("colorblind").as_hex()
REFERENCE_COLOUR = "#56B4E9"
# Reference first, then models. Hue, lightness and line style all differ, so that the lines survive colour blindness
# and grey print.
CONTOURS: tuple[tuple[str, LineStyleType], ...] = (
    (REFERENCE_COLOUR, "solid"),
    ("#FF9F1C", (0, (4, 1.5))),
    ("#F6F05A", "solid"),
    ("#F78FC7", (0, (1, 1))),
)
LOOK = {
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "svg.hashsalt": "fhlib",  # the same figure gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
}

seaborn.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.1, rc=LOOK)


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 4.0), **kwargs: Any
) -> tuple[Figure, AxesGrid]:
    """A figure and its axes as a (rows, columns) array.

    It is closed for pyplot, so that a notebook shows it once, and its memory is freed.

    Args:
        rows: of axes.
        columns: of axes.
        size: width and height in inches.
        kwargs: for `pyplot.subplots`.
    """
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)
    pyplot.close(figure)
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
