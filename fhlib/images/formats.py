"""Read and write volumes: NRRD, MHA, NIfTI, PNG and DICOM series; read GE Kretz (`kretz.py`)."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from fhlib.files import atomic_path
from fhlib.images.kretz import SUFFIXES as KRETZ
from fhlib.images.kretz import kretz_in, read_kretz
from fhlib.images.volume import Volume, from_sitk, to_sitk

WRITABLE = (".nrrd", ".mha", ".nii.gz", ".nii", ".png")
READABLE = (*WRITABLE, ".nhdr", ".mhd", ".dcm", ".hdr", ".tif", ".tiff", *KRETZ)
WITHOUT_SPACING = (".png", ".tif", ".tiff")


def suffix_of(path: Path | str) -> str:
    """The file's suffix in lower case; `.nii.gz` counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_volume(path: Path | str, spacing_mm: Sequence[float] | None = None) -> Volume:
    """Read NRRD, MetaImage, NIfTI, a DICOM file or series folder, PNG, or another image that SimpleITK reads.

    `spacing_mm` (array order) replaces the file's. Of a GE Kretz file, which stores beams, it is the one
    wanted (`fhlib.images.kretz`). PNG and TIFF have no spacing that can be trusted: without the argument it is
    1 mm and a warning says so. Of a DICOM series only voxels and geometry are kept, never a tag.

    Raises FileNotFoundError; ValueError where the file or folder is not one image of 2 or 3 dimensions.

    >>> import tempfile
    >>> import numpy as np
    >>> from fhlib import Volume, read_volume, write_volume
    >>> volume = Volume(np.ones((4, 3, 2), np.uint8), spacing_mm=(2.0, 0.5, 0.5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(volume, f"{folder}/scan.nrrd")
    ...     read_volume(f"{folder}/scan.nrrd").spacing_mm
    (2.0, 0.5, 0.5)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent.name or '.'}/")
    if (kretz := kretz_in(path)) is not None:
        return read_kretz(kretz, spacing_mm)

    try:
        volume = from_sitk(_read_series(path) if path.is_dir() else _read_file(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ValueError(
            f"cannot read {path.name} as an image: expected NRRD, MHA, NIfTI, DICOM or PNG; "
            f"convert it with SimpleITK or 3D Slicer ({reason})"
        ) from error

    if spacing_mm is None and suffix_of(path) in WITHOUT_SPACING:
        warnings.warn(
            f"{path.name} holds no pixel size that can be trusted; 1 mm is assumed: pass spacing_mm", stacklevel=2
        )
        spacing_mm = (1.0,) * volume.ndim
    return volume if spacing_mm is None else replace(volume, spacing_mm=tuple(spacing_mm))


def _read_file(path: Path) -> sitk.Image:
    if suffix_of(path) != ".nii.gz" or not path.with_suffix("").exists():
        return sitk.ReadImage(str(path))
    # the NIfTI library takes x.nii.gz's header but x.nii's voxels where both stand side by side (seen with ITK 5.4)
    with tempfile.TemporaryDirectory() as folder:
        return sitk.ReadImage(shutil.copy(path, folder))


def _read_series(folder: Path) -> sitk.Image:
    """The one DICOM series of a folder, slices sorted by position; ValueError for none, several or missing slices."""
    series = _series(folder)
    if not series:
        raise ValueError(
            f"the folder {folder.name}/ holds no DICOM series: give an image file or a folder of DICOM slices"
        )
    if len(series) > 1:
        # series UIDs and descriptions may identify a patient, file names were the user's choice
        named = "; ".join(f"{len(files)} files from {Path(files[0]).name}" for files in series)
        raise ValueError(
            f"the folder {folder.name}/ holds {len(series)} DICOM series ({named}): keep one series a folder"
        )

    files = series[0]
    if len(files) == 1:
        return sitk.ReadImage(files[0])  # a file of several frames is 3D by itself
    _check_slices(folder, files)
    return sitk.ReadImage(files)


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM series of single slices; files of several frames are volumes by themselves."""
    return any(len(files) > 1 and _frames(files[0]) == 1 for files in _series(folder))


def series_ids(folder: Path) -> Sequence[str]:
    """The DICOM series of a folder, none where it holds no DICOM."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _series(folder: Path) -> list[Sequence[str]]:
    """The files of each series of a folder, sorted by position."""
    return [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series_ids(folder)]


def _header(path: str) -> sitk.ImageFileReader:
    """A reader that has read what a file says of its image, but no voxel."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    return reader


def _frames(path: str) -> int:
    return int((*_header(path).GetSize(), 1)[2])


def _check_slices(folder: Path, files: Sequence[str]) -> None:
    positions = np.array([_header(name).GetOrigin() for name in files])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if steps.max() - steps.min() > 0.05 * np.median(steps) + 1e-3:
        raise ValueError(
            f"the slices in {folder.name}/ are {steps.min():.3g} to {steps.max():.3g} mm apart, expected one distance: "
            "a slice is missing or doubled"
        )


def write_volume(volume: Volume, path: Path | str) -> None:
    """Write a volume atomically, compressed: .nrrd, .mha, .nii.gz, .nii, or .png (2D, 8 or 16 bit, geometry is lost).

    Booleans are written as uint8. Raises ValueError for another suffix or what the format cannot hold.

    >>> import tempfile
    >>> import numpy as np
    >>> from fhlib import Volume, read_volume, write_volume
    >>> mask = Volume(np.ones((3, 2), bool), spacing_mm=(0.5, 0.5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_volume(mask, f"{folder}/mask.png")
    ...     read_volume(f"{folder}/mask.png", spacing_mm=(0.5, 0.5)).array.dtype
    dtype('uint8')
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
