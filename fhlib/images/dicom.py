"""Read DICOM: where the standard states the size of a voxel, and a refusal where nothing states it.

Voxels are decoded by SimpleITK, which also applies RescaleSlope and RescaleIntercept. Geometry comes from pydicom (extra
`dicom`), since SimpleITK takes 1 mm where it knows no better, without a word. Only the tags named in TAGS are read, so
a patient's name cannot reach a message.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fhlib.images.volume import Array, Floats, Volume, from_sitk

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom", ".ima")
OTHER_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".gz", ".hdr", ".img", ".png", ".tif", ".tiff", ".jpg")

TAGS = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "Modality",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "FrameIncrementPointer",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SequenceOfUltrasoundRegions",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture; its multi-frame classes begin with it
FRAME_TIMES = (0x00181063, 0x00181065)  # FrameTime, FrameTimeVector
TISSUE, CENTIMETRE = 1, 3  # RegionSpatialFormat, PhysicalUnits (PS3.3 C.8.5.5)

SAME_SIZE = 0.01
"""Pixel sizes that differ by less than this fraction are one."""
SAME_STEP = 0.05
"""Distances of slices that differ by less than this fraction are one."""
STRAIGHT_DEGREES = 1.0
"""Slices may step aside by so much, which rounding and a moving table explain."""
GREY_LEVELS = 3
"""Channels of a grey picture may differ by so much of 255, which lossy compression explains."""

REMEDY = (
    "measure it on the scanner and give it in mm: read_volume(path, spacing_mm=...), or --spacing-mm 0.5 or "
    "0.5,0.5,0.7 (d,h,w) for `python -m fhlib segment`, or the column spacing_mm of a cohort.csv"
)


@dataclass(frozen=True)
class DicomSeries:
    """Slices of one series that share a folder with others; `name` tells them apart."""

    name: str
    files: tuple[Path, ...]


class DamagedError(ValueError):
    """A DICOM header that cannot be read."""


Source = Path | DicomSeries
"""What becomes one volume: a file, a folder with one series, or one series of several."""


@dataclass(frozen=True)
class Plane:
    """Where one slice lies: position (x, y, z), orientation (row, then column direction), pixel size (h, w) in mm."""

    position: Floats | None
    orientation: Floats | None
    pixel_mm: tuple[float, float] | None


@dataclass(frozen=True)
class Grid:
    """How frames make a volume: their order, and the geometry in the words of `Volume`."""

    order: Sequence[int]
    spacing_mm: tuple[float, ...]
    origin: tuple[float, ...] = ()
    direction: tuple[float, ...] = ()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its first bytes, or by its name where the preamble was left out."""
    if not path.is_file() or path.suffix.lower() in OTHER_FORMATS:
        return False
    with path.open("rb") as stream:
        start = stream.read(132)
    return start[128:] == b"DICM" or (path.suffix.lower() in SUFFIXES and start[:9] != b"KRETZFILE")


def read_dicom(source: Source, spacing_mm: Sequence[float] | None = None) -> Volume:
    """A DICOM file, the one series of a folder (searched to its leaves), or one series of several.

    Args:
        source: a file of one frame becomes 2D; several frames, or several slices, become 3D.
        spacing_mm: one number, or one an axis (array order); replaces what the file states, or fails to state.

    Raises ValueError where a spacing is not stated, frames are times, slices make no regular volume, or pixels have
    colours.
    """
    if isinstance(source, Path) and source.is_dir():
        source = _only_source(source)
    if isinstance(source, DicomSeries):
        volume = _read_slices(source, spacing_mm)
    else:
        volume = _read_file(source, spacing_mm)
    return volume if spacing_mm is None else replace(volume, spacing_mm=per_axis(spacing_mm, volume.ndim))


def per_axis(spacing_mm: Sequence[float], ndim: int) -> tuple[float, ...]:
    """One number for all axes, repeated; several as they are."""
    return tuple(spacing_mm) * ndim if len(spacing_mm) == 1 else tuple(spacing_mm)


def dicom_sources(folder: Path) -> list[Source]:
    """Every image or volume in a folder and the folders below it, foreign files and a DICOMDIR passed over.

    A file of several frames, or the only file of its series, is itself a source. So is a folder that holds one series
    and no other image. Slices of several series in one folder are told apart by SeriesInstanceUID.
    """
    folders: dict[Path, dict[str, list[Path]]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        header = None if hidden else _image_header(path)
        if header is None:
            continue
        alone = _frame_count(header) > 1
        series = str(path) if alone else str(header.get("SeriesInstanceUID", path))
        folders.setdefault(path.parent, {}).setdefault(series, []).append(path)

    sources: list[Source] = []
    for place, groups in folders.items():
        # a folder with more below cannot stand for its own slices alone
        leaf = not any(place in other.parents for other in folders)
        sources += _sources_of(place, list(groups.values()), leaf)
    return sources


def _image_header(path: Path) -> Dataset | None:
    """The header of a DICOM image; None for what is foreign, hidden or of another kind."""
    if path.name.startswith(".") or not is_dicom(path):
        return None
    try:
        header = _header(path)
    except DamagedError:
        return None
    # reports, a DICOMDIR and the like have no pixels; a segmentation is no scan
    return header if "Rows" in header and header.get("Modality") != "SEG" else None


def _sources_of(folder: Path, groups: Sequence[list[Path]], leaf: bool) -> list[Source]:
    """The sources among the files of one folder.

    Args:
        folder: where they lie.
        groups: the files of each series.
        leaf: whether no folder below holds DICOM.
    """
    if len(groups) == 1 and len(groups[0]) > 1:
        return [folder] if leaf else [DicomSeries(folder.name, tuple(groups[0]))]
    sources: list[Source] = []
    for files in groups:
        # the UID may identify a patient; a file's name was the user's choice
        name = f"{folder.name}-{files[0].stem}"
        sources.append(files[0] if len(files) == 1 else DicomSeries(name, tuple(files)))
    return sources


def series_files(folder: Path) -> tuple[Path, ...]:
    """The files of the one series or volume of a folder; ValueError for none or several."""
    source = _only_source(folder)
    return source.files if isinstance(source, DicomSeries) else (source,)


def _slices_of(folder: Path) -> tuple[Path, ...]:
    """The DICOM images that lie in a folder itself."""
    return tuple(path for path in sorted(folder.iterdir()) if _image_header(path) is not None)


def _only_source(folder: Path) -> Source:
    sources = dicom_sources(folder)
    if not sources:
        raise ValueError(
            f"the folder {folder.name}/ holds no DICOM series: give an image file or a folder of DICOM slices"
        )
    if len(sources) > 1:
        named = "; ".join(_described(source, folder) for source in sources[:8])
        more = f"; and {len(sources) - 8} more" if len(sources) > 8 else ""
        raise ValueError(
            f"the folder {folder.name}/ holds {len(sources)} DICOM series ({named}{more}): keep one series a folder, "
            "or name one of them"
        )
    source = sources[0]
    if isinstance(source, Path) and source.is_dir():
        return DicomSeries(source.name + "/", _slices_of(source))
    return source


def _described(source: Source, folder: Path) -> str:
    if isinstance(source, Path) and source.is_file():
        return f"1 file, {source.relative_to(folder).as_posix()}"
    files = _slices_of(source) if isinstance(source, Path) else source.files
    return f"{len(files)} files from {files[0].relative_to(folder).as_posix()}"


def is_damaged(path: Path) -> bool:
    """Whether a file that bears a DICOM name or mark holds no DICOM that can be read."""
    try:
        header = _header(path)
    except DamagedError:
        return True
    return "SOPClassUID" not in header and "Rows" not in header


def _header(path: Path) -> Dataset:
    """The tags that say where pixels lie; none of the patient is read."""
    try:
        import pydicom
    except ImportError as error:
        raise ValueError(
            f"{path.name} is DICOM, whose geometry is read by pydicom, which is not installed: pip install fhlib[dicom]"
        ) from error
    try:
        # its warnings may hold a value, too
        with warnings.catch_warnings(action="ignore"):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            for tag in TAGS:
                header.get(tag)  # values are decoded when they are asked for
            _frame_count(header)
            return header
    except Exception as error:  # a broken file may stop pydicom anywhere, and its message may hold a value
        raise DamagedError(
            f"cannot read {path.name} as an image: its DICOM header is damaged: export it again"
        ) from error


def _frame_count(header: Dataset) -> int:
    return int(header.get("NumberOfFrames") or 1)


def _read_file(path: Path, spacing_mm: Sequence[float] | None) -> Volume:
    header = _header(path)
    if "Rows" not in header:
        raise ValueError(f"cannot read {path.name} as an image: it is no DICOM file, or one without pixels")
    frames = _frame_count(header)
    if frames > 1:
        grid = _grid_of_frames(header, path.name, frames, spacing_mm)
        array = _pixels(path)
        if len(array) != frames:
            raise ValueError(f"{path.name} states {frames} frames and holds {len(array)}: export it again")
        return Volume(array[list(grid.order)], grid.spacing_mm, grid.origin, grid.direction)
    pixel = _unless_given(spacing_mm, partial(_pixel_of_image, header, path.name), (1.0, 1.0))
    return Volume(_pixels(path)[0], pixel)


def _unless_given(spacing_mm: Sequence[float] | None, find: Callable[[], Any], otherwise: Any) -> Any:
    """What `find` gives; where the caller knows the spacing, its refusal is none."""
    try:
        return find()
    except ValueError:
        if spacing_mm is None:
            raise
        return otherwise


def _pixels(path: Path) -> Array:
    """Grey values (d, h, w) as SimpleITK decodes them; ValueError for colours."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ValueError(
            f"cannot read {path.name} as an image: SimpleITK does not decode its pixels; export it uncompressed ({reason})"
        ) from error
    if image.GetNumberOfComponentsPerPixel() in (3, 4):
        _refuse_colour(sitk.GetArrayViewFromImage(image)[..., :3], path.name)
    return from_sitk(image).array


def _refuse_colour(channels: Array, name: str) -> None:
    spread = channels.max(axis=-1) - channels.min(axis=-1)
    scale = 255 if channels.dtype == np.uint8 else max(float(channels.max()), 1.0)
    coloured = np.mean(spread > GREY_LEVELS / 255 * scale)
    if coloured > 0:
        raise ValueError(
            f"{name} has colours in {100 * coloured:.2g} % of its pixels (Doppler, markers or a tinted picture), "
            "expected grey: colours are no echo and are not blended into grey; export it without colour"
        )


def _pixel_size(header: Dataset, name: str) -> tuple[float, float] | None:
    """Pixel size (h, w) in mm of PixelSpacing or of the tissue regions; None where neither states it.

    Raises ValueError where they contradict one another.
    """
    sizes = [size for size in (_positive(header.get("PixelSpacing"), 2),) if size]
    sizes += _region_sizes(header)
    if not sizes:
        return None
    if not np.allclose(sizes, sizes[0], rtol=SAME_SIZE):
        shown = " and ".join(f"{height:.4g} x {width:.4g}" for height, width in dict.fromkeys(sizes))
        raise ValueError(
            f"{name} states several pixel sizes ({shown} mm, h x w), expected one: export a single view, or crop it "
            f"to one region; or {REMEDY}"
        )
    return sizes[0][0], sizes[0][1]


def _region_sizes(header: Dataset) -> list[tuple[float, ...]]:
    """Pixel sizes (h, w) in mm of the 2D regions that are calibrated in cm."""
    sizes = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        if region.get("RegionSpatialFormat") != TISSUE or units != (CENTIMETRE, CENTIMETRE):
            continue  # a trace or a spectrum has seconds or cm/s along an axis
        # an upward axis has a negative step
        step_y, step_x = abs(region.get("PhysicalDeltaY") or 0.0), abs(region.get("PhysicalDeltaX") or 0.0)
        if size := _positive((10 * step_y, 10 * step_x), 2):
            sizes.append(size)
    return sizes


def _required_pixel(header: Dataset, name: str) -> tuple[float, float]:
    size = _pixel_size(header, name)
    if size is None:
        kind = "a screenshot (secondary capture)" if _is_screenshot(header) else "an image"
        raise ValueError(
            f"{name} is {kind} that states no pixel size (neither PixelSpacing nor a 2D region in "
            f"SequenceOfUltrasoundRegions): {REMEDY}"
        )
    return size


def _pixel_of_image(header: Dataset, name: str) -> tuple[float, float]:
    """Pixel size of a file of one frame, from its functional groups or its own tags."""
    return _planes_of_frames(header, name, 1)[0].pixel_mm or _required_pixel(header, name)


def _is_screenshot(header: Dataset) -> bool:
    return f"{header.get('SOPClassUID', '')}.".startswith(f"{SCREENSHOT}.")


def _positive(values: Any, count: int) -> tuple[float, ...] | None:
    """Numbers as floats; None where they are missing, of another count, or not above 0: a tag that states nothing."""
    numbers = _numbers(values, count)
    return None if numbers is None or min(numbers) <= 0 else tuple(numbers.tolist())


def _numbers(values: Any, count: int) -> Floats | None:
    if values is None:
        return None
    try:
        numbers = np.atleast_1d(np.array(values, dtype=float))
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def _grid_of_frames(header: Dataset, name: str, frames: int, spacing_mm: Sequence[float] | None) -> Grid:
    """Geometry of a file of several frames: from functional groups, else from tags for all of them."""
    unknown = Grid(range(frames), (1.0, 1.0, 1.0))
    planes = _planes_of_frames(header, name, frames)
    placed = sum(plane.position is not None and plane.orientation is not None for plane in planes)
    if placed == frames:
        return _stack(planes, f"the frames of {name}", spacing_mm)

    if _frames_are_times(header):
        # one number says how large a pixel is, and nothing of the frames
        if spacing_mm is not None and len(spacing_mm) == 3:
            return unknown
        raise ValueError(
            f"{name} is a clip: its {frames} frames are times (FrameIncrementPointer), not depths, and no volume: "
            "export the volume; if they are slices all the same, give all three numbers of spacing_mm (--spacing-mm)"
        )
    return _unless_given(spacing_mm, partial(_evenly_stacked, header, name, frames), unknown)


def _frames_are_times(header: Dataset) -> bool:
    pointers = header.get("FrameIncrementPointer")
    if pointers is None:
        return False
    tags = [pointers] if isinstance(pointers, int) else list(pointers)
    return any(int(tag) in FRAME_TIMES for tag in tags)


def _evenly_stacked(header: Dataset, name: str, frames: int) -> Grid:
    """Frames one SpacingBetweenSlices apart, in the order of the file."""
    planes = _planes_of_frames(header, name, frames)
    placed = sum(plane.position is not None for plane in planes)
    if placed:
        raise ValueError(
            f"of the {frames} frames of {name} {placed} state a position, and not all a position and an orientation, "
            f"expected all or none: export it again, or {REMEDY}"
        )
    sizes = {plane.pixel_mm for plane in planes}
    pixel = _required_pixel(header, name) if sizes == {None} else _common_pixel(planes, f"the frames of {name}", None)
    gaps = set(_functional(header, "PixelMeasuresSequence", "SpacingBetweenSlices", frames))
    gap = _positive(header.get("SpacingBetweenSlices") if gaps == {None} else gaps.pop(), 1)
    if gaps - {None}:
        raise ValueError(f"the frames of {name} state several distances between them: export it on a regular grid")
    if gap is None:
        raise ValueError(
            f"{name} has {frames} frames and states no distance between them (neither positions nor "
            f"SpacingBetweenSlices): a clip's frames are times, not depths; if they are slices, {REMEDY}"
        )
    position = _numbers(header.get("ImagePositionPatient"), 3)
    orientation = _numbers(header.get("ImageOrientationPatient"), 6)
    if position is None or orientation is None:
        return Grid(range(frames), (*gap, *pixel))
    return Grid(range(frames), (*gap, *pixel), tuple(position.tolist()), _direction(orientation))


def _planes_of_frames(header: Dataset, name: str, frames: int) -> list[Plane]:
    """Planes by the functional groups, of a volume's own frame of reference or the patient's."""
    pixels = _functional(header, "PixelMeasuresSequence", "PixelSpacing", frames)
    positions = _functional(header, "PlanePositionVolumeSequence", "ImagePositionVolume", frames)
    orientations = _functional(header, "PlaneOrientationVolumeSequence", "ImageOrientationVolume", frames)
    if not any(value is not None for value in positions):
        positions = _functional(header, "PlanePositionSequence", "ImagePositionPatient", frames)
        orientations = _functional(header, "PlaneOrientationSequence", "ImageOrientationPatient", frames)
    common = _pixel_size(header, name) if None in pixels else None
    planes = []
    for pixel, position, orientation in zip(pixels, positions, orientations, strict=True):
        size = _positive(pixel, 2) or common
        planes.append(Plane(_numbers(position, 3), _numbers(orientation, 6), (size[0], size[1]) if size else None))
    return planes


def _functional(header: Dataset, sequence: str, attribute: str, frames: int) -> list[Any]:
    """A value a frame, from its own functional group or the shared one; None where neither has it."""
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    own = header.get("PerFrameFunctionalGroupsSequence") or [{}] * frames
    if len(own) != frames:
        raise ValueError(f"a DICOM file has {frames} frames and {len(own)} functional groups: export it again")
    values = []
    for group in own:
        items = group.get(sequence) or shared[0].get(sequence) or [{}]
        values.append(items[0].get(attribute))
    return values


def _read_slices(series: DicomSeries, spacing_mm: Sequence[float] | None) -> Volume:
    headers = [_header(path) for path in series.files]
    sizes = sorted({(int(header.Rows), int(header.Columns)) for header in headers})
    if len(sizes) > 1:
        raise ValueError(f"the slices in {series.name} have several sizes, {sizes[:4]}, expected one: split the series")
    grid = _grid_of_slices(headers, series, spacing_mm)
    slices = [_pixels(series.files[index])[0] for index in grid.order]
    return Volume(np.stack(slices), grid.spacing_mm, grid.origin, grid.direction)


def _grid_of_slices(headers: Sequence[Dataset], series: DicomSeries, spacing_mm: Sequence[float] | None) -> Grid:
    planes = []
    for header, path in zip(headers, series.files, strict=True):
        pixel = _unless_given(spacing_mm, partial(_pixel_of_image, header, path.name), (1.0, 1.0))
        grouped = _planes_of_frames(header, path.name, 1)[0]
        position, orientation = grouped.position, grouped.orientation
        if position is None or orientation is None:
            position = _numbers(header.get("ImagePositionPatient"), 3)
            orientation = _numbers(header.get("ImageOrientationPatient"), 6)
        planes.append(Plane(position, orientation, pixel))

    placed = sum(plane.position is not None and plane.orientation is not None for plane in planes)
    if placed == len(planes):
        return _stack(planes, f"the slices in {series.name}", spacing_mm)
    numbers = [header.get("InstanceNumber") for header in headers]
    if spacing_mm is not None and placed == 0 and None not in numbers and len(set(numbers)) == len(numbers):
        return Grid(np.argsort([int(number) for number in numbers]).tolist(), (1.0, 1.0, 1.0))
    raise ValueError(
        f"of the {len(planes)} slices in {series.name} {placed} state position and orientation, expected all: a "
        f"clip's frames are times, not depths; if they are slices, number them (InstanceNumber) and {REMEDY}"
    )


def _stack(planes: Sequence[Plane], where: str, spacing_mm: Sequence[float] | None) -> Grid:
    """The regular volume that planes make, sorted along their normal; ValueError where they make none.

    Args:
        planes: with position and orientation.
        where: what an error calls them.
        spacing_mm: given by the caller, who then answers for the size of pixels.
    """
    directions = np.array([plane.orientation for plane in planes])
    turned = np.abs(directions - directions[0]).max()
    if turned > np.sin(np.deg2rad(STRAIGHT_DEGREES)):
        degrees = np.rad2deg(2 * np.arcsin(min(1.0, np.linalg.norm(directions - directions[0], axis=1).max() / 2)))
        raise ValueError(
            f"{where} are turned against one another by up to {degrees:.3g} degrees, expected parallel planes: "
            "a fan or a set of views is no volume; export a volume on a regular grid"
        )
    direction = np.array(_direction(directions[0])).reshape(3, 3)
    normal = direction[:, 2]
    positions = np.array([plane.position for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    gap = _step_mm(np.diff(positions[order], axis=0), normal, where)
    pixel = _common_pixel(planes, where, spacing_mm)
    return Grid(order.tolist(), (gap, *pixel), tuple(positions[order[0]].tolist()), tuple(direction.ravel().tolist()))


def _direction(orientation: Floats) -> tuple[float, ...]:
    """ITK's matrix, row by row: columns are the directions of x, y and the normal."""
    along_row, along_column = orientation[:3], orientation[3:]
    matrix = np.stack([along_row, along_column, np.cross(along_row, along_column)], axis=1)
    return tuple(matrix.ravel().tolist())


def _step_mm(steps: NDArray[Any], normal: Floats, where: str) -> float:
    """The one distance of planes along their normal."""
    lengths = np.linalg.norm(steps, axis=1)
    if lengths.max() < 1e-3:
        raise ValueError(
            f"{where} all lie at one position, expected a distance between them: a clip's frames are times, not depths"
        )
    if lengths.max() - lengths.min() > SAME_STEP * np.median(lengths) + 1e-3:
        raise ValueError(
            f"{where} are {lengths.min():.3g} to {lengths.max():.3g} mm apart, expected one distance: "
            "a slice is missing or doubled (several times or kinds of data lie at one place: export one of them)"
        )
    along = steps @ normal
    aside = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    degrees = np.rad2deg(np.arctan2(aside, along))
    # a thousandth of a millimetre is how positions are rounded
    if np.any((degrees > STRAIGHT_DEGREES) & (aside > 1e-3)):
        raise ValueError(
            f"{where} step aside by {aside.max():.3g} mm while they advance {np.median(along):.3g} mm "
            f"({degrees.max():.3g} degrees: a gantry tilt or a tilted sweep), expected along their normal: "
            "resample the series to a straight grid, with 3D Slicer for instance"
        )
    return float(along.mean())


def _common_pixel(planes: Sequence[Plane], where: str, spacing_mm: Sequence[float] | None) -> tuple[float, float]:
    if spacing_mm is not None:
        return 1.0, 1.0  # replaced by what the caller gave
    sizes = [plane.pixel_mm for plane in planes if plane.pixel_mm]
    if len(sizes) < len(planes):
        raise ValueError(f"{where} state no pixel size (PixelSpacing): {REMEDY}")
    if not np.allclose(sizes, sizes[0], rtol=SAME_SIZE):
        low, high = np.min(sizes, axis=0), np.max(sizes, axis=0)
        raise ValueError(
            f"{where} have pixels of {low[0]:.4g} x {low[1]:.4g} to {high[0]:.4g} x {high[1]:.4g} mm, expected one "
            "size: export them at one zoom"
        )
    return sizes[0]
