"""The tags of a DICOM file that say what its pixels are and where they lie.

Only those in TAGS are read, so a patient's name cannot reach a message.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom", ".ima")
OTHER_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".gz", ".hdr", ".img", ".png", ".tif", ".tiff", ".jpg")

TAGS = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "InstanceNumber",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "SliceLocation",
    "SliceLocationVector",
    "GridFrameOffsetVector",
    "NumberOfTemporalPositions",
    "TemporalPositionIdentifier",
    "ImagesInAcquisition",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SequenceOfUltrasoundRegions",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

WHOLE_NUMBERS = (
    "Rows",
    "Columns",
    "InstanceNumber",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "NumberOfTemporalPositions",
    "ImagesInAcquisition",
)

SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture; its multi-frame classes begin with it
IMAGE_CLASSES = ("Image Storage", "Volume Storage")
"""How the names of SOP classes with pixels end."""

TIMES = ("FrameTime", "FrameTimeVector", "CineRate")
DEPTHS = (
    "ImagePositionPatient",
    "ImagePositionVolume",
    "PlanePositionSequence",
    "PlanePositionVolumeSequence",
    "PerFrameFunctionalGroupsSequence",
    "SliceLocation",
    "SliceLocationVector",
    "SliceVector",
    "SpacingBetweenSlices",
    "GridFrameOffsetVector",
)
"""What FrameIncrementPointer names where frames are slices."""

DATA_SET = 144
"""Where the data set begins, less what the file meta information says of its own length."""
MOST_UNPACKED = 1_000_000_000

ECHO = "TISSUE_INTENSITY"


class DamagedError(ValueError):
    """A DICOM header that cannot be read."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its first bytes, or by its name where these do not tell."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(140)
    if start.startswith(b"KRETZFILE"):
        return False
    if start[128:132] == b"DICM" and start[132:134] in (b"\2\0", b"\10\0"):
        return True
    if path.suffix.lower() in OTHER_FORMATS:
        return False
    return path.suffix.lower() in SUFFIXES or _begins_without_preamble(start)


def _begins_without_preamble(start: bytes) -> bool:
    """Whether bytes are the first element of a data set: of group 2 or 8, little-endian, and short."""
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if group not in (b"\2\0", b"\10\0") or element > 0x18:
        return False
    length = start[4:8]
    if length[:2].isupper():
        length = start[6:8]
    return 0 < int.from_bytes(length, "little") <= 128


def read_header(path: Path) -> Dataset:
    """The tags that say what pixels are and where they lie.

    Raises DamagedError where they cannot be read, ValueError where pydicom is missing.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ValueError(
            f"{path.name} is DICOM, whose geometry is read by pydicom, which is not installed: pip install fhlib[dicom]"
        ) from error
    is_deflated(path)
    try:
        # its warnings may hold a value, too
        with warnings.catch_warnings(action="ignore"):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            # values are decoded when they are asked for
            for element in (*header.file_meta, *header.iterall()):
                element.value  # noqa: B018
            for tag in WHOLE_NUMBERS:
                int(header.get(tag) or 0)
            frame_count(header)
            return header
    except Exception as error:  # a broken file may stop pydicom anywhere, and its message may hold a value
        raise DamagedError(
            f"cannot read {path.name} as an image: its DICOM header is damaged: export it again"
        ) from error


def is_deflated(path: Path) -> bool:
    """Whether a file's data set is packed as a whole; DamagedError for one that unpacks to more than can be read."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with path.open("rb") as stream:
        if DeflatedExplicitVRLittleEndian.encode() not in stream.read(1024):
            return False
        try:
            meta = read_file_meta_info(path)
            stream.seek(DATA_SET + meta.FileMetaInformationGroupLength)
            unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
            while size <= MOST_UNPACKED and (packed := stream.read(1 << 16)):
                size += len(unpacker.decompress(packed))
        except Exception as error:
            raise DamagedError(
                f"cannot read {path.name} as an image: its deflated data are damaged: export it again"
            ) from error
    if size > MOST_UNPACKED:
        raise DamagedError(
            f"{path.name} unpacks to more than {MOST_UNPACKED:.3g} bytes, expected fewer: export it smaller"
        )
    return True


def is_damaged(path: Path) -> bool:
    """Whether a file that bears a DICOM name or mark holds no DICOM that can be read, or lost its end."""
    try:
        return is_cut(read_header(path))
    except DamagedError:
        return True


def is_cut(header: Dataset) -> bool:
    """Whether a header ends before the pixels of an image, or states no class at all."""
    name = _class_of(header)
    return "Rows" not in header and (not name or name.endswith(IMAGE_CLASSES))


def _class_of(header: Dataset) -> str:
    """The name of a file's SOP class; empty where none is stated."""
    from pydicom.uid import UID

    stated = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return UID(str(stated)).name if stated else ""


def is_screenshot(header: Dataset) -> bool:
    """Whether a file is a secondary capture."""
    return f"{header.get('SOPClassUID', '')}.".startswith(f"{SCREENSHOT}.")


def frame_count(header: Dataset) -> int:
    """Number of frames; ValueError for what is no count."""
    count = int(header.get("NumberOfFrames") or 1)
    if count < 1:
        raise ValueError("a negative number of frames")
    return count


def functional(header: Dataset, sequence: str, attribute: str, frames: int) -> list[Any]:
    """A value a frame, from its own functional group or the shared one; None where neither has it."""
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    own = header.get("PerFrameFunctionalGroupsSequence") or [{}] * frames
    values = []
    for group in own:
        items = group.get(sequence) or shared[0].get(sequence) or [{}]
        values.append(items[0].get(attribute))
    return values


def require_one_scan(header: Dataset, name: str) -> None:
    """Raise ValueError for a file that holds a part of a scan, more than one kind of data, or several scales of grey."""
    frames = frame_count(header)
    groups = len(header.get("PerFrameFunctionalGroupsSequence") or ())
    if groups not in (0, frames):
        raise ValueError(
            f"{name} has {frames} frames and {groups} functional groups, expected as many: export it again"
        )

    parts = header.get("InConcatenationTotalNumber") or header.get("InConcatenationNumber") or 1
    if int(parts) > 1:
        raise ValueError(
            f"{name} is part {header.get('InConcatenationNumber')} of a volume that was split into several files "
            "(a concatenation), expected a whole one: export it unsplit"
        )

    kinds = set(functional(header, "ImageDataTypeSequence", "DataType", frames)) - {None}
    if kinds - {ECHO}:
        raise ValueError(f"{name} holds {' and '.join(sorted(kinds))}, expected {ECHO} alone: export the echo alone")

    slopes = functional(header, "PixelValueTransformationSequence", "RescaleSlope", frames)
    offsets = functional(header, "PixelValueTransformationSequence", "RescaleIntercept", frames)
    scales = set(zip(slopes, offsets, strict=True))
    # one scale for all stretches the grey levels, which changes nothing that is measured
    if len(scales) > 1 or any(slope is not None and slope <= 0 for slope in slopes):
        raise ValueError(
            f"the frames of {name} have {len(scales)} scales of grey (PixelValueTransformationSequence), expected one "
            "that rises: export it with one scale"
        )


def why_no_slices(header: Dataset) -> str:
    """Why the frames of a file are no slices, by what they advance; empty where nothing says so."""
    from pydicom.datadict import keyword_for_tag

    pointers = header.get("FrameIncrementPointer")
    tags = [pointers] if isinstance(pointers, int) else list(pointers or ())
    named = [keyword_for_tag(tag) or str(tag) for tag in tags]
    strange = [keyword for keyword in named if keyword not in DEPTHS]
    if not named:
        strange = [keyword for keyword in TIMES if header.get(keyword)]
    if not strange:
        return ""
    return f"are times ({strange[0]})" if strange[0] in TIMES else f"advance by {strange[0]}"
