"""Maps on grids of their own, and where these lie on the scan's: what the explorer lays over a scan.

A layer keeps its own voxels. Which of them holds a place of the scan follows from the positions of both in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from fhlib.images.volume import Volume
from fhlib.interpretability.summaries import without_padding
from fhlib.networks.features import repeats

LONGEST_MESH = 72
"""Voxels along the longest side of what a surface is drawn from."""
SKEW = 1e-3
"""Grids may be turned against each other by so little."""
Numbers = tuple[float, float, float]


@dataclass(frozen=True)
class Layer:
    """Values (d', h', w') in three axes, an image's with a first axis of 1.

    `scale` and `offset` lead from the scan's index to the layer's: own = scale * index + offset, of voxel centres.
    `extent` is how many of its voxels along each axis lie in the image. The rest is the network's padding.
    """

    values: NDArray[Any]
    scale: Numbers = (1.0, 1.0, 1.0)
    offset: Numbers = (0.0, 0.0, 0.0)
    extent: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.extent:
            object.__setattr__(self, "extent", tuple(map(float, self.values.shape)))

    def own(self, axis: int, index: NDArray[Any] | float) -> NDArray[Any]:
        """Its nearest voxel along an axis at the scan's index, which may be fractional; -1 outside."""
        place = self.scale[axis] * np.asarray(index, float) + self.offset[axis]
        inside = (place >= -0.5) & (place < self.extent[axis] - 0.5)
        nearest = np.minimum(np.floor(place + 0.5), self.values.shape[axis] - 1)
        return np.where(inside, nearest, -1).astype(int)

    def at(self, index: Sequence[float]) -> float:
        """The value of the voxel that holds a place of the scan, without interpolation; nan outside."""
        own = tuple(int(self.own(axis, value)) for axis, value in enumerate(index))
        return float("nan") if min(own) < 0 else float(self.values[own])

    def header(self) -> dict[str, Any]:
        """What the browser needs beside the numbers."""
        return {
            "dtype": self.values.dtype.name,
            "shape": list(self.values.shape),
            "scale": list(self.scale),
            "offset": list(self.offset),
            "extent": list(self.extent),
        }

    def numbers(self) -> bytes:
        """The values row by row, little-endian."""
        return np.ascontiguousarray(self.values).astype(self.values.dtype.newbyteorder("<"), copy=False).tobytes()


def layer_over(scan: Volume, image: Volume, values: NDArray[Any]) -> Layer:
    """A map of a network, over the scan that the network read.

    Args:
        scan: in its own geometry.
        image: the scan on the network's grid.
        values: on the image's grid, or a module's map of it (`Features`). What lies in the network's padding is cut off.

    Raises:
        ValueError: the grids have other axes, or the map's size does not belong to the image.
    """
    scale, offset = _to_grid(scan, image)
    whole = values.shape == image.shape
    factors = (1,) * image.ndim if whole else repeats(values.shape, image.shape)
    seen = values if whole else without_padding(values, image.shape)
    parts = np.array(factors, float)
    # voxel m of a module's map spans voxels m f to m f + f - 1 of the image
    return Layer(
        solid(seen),
        _three(scale / parts, 1.0),
        _three((offset + 0.5) / parts - 0.5, 0.0),
        _three(np.array(image.shape) / parts, 1.0),
    )


def scan_layer(scan: Volume) -> Layer:
    """The scan as the browser gets it: its own numbers, in a type that browsers know."""
    array = scan.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype.kind == "f" or array.dtype.itemsize > 4:
        array = array.astype(np.float32)
    return Layer(solid(array))


def position_matrix(scan: Volume) -> list[list[float]]:
    """Rows for x, y (and z) in mm: factors of the index along d, h and w, and the first voxel's position."""
    origin = np.array(list(scan.position((0,) * scan.ndim)))
    columns = [np.array(list(scan.position(unit))) - origin for unit in np.eye(scan.ndim).tolist()]
    if scan.ndim == 2:
        columns.insert(0, np.zeros(2))
    return np.stack([*columns, origin], axis=1).tolist()


def handedness(scan: Volume) -> int:
    """1 where d, h and w run as ITK's z, y and x do, -1 where the scan is mirrored."""
    turn = np.array(scan.direction).reshape(scan.ndim, scan.ndim)
    return 1 if np.linalg.det(turn) > 0 else -1


def surface_of(layer: Layer, level: float = 0.5) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Triangles where a layer passes a level, for a picture: averaged to at most `LONGEST_MESH` voxels and smoothed a little.

    Returns:
        Vertices (n, 3) as the scan's indices, and faces (m, 3). Both are empty where nothing reaches the level.
    """
    values = np.asarray(layer.values, np.float32)
    none = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32)
    if values.max(initial=0.0) < level:
        return none
    # as many blocks along each axis as keep voxels about as long as they are
    factor = max(1, -(-max(values.shape) // LONGEST_MESH))
    means = measure.block_reduce(values, factor, np.mean) if factor > 1 else values
    margin = 2
    padded = ndimage.gaussian_filter(np.pad(means, margin), 0.6)
    vertices, faces, *_ = measure.marching_cubes(padded, min(level, 0.5 * float(padded.max())))
    own = (vertices - margin + 0.5) * factor - 0.5
    on_scan = (own - np.array(layer.offset)) / np.array(layer.scale)
    return on_scan.astype(np.float32), faces.astype(np.uint32)


def solid(array: NDArray[Any]) -> NDArray[Any]:
    """An image as a volume of one plane."""
    return array[None] if array.ndim == 2 else array


def _to_grid(scan: Volume, image: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and offset along each axis from the scan's index to the image's."""
    ndim = scan.ndim
    turn = np.array(image.direction).reshape(ndim, ndim).T @ np.array(scan.direction).reshape(ndim, ndim)
    if scan.ndim != image.ndim or not np.allclose(turn, np.eye(ndim), atol=SKEW):
        raise ValueError(
            f"the scan's axes {scan.direction} differ from the map's {image.direction}: give the scan that the network read"
        )
    steps_scan, steps_image = np.array(scan.spacing_mm), np.array(image.spacing_mm)
    matrix = np.array(image.direction).reshape(ndim, ndim)
    shift = (matrix.T @ (np.array(scan.origin) - np.array(image.origin)))[::-1]  # x, y, z to d, h, w
    return steps_scan / steps_image, shift / steps_image


def _three(values: NDArray[Any], first: float) -> Numbers:
    """Three numbers, an image's with those of its one plane in front."""
    numbers = [float(value) for value in values]
    a, b, c = numbers if len(numbers) == 3 else [first, *numbers]
    return a, b, c
