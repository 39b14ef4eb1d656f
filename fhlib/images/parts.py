"""The files that one image consists of, and their digest; without the libraries that read them."""

from __future__ import annotations

from pathlib import Path

from fhlib.files import files_below
from fhlib.fingerprints import digest, file_digest
from fhlib.images import metaimage, nifti, nrrd
from fhlib.images.dicom import is_dicom


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that hold an image: one, a header and its data file, or the DICOM files of a folder and the folders below it.

    A header that cannot be read, or whose data file is not there, stands alone.
    """
    if path.is_dir():
        files = tuple(files_below(path))
        return tuple(file for file in files if is_dicom(file)) or files
    name = path.name.lower()
    data: Path | None = None
    try:
        if name.endswith(nifti.SUFFIXES):
            return tuple(dict.fromkeys(nifti.pair_of(path)))
        if name.endswith(nrrd.SUFFIXES):
            data = nrrd.data_file(path)
        elif name.endswith(metaimage.SUFFIXES):
            data = metaimage.data_file(path)
    except (ValueError, OSError):
        pass
    return (path,) if data is None else (path, data)


def volume_digest(path: Path) -> str:
    """Short hash of the bytes that an image is read from, whatever the names of its files."""
    files = files_of(path)
    return file_digest(path) if files == (path,) else digest([file_digest(file) for file in files])
