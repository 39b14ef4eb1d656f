"""A ball to draw, and what a figure says."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

SPACING = (0.5, 1.0, 2.0)


def ball(
    radius_mm: float, centre_mm: tuple[float, ...] = (20, 21, 22), shape: tuple[int, ...] = (80, 42, 22)
) -> np.ndarray:
    grid = np.meshgrid(*[(np.arange(n) + 0.5) * step for n, step in zip(shape, SPACING, strict=True)], indexing="ij")
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre_mm, strict=True)) <= radius_mm**2


def texts(figure: Figure) -> str:
    found = [axis.get_title() for axis in figure.axes] + [
        legend_text.get_text() for legend in figure.legends for legend_text in legend.texts
    ]
    return "\n".join([*found, figure._suptitle.get_text() if figure._suptitle else ""])
