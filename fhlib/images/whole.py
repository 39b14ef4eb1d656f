"""What the readers of files share: the bytes of an image's voxels, all that its header states, and its spacing in mm.

SimpleITK fills what a cut NIfTI file lacks with zeros, and passes over a wrong checksum in MetaImage. So bytes are
counted here, and checksums compared where a file has them (gzip, zlib, bzip2). Uncompressed voxels have none: a bit
that flipped among them cannot be noticed. SimpleITK also takes 1 mm where no spacing is stated, and millimetres for any unit.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from fhlib.images.dicom import REMEDY
from fhlib.images.volume import MOST_VOXELS, Array

Encoding = Literal["raw", "gzip", "zlib", "bzip2", "hex", "text"]

BLOCK_BYTES = 1 << 22

AGAIN = "copy or export it again"


UNITS_MM = {"": 1.0, "?": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "millimetre": 1.0, "millimetres": 1.0}
UNITS_MM |= {"m": 1000.0, "meter": 1000.0, "metre": 1000.0, "cm": 10.0, "um": 0.001, "µm": 0.001, "micron": 0.001}
"""A length in mm. Where none is given, both formats mean mm."""


LONGEST_HEADER = 1 << 22
"""Bytes; segmentations of 3D Slicer have kilobytes."""

Fields = Mapping[str, str]
"""A header of text."""


def require_sizes(sizes: Sequence[int], name: str) -> None:
    """Raise ValueError for sizes that no scan has, before memory is asked for."""
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} states sizes of {times(sizes)}, expected at least 1 along each axis: {AGAIN}")
    if math.prod(sizes) > MOST_VOXELS:
        raise ValueError(
            f"{name} states {times(sizes)} voxels, {math.prod(sizes):.3g} in all, expected at most {MOST_VOXELS:.3g}: "
            "resample or crop it first, or copy it again if its header is damaged"
        )


def times(values: Sequence[float]) -> str:
    """Numbers as sizes are written, `3 x 4`."""
    return " x ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)


@dataclass(frozen=True)
class Stored:
    """Where the voxels of a file lie, and how.

    Attributes:
        path: the file that holds them: the header's own, or the one it names.
        sizes: of all axes, the fastest first.
        dtype: of a value, with its byte order.
        encoding: how they are packed.
        offset: where they begin.
    """

    path: Path
    sizes: tuple[int, ...]
    dtype: np.dtype
    encoding: Encoding
    offset: int

    def array(self) -> Array:
        """The values, the slowest axis first; ValueError unless all are there."""
        require_sizes(self.sizes, self.path.name)
        count = math.prod(self.sizes)
        if self.encoding == "text":
            flat = _from_text(self.path, self.offset, count, self.dtype)
        else:
            data = voxel_bytes(self.path, count * self.dtype.itemsize, self.encoding, self.offset)
            flat = np.frombuffer(data, self.dtype)
        return flat.astype(self.dtype.newbyteorder("="), copy=False).reshape(self.sizes[::-1])


def _from_text(path: Path, offset: int, count: int, dtype: np.dtype) -> Array:
    with path.open("rb") as stream:
        stream.seek(offset)
        words = stream.read().split()
    if len(words) != count:
        raise ValueError(f"{path.name} holds {len(words)} numbers, expected {count} by its header: {AGAIN}")
    try:
        if dtype.kind == "f":
            return np.array(words).astype(dtype)
        numbers = np.array([int(word) for word in words])
    except ValueError as error:
        raise ValueError(f"{path.name} holds what is no number among its voxels ({error}): {AGAIN}") from error
    limits = np.iinfo(dtype)
    if numbers.min() < limits.min or numbers.max() > limits.max:
        raise ValueError(f"{path.name} holds numbers outside of its type {dtype}: {AGAIN}")
    return numbers.astype(dtype)


def voxel_bytes(path: Path, expected: int, encoding: Encoding = "raw", offset: int = 0, skip: int = 0) -> memoryview:
    """The voxels in a file, unpacked, in memory that can be written to.

    Args:
        path: holds them up to its end.
        expected: how many bytes the header states.
        encoding: how they are packed.
        offset: where they begin in the file.
        skip: unpacked bytes before the first voxel.

    Raises ValueError where there are fewer or more, or where the checksum does not fit.
    """
    name, wanted = path.name, skip + expected
    with path.open("rb") as stream:
        if encoding == "raw":
            _require_count(name, path.stat().st_size - max(offset, 0), wanted)
        stream.seek(offset)
        try:
            data = _unpacked(stream, encoding, wanted)
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise ValueError(f"{name} is damaged or cut short ({error}): {AGAIN}") from error
    _require_count(name, len(data), wanted)
    return memoryview(data)[skip:]  # no copy: there may be gigabytes


def _require_count(name: str, found: int, wanted: int) -> None:
    if found < wanted:
        raise ValueError(
            f"{name} is cut short: its header states {wanted} bytes of voxels, and it holds {max(found, 0)}: {AGAIN}"
        )
    if found > wanted:
        raise ValueError(
            f"{name} holds more than the {wanted} bytes of voxels that its header states: it is damaged, or header and "
            f"voxels are not of one image; {AGAIN}"
        )


def _unpacked(stream: IO[bytes], encoding: Encoding, wanted: int) -> bytearray:
    """What a stream unpacks to, and no more than a byte beyond what is wanted."""
    if encoding == "hex":
        return bytearray.fromhex(stream.read().decode("ascii"))
    if encoding == "zlib":
        return _inflated(stream, wanted)
    source: Any = stream
    if encoding != "raw":
        source = gzip.GzipFile(fileobj=stream) if encoding == "gzip" else bz2.BZ2File(stream)
    data = bytearray()
    # the checksum is compared when the end is read
    while len(data) <= wanted and (block := source.read(min(BLOCK_BYTES, wanted + 1 - len(data)))):
        data += block
    return data


def _inflated(stream: IO[bytes], wanted: int) -> bytearray:
    """A zlib or gzip stream up to its end, with nothing behind it."""
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    data = bytearray()
    while not decoder.eof and len(data) <= wanted and (block := stream.read(BLOCK_BYTES)):
        data += decoder.decompress(block, wanted + 1 - len(data))
        # what did not fit stays with the decoder
        while decoder.unconsumed_tail and len(data) <= wanted:
            data += decoder.decompress(decoder.unconsumed_tail, wanted + 1 - len(data))
    if len(data) <= wanted and not decoder.eof:
        raise EOFError("the compressed voxels end too early")
    if decoder.eof and (decoder.unused_data or stream.read(1)):
        raise ValueError("there is more behind the compressed voxels")
    return data


def beside(path: Path, named: str) -> Path:
    """A data file in the header's own folder; several, or one elsewhere, are refused."""
    if named.split()[:1] == ["LIST"] or "%" in named:
        raise ValueError(
            f"{path.name} keeps its voxels in several files ({named}), expected one: save it as one .nrrd or .mha file"
        )
    parts = re.split(r"[\\/]", named)
    if ".." in parts or parts[0] in ("", "~") or ":" in parts[0]:
        raise ValueError(
            f"{path.name} names the data file {parts[-1]!r} in another folder: put it beside, and write its name alone"
        )
    data = path.parent.joinpath(*parts)
    if not data.is_file():
        raise ValueError(f"{path.name} needs its data file {named!r}, which is not there: copy both into one folder")
    return data


def require_stated(spacing: Sequence[float], name: str) -> None:
    """Raise ValueError, with the remedy, unless these are one positive number an axis."""
    if not spacing or any(math.isnan(step) for step in spacing):
        raise ValueError(f"{name} states no spacing: {REMEDY}")
    if not all(0 < step < math.inf for step in spacing):
        raise ValueError(f"{name} states a spacing of {times(spacing)}, expected mm above 0: {REMEDY}")


def unit_mm(units: set[str], name: str) -> float:
    """One unit of length in mm; ValueError for another, or several."""
    factors = {UNITS_MM.get(unit.strip().lower()) for unit in units} or {1.0}
    factor = factors.pop()
    if factors or factor is None:
        raise ValueError(
            f"{name} states its spacing in {', '.join(sorted(units))}, expected one of mm, cm, m, um: {REMEDY}"
        )
    return factor


def whole_numbers(fields: Fields, key: str, name: str) -> tuple[int, ...]:
    words = fields.get(key, "").split()
    if not words or not all(re.fullmatch(r"\d{1,12}", word) for word in words):
        raise ValueError(f"{name} states {key} {fields.get(key, 'none')!r}, expected whole numbers: {AGAIN}")
    return tuple(int(word) for word in words)


def as_number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def whole_number(fields: Fields, key: str, otherwise: int, name: str) -> int:
    """A field that is one whole number, or what it is where the field is not there."""
    text = fields.get(key, str(otherwise))
    if not re.fullmatch(r"-?\d{1,12}", text):
        raise ValueError(f"{name} states {key} {text!r}, expected a whole number: {AGAIN}")
    return int(text)
