"""GE Kretz volumes, alone or inside a DICOM file."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fhlib.images.dicom.headers import DamagedError, is_deflated
from fhlib.images.kretz import MAGIC, SUFFIXES

if TYPE_CHECKING:
    from pydicom import Dataset

CREATOR = "KRETZ_US"


def kretz_in(path: Path) -> Path | bytes | None:
    """What `read_kretz` takes of a file: the path, the bytes inside a DICOM file, or None if it is neither.

    Raises DamagedError for a DICOM file around such a volume that cannot be read, ValueError where pydicom is missing.
    """
    with path.open("rb") as stream:
        start = stream.read(132)
        if start.startswith(MAGIC[:9]):
            return path
        if start[128:] != b"DICM":
            return path if path.suffix.lower() in SUFFIXES else None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            begins = whole.find(MAGIC) >= 0
            named = whole.find(CREATOR.encode()) >= 0

    try:
        import pydicom
    except ImportError as error:
        if not begins:
            return None
        raise ValueError(
            f"{path.name} is DICOM around a GE Kretz volume, which needs pydicom: pip install fhlib[dicom]"
        ) from error
    if not begins and not named and not is_deflated(path):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            found = kretz_bytes_in_dicom(pydicom.dcmread(path))
    except Exception as error:  # its message may hold a value
        raise DamagedError(f"cannot read {path.name} as an image: it is damaged: copy it again") from error
    if found is None and begins:
        # its pixels are a screenshot, which must not pass for the volume
        raise DamagedError(
            f"{path.name} holds a GE Kretz volume in another element than (7FE1,1101) of KRETZ_US, which no public reader "
            "describes: save the volume as .vol in 4D View"
        )
    return found


def kretz_bytes_in_dicom(dataset: Dataset) -> bytes | None:
    """The Kretz file in the private element (7FE1,1101) of its creator, None where there is none.

    The pixel data beside it is a screenshot, not the volume.
    """
    try:
        return bytes(dataset.private_block(0x7FE1, CREATOR)[0x01].value)
    except KeyError:
        return None
