"""A ball and a head to draw, and what a figure says."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from fhlib.figures.style import COLUMN
from fhlib.phantom.anatomy import Head, draw_subject
from fhlib.phantom.scan import rotation

SPACING = (0.5, 1.0, 2.0)


def ball(
    radius_mm: float, centre_mm: tuple[float, ...] = (20, 21, 22), shape: tuple[int, ...] = (80, 42, 22)
) -> np.ndarray:
    grid = np.meshgrid(*[(np.arange(n) + 0.5) * step for n, step in zip(shape, SPACING, strict=True)], indexing="ij")
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre_mm, strict=True)) <= radius_mm**2


def posed_head(seed: int) -> tuple[np.ndarray, tuple[float, ...], np.ndarray, np.ndarray]:
    """A simulated head of 24 weeks in a drawn pose: mask, spacing, and the true directions of face and vertex (d, h, w)."""
    head, spacing = Head(draw_subject(seed, 24)), (1.8, 2.6, 2.2)
    turn = rotation(np.random.default_rng(seed).normal(0, 1.5, 3))
    ranges = [(np.arange(round(150 / step)) - 75 / step) * step for step in spacing]
    points = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)[..., ::-1] @ turn.T
    mask = head.whole(tuple(np.moveaxis(points, -1, 0).astype(np.float32))) < 0
    return mask, spacing, -turn[1][::-1], turn[2][::-1]  # the face looks towards -y, the vertex towards z


def smallest_letters(figure: Figure) -> float:
    """Points of the smallest text once the figure is as wide as a journal's column (85 mm), or two (180 mm) where it is wider."""
    figure.canvas.draw()
    width = figure.get_figwidth()
    printed_mm = 85 if width <= COLUMN else 180
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    return min(sizes) * printed_mm / 25.4 / width


def texts(figure: Figure) -> str:
    found = [axis.get_title() for axis in figure.axes] + [
        legend_text.get_text() for legend in figure.legends for legend_text in legend.texts
    ]
    return "\n".join([*found, figure._suptitle.get_text() if figure._suptitle else ""])
