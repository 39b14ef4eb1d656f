"""The head's median plane, found from its symmetry, and comparisons drawn in it (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.figures.planes import (
    _array,
    _mask,
    _panel_mm,
    _require_shape,
    _Slab,
    contour_legend,
    draw_contour,
    draw_slice,
    grey_window,
    planes,
    scale_bar,
)
from fhlib.figures.style import new_figure


def sagittal_comparison(
    volume: Any, contours: Mapping[str, Any], right: Sequence[float] | None = None, title: str | None = None
) -> Figure:
    """Fig. 6: three planes parallel to the head's mid-sagittal plane, with the contours of all masks; an image gives one panel.

    The mid-sagittal plane is that of the first mask (`median_plane`). The planes lie at 1/4, 1/2 and 3/4 of the mask's extent across it
    and are cut obliquely, without a change of scale; depth (d) points down as far as the plane allows. `right`: a direction (d, h, w) that
    points to the fetus's right, where it is known; otherwise the outer two are named by their distance and as one and the other side, since
    a mask alone does not tell right from left. Raises ValueError where the first mask is empty.
    """
    array, masks = _array(volume), {name: _mask(mask) for name, mask in contours.items()}
    first = next(iter(masks.values()))
    for name, mask in masks.items():
        _require_shape(mask, array, f"contour {name!r}")
    if array.ndim == 2:
        return planes(volume, masks, title=title)
    spacing = np.asarray(volume.spacing_mm, float)
    centre, normal, symmetry = median_plane(first, volume.spacing_mm)
    if right is not None and np.dot(normal, right) > 0:
        normal = -normal  # from the fetus's right to its left, as the panels
    across = (np.argwhere(first) + 0.5) * spacing @ normal - centre @ normal
    offsets = [float(across.min() + part * np.ptp(across)) for part in (0.25, 0.5, 0.75)]
    offsets[1] = 0.0
    sides = ("one side", "middle", "other side") if right is None else ("right", "middle", "left")
    grid, step = _oblique_grid(volume, first, centre, normal)
    slabs = [_Slab(_sample(array, spacing, grid + offset * normal, 1), (step, step)) for offset in offsets]
    high_mm, wide_mm = _panel_mm(slabs[0], None)
    width = min(3.2, 4.4 * wide_mm / high_mm)
    figure, axes = new_figure(1, 3, (3 * width, width * high_mm / wide_mm + 0.8))
    window = grey_window(array)
    for axis, slab, offset, side in zip(axes[0], slabs, offsets, sides, strict=True):
        draw_slice(axis, slab, None, (), window)
        for number, mask in enumerate(masks.values()):
            cut = _sample(mask.astype(np.float32), spacing, grid + offset * normal, 1)
            draw_contour(axis, slab, cut, None, number)
        axis.set_title(side if offset == 0 else f"{side}, {abs(offset):.0f} mm", fontsize=8)
    scale_bar(axes[0, 0], slabs[0])
    contour_legend(figure, list(masks))
    found = f"sagittal planes; mirror symmetry of {next(iter(masks))}: {100 * symmetry:.0f} %"
    figure.suptitle(f"{title}: {found}" if title else found, fontsize=10)
    return figure


def median_plane(mask: Any, spacing_mm: Sequence[float]) -> tuple[NDArray[Any], NDArray[Any], float]:
    """The plane in which a head's mask is its own mirror image best: a point and the unit normal (mm, array order), and how well.

    The last is the Dice coefficient of the mask and its mirror image. The plane goes through the centre of mass; its normal is the best of
    directions over the half sphere, refined to about a degree. Face and neck break the symmetry of all planes but the mid-sagittal;
    where a mask has neither, as a plain ellipsoid, the plane is one of its several. Raises ValueError for an empty or 2D mask.
    """
    mask = _mask(mask)
    if mask.ndim != 3 or not mask.any():
        raise ValueError(
            f"a median plane needs a 3D mask that is not empty, got shape {mask.shape}, {mask.sum()} voxels"
        )
    spacing = np.asarray(spacing_mm, float)
    points = (np.argwhere(mask) + 0.5) * spacing
    centre = points.mean(axis=0)
    points = points[:: max(1, len(points) // 3000)]
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.5 * spacing.max() / spacing)

    def mirrored(normal: NDArray[Any]) -> float:
        image = points - 2 * ((points - centre) @ normal)[:, None] * normal
        return float(np.mean(_sample(soft, spacing, image, 1) >= 0.5))

    turn = np.pi * (3 - np.sqrt(5)) * np.arange(400)
    height = (np.arange(400) + 0.5) / 400
    candidates = np.column_stack([height, np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn)])
    best = max(candidates, key=mirrored)
    for reach in (0.1, 0.05, 0.025, 0.0125):
        around = best + reach * np.array(
            [*np.eye(3), *-np.eye(3), *(np.indices((2, 2, 2)).reshape(3, -1).T - 0.5), np.zeros(3)]
        )
        best = max(around / np.linalg.norm(around, axis=1, keepdims=True), key=mirrored)
    return centre, best, mirrored(best)


def _oblique_grid(
    volume: Any, mask: NDArray[np.bool_], centre: NDArray[Any], normal: NDArray[Any]
) -> tuple[NDArray[Any], float]:
    """Points (rows, columns, 3) in mm of the plane through `centre`, around the mask with a margin, and their distance."""
    down = np.array([1.0, 0, 0]) - normal[0] * normal
    if np.linalg.norm(down) < 0.5:  # the beam runs across the plane
        down = np.array([0, 1.0, 0]) - normal[1] * normal
    down /= np.linalg.norm(down)
    side = np.cross(normal, down)
    step = float(min(volume.spacing_mm))
    points = (np.argwhere(mask) + 0.5) * np.asarray(volume.spacing_mm, float) - centre
    ranges = []
    for direction in (down, side):
        along = points @ direction
        margin = 0.15 * np.ptp(along) + 2 * step
        ranges.append(np.arange(along.min() - margin, along.max() + margin, step))
    return centre + ranges[0][:, None, None] * down + ranges[1][None, :, None] * side, step


def _sample(array: NDArray[Any], spacing: NDArray[Any], points_mm: NDArray[Any], order: int) -> NDArray[Any]:
    """Values at points (..., 3) in mm from the array's corner; 0 outside."""
    indices = np.moveaxis(points_mm / spacing - 0.5, -1, 0)
    return ndimage.map_coordinates(array.astype(np.float32, copy=False), indices, order=order, cval=0.0)
