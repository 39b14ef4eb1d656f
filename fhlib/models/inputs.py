"""What a network reads: the scan on the network's grid, normalised, and its flipped copies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fhlib.images.grids import resample
from fhlib.images.volume import Volume
from fhlib.presets import PAPER_NETWORK_SPACING_MM, Preparation

LARGEST = 1e30
"""Of intensities: differences of larger ones leave single precision."""


def flips_of(spatial_dims: int) -> tuple[tuple[int, ...], ...]:
    """Sets of axes to flip. A 180-degree rotation is a pair of flips, so in 3D all combinations give 8 distinct results.

    The paper counts 12 a volume (50 -> 600); some of those coincide.
    """
    axes = range(spatial_dims)
    return tuple(chosen for n in range(spatial_dims + 1) for chosen in itertools.combinations(axes, n))


def to_network_grid(volume: Volume, preparation: Preparation) -> Volume:
    """What the network reads of an image: resampled with smoothing, intensities min-max scaled to [0, 1] (float32).

    Images go to `longest_voxels` along their longest side where that is given, else volumes to `spacing_mm` and single images to
    `image_scale` times their size. A constant image becomes 0.
    Raises ValueError for non-finite intensities.
    """
    _require_finite(volume)
    return in_unit_range(resample(volume, _target_spacing(volume, preparation), smooth=True))


def box_to_network_grid(box: Volume, preparation: Preparation) -> Volume:
    """What the second level reads of a box cut from a scan: `box_voxels` along its longest side, isotropic in mm, min-max scaled over the
    box to [0, 1] (float32). Raises ValueError for non-finite intensities.
    """
    _require_finite(box)
    return in_unit_range(resample(box, max(box.size_mm) / preparation.box_voxels, smooth=True))


def at_original_resolution(volume: Volume) -> Volume:
    """What a 2D network reads of a volume, slice by slice ("slices of the volume in original resolution", section 3.2): intensities
    min-max scaled to [0, 1] over the whole volume (float32). Raises ValueError for non-finite intensities.
    """
    _require_finite(volume)
    return in_unit_range(volume)


def _require_finite(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    if not np.isfinite(volume.array).all():
        raise ValueError("the image holds NaN or infinite intensities: repair or exclude it")
    if (largest := float(np.abs(volume.array).max())) > LARGEST:
        raise ValueError(f"the image holds intensities up to {largest:.3g}, which no scan has: repair or exclude it")


def in_unit_range(volume: Volume) -> Volume:
    return volume.with_array(min_max(volume.array.astype(np.float32)))


def min_max(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Min-max scaled to [0, 1]; 0 where it is constant."""
    low, high = float(array.min()), float(array.max())
    return (array - low) / (high - low) if high > low else np.zeros_like(array)


def label_to_network_grid(label: Volume, preparation: Preparation) -> Volume:
    """A binary label on the network's grid (uint8), see `label_to_spacing`."""
    return label_to_spacing(label, _target_spacing(label, preparation))


def label_to_spacing(label: Volume, spacing_mm: Sequence[float]) -> Volume:
    """A binary label at another spacing (uint8): smoothed and resampled like an image, then cut where its volume is kept.

    Cutting at one half instead would draw a convex outline inwards by about sigma^2 / R (sigma as in `resample`): of a 240 mL head
    1.4 % of the volume between 2 and 6.4 mm.
    """
    inside = label.array > 0
    coarse = resample(label.with_array(inside.astype(np.float32)), spacing_mm, smooth=True)
    count = round(int(inside.sum()) * math.prod(label.spacing_mm) / math.prod(coarse.spacing_mm))
    ranked = np.sort(coarse.array, axis=None)[::-1]
    level = ranked[min(count, ranked.size) - 1] if count else np.inf
    return coarse.with_array((coarse.array >= level).astype(np.uint8))


def network_spacing_mm(preparation: Preparation, size_mm: Sequence[float]) -> float:
    """Spacing of the network's grid for a volume with sides of `size_mm`."""
    return max(size_mm) / preparation.longest_voxels if preparation.longest_voxels else preparation.spacing_mm


def patch_voxels(preparation: Preparation, edge: int) -> int:
    """`edge` voxels of the paper's 0.95 mm in voxels of the network's grid: the nearest multiple of 8, at least 16.

    The paper's 61 mm become 56 mm at 3.5 mm, and on the coarser grids of short presets more: 16 voxels of 6.2 mm are 99 mm.
    """
    return max(16, 8 * round(edge * PAPER_NETWORK_SPACING_MM / preparation.spacing_mm / 8))


def _target_spacing(volume: Volume, preparation: Preparation) -> tuple[float, ...]:
    if volume.ndim == 3 or preparation.longest_voxels:
        return (network_spacing_mm(preparation, volume.size_mm),) * volume.ndim
    return tuple(spacing / preparation.image_scale for spacing in volume.spacing_mm)
