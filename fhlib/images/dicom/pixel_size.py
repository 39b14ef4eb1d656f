"""What a DICOM header states of the size of a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fhlib.images.dicom.headers import is_screenshot
from fhlib.images.volume import LONGEST_STEP_MM, SHORTEST_STEP_MM, Floats

if TYPE_CHECKING:
    from pydicom import Dataset

TISSUE, CENTIMETRE = 1, 3  # RegionSpatialFormat, PhysicalUnits (PS3.3 C.8.5.5)

SAME_SIZE = 0.01
"""Pixel sizes that differ by less than this fraction are one."""
SMALLEST_REGION = 0.1
"""A calibrated region that fills less of the image than this says nothing of the rest."""

REMEDY = (
    "measure it on the scanner and give it in mm: read_volume(path, spacing_mm=...), or --spacing-mm 0.5 or "
    "0.5,0.5,0.7 (d,h,w) for `python -m fhlib segment`, or the column spacing_mm of a cohort.csv"
)


def pixel_size(header: Dataset, name: str, grouped: Sequence[Any] = ()) -> tuple[float, float] | None:
    """Pixel size (h, w) in mm of functional groups, PixelSpacing or the tissue regions; None where none states it.

    Args:
        header: of the file.
        name: of the file, for messages.
        grouped: PixelSpacing of its functional groups.

    Raises ValueError where they contradict one another.
    """
    stated = (*grouped, header.get("PixelSpacing"))
    sizes = [size for size in (positive(value, 2) for value in stated) if size]
    sizes += _region_sizes(header, name)
    if not sizes:
        return None
    if not np.allclose(sizes, sizes[0], rtol=SAME_SIZE):
        shown = " and ".join(f"{height:.4g} x {width:.4g}" for height, width in dict.fromkeys(sizes))
        raise ValueError(
            f"{name} states several pixel sizes ({shown} mm, h x w), expected one: export a single view, or crop it "
            f"to one region; or {REMEDY}"
        )
    return sizes[0][0], sizes[0][1]


def required_pixel(header: Dataset, name: str, grouped: Sequence[Any] = ()) -> tuple[float, float]:
    """As `pixel_size`; ValueError where none is stated."""
    size = pixel_size(header, name, grouped)
    if size is None:
        kind = "a screenshot (secondary capture)" if is_screenshot(header) else "an image"
        raise ValueError(
            f"{name} is {kind} that states no pixel size (neither PixelSpacing nor a 2D region in "
            f"SequenceOfUltrasoundRegions): {REMEDY}"
        )
    return size


def _region_sizes(header: Dataset, name: str) -> list[tuple[float, ...]]:
    """Pixel sizes (h, w) in mm of the 2D regions that are calibrated in cm."""
    sizes, areas = [], []
    for region in _tissue_regions(header):
        # an upward axis has a negative step
        step_y, step_x = abs(region.get("PhysicalDeltaY") or 0.0), abs(region.get("PhysicalDeltaX") or 0.0)
        if size := positive((10 * step_y, 10 * step_x), 2):
            sizes.append(size)
            areas.append(math.prod(edge.stop - edge.start for edge in _box(region)))

    share = sum(areas) / max(1, int(header.get("Rows") or 0) * int(header.get("Columns") or 0))
    if areas and min(areas) > 0 and share < SMALLEST_REGION:
        raise ValueError(
            f"the calibrated regions of {name} fill {100 * share:.2g} % of it, expected {100 * SMALLEST_REGION:.0f} % "
            f"at least: crop it to one of them, or {REMEDY}"
        )
    return sizes


def tissue_boxes(header: Dataset) -> list[tuple[slice, slice]]:
    """Where the 2D regions of an image lie, (h, w); none where no corners are stated."""
    boxes = [_box(region) for region in _tissue_regions(header)]
    return [box for box in boxes if all(edge.stop > edge.start for edge in box)]


def _tissue_regions(header: Dataset) -> list[Dataset]:
    """The regions that are calibrated in cm along both axes: a trace or a spectrum has seconds or cm/s along one."""
    found = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        if region.get("RegionSpatialFormat") == TISSUE and units == (CENTIMETRE, CENTIMETRE):
            found.append(region)
    return found


def _box(region: Dataset) -> tuple[slice, slice]:
    """The pixels of a region, (h, w); of no size where its corners are not stated."""
    edges = [region.get(f"RegionLocation{edge}") for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if None in edges:
        return slice(0, 0), slice(0, 0)
    left, top, right, bottom = (int(edge) for edge in edges)
    return slice(max(0, top), max(0, top, bottom + 1)), slice(max(0, left), max(0, left, right + 1))


def require_plausible(spacing_mm: Sequence[float], name: str) -> None:
    """Raise ValueError, with the remedy, for voxels that no scan of a head has, which are mostly in another unit."""
    if not all(SHORTEST_STEP_MM <= step <= LONGEST_STEP_MM for step in spacing_mm):
        shown = " x ".join(f"{step:.6g}" for step in spacing_mm)
        raise ValueError(
            f"{name} states voxels of {shown} mm, expected {SHORTEST_STEP_MM:g} to {LONGEST_STEP_MM:g} mm: are they in "
            f"another unit? If so, {REMEDY}"
        )


def positive(values: Any, count: int) -> tuple[float, ...] | None:
    """Numbers as floats; None where they are missing, of another count, or not above 0: a tag that states nothing."""
    read = numbers(values, count)
    return None if read is None or min(read) <= 0 else tuple(read.tolist())


def numbers(values: Any, count: int) -> Floats | None:
    """Finite numbers; None where they are missing, no numbers, or of another count."""
    if values is None:
        return None
    try:
        read = np.atleast_1d(np.array(values, dtype=float))
    except (TypeError, ValueError):
        return None
    return read if read.shape == (count,) and np.isfinite(read).all() else None
