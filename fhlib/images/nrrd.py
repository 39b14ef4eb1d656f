"""Read NRRD: voxels whole or not at all, and a spacing only where one is stated.

SimpleITK gives the geometry, with NRRD's many spaces; `whole.py` the voxels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import SimpleITK as sitk

SUFFIXES = (".nrrd", ".nhdr")

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
TYPES = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "hex": "hex",
    "ascii": "text",
    "text": "text",
    "txt": "text",
}
SPATIAL = ("domain", "space", "none", "???")
"""Kinds of an NRRD's axes along which there are voxels."""


def read_nrrd(path: Path, spacing_mm: tuple[float, ...] | None = None) -> Volume:
    """An NRRD file with its geometry.

    Args:
        path: `.nrrd`, or `.nhdr` with a data file beside.
        spacing_mm: replaces the file's, in array order.

    Raises ValueError where voxels are missing or damaged, where no spacing is stated, and for time, vectors and colours.
    """
    fields, stored = _nrrd(path)
    channels, apart = _other_axes(fields, stored.sizes, path.name)
    if spacing_mm is None:
        _require_spacing(fields, apart, path.name)
    array = stored.array()

    # axes of the array count from the slowest
    single = tuple(len(stored.sizes) - 1 - axis for axis in apart if axis != channels)
    array = array.squeeze(single)
    if channels is not None:
        array = grey_of(array, path.name)

    geometry = _geometry_by_itk(path)
    if geometry.GetDimension() != array.ndim:
        raise ValueError(
            f"{path.name} states a geometry of {geometry.GetDimension()} axes for voxels of shape "
            f"{times(array.shape)}: {AGAIN}"
        )
    scale = _unit_mm(fields, path.name) if spacing_mm is None else 1.0
    spacing = tuple(scale * step for step in geometry.GetSpacing()[::-1])
    if spacing_mm is not None:
        spacing = per_axis(spacing_mm, array.ndim)
    origin = tuple(scale * value for value in geometry.GetOrigin())
    return Volume(array, spacing, origin, geometry.GetDirection())


def require_whole_nrrd(path: Path) -> None:
    """Raise ValueError unless all voxels of an NRRD file are there, whatever their axes mean."""
    _nrrd(path)[1].array()


def data_file(path: Path) -> Path | None:
    """The file that a header names for its voxels; None where they lie behind the header.

    Raises ValueError for a header that cannot be read.
    """
    fields, _ = _fields(path)
    return beside(path, fields["datafile"]) if "datafile" in fields else None


def _geometry_by_itk(path: Path) -> sitk.ImageFileReader:
    import SimpleITK as sitk  # here, so that naming the files of an image does without it

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
        raise ValueError(f"the geometry in {path.name} cannot be read ({reason}): {AGAIN}") from error
    return reader


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, in lower case without blanks, and where it ends."""
    with path.open("rb") as stream:
        if not re.match(rb"NRRD000[1-5]\r?\n", stream.readline(16)):
            raise ValueError(
                f"cannot read {path.name} as an image: it does not begin as NRRD does; expected NRRD, MHA, NIfTI, DICOM or PNG "
                f"under its own suffix: {AGAIN}"
            )
        fields: dict[str, str] = {}
        while (line := stream.readline(LONGEST_HEADER)).strip(b"\r\n"):
            if stream.tell() > LONGEST_HEADER:
                raise ValueError(f"the header of {path.name} has no end: {AGAIN}")
            text = line.decode("utf-8", "replace").strip()
            if text.startswith("#") or ":=" in text:
                continue
            name, separator, value = text.partition(":")
            key = name.replace(" ", "").lower()
            if not separator or key in fields:
                raise ValueError(
                    f"{path.name} has the line {text[:40]!r} in its header, which is none of NRRD: {AGAIN}"
                )
            fields[key] = value.strip()
        return fields, stream.tell()


def _nrrd(path: Path) -> tuple[dict[str, str], Stored]:
    name = path.name
    fields, end = _fields(path)
    kind = TYPES.get(fields.get("type", "").lower())
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if kind is None or encoding is None:
        raise ValueError(
            f"{name} states type {fields.get('type', 'none')!r} and encoding {fields.get('encoding', 'none')!r}, "
            "expected real numbers, and raw, gzip, bzip2, hex or ascii: save it again as .nrrd"
        )
    sizes = whole_numbers(fields, "sizes", name)
    if str(len(sizes)) != fields.get("dimension"):
        raise ValueError(
            f"{name} states dimension {fields.get('dimension', 'none')} and {len(sizes)} sizes, expected as many: {AGAIN}"
        )
    dtype = np.dtype(kind)
    if encoding != "text" and dtype.itemsize > 1:
        order = fields.get("endian", "").lower()
        if order not in ("little", "big"):
            raise ValueError(f"{name} does not state its byte order (endian: little or big): {AGAIN}")
        dtype = dtype.newbyteorder("<" if order == "little" else ">")

    data = beside(path, fields["datafile"]) if "datafile" in fields else None
    offset = 0 if data else end
    offset = _after_skips(data or path, offset, fields, encoding, math.prod(sizes) * dtype.itemsize)
    return fields, Stored(data or path, sizes, dtype, encoding, offset)


def _after_skips(path: Path, offset: int, fields: Fields, encoding: Encoding, expected: int) -> int:
    """Where voxels begin behind the lines and bytes that are to be skipped."""
    lines = whole_number(fields, "lineskip", 0, path.name)
    skipped = whole_number(fields, "byteskip", 0, path.name)
    if skipped == -1 and encoding == "raw":
        return path.stat().st_size - expected
    if lines < 0 or skipped < 0 or (skipped and encoding != "raw"):
        raise ValueError(f"{path.name} is to be read behind {skipped} packed bytes: save it again as .nrrd")
    with path.open("rb") as stream:
        stream.seek(offset)
        for _ in range(min(lines, LONGEST_HEADER)):
            if not stream.readline():
                break
        return stream.tell() + skipped


def _other_axes(fields: Fields, sizes: Sequence[int], name: str) -> tuple[int | None, list[int]]:
    """The axis of channels, and all axes that are none of space; ValueError for time, lists and vectors."""
    directions = _directions(fields) or [""] * len(sizes)
    kinds = fields.get("kinds", " ".join(["???"] * len(sizes))).split()
    if len(kinds) != len(sizes) or len(directions) != len(sizes):
        raise ValueError(
            f"{name} states {len(sizes)} sizes, {len(kinds)} kinds and {len(directions)} directions: {AGAIN}"
        )
    channels, apart = None, []
    for axis, (size, kind, direction) in enumerate(zip(sizes, kinds, directions, strict=True)):
        if kind.lower() in SPATIAL and direction != "none":
            continue
        apart.append(axis)
        if size == 1:
            continue
        if axis > 0 or size > 4 or kind.lower() in ("time", "list", "complex"):
            raise ValueError(
                f"{name} has {size} values a voxel along axis {axis} (kind {kind}), sizes {times(sizes)}; expected one "
                "grey value: save one volume, without time or vectors"
            )
        channels = axis
    if len(sizes) - len(apart) not in (2, 3):
        raise ValueError(
            f"{name} has {len(sizes) - len(apart)} dimensions of sizes {times(sizes)}, expected 2 or 3: save one volume "
            "without time"
        )
    return channels, apart


def _directions(fields: Fields) -> list[str] | None:
    """An entry an axis, `(x,y,z)` or none."""
    if "spacedirections" not in fields:
        return None
    return re.findall(r"\([^)]*\)|none", fields["spacedirections"])


def _require_spacing(fields: Fields, apart: Sequence[int], name: str) -> None:
    if _directions(fields) is not None:
        return  # SimpleITK refuses one of length 0
    words = fields.get("spacings", "").split()
    steps = [as_number(word) for axis, word in enumerate(words) if axis not in apart]
    require_stated(steps, name)


def _unit_mm(fields: Fields, name: str) -> float:
    text = fields.get("spaceunits") if _directions(fields) is not None else fields.get("units")
    return unit_mm(set(re.findall(r'"([^"]*)"', text or "")), name)
