"""Where the head lies: the box of a coarse mask, in whole voxels of the scan, in which a second level looks at it closely.

The paper names it as the next step: "efficient detection strategies ... to locate the fetal head in volume can greatly narrow the search
space" (section 4). It thinks of a detector; here the first level's mask is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.images.grids import bounding_box
from fhlib.images.volume import Mask, Volume

Edges = tuple[tuple[int, int], ...]
"""(start, stop) along each array axis."""
Faces = NDArray[np.float64]
"""Where a box begins and ends along each axis, (2, axes), in voxels of a grid; a voxel reaches from i to i + 1."""

REGION_ENLARGED = 2.0
"""The first level looks again at its mask's box, enlarged so: there it sees a small head as finely as a large one."""


def largest_component(mask: Mask) -> Mask:
    """The largest part whose voxels share faces."""
    box = bounding_box(mask)
    labels, count = ndimage.label(mask[box])
    if count <= 1:
        return mask
    largest = np.zeros_like(mask)
    largest[box] = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    return largest


def faces_of(mask: Mask) -> Faces | None:
    """The bounding box of a mask's largest part; None for an empty mask."""
    if not mask.any():
        return None
    box = bounding_box(largest_component(mask))
    return np.array([[side.start for side in box], [side.stop for side in box]], float)


def on_grid(faces: Faces, of: Volume, volume: Volume) -> Faces:
    """Faces on the grid of `of` as faces on that of `volume`, whose axes are parallel to it, whatever the origins."""
    return _continuous(_positions(faces, of), volume)


def _positions(faces: Faces, of: Volume) -> list[tuple[float, ...]]:
    return [of.position(corner - 0.5) for corner in faces]


def _continuous(points: Sequence[Sequence[float]], volume: Volume) -> Faces:
    matrix = np.array(volume.direction).reshape(volume.ndim, volume.ndim)
    offsets = (np.array(points) - np.array(volume.origin)) @ matrix  # an orthonormal matrix's transpose is its inverse
    return offsets[:, ::-1] / np.array(volume.spacing_mm) + 0.5


def overlap(first: Edges, second: Edges) -> float:
    """What two boxes share over what they cover together (0 to 1; intersection over union).

    >>> overlap(((0, 4), (0, 6)), ((2, 6), (0, 6)))
    0.3333333333333333
    """
    sides = list(zip(first, second, strict=True))
    shared = math.prod(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in sides)
    sizes = [math.prod(stop - start for start, stop in box) for box in (first, second)]
    return shared / (sum(sizes) - shared)


def enlarged(faces: Faces, factor: float, shape: Sequence[int]) -> Edges:
    """A box enlarged about its centre, in whole voxels within an array of this shape, at least one along each axis."""
    middle, half = faces.mean(0), factor * (faces[1] - faces[0]) / 2
    edges = []
    for centre, reach, count in zip(middle.tolist(), half.tolist(), shape, strict=True):
        start = min(max(math.floor(centre - reach + 1e-6), 0), count - 1)
        edges.append((start, max(min(math.ceil(centre + reach - 1e-6), count), start + 1)))
    return tuple(edges)
