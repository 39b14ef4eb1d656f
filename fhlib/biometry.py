"""Head biometry from a mask: volume, BPD, OFD, HC by the ellipse that a sonographer would place.

The mask decides what the numbers mean. Growth charts outline the outer **skull**: only `outline="skull"` gives z-scores and centiles. From a mask of
the whole head to its **skin** (the paper's label) the same measures are larger, are named `skin_...` and get no centile.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fhlib import growth
from fhlib.volume import Volume

Floats = NDArray[np.float64]
Outline = Literal["skull", "skin"]

SECTION_STEP = 0.5
"""Sampling of the measuring plane, in units of the finest voxel spacing."""


@dataclass(frozen=True)
class Biometry:
    """Measures of one mask. Volume in mL (NaN in 2D), area of the measured section in mm2, lengths in mm."""

    outline: Outline
    volume_ml: float
    area_mm2: float
    bpd_mm: float
    """Short axis of the fitted ellipse, outer to outer."""
    ofd_mm: float
    """Long axis of the fitted ellipse, outer to outer."""
    hc_mm: float
    """Perimeter of the ellipse through both axes (Ramanujan's second formula, error below 1e-5 for heads)."""
    cephalic_index: float
    """BPD / OFD."""
    centre_mm: tuple[float, ...]
    """Centre of the ellipse: array index times spacing, in the array's axes."""
    ofd_axis: tuple[float, ...]
    """Unit vector of the long axis, in the array's axes."""
    bpd_axis: tuple[float, ...]
    note: str = ""

    def asdict(self) -> dict[str, Any]:
        """Numbers by name; those of a skin mask are called `skin_bpd_mm`, `skin_ofd_mm`, `skin_hc_mm`."""
        numbers = asdict(self)
        prefix = "skin_" if self.outline == "skin" else ""
        return {prefix + name if name in ("bpd_mm", "ofd_mm", "hc_mm") else name: value for name, value in numbers.items()}

    def growth(self, ga_weeks: float) -> dict[str, float]:
        """z-score and centile of BPD, OFD and HC by INTERGROWTH-21st: bpd_z, bpd_centile, ...

        Raises ValueError for a skin mask, and outside the charts' 14 to 40 weeks.
        """
        if self.outline != "skull":
            raise ValueError("growth charts outline the outer skull and this mask is of the skin: no centile is given")
        result = {}
        for name, value in (("bpd", self.bpd_mm), ("ofd", self.ofd_mm), ("hc", self.hc_mm)):
            result[f"{name}_z"] = float(growth.zscore(name, value, ga_weeks))
            result[f"{name}_centile"] = float(growth.centile(name, value, ga_weeks))
        return result


def biometry(mask: Volume, outline: Outline) -> Biometry:
    """Measure a filled mask, (d, h, w) or (h, w), voxels above 0 counting as head. `outline` says what it outlines: "skull" or "skin".

    2D: the ellipse with the same first and second moments as the mask. 3D: the same in the section with the largest area among those perpendicular to
    the head's vertical axis, which is the principal axis of least extent (the skull is cut flat by its base); the section is taken with linear
    interpolation, so oblique and anisotropic masks keep sub-voxel accuracy. Moments use every voxel and are steadier than a fit to contour points.
    An empty mask, or one thinner than an ellipse, gives NaN and a note. Raises ValueError for an unknown outline.
    """
    if outline not in ("skull", "skin"):
        raise ValueError(f"outline is {outline!r}: expected 'skull' or 'skin', since charts hold for the skull only")
    array = np.asarray(mask.array) > 0
    spacing = np.asarray(mask.spacing_mm, dtype=float)
    count = int(np.count_nonzero(array))
    volume = count * float(spacing.prod()) / 1000 if array.ndim == 3 else math.nan
    points = np.argwhere(array) * spacing
    spread = np.linalg.eigvalsh(np.cov(points.T)) if count > array.ndim + 1 else np.zeros(1)
    if spread.min() < (spacing.min() / 2) ** 2:
        empty = (math.nan,) * array.ndim
        area = count * float(spacing.prod()) if array.ndim == 2 else math.nan
        return Biometry(outline, volume, area, *(math.nan,) * 4, empty, empty, empty, "the mask is too small for an ellipse")
    if array.ndim == 2:
        centre, covariance, area = points.mean(axis=0), np.cov(points.T, ddof=0), count * float(spacing.prod())
        basis = np.eye(2)
    else:
        centre, covariance, area, basis = _largest_section(array, spacing, points)
    variance, axes = np.linalg.eigh(covariance)
    short, long = 4 * np.sqrt(variance)  # an ellipse's variance along an axis is a quarter of that semi-axis squared
    return Biometry(
        outline=outline,
        volume_ml=volume,
        area_mm2=area,
        bpd_mm=float(short),
        ofd_mm=float(long),
        hc_mm=ellipse_perimeter(short / 2, long / 2),
        cephalic_index=float(short / long),
        centre_mm=tuple(centre.tolist()),
        ofd_axis=tuple((axes[:, 1] @ basis).tolist()),
        bpd_axis=tuple((axes[:, 0] @ basis).tolist()),
    )


def ellipse_perimeter(a: float, b: float) -> float:
    """Perimeter of an ellipse with semi-axes a and b, by Ramanujan's second formula."""
    h = ((a - b) / (a + b)) ** 2
    return float(math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h))))


def _largest_section(array: NDArray[np.bool_], spacing: Floats, points: Floats) -> tuple[Floats, Floats, float, Floats]:
    """Centre (3,), in-plane covariance (2, 2), area and plane basis (2, 3) of the largest section across the least extended axis."""
    middle = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(points.T))
    local = (points - middle) @ axes
    vertical = int(np.argmin(np.ptp(local, axis=0)))
    basis = axes[:, [axis for axis in (2, 1, 0) if axis != vertical]].T  # (2, 3)
    normal = axes[:, vertical]

    step = float(spacing.min()) * SECTION_STEP
    height = local[:, vertical]
    reach = np.abs((points - middle) @ basis.T).max() + 2 * spacing.max()
    line = np.arange(-reach, reach + step, step)
    plane = line[:, None, None] * basis[0] + line[None, :, None] * basis[1]  # (n, n, 3) mm from a section's centre
    best: tuple[float, Floats, Floats] | None = None
    for offset in _candidate_heights(height, float(spacing.min())):
        at = (middle + offset * normal + plane) / spacing
        weight = ndimage.map_coordinates(array.astype(np.float32), at.reshape(-1, 3).T, order=1).reshape(len(line), -1)
        area = float(weight.sum()) * step**2
        if best is None or area > best[0]:
            best = area, weight, middle + offset * normal
    assert best is not None
    area, weight, origin = best
    total = weight.sum()
    centre = np.array([(weight.sum(axis=1) @ line) / total, (weight.sum(axis=0) @ line) / total])
    first, second = line - centre[0], line - centre[1]
    cross = first @ weight @ second / total
    covariance = np.array([[weight.sum(axis=1) @ first**2 / total, cross], [cross, weight.sum(axis=0) @ second**2 / total]])
    return origin + centre @ basis, covariance, area, basis


def _candidate_heights(height: Floats, spacing: float) -> Floats:
    """Heights of the slabs with most voxels, where the largest section must lie; five of them, a voxel apart."""
    edges = np.arange(height.min(), height.max() + 2 * spacing, 2 * spacing)
    counts, _ = np.histogram(height, edges)
    smooth = ndimage.uniform_filter1d(counts.astype(float), 5, mode="constant")
    peak = float(edges[int(np.argmax(smooth))] + spacing)
    return peak + spacing * np.arange(-4, 5, 2.0)
