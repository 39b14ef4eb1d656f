"""Read and write volumes: NRRD, MHA, NIfTI, PNG; DICOM and GE Kretz are read by `dicom/`."""

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
from fhlib.images.dicom import REMEDY, is_dicom, kretz_in, per_axis, read_dicom
from fhlib.images.kretz import SUFFIXES as KRETZ
from fhlib.images.volume import Volume, from_sitk, to_sitk

WRITABLE = (".nrrd", ".mha", ".nii.gz", ".nii", ".png")
READABLE = (*WRITABLE, ".nhdr", ".mhd", ".dcm", ".hdr", ".tif", ".tiff", *KRETZ)
PICTURES = ("JPEGImageIO", "JPEG2000ImageIO", "TIFFImageIO", "BMPImageIO")
"""What SimpleITK calls formats without a spacing, whatever a file's name; PNG is apart."""


def suffix_of(path: Path | str) -> str:
    """The file's suffix in lower case; `.nii.gz` counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_volume(path: Path | str, spacing_mm: float | Sequence[float] | None = None) -> Volume:
    """Read NRRD, MetaImage, NIfTI, DICOM (a file, or a folder with one series), PNG, or what else SimpleITK reads.

    Of DICOM only voxels and geometry are kept, never a tag; where it states no spacing it is refused (see
    `fhlib.images.dicom`). Pictures have no spacing that can be trusted: for PNG it is 1 mm, and a warning says so;
    JPEG, TIFF and BMP are refused without the argument.

    Args:
        path: a file, a folder, or a DICOMDIR, which stands for its folder.
        spacing_mm: replaces the file's; one number, or one an axis in array order. Of a GE Kretz file, which stores
            beams, it is the one wanted (`fhlib.images.kretz`).

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
    if path.name.upper() == "DICOMDIR":
        path = path.resolve().parent
    given = None if spacing_mm is None else tuple(float(step) for step in np.ravel(spacing_mm))

    try:
        if path.is_dir() or is_dicom(path) or kretz_in(path) is not None:
            return read_dicom(path, given)
        kind = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
        # DICOM under another format's name is known to SimpleITK alone
        if kind == "GDCMImageIO":
            return read_dicom(path, given)
        if given is None and kind in PICTURES:
            raise ValueError(
                f"{path.name} is a picture ({kind.removesuffix('ImageIO')}), which states no size of a voxel in mm (dots "
                f"per inch are of print): {REMEDY}"
            )
        volume = from_sitk(_read_file(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ValueError(
            f"cannot read {path.name} as an image: expected NRRD, MHA, NIfTI, DICOM or PNG; "
            f"convert it with SimpleITK or 3D Slicer ({reason})"
        ) from error

    if given is None and kind == "PNGImageIO":
        warnings.warn(
            f"{path.name} holds no pixel size that can be trusted; 1 mm is assumed: pass spacing_mm", stacklevel=2
        )
        given = (1.0,)
    return volume if given is None else replace(volume, spacing_mm=per_axis(given, volume.ndim))


def _read_file(path: Path) -> sitk.Image:
    if suffix_of(path) != ".nii.gz" or not path.with_suffix("").exists():
        return sitk.ReadImage(str(path))
    # the NIfTI library takes x.nii.gz's header but x.nii's voxels where both stand side by side (seen with ITK 5.4)
    with tempfile.TemporaryDirectory() as folder:
        return sitk.ReadImage(shutil.copy(path, folder))


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
