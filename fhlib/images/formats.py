"""Read and write volumes: NRRD, MHA, NIfTI, PNG; each format is read by a module of its own, pictures by SimpleITK."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, UnidentifiedImageError

from fhlib.files import atomic_path
from fhlib.images import metaimage, nifti, nrrd
from fhlib.images.dicom import REMEDY, is_dicom, kretz_in, per_axis, read_dicom
from fhlib.images.dicom.pixel_size import require_plausible
from fhlib.images.kretz import SUFFIXES as KRETZ
from fhlib.images.volume import Volume, from_sitk, to_sitk
from fhlib.images.whole import AGAIN, require_sizes

WRITABLE = (".nrrd", ".mha", ".nii.gz", ".nii", ".png")
READABLE = (*WRITABLE, ".nhdr", ".mhd", ".dcm", ".hdr", ".tif", ".tiff", *KRETZ)
PICTURES = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP")
"""Formats without a spacing, as Pillow calls them, whatever a file's name."""


def suffix_of(path: Path | str) -> str:
    """The file's suffix in lower case; `.nii.gz` counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def read_volume(path: Path | str, spacing_mm: float | Sequence[float] | None = None) -> Volume:
    """Read NRRD, MetaImage, NIfTI, DICOM (a file, or a folder with one series), PNG and other pictures.

    Voxels are counted, and checksums compared where a file has them (gzip, zlib, bzip2, PNG): what is cut or damaged is
    refused. So are time, vectors, colours, what states no spacing, or two that differ.

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
    given = None if spacing_mm is None else tuple(float(step) for step in np.ravel(spacing_mm))
    try:
        return _read(path, given)
    except (ValueError, TypeError) as error:
        if path.name in str(error):
            raise
        raise ValueError(f"cannot read {path.name} as an image: {error}") from error


def _read(path: Path, given: tuple[float, ...] | None) -> Volume:
    name = path.name.lower()
    readers = ((nrrd.SUFFIXES, nrrd.read_nrrd), (metaimage.SUFFIXES, metaimage.read_metaimage))
    for suffixes, read in (*readers, (nifti.SUFFIXES, nifti.read_nifti)):
        if name.endswith(suffixes) and path.is_file():
            volume = read(path, given)
            if given is None:
                require_plausible(volume.spacing_mm, path.name)
            return volume
    if name == "dicomdir":
        path = path.resolve().parent
    if path.is_dir() or is_dicom(path) or kretz_in(path) is not None:
        return _read_scanners_own(path, given)
    kind = _picture_kind(path)
    if kind:
        return _read_picture(path, kind, given)
    # a file without DICOM's preamble is known to SimpleITK alone
    if sitk.ImageFileReader.GetImageIOFromFileName(str(path)) == "GDCMImageIO":
        return _read_scanners_own(path, given)
    raise ValueError(
        f"cannot read {path.name} as an image: expected NRRD, MHA, NIfTI, DICOM or PNG; "
        "convert it with SimpleITK or 3D Slicer"
    )


def _read_scanners_own(path: Path, given: tuple[float, ...] | None) -> Volume:
    """GE Kretz or DICOM, whose damage may stop pydicom anywhere, with a patient's data in its message."""
    try:
        return read_dicom(path, given)
    except (ValueError, ImportError, MemoryError, PermissionError):
        raise
    except Exception as error:
        raise ValueError(f"cannot read {path.name} as an image: its DICOM header is damaged; {AGAIN}") from error


def is_picture(path: Path) -> bool:
    """Whether a file is one of PICTURES, which state no size of a pixel. Raises ValueError where it is damaged."""
    return path.is_file() and bool(_picture_kind(path))


def _picture_kind(path: Path) -> str:
    """What Pillow finds in a file; nothing where it is none of PICTURES."""
    try:
        with Image.open(path, formats=PICTURES) as picture:
            return str(picture.format)
    except UnidentifiedImageError:
        return ""
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is damaged or cut short ({error}): {AGAIN}") from error


def _read_picture(path: Path, kind: str, given: tuple[float, ...] | None) -> Volume:
    if given is None and kind != "PNG":
        raise ValueError(
            f"{path.name} is a picture ({kind}), which states no size of a voxel in mm (dots per inch are of print): {REMEDY}"
        )
    _require_whole_picture(path)
    try:
        volume = from_sitk(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ValueError(f"cannot read {path.name} as an image ({reason}): {AGAIN}") from error
    if given is None:
        warnings.warn(
            f"{path.name} holds no pixel size that can be trusted; 1 mm is assumed: pass spacing_mm", stacklevel=4
        )
        given = (1.0,)
    return Volume(volume.array, per_axis(given, volume.ndim))


def _require_whole_picture(path: Path) -> None:
    """Decode every page, and compare checksums where there are some (PNG); SimpleITK fills what is missing with grey."""
    try:
        with Image.open(path) as picture:
            pages = getattr(picture, "n_frames", 1)
            require_sizes((*picture.size, pages), path.name)
            for page in range(pages):
                picture.seek(page)
                picture.load()
        with Image.open(path) as picture:
            picture.verify()
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is damaged or cut short ({error}): {AGAIN}") from error


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
