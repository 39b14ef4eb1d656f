"""How a head lies: its median plane, found from its symmetry, and its face. Comparisons drawn in that plane (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from fhlib.figures.planes import Panel, contour_legend, grey_window, masks_like, planes, scale_bar
from fhlib.figures.style import SMALL, new_figure
from fhlib.images.volume import Array, Floats, Mask, Volume

FIRST_DIRECTIONS = 400
SYMMETRY_POINTS = 3000
"""The search for the median plane begins at so many directions, and looks at about so many of the mask's voxels."""

PLANE_MM = 0.5
"""Pixels of an oblique plane."""
ROUND_PART = 0.8
"""The calvarium is what a ball of this share of the largest inscribed one reaches; face and neck are what it does not."""
SMALLEST_FACE = 0.05
"""With a smaller share of the head beyond the round part, nothing tells where the face is."""
LEAST_SLANT, MOST_SLANT = 0.2, 0.95
"""Face and neck lie before and below the calvarium: the share of their direction that is forward."""


@dataclass(frozen=True)
class HeadAxes:
    """Which way a head lies, as unit vectors in array order (d, h, w)."""

    forward: Floats
    """From the back of the head to the face."""
    up: Floats
    """From the neck to the vertex."""


def sagittal_comparison(
    volume: Volume,
    contours: Mapping[str, Volume | Array],
    right: Sequence[float] | None = None,
    title: str | None = None,
) -> Figure:
    """Fig. 6: three planes parallel to the head's mid-sagittal plane, with the contours of all masks.

    The mid-sagittal plane is that of the first mask (`median_plane`). The planes lie at 1/4, 1/2 and 3/4 of the mask's
    extent across it and are cut obliquely, without a change of scale. Depth (d) points down as far as the plane
    allows. An image gives one panel.

    Args:
        volume: what is shown.
        contours: name -> mask of the volume's shape.
        right: a direction (d, h, w) that points to the fetus's right, where it is known. Otherwise the outer two are
            named as one and the other side, since a mask alone does not tell right from left.
        title: above the figure.

    Raises:
        ValueError: the first mask is empty, or a mask has another shape than the volume.
    """
    masks = masks_like(volume, contours)
    if volume.array.ndim == 2:
        return planes(volume, masks, title=title)
    first = next(iter(masks.values()))
    centre, normal, symmetry = median_plane(first, volume.spacing_mm)
    if right is not None and np.dot(normal, right) > 0:
        normal = -normal  # from the fetus's right to its left, as the panels
    panels = _parallel_panels(volume, list(masks.values()), centre, normal)
    sides = ("one side", "middle", "other side") if right is None else ("right", "middle", "left")

    high_mm, wide_mm = panels[0].size_mm(None)
    width = min(3.2, 4.4 * wide_mm / high_mm)
    found = f"sagittal planes; mirror symmetry of {next(iter(masks))}: {100 * symmetry:.0f} %"
    size = (3 * width, width * high_mm / wide_mm + 0.8)
    figure, axes = new_figure(1, 3, size, f"{title}: {found}" if title else found)
    window = grey_window(volume.array)
    for axis, panel, side in zip(axes[0], panels, sides, strict=True):
        panel.draw(axis, None, window)
        axis.set_title(side + panel.title, fontsize=SMALL)

    scale_bar(axes[0, 0])
    contour_legend(figure, list(masks))
    return figure


def median_plane(mask: Volume | Array, spacing_mm: Sequence[float]) -> tuple[Floats, Floats, float]:
    """The plane in which a head's mask is its own mirror image best: a point, the unit normal, and how well.

    Point and normal are in mm and array order; the last is the Dice coefficient of the mask and its mirror image. The
    plane goes through the centre of mass; its normal is the best of directions over the half sphere, refined to about
    a degree. Face and neck break the symmetry of all planes but the mid-sagittal. Where a mask has neither, as a plain
    ellipsoid, the plane is one of its several. Raises ValueError for an empty or 2D mask.
    """
    inside = np.asarray(mask.array if isinstance(mask, Volume) else mask) > 0
    if inside.ndim != 3 or not inside.any():
        raise ValueError(
            f"a median plane needs a 3D mask that is not empty, got shape {inside.shape}, {inside.sum()} voxels"
        )
    spacing = np.asarray(spacing_mm, float)
    points = (np.argwhere(inside) + 0.5) * spacing
    centre = points.mean(axis=0)
    points = points[:: max(1, len(points) // SYMMETRY_POINTS)]
    # smoothed, so that the share changes with small turns as well
    soft = ndimage.gaussian_filter(inside.astype(np.float32), 0.5 * spacing.max() / spacing)

    def mirrored(normal: Floats) -> float:
        image = points - 2 * ((points - centre) @ normal)[:, None] * normal
        return float(np.mean(_sample(soft, spacing, image) >= 0.5))

    best = max(_half_sphere(FIRST_DIRECTIONS), key=mirrored)
    corners = np.indices((2, 2, 2)).reshape(3, -1).T - 0.5
    steps = np.array([*np.eye(3), *-np.eye(3), *corners, np.zeros(3)])
    for reach in (0.1, 0.05, 0.025, 0.0125):
        around = best + reach * steps
        best = max(around / np.linalg.norm(around, axis=1, keepdims=True), key=mirrored)
    return centre, best, mirrored(best)


def head_axes(mask: Volume | Array, spacing_mm: Sequence[float]) -> HeadAxes | None:
    """Where face and vertex are, found from the shape of a whole head's mask.

    The calvarium is longest from front to back, in the median plane. Face and neck lie before and below it. On simulated
    heads of 18 to 36 weeks, in any pose, both directions are within 5 degrees of the truth.

    Args:
        mask: of the whole head, with face and neck.
        spacing_mm: one number an array axis.

    Returns:
        None where the mask does not tell: of a skull alone, a ball, or a head that is cut off.

    Raises:
        ValueError: the mask is empty or 2D.
    """
    inside = np.asarray(mask.array if isinstance(mask, Volume) else mask) > 0
    spacing = np.asarray(spacing_mm, float)
    _, normal, _ = median_plane(inside, spacing_mm)
    calvarium = _round_part(inside, spacing)
    beyond = inside & ~calvarium
    if beyond.sum() < SMALLEST_FACE * inside.sum():
        return None

    points = (np.argwhere(calvarium) + 0.5) * spacing
    flat = np.eye(3) - np.outer(normal, normal)
    longest = np.linalg.eigh(flat @ np.cov(points.T) @ flat)[1][:, -1]
    towards_face = flat @ ((np.argwhere(beyond) + 0.5).mean(axis=0) * spacing - points.mean(axis=0))
    slant = float(longest @ towards_face) / (np.linalg.norm(towards_face) + 1e-12)
    if not LEAST_SLANT <= abs(slant) <= MOST_SLANT:
        return None
    forward = np.sign(slant) * longest
    up = np.cross(normal, forward)
    return HeadAxes(forward, -np.sign(up @ towards_face) * up)


def plane_at(
    volume: Volume | Array, spacing_mm: Sequence[float], centre: Floats, right: Floats, up: Floats, reach: float
) -> Array:
    """A square plane through a volume, linear between voxels and 0 outside, in pixels of `PLANE_MM`.

    Args:
        volume: (d, h, w).
        spacing_mm: one number an array axis.
        centre: the plane's middle in mm from the array's corner.
        right: unit vector (d, h, w) along the rows.
        up: unit vector against the columns.
        reach: from the middle to each side, in mm.
    """
    array = volume.array if isinstance(volume, Volume) else np.asarray(volume)
    steps = np.arange(-reach, reach, PLANE_MM)
    points = centre - steps[:, None, None] * up + steps[None, :, None] * right
    return _sample(array, np.asarray(spacing_mm, float), points)


def _round_part(mask: Mask, spacing: Floats) -> Mask:
    """The part of a mask that a ball reaches which rolls inside it."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    radius = ROUND_PART * depth.max()
    reached = ndimage.distance_transform_edt(depth <= radius, sampling=spacing) <= radius
    return np.asarray(reached[1:-1, 1:-1, 1:-1])


def _half_sphere(count: int) -> Floats:
    """Directions (count, 3) that cover half a sphere evenly: a spiral that turns by the golden angle."""
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    height = (np.arange(count) + 0.5) / count
    radius = np.sqrt(1 - height**2)
    return np.column_stack([height, radius * np.cos(turn), radius * np.sin(turn)])


def _parallel_panels(volume: Volume, masks: Sequence[Mask], centre: Floats, normal: Floats) -> list[Panel]:
    """Three panels across the first mask, parallel to its median plane; the outer two are titled by their distance."""
    spacing = np.asarray(volume.spacing_mm, float)
    across = (np.argwhere(masks[0]) + 0.5) * spacing @ normal - centre @ normal
    quarter, three_quarters = (float(across.min() + part * np.ptp(across)) for part in (0.25, 0.75))
    grid, step = _oblique_grid(volume, masks[0], centre, normal)
    panels = []
    for offset in (quarter, 0.0, three_quarters):
        points = grid + offset * normal
        slab = Volume(_sample(volume.array, spacing, points), (step, step))
        outlines = [_sample(mask, spacing, points) for mask in masks]
        panels.append(Panel(slab, masks=outlines, title=f", {abs(offset):.0f} mm" if offset else ""))
    return panels


def _oblique_grid(volume: Volume, mask: Mask, centre: Floats, normal: Floats) -> tuple[Floats, float]:
    """Points (rows, columns, 3) in mm of the plane through `centre`, around the mask with a margin, and their distance.

    Rows follow depth (d) as far as the plane allows.
    """
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


def _sample(array: Array, spacing: Floats, points_mm: Floats) -> Array:
    """Values at points (..., 3) in mm from the array's corner, linear between voxels; 0 outside."""
    indices = np.moveaxis(points_mm / spacing - 0.5, -1, 0)
    return np.asarray(ndimage.map_coordinates(array.astype(np.float32, copy=False), indices, order=1, cval=0.0))
