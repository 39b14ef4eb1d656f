"""Change a volume's grid: resample, crop, pad, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from fhlib.images.volume import Box, Volume, to_sitk


def resample(
    volume: Volume,
    spacing_mm: Sequence[float] | float | None = None,
    like: Volume | None = None,
    interpolation: Literal["linear", "nearest"] = "linear",
    smooth: bool = False,
) -> Volume:
    """Resample to a spacing (mm, array order, or one number for all axes), or onto the exact grid of `like`.

    With `spacing_mm` the new grid covers the same physical box, corner to corner: sizes are rounded to whole voxels and
    the two boxes share their centre, so that they differ by at most a quarter of a new voxel at each side.
    `resample(x, like=original)` is the inverse in geometry. Beyond the outermost voxel centres the nearest voxel is
    repeated (ITK would give 0 there).

    Linear results are float32 (float64 stays), nearest keeps the type. `smooth` applies, before linear downsampling,
    the Gaussian whose width turns the old voxel's into the new one's (Cardoso et al. 2015: for a factor f, sigma is
    sqrt(f^2 - 1) / 2.355 old voxels).

    Raises ValueError unless exactly one of `spacing_mm` and `like` is given.
    """
    if (spacing_mm is None) == (like is None):
        raise ValueError("give either spacing_mm or like, and not both")
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f"interpolation must be 'linear' or 'nearest', got {interpolation!r}")
    if like is not None and like.ndim != volume.ndim:
        raise ValueError(f"cannot resample a {volume.ndim}D image onto a {like.ndim}D grid")
    grid = like if like is not None else _grid_with_spacing(volume, spacing_mm)  # type: ignore[arg-type]
    source = volume
    if interpolation == "linear":
        source = volume.with_array(
            volume.array.astype(np.float64 if volume.array.dtype == np.float64 else np.float32, copy=False)
        )
        if smooth:
            factors = [max(new / old, 1) for new, old in zip(grid.spacing_mm, volume.spacing_mm, strict=True)]
            sigmas = [math.sqrt(factor**2 - 1) / (2 * math.sqrt(2 * math.log(2))) for factor in factors]
            source = volume.with_array(ndimage.gaussian_filter(source.array, sigmas, mode="nearest"))
    method = sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.shape[::-1])
    resampler.SetOutputSpacing(grid.spacing_mm[::-1])
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(method)
    resampler.SetUseNearestNeighborExtrapolator(True)
    array = sitk.GetArrayFromImage(resampler.Execute(to_sitk(source)))
    return replace(grid, array=array.astype(source.array.dtype, copy=False))


def _grid_with_spacing(volume: Volume, spacing_mm: Sequence[float] | float) -> Volume:
    """Empty volume of the given spacing whose box shares its centre with that of `volume`."""
    spacing = tuple(np.broadcast_to(spacing_mm, volume.ndim).astype(float).tolist())
    if min(spacing) <= 0:
        raise ValueError(f"spacing_mm must be positive, got {spacing}")
    # the small excess keeps 2.5 voxels, reached as 2.4999999, from rounding down
    shape = tuple(
        max(1, math.floor(length / step + 0.5 + 1e-6)) for length, step in zip(volume.size_mm, spacing, strict=True)
    )
    first = [
        ((old - 1) - (new - 1) * to / of) / 2
        for old, new, to, of in zip(volume.shape, shape, spacing, volume.spacing_mm, strict=True)
    ]
    return Volume(np.broadcast_to(np.uint8(0), shape), spacing, volume.position(first), volume.direction)


@dataclass(frozen=True, eq=False)
class Padding:
    """What `pad_to_multiple` added, in voxels before and after each array axis; `undo` takes it off again."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    original: Volume

    def undo(self, padded: Volume) -> Volume:
        """Crop a volume of the padded shape back to the exact geometry before; ValueError for another shape."""
        expected = tuple(b + n + a for b, n, a in zip(self.before, self.original.shape, self.after, strict=True))
        if padded.shape != expected:
            raise ValueError(f"the padding was made for shape {expected}, got {padded.shape}")
        inner = tuple(slice(b, b + n) for b, n in zip(self.before, self.original.shape, strict=True))
        return self.original.with_array(padded.array[inner])


def pad_to_multiple(
    volume: Volume, multiple: int = 8, mode: Literal["constant", "edge"] = "constant"
) -> tuple[Volume, Padding]:
    """Pad each axis evenly (where odd, one more behind) to a multiple, with zeros or the nearest voxel's value."""
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}")
    total = [-count % multiple for count in volume.shape]
    before, after = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    array = np.pad(volume.array, list(zip(before, after, strict=True)), mode=mode)
    padded = replace(volume, array=array, origin=volume.position([-n for n in before]))
    return padded, Padding(before, after, volume)


@dataclass(frozen=True, eq=False)
class Crop:
    """Which box `crop_to_box` took, (start, stop) for each array axis, and from what; `undo` pastes a result back."""

    box: tuple[tuple[int, int], ...]
    original: Volume

    def undo(self, cropped: Volume, outside: float | None = None) -> Volume:
        """Paste a volume of the box's shape back in the original geometry.

        Around it stands what was there before, or `outside` where given (0 for a mask found within the box). The result
        has the pasted array's type. Raises ValueError for another shape.
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
    return replace(volume, array=array, origin=volume.position([start for start, _ in edges])), Crop(edges, volume)


def _edge(side: slice | tuple[int, int], count: int) -> tuple[int, int]:
    if isinstance(side, slice):
        return int(side.start or 0), int(count if side.stop is None else side.stop)
    return int(side[0]), int(side[1])


def bounding_box(mask: Volume, margin_mm: float = 0.0) -> tuple[tuple[int, int], ...]:
    """Smallest box around the mask's voxels and a margin, cut at the volume's edge; ValueError for an empty mask."""
    inside = np.argwhere(mask.array)
    if not len(inside):
        raise ValueError("an empty mask has no bounding box: check for a missed head first")
    margin = [math.ceil(margin_mm / step) for step in mask.spacing_mm]
    low, high = inside.min(0) - margin, inside.max(0) + margin + 1
    return tuple((max(int(a), 0), min(int(b), count)) for a, b, count in zip(low, high, mask.shape, strict=True))
