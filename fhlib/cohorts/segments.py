"""Segmentations as labels: one segment, by name, in the grid of its scan. Of 3D Slicer (`.seg.nrrd`), and DICOM SEG.

3D Slicer names its segments in the header (`Segment0_Name`, `Segment0_LabelValue`, `Segment0_Layer`). It crops the file to what is
segmented, and puts segments that overlap into layers of their own. DICOM SEG leaves out empty slices, and may reverse them.

The header of `.seg.nrrd` is read with SimpleITK. slicerio 1.4 was tried: its reader drops letters beyond ASCII from names ("Schädel"
becomes "Schdel"), and stops at tags that lack a part. It is the independent writer and reader of the tests.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from fhlib.images.dicom import is_dicom
from fhlib.images.formats import read_volume
from fhlib.images.nrrd import require_whole_nrrd
from fhlib.images.volume import Array, Volume, from_sitk, to_sitk

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

SEGMENTATION = ".seg.nrrd"
STRUCTURES = ("head", "skull")
SOURCE_GEOMETRY = "in 3D Slicer choose the scan as the segmentation's source geometry, and save it again"

# English, German, French, Italian, Spanish, Portuguese, Dutch and Latin; in lower case, without accents or a plural's s
_WORDS = {
    "head": r"heads?|kopfe?|tetes?|testa|cabezas?|cabecas?|hoofd|caput",
    "skull": r"skulls?|schaedel|schadel|cranes?|cranio|craneos?|cranium|schedel|calvaria",
    "neither": r"brain|gehirn|cerveau|cerebrum|face|neck|body|trunk|spine|abdomen|thorax|heart|femur|limbs?|cord|"
    r"placenta|uterus|fluid|amnion|amniotic",
    "without": r"no|not|non|keine?|nicht|outside|femoral|humeral|background|hintergrund|shadows?|artefacts?|artifacts?",
}
_COMPOUND = r"(?:fetal|foetal|fetus|foetus|whole)?(?:{})(?:mask|label)?"
_KEY = re.compile(r"Segment(\d+)_(ID|Name|LabelValue|Layer|Tags)")
_TERM = re.compile(r"TerminologyEntry:[^~|]*~[^~|]*~[^~^|]*\^[^~^|]*\^([^~^|]*)")
"""The meaning of a segment's type, in the tag that holds its terminology."""


@dataclass(frozen=True)
class Segment:
    """One entry of the header: where its voxels are, what it is called, and what it outlines."""

    name: str
    value: int
    layer: int
    structure: str
    """head, skull, `neither` of them, `both`, or nothing where no field tells."""


def is_segmentation(path: Path | str) -> bool:
    """Whether a file is a segmentation by its name."""
    return Path(path).name.lower().endswith(SEGMENTATION)


def has_segments(path: Path) -> bool:
    """Whether a file is a segmentation by its name, a DICOM SEG, or an NRRD whose header names segments."""
    return is_segmentation(path) or bool(_named_in(path))


def read_label(path: Path, image: Volume | None, structure: str = "head") -> Volume:
    """A label as it lies in a file; of a segmentation the segment that is named for the structure, in the image's grid.

    Args:
        path: any image that `read_volume` reads, a `.seg.nrrd`, or a DICOM SEG.
        image: the scan, which has the grid. Without it the segmentation's own grid is kept.
        structure: head or skull.

    Raises ValueError where no segment, or more than one, is the structure; where voxels do not fit what the header says; where the
    segmentation's voxels do not lie on those of the scan, or reach beyond it.
    """
    if not has_segments(path):
        return read_volume(path)
    if (content := _dicom_seg(path)) is not None:
        mask = _mask_of_dicom(content, _chosen(_described(content), structure, path.name), path.name)
    else:
        segmentation = _read(path)
        found, layers = segments_of(segmentation, path.name), segmentation.GetNumberOfComponentsPerPixel()
        if not found and layers == 1:
            return read_volume(path)
        if not found:
            raise ValueError(f"{path.name} holds {layers} layers without a name: {_wanted(structure)}")
        mask = _mask_of(segmentation, found, _chosen(found, structure, path.name), path.name)
    return from_sitk(mask if image is None else _pasted(mask, to_sitk(image), path.name))


def outlines_skull_only(path: Path) -> bool:
    """Whether a segmentation holds one segment, and that is named for the skull."""
    return [segment.structure for segment in _named_in(path)] == ["skull"]


def has_head_and_skull(path: Path) -> bool:
    """Whether a segmentation holds both."""
    return {segment.structure for segment in _named_in(path)} >= set(STRUCTURES)


def _named_in(path: Path) -> list[Segment]:
    """Segments that the header of an NRRD file or a DICOM SEG names; none for any other file."""
    if (content := _dicom_seg(path)) is not None:
        return _described(content)
    if path.suffix.lower() not in (".nrrd", ".nhdr") or not path.is_file():
        return []
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return []  # reading the file says what is wrong with it
    return segments_of(reader, path.name)


def _read(path: Path) -> sitk.Image:
    require_whole_nrrd(path)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError:
        read_volume(path)  # says what is wrong with the file
        raise


def segments_of(header: sitk.Image | sitk.ImageFileReader, file: str) -> list[Segment]:
    """What the header names, in its order; none where it names nothing.

    Raises ValueError for a number that is none, and for a segment of value 0, which is the background.
    """
    entries: dict[int, dict[str, str]] = {}
    for key in header.GetMetaDataKeys():
        if match := _KEY.fullmatch(key):
            entries.setdefault(int(match[1]), {})[match[2]] = _decoded(header.GetMetaData(key))

    found = []
    for number, entry in sorted(entries.items()):
        # older versions write neither: each segment has a layer of its own, of 0 and 1
        value, layer = entry.get("LabelValue", "1"), entry.get("Layer", str(number))
        name = entry.get("Name") or entry.get("ID") or f"Segment{number}"
        if not (value.strip().isdecimal() and layer.strip().isdecimal() and int(value)):
            raise ValueError(
                f"{file} gives segment {name!r} the value {value!r} in layer {layer!r}: expected a whole number from 1, "
                "and one from 0; save it again in 3D Slicer"
            )
        term = _TERM.search(entry.get("Tags", ""))
        told = _first_told([entry.get("Name", ""), entry.get("ID", ""), term[1] if term else ""])
        found.append(Segment(name, int(value), int(layer), told))
    return found


def _decoded(text: str) -> str:
    """Text of the header, which older programs wrote in Latin-1."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _first_told(fields: Iterable[str]) -> str:
    """What the first field outlines that tells anything; nothing if none does."""
    return next(filter(None, map(told_by, fields)), "")


def told_by(text: str) -> str:
    """What a name outlines: head, skull, both, neither, or nothing if no word of it is known."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    plain = unicodedata.normalize("NFKD", apart).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z]+", plain)
    told = []
    for structure, known in _WORDS.items():
        if any(re.fullmatch(_COMPOUND.format(known), word) for word in words):
            told.append(structure)
    if "without" in told:
        return "neither"
    if told[:2] == list(STRUCTURES):
        return "both"
    return told[0] if told else ""


def _chosen(found: list[Segment], structure: str, file: str) -> Segment:
    """The segment that is named for the structure, or the only one where its name tells nothing."""
    if len(found) == 1 and not found[0].structure:
        return found[0]  # what the file was saved for, whatever its name
    named = [segment for segment in found if segment.structure == structure]
    if len(named) == 1:
        return named[0]
    raise ValueError(f"{file} holds {', '.join(repr(segment.name) for segment in found)}: {_wanted(structure)}")


def _wanted(structure: str) -> str:
    return (
        f"expected one segment whose name tells the {structure}; in 3D Slicer name it '{structure}', or save it alone"
    )


def _mask_of(segmentation: sitk.Image, found: list[Segment], segment: Segment, file: str) -> sitk.Image:
    """Voxels of a segment as 1; refused where its layer holds values that no segment has."""
    layers = segmentation.GetNumberOfComponentsPerPixel()
    if segmentation.GetDimension() != 3 or segment.layer >= layers:
        raise ValueError(
            f"{file} has {layers} layer(s) of {segmentation.GetDimension()} dimensions, and its segment {segment.name!r} "
            f"is in layer {segment.layer}, counted from 0: save it again in 3D Slicer"
        )
    if layers > 1:
        segmentation = sitk.VectorIndexSelectionCast(segmentation, segment.layer)
    values = [other.value for other in found if other.layer == segment.layer]
    _require_known_values(sitk.GetArrayViewFromImage(segmentation), values, segment, file)
    return sitk.Cast(segmentation == segment.value, sitk.sitkUInt8)


def _require_known_values(layer: Array, values: list[int], segment: Segment, file: str) -> None:
    known = sum(np.count_nonzero(layer == value) for value in set(values))
    if len(set(values)) < len(values):
        raise ValueError(
            f"{file} gives two segments of one layer the same value ({', '.join(map(str, values))}): "
            "save it again in 3D Slicer"
        )
    if known == np.count_nonzero(layer):
        return
    others = sorted(set(np.unique(layer).tolist()) - {0, *values})
    shown = ", ".join(f"{value:g}" for value in others[:5])
    raise ValueError(
        f"{file} holds the value(s) {shown} beside those of its segments ({', '.join(map(str, values))}), so it is not known "
        f"what {segment.name!r} is: save it again in 3D Slicer as a binary labelmap, or as a plain label of 0 and 1"
    )


def _dicom_seg(path: Path) -> Segmentation | None:
    """A DICOM SEG, or None for any other file."""
    if not is_dicom(path):
        return None
    try:
        import pydicom

        kind = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality")
    except Exception:  # pydicom has many for what is damaged; reading the file says what is wrong with it
        return None
    if kind != "SEG":
        return None
    try:
        from highdicom.seg import segread

        return segread(path)
    except ImportError as error:
        raise ValueError(f"{path.name} is a DICOM SEG: to read it, pip install 'fhlib[dicom]'") from error
    except Exception as error:  # its text may hold a tag's value
        raise ValueError(f"{path.name} cannot be read as DICOM SEG: export the segmentation again") from error


def _described(content: Segmentation) -> list[Segment]:
    found = []
    for number in content.segment_numbers:
        described = content.get_segment_description(number)
        label, meaning = str(described.segment_label), str(described.segmented_property_type.meaning)
        found.append(Segment(label, int(number), 0, _first_told([label, meaning])))
    return found


def _mask_of_dicom(content: Segmentation, segment: Segment, file: str) -> sitk.Image:
    if str(content.segmentation_type.value) == "FRACTIONAL":
        raise ValueError(f"{file} holds fractions, not a mask: export the segmentation as binary")
    try:
        volume = content.get_volume(segment_numbers=[segment.value], combine_segments=True)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{file} has no slices that make a volume: save it as .seg.nrrd") from error
    mask = sitk.GetImageFromArray((volume.array > 0).astype(np.uint8))
    columns = volume.affine[:3, 2::-1]  # of the array's last axis first, as ITK counts
    spacing = np.linalg.norm(columns, axis=0)
    mask.SetSpacing(spacing.tolist())
    mask.SetDirection((columns / spacing).ravel().tolist())
    mask.SetOrigin(volume.affine[:3, 3].tolist())
    return mask


def _pasted(mask: sitk.Image, grid: sitk.Image, file: str) -> sitk.Image:
    """The mask in the scan's grid, 0 where the file has no voxels.

    The file may be cropped, and its axes may be turned or exchanged, as long as its voxels are those of the scan.
    """
    voxels = np.count_nonzero(sitk.GetArrayViewFromImage(mask))
    if voxels:  # an empty one may have any geometry
        _require_common_voxels(mask, grid, file)
    pasted = sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUInt8)
    lost = voxels - np.count_nonzero(sitk.GetArrayViewFromImage(pasted))
    if lost == voxels > 0:
        raise ValueError(f"{file} lies outside of its scan: is it of another one?")
    if lost:
        raise ValueError(
            f"{file} reaches beyond its scan: {lost} of its {voxels} voxels lie outside; erase them, or give the scan "
            "that was segmented"
        )
    return pasted


def _require_common_voxels(mask: sitk.Image, grid: sitk.Image, file: str) -> None:
    """Refuse voxels of another size or direction, and such as lie beside those of the scan (over a tenth of one)."""
    if mask.GetDimension() != grid.GetDimension():
        raise ValueError(f"{file} has {mask.GetDimension()} dimensions, its scan {grid.GetDimension()}")
    last = np.array(mask.GetSize()) - 1
    corners = [last * corner for corner in itertools.product((0, 1), repeat=len(last))]
    places = np.array([_index_in(grid, mask, corner) for corner in corners])
    steps = np.array([_index_in(grid, mask, unit) for unit in np.eye(len(last))]) - places[0]
    whole = np.rint(steps)
    turned = np.abs(whole).sum(0).tolist() == np.abs(whole).sum(1).tolist() == [1] * len(last)
    beside = np.abs(places - np.rint(places)).max(0)
    if not turned or np.abs(steps - whole).max() > 0.05:
        raise ValueError(
            f"{file} has a grid of its own, {_geometry(mask)}; its scan has {_geometry(grid)}: {SOURCE_GEOMETRY}"
        )
    if beside.max() > 0.1:
        raise ValueError(
            f"{file} has voxels that lie {_times(beside)} of a voxel (z, y, x) beside those of its scan: {SOURCE_GEOMETRY}"
        )


def _index_in(grid: sitk.Image, mask: sitk.Image, index: Array) -> tuple[float, ...]:
    position = mask.TransformContinuousIndexToPhysicalPoint([float(at) for at in index])
    return tuple(grid.TransformPhysicalPointToContinuousIndex(position))


def _geometry(image: sitk.Image) -> str:
    direction = " ".join(f"{value:.4g}" for value in image.GetDirection())
    return f"voxels of {_times(image.GetSpacing())} mm (z, y, x) in direction {direction}"


def _times(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in reversed(list(values)))
