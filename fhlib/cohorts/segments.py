"""Segmentations of 3D Slicer (`.seg.nrrd`) as labels: one segment, by name, in the grid of its scan.

3D Slicer names its segments in the header (`Segment0_Name`, `Segment0_LabelValue`, `Segment0_Layer`). It crops the file to what is
segmented, and puts segments that overlap into layers of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fhlib.images.formats import read_volume
from fhlib.images.nrrd import require_whole_nrrd
from fhlib.images.volume import Volume, to_sitk

SEGMENTATION = ".seg.nrrd"
STRUCTURES = ("head", "skull")

_KEY = re.compile(r"Segment(\d+)_(ID|Name|LabelValue|Layer)")


@dataclass(frozen=True)
class Segment:
    """One entry of the header: where its voxels are, and what it is called."""

    name: str
    value: int
    layer: int

    def is_named(self, structure: str) -> bool:
        """Whether the name tells this structure, and no other."""
        said = [word for word in STRUCTURES if word in self.name.lower()]
        return said == [structure]


def is_segmentation(path: Path | str) -> bool:
    """Whether a file is a segmentation by its name."""
    return Path(path).name.lower().endswith(SEGMENTATION)


def read_label(path: Path, image: Volume | None, structure: str = "head") -> Volume:
    """A label as it lies in a file; of a segmentation the segment that is named for the structure, in the image's grid.

    Args:
        path: any image that `read_volume` reads, or a `.seg.nrrd`.
        image: the scan, which has the grid. Without it the segmentation's own grid is kept.
        structure: head or skull.

    Raises ValueError where no segment, or more than one, is the structure, and where the segmentation has another grid than the scan.
    """
    if not is_segmentation(path):
        return read_volume(path)
    segmentation = _read(path)
    found = segments_of(segmentation)
    layers = segmentation.GetNumberOfComponentsPerPixel()
    if not found and layers == 1:
        return read_volume(path)
    segment = _chosen(found, structure, path.name, layers)
    mask = _mask_of(segmentation, segment)
    grid = segmentation if image is None else to_sitk(image)
    pasted = mask if image is None else _pasted(mask, grid, path.name)
    array = sitk.GetArrayFromImage(pasted)
    direction, spacing = grid.GetDirection(), grid.GetSpacing()[::-1]
    return Volume(array, spacing, grid.GetOrigin(), direction)


def outlines_skull_only(path: Path) -> bool:
    """Whether a segmentation holds one segment, and that is named for the skull."""
    found = segments_of(_read(path)) if is_segmentation(path) else []
    return len(found) == 1 and found[0].is_named("skull")


def has_head_and_skull(path: Path) -> bool:
    """Whether a segmentation holds both."""
    found = segments_of(_read(path)) if is_segmentation(path) else []
    structures = {structure for segment in found for structure in STRUCTURES if segment.is_named(structure)}
    return structures == set(STRUCTURES)


def _read(path: Path) -> sitk.Image:
    require_whole_nrrd(path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError:
        read_volume(path)  # says what is wrong with the file
        raise


def segments_of(segmentation: sitk.Image) -> list[Segment]:
    """What the header names, in its order; none where it names nothing."""
    entries: dict[int, dict[str, str]] = {}
    for key in segmentation.GetMetaDataKeys():
        if match := _KEY.fullmatch(key):
            entries.setdefault(int(match[1]), {})[match[2]] = segmentation.GetMetaData(key)
    found = []
    for number in sorted(entries):
        entry = entries[number]
        name = entry.get("Name") or entry.get("ID") or f"Segment{number}"
        found.append(Segment(name, int(entry.get("LabelValue", number + 1)), int(entry.get("Layer", 0))))
    return found


def _chosen(found: list[Segment], structure: str, file: str, layers: int) -> Segment:
    other = next(word for word in STRUCTURES if word != structure)
    if len(found) == 1 and not found[0].is_named(other):
        return found[0]  # a single segment is what the file was saved for, whatever its name
    named = [segment for segment in found if segment.is_named(structure)]
    if len(named) == 1:
        return named[0]
    shown = ", ".join(repr(segment.name) for segment in found) or f"{layers} layers without a name"
    raise ValueError(
        f"{file} holds {shown}: expected one segment whose name tells the {structure}; "
        f"in 3D Slicer name it '{structure}', or save it alone"
    )


def _mask_of(segmentation: sitk.Image, segment: Segment) -> sitk.Image:
    if segmentation.GetNumberOfComponentsPerPixel() > 1:
        segmentation = sitk.VectorIndexSelectionCast(segmentation, segment.layer)
    return sitk.Cast(segmentation == segment.value, sitk.sitkUInt8)


def _pasted(mask: sitk.Image, grid: sitk.Image, file: str) -> sitk.Image:
    """The mask in the scan's grid, 0 where the file has no voxels. What reaches beyond the scan is cut."""
    same = mask.GetDimension() == grid.GetDimension()
    same = same and np.allclose(mask.GetSpacing(), grid.GetSpacing(), rtol=1e-3)
    same = same and np.allclose(mask.GetDirection(), grid.GetDirection(), atol=1e-3)
    if same:
        first = np.array(grid.TransformPhysicalPointToContinuousIndex(mask.GetOrigin()))
        same = bool(np.abs(first - np.rint(first)).max() < 0.1)
    if not same:
        raise ValueError(
            f"{file} has voxels of {_times(mask.GetSpacing())} mm in a grid of its own, its scan {_times(grid.GetSpacing())} mm: "
            "in 3D Slicer choose the scan as the segmentation's source geometry, and save it again"
        )
    pasted = sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)
    if sitk.GetArrayViewFromImage(mask).any() and not sitk.GetArrayViewFromImage(pasted).any():
        raise ValueError(f"{file} lies outside of its scan: is it of another one?")
    return pasted


def _times(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.6g}" for value in values[::-1])
