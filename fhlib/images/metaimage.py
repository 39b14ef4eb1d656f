"""Read MetaImage: voxels whole or not at all, and a spacing only where one is stated.

SimpleITK reads noise, in silence, where a compressed MetaImage is damaged, lacks the size of its compressed voxels, or lists
several files. So its header is read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fhlib.images.dicom import per_axis
from fhlib.images.volume import Volume, grey_of
from fhlib.images.whole import (
    AGAIN,
    LONGEST_HEADER,
    Encoding,
    Fields,
    Stored,
    as_number,
    beside,
    require_stated,
    times,
    unit_mm,
    whole_number,
    whole_numbers,
)

SUFFIXES = (".mha", ".mhd")
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_metaimage(path: Path, spacing_mm: tuple[float, ...] | None = None) -> Volume:
    """A MetaImage with its geometry.

    Args:
        path: `.mha`, or `.mhd` with a data file beside.
        spacing_mm: replaces the file's, in array order.

    Raises ValueError where voxels are missing or damaged, where no spacing is stated, and for time and colours.
    """
    name = path.name
    fields, end = _fields(path)
    sizes = whole_numbers(fields, "DimSize", name)
    stored, channels = _stored(path, fields, end, sizes)
    ndim = len(sizes)
    while ndim > 3 and sizes[ndim - 1] == 1:
        ndim -= 1
    if ndim not in (2, 3):
        raise ValueError(
            f"{name} has {ndim} dimensions of sizes {times(sizes)}, expected 2 or 3: save one without time"
        )

    stated = _several(fields, ("ElementSpacing", "ElementSize"), len(sizes), name)[:ndim]
    scale = 1.0
    if spacing_mm is None:
        require_stated(stated, name)
        scale = unit_mm({fields.get("DistanceUnits", "")}, name)
    spacing = tuple(scale * step for step in stated[::-1]) if spacing_mm is None else per_axis(spacing_mm, ndim)
    origin = _several(fields, ("Offset", "Position", "Origin"), len(sizes), name)[:ndim]
    matrix = _several(fields, ("TransformMatrix", "Rotation", "Orientation"), len(sizes) ** 2, name)
    # the file has the direction of one axis after the other, which are ITK's columns
    direction = np.reshape(matrix, (len(sizes), len(sizes)))[:ndim, :ndim].T if matrix else np.eye(ndim)

    array = stored.array().reshape(*reversed(sizes[:ndim]), channels)
    return Volume(grey_of(array, name), spacing, tuple(scale * value for value in origin), tuple(direction.ravel()))


def data_file(path: Path) -> Path | None:
    """The file that a header names for its voxels; None where they lie behind the header.

    Raises ValueError for a header that cannot be read.
    """
    named = _fields(path)[0]["ElementDataFile"]
    return None if named == "LOCAL" else beside(path, named)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, and where it ends; ElementDataFile is its last."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while "ElementDataFile" not in fields:
            line = stream.readline(LONGEST_HEADER)
            key, separator, value = line.decode("utf-8", "replace").partition("=")
            key = key.strip()
            if not separator or stream.tell() > LONGEST_HEADER or key in fields:
                raise ValueError(
                    f"cannot read {path.name} as an image: it has no header of MetaImage, which are lines such as "
                    f"'DimSize = 3 4 5' up to ElementDataFile, each once: {AGAIN}"
                )
            fields[key] = value.strip()
        return fields, stream.tell()


def _stored(path: Path, fields: Fields, end: int, sizes: tuple[int, ...]) -> tuple[Stored, int]:
    """Where the voxels lie, and the number of channels."""
    name = path.name
    if str(len(sizes)) != fields.get("NDims"):
        raise ValueError(f"{name} states NDims {fields.get('NDims', 'none')} and {len(sizes)} sizes: {AGAIN}")
    kind = TYPES.get(fields.get("ElementType", ""))
    if kind is None or not _truth(fields, "BinaryData", name, otherwise=True):
        raise ValueError(
            f"{name} states ElementType {fields.get('ElementType', 'none')} and BinaryData "
            f"{fields.get('BinaryData', 'True')}, expected binary real numbers: save it again as .nrrd or .mha"
        )
    big = _truth(fields, "BinaryDataByteOrderMSB", name) or _truth(fields, "ElementByteOrderMSB", name)
    dtype = np.dtype(kind).newbyteorder(">" if big else "<")
    packed = _truth(fields, "CompressedData", name)
    channels = whole_number(fields, "ElementNumberOfChannels", 1, name)
    if not 1 <= channels <= 4:
        raise ValueError(
            f"{name} has {channels} values a voxel, expected one grey value: save one volume without vectors"
        )

    named = fields["ElementDataFile"]
    data = None if named == "LOCAL" else beside(path, named)
    skipped = whole_number(fields, "HeaderSize", 0, name)
    offset = end if data is None else skipped
    expected = channels * math.prod(sizes) * dtype.itemsize
    if data is not None and skipped == -1 and not packed:
        offset = data.stat().st_size - expected
    if offset < 0 or (data is None and skipped > 0):
        raise ValueError(f"{name} states HeaderSize {skipped}, which its voxels do not allow: {AGAIN}")
    stated = fields.get("CompressedDataSize")
    size = (data or path).stat().st_size - offset
    if packed and stated is not None and stated != str(size):
        raise ValueError(
            f"{(data or path).name} is damaged or cut short: {name} states {stated} compressed bytes, and there are {size}: {AGAIN}"
        )
    encoding: Encoding = "zlib" if packed else "raw"
    return Stored(data or path, (channels, *sizes), dtype, encoding, offset), channels


def _truth(fields: Fields, key: str, name: str, otherwise: bool = False) -> bool:
    value = fields.get(key, str(otherwise)).lower()
    if value not in ("true", "false", "1", "0"):
        raise ValueError(f"{name} states {key} {fields[key]!r}, expected True or False: {AGAIN}")
    return value in ("true", "1")


def _several(fields: Fields, keys: Sequence[str], count: int, name: str) -> tuple[float, ...]:
    """Numbers under the first of these keys that is there; none where none is."""
    for key in keys:
        if key in fields:
            numbers = tuple(as_number(word) for word in fields[key].split())
            if len(numbers) != count:
                raise ValueError(f"{name} states {key} {fields[key]!r}, expected {count} numbers: {AGAIN}")
            return numbers
    return ()
