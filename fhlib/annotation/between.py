"""Fill what lies between corrected planes, so that a reader draws on every tenth one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.images.volume import Mask

Distance = NDArray[np.float64]


def fill_between(before: Mask, after: Mask, spacing_mm: Sequence[float]) -> tuple[Mask, int, int]:
    """The corrected mask with the planes between corrected ones drawn anew.

    Corrected are the planes in which the two masks differ, along the axis on which they are fewest: those that were drawn in. Between
    two of them the outline is where the signed distance, interpolated linearly from one to the other, is 0 (shape-based interpolation,
    Raya and Udupa 1990). A plane without a mask has no distance, and nothing is filled towards it.

    Args:
        before: as it was outlined, (d, h, w).
        after: as it is drawn now, of the same shape.
        spacing_mm: of a voxel along each array axis (z, y, x).

    Returns the mask, the axis, and how many planes were filled.

    Raises ValueError where the shapes differ.

    >>> before, after = np.zeros((2, 5, 4, 4), bool)
    >>> after[[0, 4], 1:3, 1:3] = True
    >>> filled, axis, count = fill_between(before, after, (1, 1, 1))
    >>> axis, count, filled.sum(axis=(1, 2)).tolist()
    (0, 3, [4, 4, 4, 4, 4])
    """
    if before.shape != after.shape:
        raise ValueError(f"two masks of one shape are needed, got {before.shape} and {after.shape}")
    axis, corrected = _corrected(before, after)
    filled = np.moveaxis(after.copy(), axis, 0)
    in_plane = [step for other, step in enumerate(spacing_mm) if other != axis]

    count = 0
    for first, last in pairwise(corrected):
        start, end = (_signed_distance(filled[plane], in_plane) for plane in (first, last))
        if start is None or end is None:
            continue
        for plane in range(first + 1, last):
            share = (plane - first) / (last - first)
            filled[plane] = (1 - share) * start + share * end > 0
            count += 1
    return np.moveaxis(filled, 0, axis), axis, count


def _corrected(before: Mask, after: Mask) -> tuple[int, list[int]]:
    """The axis across which the fewest planes differ, and which do."""
    differs = before != after
    planes: list[list[int]] = []
    for axis in range(differs.ndim):
        others = tuple(other for other in range(differs.ndim) if other != axis)
        planes.append(np.flatnonzero(differs.any(axis=others)).tolist())
    fewest = int(np.argmin([len(found) for found in planes]))
    return fewest, planes[fewest]


def _signed_distance(plane: Mask, spacing_mm: Sequence[float]) -> Distance | None:
    """Distance (mm) to the outline, positive inside; None for an empty plane."""
    if not plane.any():
        return None
    inside = ndimage.distance_transform_edt(np.pad(plane, 1), sampling=spacing_mm)[1:-1, 1:-1]
    outside = ndimage.distance_transform_edt(~plane, sampling=spacing_mm)
    return np.asarray(inside - outside, np.float64)
