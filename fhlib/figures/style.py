"""One look for every figure: colours, sizes, and how a figure is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import seaborn
from matplotlib import pyplot
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fhlib.files import atomic_path

PALETTE = seaborn.color_palette("colorblind").as_hex()
REFERENCE_COLOUR = "#56B4E9"
# Reference first, then models; hue, lightness and line style all differ, so the lines survive colour blindness and grey print.
CONTOURS: tuple[tuple[str, Any], ...] = (
    (REFERENCE_COLOUR, "solid"),
    ("#FF9F1C", (0, (4, 1.5))),
    ("#F6F05A", "solid"),
    ("#F78FC7", (0, (1, 1))),
)

seaborn.set_theme(
    context="paper",
    style="ticks",
    palette="colorblind",
    font_scale=1.1,
    rc={"figure.dpi": 110, "savefig.dpi": 200, "axes.grid": True, "grid.color": "#E3E3E3", "grid.linewidth": 0.6, "svg.hashsalt": "fhlib",
        "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False},
)  # fmt: skip


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.0, 4.0), **kwargs: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure of `size` inches and its axes as a (rows, columns) array; keyword arguments go to `pyplot.subplots`."""
    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **kwargs)
    pyplot.close(figure)
    return figure, axes


def save_figure(figure: Figure, folder: Path | str, name: str) -> tuple[Path, Path]:
    """Write `<name>.png` and `<name>.svg` into `folder`, each atomically and without a date; returns both paths."""
    paths = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    for path in paths:
        with atomic_path(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(temporary, bbox_inches="tight", metadata=metadata)
    return paths
