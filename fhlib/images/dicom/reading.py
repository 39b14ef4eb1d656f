"""A DICOM file, or the slices of a series, as one `Volume`.

Voxels are decoded by SimpleITK, which also applies RescaleSlope and RescaleIntercept. Geometry comes from pydicom (extra
`dicom`), since SimpleITK takes 1 mm where it knows no better, without a word.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fhlib.images.dicom.embedded import kretz_in
from fhlib.images.dicom.folders import DicomSeries, Source, only_source
from fhlib.images.dicom.geometry import grid_of_frames, grid_of_image, grid_of_slices
from fhlib.images.dicom.headers import DamagedError, frame_count, read_header, require_one_scan
from fhlib.images.dicom.pixel_size import tissue_boxes
from fhlib.images.kretz import read_kretz
from fhlib.images.volume import MOST_VOXELS, Array, Volume, grey_of

if TYPE_CHECKING:
    import SimpleITK as sitk
    from pydicom import Dataset

PIXEL_DATA = 0x7FE00010
GREY = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}
COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"}
"""What the standard calls grey and colours (PS3.3 C.7.6.3.1.2)."""
PIXEL_TAGS = (
    "PixelData",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)
"""What pixels are, and nothing of where they lie."""


def read_dicom(source: Source, spacing_mm: Sequence[float] | None = None) -> Volume:
    """A DICOM file, the one series of a folder (searched to its leaves), or one series of several.

    A GE Kretz volume within DICOM is scan-converted, see `fhlib.images.kretz`.

    Args:
        source: a file of one frame becomes 2D; several frames, or several slices, become 3D.
        spacing_mm: one number, or one an axis (array order); replaces what the file states, or fails to state.

    Raises ValueError where a spacing is not stated, frames are times, slices make no regular volume, pixels have
    colours, or a file is not whole.
    """
    if isinstance(source, Path) and source.is_dir():
        source = only_source(source)
    if isinstance(source, Path) and (kretz := kretz_in(source)) is not None:
        return read_kretz(kretz, spacing_mm, name=source.name)
    try:
        if isinstance(source, DicomSeries):
            volume = _read_slices(source, spacing_mm)
        else:
            volume = _read_file(source, spacing_mm)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # a mutilated header may hold text, or nothing, where numbers belong
        raise DamagedError(
            f"cannot read {source.name} as an image: its DICOM header is damaged: export it again"
        ) from error
    return volume if spacing_mm is None else replace(volume, spacing_mm=per_axis(spacing_mm, volume.ndim))


def per_axis(spacing_mm: Sequence[float], ndim: int) -> tuple[float, ...]:
    """One number for all axes, repeated; several as they are."""
    return tuple(spacing_mm) * ndim if len(spacing_mm) == 1 else tuple(spacing_mm)


def _read_file(path: Path, spacing_mm: Sequence[float] | None) -> Volume:
    header = _image_header(path)
    frames = frame_count(header)
    if frames > 1:
        grid = grid_of_frames(header, path.name, frames, spacing_mm)
        array = _pixels(path, header)[list(grid.order)]
        return Volume(array, grid.spacing_mm, grid.origin, grid.direction)
    grid = grid_of_image(header, path.name, spacing_mm)
    return Volume(_pixels(path, header)[0], grid.spacing_mm)


def _read_slices(series: DicomSeries, spacing_mm: Sequence[float] | None) -> Volume:
    if series.faults:
        raise ValueError(f"the slices in {series.name} are not all there: {'; '.join(series.faults)}")
    headers = [_image_header(path) for path in series.files]
    sizes = sorted({(int(header.Rows), int(header.Columns)) for header in headers})
    if len(sizes) > 1:
        raise ValueError(f"the slices in {series.name} have several sizes, {sizes[:4]}, expected one: split the series")
    _require_size((len(headers), *sizes[0]), series.name)

    grid = grid_of_slices(headers, [path.name for path in series.files], series.name, spacing_mm)
    slices = [_pixels(series.files[index], headers[index])[0] for index in grid.order]
    return Volume(np.stack(slices), grid.spacing_mm, grid.origin, grid.direction)


def _image_header(path: Path) -> Dataset:
    """The header of an image that is whole and no larger than can be read; ValueError for another."""
    header = read_header(path)
    if "Rows" not in header or "Columns" not in header:
        raise ValueError(f"cannot read {path.name} as an image: it is no DICOM file, or one without pixels")
    if header.get("Modality") == "SEG":
        raise ValueError(f"{path.name} is a DICOM segmentation, expected a scan: it can be a label, beside its scan")
    _require_size((frame_count(header), int(header.Rows), int(header.Columns)), path.name)
    require_one_scan(header, path.name)
    return header


def _require_size(shape: tuple[int, ...], name: str) -> None:
    if math.prod(shape) > MOST_VOXELS:
        raise ValueError(
            f"{name} states {' x '.join(map(str, shape))} voxels, expected at most {MOST_VOXELS:.3g}: export it smaller"
        )


def _pixels(path: Path, header: Dataset) -> Array:
    """Grey values (frames, h, w) as SimpleITK decodes them; ValueError for colours and for pixels that are not whole."""
    import SimpleITK as sitk  # here, so that training does without it

    meaning = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if meaning not in GREY | COLOUR:
        raise ValueError(
            f"{path.name} states no known PhotometricInterpretation, expected MONOCHROME2 for instance: SimpleITK would turn "
            "bright to dark; export it again"
        )
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        _require_all_bytes(path, header)
    try:
        image = _decoded(path)
    except RuntimeError as error:
        packed = f" packed as {syntax.name}" if syntax is not None and syntax.is_encapsulated else ""
        raise ValueError(
            f"cannot read {path.name} as an image: its pixels{packed} are damaged, or of a kind that SimpleITK does not "
            "decode: export it again, uncompressed"
        ) from error
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = grey_of(_without_logos(array, tissue_boxes(header)), path.name)
    stated = (frame_count(header), int(header.Rows), int(header.Columns))
    if array.shape != stated:
        raise ValueError(
            f"{path.name} states {' x '.join(map(str, stated))} voxels (frames, rows, columns) and holds "
            f"{' x '.join(map(str, array.shape))}: export it again"
        )
    return array


def _decoded(path: Path) -> sitk.Image:
    """The pixels of a file. SimpleITK refuses those whose tags state a size of 0, so these are left out then."""
    import pydicom
    import SimpleITK as sitk

    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "spacing" not in str(error) and "direction" not in str(error):
            raise
    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory() as folder:
        dataset = pydicom.dcmread(path, specific_tags=list(PIXEL_TAGS), force=True)
        dataset.save_as(f"{folder}/pixels.dcm", enforce_file_format=True)
        return sitk.ReadImage(f"{folder}/pixels.dcm")


def _require_all_bytes(path: Path, header: Dataset) -> None:
    """Raise ValueError unless uncompressed pixels are as many bytes as the header says: SimpleITK invents what lacks."""
    from pydicom.pixels.utils import get_expected_length

    try:
        with warnings.catch_warnings(action="ignore"):
            held, expected = _bytes_of_pixels(path), get_expected_length(header)
    except Exception as error:
        raise ValueError(
            f"cannot read {path.name} as an image: it has no pixels, or no header that says what they are: export it again"
        ) from error
    # some writers pad, but never by a whole frame
    if not expected <= held < expected + max(2, expected // frame_count(header)):
        raise ValueError(
            f"{path.name} holds {held} bytes of pixels, expected {expected} (frames x rows x columns x bytes a pixel): "
            "export it again"
        )


def _bytes_of_pixels(path: Path) -> int:
    """What PixelData says of its own length; nothing of it is loaded."""
    from pydicom.filereader import read_partial

    lengths = []

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        if tag == PIXEL_DATA:
            lengths.append(length)
        return tag >= PIXEL_DATA

    with path.open("rb") as stream:
        read_partial(stream, stop, force=True, specific_tags=[PIXEL_DATA])
    return int(lengths[0])


def _without_logos(channels: Array, boxes: Sequence[tuple[slice, slice]]) -> Array:
    """Pixels (..., h, w, c) with what lies beside the 2D regions blacked out: a coloured logo there is no echo."""
    inside = np.zeros(channels.shape[-3:-1], bool)
    for box in boxes:
        inside[box] = True
    return np.where(inside[..., None], channels, 0).astype(channels.dtype) if inside.any() else channels
