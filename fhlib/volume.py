"""Images with their geometry: read, write, resample, pad and crop, each with its inverse.

Arrays are (d, h, w) in 3D and (h, w) in 2D, and `spacing_mm` follows the array's axes. `origin` and `direction` are
ITK's (LPS, x, y, z order, direction row-major), so the physical position of a voxel is
`origin + direction @ (spacing_xyz * index_xyz)`. Every function here keeps the physical position of what it keeps.
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.files import atomic_path

WRITABLE = (".nrrd", ".mha", ".nii.gz", ".nii", ".png")
READABLE = (*WRITABLE, ".nhdr", ".mhd", ".dcm", ".hdr", ".tif", ".tiff")
Array = NDArray[Any]
Box = Sequence[slice | tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in physical space, 3D (d, h, w) or 2D (h, w); the array is kept as given, not copied.

    `spacing_mm` is one positive number an array axis; `origin` (mm, default zeros) the position of the first voxel's
    centre and `direction` (n * n numbers, row-major, default identity; orthonormal) are ITK's, in x, y, z order.

    Raises ValueError where a part does not fit the array, TypeError for an array that holds no real numbers.
    """

    array: Array
    spacing_mm: tuple[float, ...]
    origin: tuple[float, ...] = ()
    direction: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        n = array.ndim
        if n not in (2, 3):
            raise ValueError(
                f"a volume is (d, h, w) or (h, w); the array has shape {array.shape}: split channels or time first"
            )
        if 0 in array.shape:
            raise ValueError(f"a volume needs at least one voxel along each axis; the array has shape {array.shape}")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"a volume holds booleans, integers or real numbers, not {array.dtype}")
        spacing = _numbers(self.spacing_mm, n, "spacing_mm", "one number an array axis")
        if min(spacing) <= 0:
            raise ValueError(f"spacing_mm must be positive, got {spacing}: give mm a voxel along each array axis")
        origin = (0.0,) * n
        if self.origin is not None and len(self.origin):
            origin = _numbers(self.origin, n, "origin", "x, y, z in mm")
        direction = tuple(np.eye(n).ravel().tolist())
        if self.direction is not None and len(self.direction):
            direction = _numbers(self.direction, n * n, "direction", "the matrix row by row")
        matrix = np.array(direction).reshape(n, n)
        if not np.allclose(matrix @ matrix.T, np.eye(n), atol=1e-3):
            raise ValueError(
                f"direction must be orthonormal, got {direction}: resample sheared images before reading them"
            )
        for name, value in (("array", array), ("spacing_mm", spacing), ("origin", origin), ("direction", direction)):
            object.__setattr__(self, name, value)

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape, (d, h, w) or (h, w)."""
        return self.array.shape

    @property
    def size_mm(self) -> tuple[float, ...]:
        """Edge lengths of the field of view in array order, from voxel corner to voxel corner."""
        return tuple(count * step for count, step in zip(self.shape, self.spacing_mm, strict=True))

    @property
    def diagonal_mm(self) -> float:
        """Diagonal of the field of view: no distance between two masks in it is larger."""
        return math.hypot(*self.size_mm)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of a voxel in mL (1000 mm3); nan in 2D, where there is none."""
        return math.prod(self.spacing_mm) / 1000 if self.ndim == 3 else math.nan

    def position(self, index: Sequence[float]) -> tuple[float, ...]:
        """Physical position (x, y, z in mm) of an array index (d, h, w); it may be fractional or outside the array."""
        step = np.array(self.spacing_mm[::-1]) * np.array(index, dtype=float)[::-1]
        return tuple((np.array(self.origin) + np.array(self.direction).reshape(self.ndim, self.ndim) @ step).tolist())

    def with_array(self, array: Array) -> Volume:
        """Another array of the same shape in the same geometry; ValueError if the shape differs."""
        if np.shape(array) != self.shape:
            raise ValueError(
                f"the geometry belongs to shape {self.shape}, the array has {np.shape(array)}: resample it instead"
            )
        return replace(self, array=np.asarray(array))

    def same_geometry(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and all corner voxels lie within `tolerance_mm` of one another."""
        if self.shape != other.shape:
            return False
        corners = itertools.product(*((0, count) for count in self.shape))
        return all(math.dist(self.position(corner), other.position(corner)) <= tolerance_mm for corner in corners)


def _numbers(values: Sequence[float], count: int, name: str, order: str) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in np.ravel(values))
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be {count} finite numbers ({order}), got {numbers}")
    return numbers


def suffix_of(path: Path | str) -> str:
    """The file's suffix in lower case; `.nii.gz` counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def to_sitk(volume: Volume) -> sitk.Image:
    """SimpleITK image of the same geometry; booleans become uint8 and float16 float32, which ITK lacks."""
    kinds = {"bool": np.uint8, "float16": np.float32, "longdouble": np.float64, "float128": np.float64}
    array = volume.array.astype(kinds.get(volume.array.dtype.name, volume.array.dtype), copy=False)
    image = sitk.GetImageFromArray(array.astype(array.dtype.newbyteorder("="), copy=False))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    return image


def from_sitk(image: sitk.Image) -> Volume:
    """Volume of a scalar or colour image; what else the image carries (DICOM tags, comments) stays behind.

    Colours become grey by the Rec. 601 luma 0.299 R + 0.587 G + 0.114 B, rounded to the pixel type (so R = G = B keeps
    its value); alpha is ignored. Raises ValueError for any other number of channels or dimensions.
    """
    if image.GetDimension() not in (2, 3):
        raise ValueError(
            f"the image has {image.GetDimension()} dimensions of size {image.GetSize()}: export one volume without time"
        )
    array, channels = sitk.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel()
    if channels == 2:
        array = array[..., 0]
    elif channels in (3, 4):
        grey = array[..., :3] @ np.array([0.299, 0.587, 0.114])
        array = (np.rint(grey) if array.dtype.kind in "iu" else grey).astype(array.dtype)
    elif channels != 1:
        raise ValueError(f"the image has {channels} channels, expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)")
    return Volume(array, image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection())


def read_volume(path: Path | str, spacing_mm: Sequence[float] | None = None) -> Volume:
    """Read NRRD, MetaImage, NIfTI, a DICOM file or series folder, PNG, or another image that SimpleITK reads.

    `spacing_mm` (array order) replaces the file's. PNG and TIFF have no spacing that can be trusted: without the
    argument it is 1 mm and a warning says so. Of a DICOM series only voxels and geometry are kept, never a tag.

    Raises FileNotFoundError; ValueError where the file or folder is not one image of 2 or 3 dimensions.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent.name or '.'}/")
    if path.is_file():
        with path.open("rb") as stream:
            if suffix_of(path) == ".vol" or stream.read(9) == b"KRETZFILE":
                raise ValueError(
                    f"{path.name} is a GE Kretz volume, which stores beams, not voxels: export it as DICOM or NRRD on "
                    "the scanner's workstation, or load it in 3D Slicer (SlicerHeart extension) and save it as .nrrd"
                )
    try:
        volume = from_sitk(_read_series(path) if path.is_dir() else _read_file(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ValueError(
            f"cannot read {path.name} as an image: expected NRRD, MHA, NIfTI, DICOM or PNG; "
            f"convert it with SimpleITK or 3D Slicer ({reason})"
        ) from error
    if spacing_mm is not None:
        return replace(volume, spacing_mm=tuple(spacing_mm))
    if suffix_of(path) in (".png", ".tif", ".tiff"):
        warnings.warn(
            f"{path.name} holds no pixel size that can be trusted; 1 mm is assumed: pass spacing_mm", stacklevel=2
        )
        return replace(volume, spacing_mm=(1.0,) * volume.ndim)
    return volume


def _read_file(path: Path) -> sitk.Image:
    if suffix_of(path) != ".nii.gz" or not path.with_suffix("").exists():
        return sitk.ReadImage(str(path))
    # the NIfTI library takes x.nii.gz's header but x.nii's voxels where both stand side by side (seen with ITK 5.4)
    with tempfile.TemporaryDirectory() as folder:
        return sitk.ReadImage(shutil.copy(path, folder))


def _read_series(folder: Path) -> sitk.Image:
    """The one DICOM series of a folder, slices sorted by position; ValueError for none, several or missing slices."""
    series = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series_ids(folder)}
    if not series:
        raise ValueError(
            f"the folder {folder.name}/ holds no DICOM series: give an image file or a folder of DICOM slices"
        )
    files, *others = series.values()
    if others:
        # series UIDs and descriptions may identify a patient, file names were the user's choice
        named = "; ".join(f"{len(names)} files from {Path(names[0]).name}" for names in series.values())
        raise ValueError(
            f"the folder {folder.name}/ holds {len(series)} DICOM series ({named}): keep one series a folder"
        )
    if len(files) == 1:
        return sitk.ReadImage(files[0])
    _check_slices(folder, files)
    return sitk.ReadImage(files)


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM series of single slices; files of several frames are volumes by themselves."""
    series = (sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series_ids(folder))
    return any(len(files) > 1 and _frames(files[0]) == 1 for files in series)


def _frames(path: str) -> int:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    return int((*reader.GetSize(), 1)[2])


def series_ids(folder: Path) -> Sequence[str]:
    """The DICOM series of a folder, none where it holds no DICOM."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _check_slices(folder: Path, files: Sequence[str]) -> None:
    positions = []
    for name in files:
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        reader.ReadImageInformation()
        positions.append(reader.GetOrigin())
    steps = np.linalg.norm(np.diff(np.array(positions), axis=0), axis=1)
    if steps.max() - steps.min() > 0.05 * np.median(steps) + 1e-3:
        raise ValueError(
            f"the slices in {folder.name}/ are {steps.min():.3g} to {steps.max():.3g} mm apart, expected one distance: "
            "a slice is missing or doubled"
        )


def write_volume(volume: Volume, path: Path | str) -> None:
    """Write a volume atomically, compressed: .nrrd, .mha, .nii.gz, .nii, or .png (2D, 8 or 16 bit, geometry is lost).

    Booleans are written as uint8. Raises ValueError for another suffix or what the format cannot hold.
    """
    path, suffix = Path(path), suffix_of(path)
    if suffix not in WRITABLE:
        raise ValueError(f"cannot write {path.name}: expected one of {', '.join(WRITABLE)}")
    image = to_sitk(volume)
    if suffix == ".png" and (volume.ndim != 2 or image.GetPixelID() not in (sitk.sitkUInt8, sitk.sitkUInt16)):
        raise ValueError(
            f"a PNG holds 2D uint8 or uint16, got {volume.ndim}D {volume.array.dtype}: cast it, or write .nrrd"
        )
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


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
