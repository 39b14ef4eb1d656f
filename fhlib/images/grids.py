"""Change a volume's grid: resample, crop, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import ndimage, sparse

from fhlib.images.volume import Array, Floats, Mask, Volume, to_sitk

Box = Sequence[slice | tuple[int, int]]
LINES_AT_ONCE = 4096
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


def resample(
    volume: Volume,
    spacing_mm: Sequence[float] | float | None = None,
    like: Volume | None = None,
    interpolation: Literal["linear", "nearest"] = "linear",
    smooth: bool = False,
) -> Volume:
    """Resample to a spacing, or onto the exact grid of another volume.

    With `spacing_mm` the new grid covers the same physical box, corner to corner. Sizes are rounded to
    whole voxels and the two boxes share their centre. So they differ by at most a quarter of a new voxel
    at each side. `resample(x, like=original)` is the inverse in geometry. Beyond the outermost
    voxel centres the nearest one is repeated along each axis (ITK would give 0 there).

    Linear results are float32 (float64 stays), nearest keeps the type.

    Args:
        volume: 2D or 3D.
        spacing_mm: the new spacing in array order, or one number for all axes.
        like: the volume whose grid is taken, of as many dimensions.
        interpolation: `linear`, or `nearest` for labels.
        smooth: apply, before linear downsampling, the Gaussian whose width turns the old voxel's into
            the new one's. For a factor f, sigma is sqrt(f^2 - 1) / 2.355 old voxels (Cardoso et al. 2015).

    Raises ValueError unless exactly one of `spacing_mm` and `like` is given.
    """
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f"interpolation must be 'linear' or 'nearest', got {interpolation!r}")
    grid = _grid(volume, spacing_mm, like)
    if interpolation == "linear" and grid.direction == volume.direction and _is_finite(volume.array):
        return replace(grid, array=_along_axes(volume, grid, smooth))

    import SimpleITK as sitk  # here, so that simulating and training do without it

    source, method = volume, sitk.sitkNearestNeighbor
    if interpolation == "linear":
        source, method = volume.with_array(volume.array.astype(_real(volume.array), copy=False)), sitk.sitkLinear
        if smooth:
            source = volume.with_array(ndimage.gaussian_filter(source.array, _sigmas(volume, grid), mode="nearest"))

    resampled = sitk.Resample(
        to_sitk(source),
        grid.shape[::-1],
        interpolator=method,
        outputOrigin=grid.origin,
        outputSpacing=grid.spacing_mm[::-1],
        outputDirection=grid.direction,
        useNearestNeighborExtrapolator=True,
    )
    return replace(grid, array=sitk.GetArrayFromImage(resampled).astype(source.array.dtype, copy=False))


def _grid(volume: Volume, spacing_mm: Sequence[float] | float | None, like: Volume | None) -> Volume:
    """`like`, or an empty volume of the given spacing whose box shares its centre with that of `volume`."""
    if like is not None and spacing_mm is None:
        if like.ndim != volume.ndim:
            raise ValueError(f"cannot resample a {volume.ndim}D image onto a {like.ndim}D grid")
        return like
    if spacing_mm is None or like is not None:
        raise ValueError("give either spacing_mm or like, and not both")

    spacing = tuple(np.broadcast_to(spacing_mm, volume.ndim).astype(float).tolist())
    if min(spacing) <= 0:
        raise ValueError(f"spacing_mm must be positive, got {spacing}")
    # the small excess keeps 2.5 voxels, reached as 2.4999999, from rounding down
    counts = [math.floor(mm / step + 0.5 + 1e-6) for mm, step in zip(volume.size_mm, spacing, strict=True)]
    shape = tuple(max(1, count) for count in counts)
    first = [
        ((old - 1) - (new - 1) * to / of) / 2
        for old, new, to, of in zip(volume.shape, shape, spacing, volume.spacing_mm, strict=True)
    ]
    return Volume(np.broadcast_to(np.uint8(0), shape), spacing, volume.position(first), volume.direction)


def _along_axes(volume: Volume, grid: Volume, smooth: bool) -> Array:
    """The volume at a grid's voxels, smoothed first if wanted, where both have the same directions.

    Smoothing and linear interpolation are then one weighted sum along each axis. It takes a tenth of the time of
    filtering the whole volume, no memory of its size, and one thread: several wait for one another on a busy machine.
    Sums are in double precision, so that a constant volume stays one.
    """
    kind = _real(volume.array)
    matrix = np.array(volume.direction).reshape(volume.ndim, volume.ndim)
    shift = (np.array(grid.origin) - np.array(volume.origin)) @ matrix
    firsts = shift[::-1] / volume.spacing_mm
    steps = np.array(grid.spacing_mm) / volume.spacing_mm
    sigmas = _sigmas(volume, grid) if smooth else (0.0,) * volume.ndim

    places = [first + step * np.arange(count) for first, step, count in zip(firsts, steps, grid.shape, strict=True)]
    weights = [_weights(*given) for given in zip(volume.shape, places, sigmas, strict=True)]
    lines = volume.array.reshape(len(volume.array), -1)
    slices = np.empty((grid.shape[0], lines.shape[1]))
    for start in range(0, lines.shape[1], LINES_AT_ONCE):
        some = slice(start, start + LINES_AT_ONCE)
        slices[:, some] = weights[0] @ lines[:, some].astype(float)
    if volume.ndim == 2:
        return np.ascontiguousarray((weights[1] @ slices.T).T, kind)

    result = np.empty(grid.shape, kind)
    for number, plane in enumerate(slices.reshape(-1, *volume.shape[1:])):
        result[number] = (weights[2] @ (weights[1] @ plane).T).T
    return result


def _weights(count: int, places: Floats, sigma: float) -> sparse.csr_array:
    """(places, voxels): what each of `count` voxels contributes to a line's value at these indices, (n,)."""
    reach = int(4 * sigma + 0.5)  # as `ndimage.gaussian_filter` cuts it
    around = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (around / sigma) ** 2) if sigma > 0 else np.ones(1)
    kernel /= kernel.sum()

    places = np.clip(places, 0, count - 1)
    before = np.floor(places).astype(int)
    part = (places - before)[:, None]
    columns = np.stack([before[:, None] + around, np.minimum(before + 1, count - 1)[:, None] + around])
    values = np.stack([(1 - part) * kernel, part * kernel])
    rows = np.broadcast_to(np.arange(len(places))[None, :, None], columns.shape)
    # beyond the ends the last voxel is repeated: what falls on one voxel is summed
    indices = rows.ravel(), np.clip(columns, 0, count - 1).ravel()
    return sparse.csr_array((values.ravel(), indices), shape=(len(places), count))


def _sigmas(volume: Volume, grid: Volume) -> tuple[float, ...]:
    factors = [max(new / old, 1) for new, old in zip(grid.spacing_mm, volume.spacing_mm, strict=True)]
    return tuple(math.sqrt(factor**2 - 1) / FWHM_PER_SIGMA for factor in factors)


def _real(array: Array) -> type[np.floating[Any]]:
    """The type of a linear result."""
    return np.float64 if array.dtype == np.float64 else np.float32


def _is_finite(array: Array) -> bool:
    """A weighted sum spreads NaN and infinity along whole lines."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds all of a mask of any dimensions; an empty one of an empty mask."""
    first = np.asarray(mask.reshape(len(mask), -1).any(axis=1))
    if not first.any():
        return (slice(0, 0),) * mask.ndim
    side = slice(int(first.argmax()), len(first) - int(first[::-1].argmax()))
    return (side, *bounding_box(np.asarray(mask[side].any(axis=0)))) if mask.ndim > 1 else (side,)


@dataclass(frozen=True, eq=False)
class Crop:
    """Which box `crop_to_box` took, (start, stop) for each array axis, and from what; `undo` pastes a result back."""

    box: tuple[tuple[int, int], ...]
    original: Volume

    def undo(self, cropped: Volume, outside: float | None = None) -> Volume:
        """Paste a volume of the box's shape back in the original geometry.

        Around it stands what was there before, or `outside` where given (0 for a mask found within the
        box). The result has the pasted array's type. Raises ValueError for another shape.
        """
        expected = tuple(stop - start for start, stop in self.box)
        if cropped.shape != expected:
            raise ValueError(f"the box has shape {expected}, got {cropped.shape}")
        if outside is None:
            array = self.original.array.astype(cropped.array.dtype)
        else:
            array = np.full(self.original.shape, outside, dtype=cropped.array.dtype)
        array[tuple(slice(*edge) for edge in self.box)] = cropped.array
        return self.original.with_array(array)


def crop_to_box(volume: Volume, box: Box) -> tuple[Volume, Crop]:
    """Crop to a box, slices or (start, stop) pairs in array order; ValueError if it is empty or leaves the volume."""
    edges = tuple(_edge(side, count) for side, count in zip(box, volume.shape, strict=True))
    if not all(0 <= start < stop <= count for (start, stop), count in zip(edges, volume.shape, strict=True)):
        raise ValueError(
            f"the box {edges} is empty or leaves the volume of shape {volume.shape}: give 0 <= start < stop <= size"
        )
    array = volume.array[tuple(slice(*edge) for edge in edges)]
    origin = volume.position([start for start, _ in edges])
    return replace(volume, array=array, origin=origin), Crop(edges, volume)


def _edge(side: slice | tuple[int, int], count: int) -> tuple[int, int]:
    if isinstance(side, slice):
        return int(side.start or 0), int(count if side.stop is None else side.stop)
    return int(side[0]), int(side[1])
