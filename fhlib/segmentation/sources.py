"""What is to be segmented: volumes in a folder, and never the results that lie beside them."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhlib.cohorts.pairs import RECORD_SUFFIX
from fhlib.files import read_json
from fhlib.fingerprints import digest, file_digest
from fhlib.images.dicom import Source, dicom_sources, is_dicom
from fhlib.images.formats import READABLE, suffix_of
from fhlib.images.kretz import SUFFIXES as KRETZ_SUFFIXES
from fhlib.images.parts import files_of

TABLE = "segment.csv"
SCANS = (*READABLE, ".jpg", ".jpeg", ".bmp")
"""Suffixes of what is segmented. The pictures among them need a pixel size from elsewhere."""

RESULT_MARK = "fhlib segment: a result, no scan"
"""What the header of a mask or probability says, so that it is known under any name and in any folder."""
MARKED = (".nrrd", ".nii.gz")
HEADER_BYTES = 4096

LONGEST_NAME = 180
"""Bytes of a result's name; disks take 255, and what tells the files of a volume apart follows."""

_RESULT = re.compile(
    r"(?P<of>.+?)((~new\d*)?_(mask|skull|probability|label)|[-_. ](mask|label|labelmap|seg|segmentation|annotation))",
    re.IGNORECASE,
)
"""What `segment` writes beside a scan, and what other programs call labels (3D Slicer: X-label; HC18: X_Annotation)."""


def volumes_in(path: str | Path) -> list[Source]:
    """The file named, or what a folder holds: files that may be volumes, and the DICOM and GE Kretz in it and in the folders below it.

    Each DICOM series is a volume of its own, and so is each DICOM file of several frames, and each damaged one. A folder that holds one
    series and nothing else of DICOM stands for it. A DICOMDIR stands for its folder. Hidden files are passed over
    (macOS leaves `._a.nrrd` beside `a.nrrd`), and so are results and labels, see `results_in`.

    Raises FileNotFoundError if it is missing or holds no volume, ValueError for a name that is not UTF-8 and for a single file that is a
    result.
    """
    path = Path(path)
    require_utf8(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path.name!r}: give a scan, a folder of scans or a DICOM series folder")
    if path.name.upper() == "DICOMDIR":
        path = path.resolve().parent
    if path.name in ("", ".."):
        path = path.resolve()  # results are named for it
    if path.is_file():
        if path.name.lower().endswith(".seg.nrrd") or is_marked(path):
            raise ValueError(f"{path.name} is a mask or a probability, no scan: give the scan that it was made of")
        return [path]

    passed_over = results_in(path)
    shown = [entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.name not in passed_over]
    # a link that leads nowhere stands for a volume that is missing
    files = {entry for entry in shown if suffix_of(entry) in SCANS and (entry.is_file() or not entry.exists())}
    dicom = [source for source in dicom_sources(path) if source.name not in passed_over]
    # what is DICOM stands in the second list, or is no image
    single = {file for file in files if not is_dicom(file)}
    single |= {source for source in dicom if isinstance(source, Path) and source.parent == path and source.is_file()}
    found = [*sorted(single), *(source for source in dicom if source not in single)]
    if not found:
        raise FileNotFoundError(
            f"there is no volume in {path.name!r}: expected NRRD, MHA, NIfTI, GE Kretz, DICOM or PNG files, or folders with a DICOM "
            "series; results of `segment` and hidden files do not count"
        )
    return found


def results_in(folder: Path) -> set[str]:
    """Names of files in a folder that are results of `segment` or labels, which are no scans.

    Those are what a record lists, any `.seg.nrrd`, what bears `RESULT_MARK` under any name, and `X_mask`, `X_skull`, `X_probability`,
    `X_Label`, `X-label`, `X_seg` and the like where an X lies beside.
    """
    found = {TABLE}
    entries = sorted(folder.iterdir())
    beside = {_stem(entry).lower() for entry in entries if _is_volume_or_page(entry)}
    for entry in entries:
        name = entry.name.lower()
        result = _RESULT.fullmatch(_stem(entry))
        if name.endswith(".seg.nrrd") or (result and result["of"].lower() in beside) or is_marked(entry):
            found.add(entry.name)
        if name.endswith(RECORD_SUFFIX):
            found |= {entry.name, *read_record(entry).get("written", {})}
    return found


def passed_over(path: str | Path) -> list[str]:
    """Names of images in a folder that `volumes_in` takes for results or labels."""
    folder = Path(path)
    if not folder.is_dir():
        return []
    return sorted(name for name in results_in(folder) if suffix_of(name) in SCANS and (folder / name).is_file())


def is_marked(path: Path) -> bool:
    """Whether a file's header says that it is a result of `segment`."""
    if suffix_of(path) not in MARKED or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(HEADER_BYTES)
        if suffix_of(path) == ".nii.gz":
            start = zlib.decompressobj(wbits=31).decompress(start, HEADER_BYTES)
    except (OSError, zlib.error):  # who reads it will say so
        return False
    return RESULT_MARK.encode() in start


def not_searched(path: Path) -> list[str]:
    """Volumes below the folders of a folder, which only DICOM and GE Kretz are looked for in; by their place there."""
    if not path.is_dir():
        return []
    found = []
    for inner in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        for place, folders, _ in os.walk(inner):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            results = results_in(Path(place))
            for entry in sorted(Path(place).iterdir()):
                suffix = suffix_of(entry)
                if suffix in SCANS and suffix not in (".dcm", *KRETZ_SUFFIXES) and entry.name not in results:
                    found.append(entry.relative_to(path).as_posix())
    return found


def read_record(path: Path) -> dict[str, Any]:
    """What a record says; nothing where there is none, or where it is not as `segment` writes it."""
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    whole = isinstance(content, dict) and all(_are_digests(content.get(key, {})) for key in ("written", "earlier"))
    return content if whole and isinstance(content.get("row", {}), dict) else {}


def _are_digests(written: Any) -> bool:
    if not isinstance(written, dict) or any(Path(name).name != name for name in written):
        return False
    return all(isinstance(known, list) and all(isinstance(one, str) for one in known) for known in written.values())


def source_digest(source: Source) -> str:
    """Short hash of the bytes that a volume is read from."""
    if not isinstance(source, Path):
        return digest([file_digest(file) for file in source.files])
    if source.is_dir():
        results = results_in(source)
        files = [file for file in sorted(source.iterdir()) if file.name not in results and is_dicom(file)]
        return digest([file_digest(file) for file in files])
    return digest([file_digest(file) for file in files_of(source)])


def named(sources: Sequence[Source], folder: Path) -> list[tuple[str, Source]]:
    """Each source with the name of its results: that of the file, with `~2` and so on where another scan has it.

    Another scan is one of these sources, or one whose results lie in the folder already (by their record: neither from the same place nor
    of the same bytes). Capital letters do not tell names apart, since some disks do not.
    """
    taken: set[str] = set()
    pairs = []
    for source in sources:
        stem = plain_name(source)
        name, count = stem, 1
        while name.lower() in taken or _is_of_another(folder / f"{name}{RECORD_SUFFIX}", source):
            count += 1
            name = f"{stem}~{count}"
        taken.add(name.lower())
        pairs.append((name, source))
    return pairs


def plain_name(source: Source) -> str:
    """A source's own name, as that of results: UTF-8, in one line, not too long, and no formula where a table shows it."""
    stem = printable(_stem(source) if isinstance(source, Path) else source.name)
    stem = "".join(character if character.isprintable() else "_" for character in stem) or "volume"
    if stem[0] in "=+-@":
        stem = f"_{stem}"
    if len(stem.encode()) > LONGEST_NAME:
        stem = f"{stem.encode()[:LONGEST_NAME].decode(errors='ignore')}~{digest(stem)[:6]}"
    return stem


def place_of(source: Source) -> str:
    """Short hash of where a source lies."""
    path, name = (source, "") if isinstance(source, Path) else (source.files[0], source.name)
    return digest(os.fsencode(path.absolute()).hex(), name)


def _is_of_another(record: Path, source: Source) -> bool:
    """Whether a record is of another scan; one that says nothing of its scan may be of any."""
    known = read_record(record).get("source")
    if not isinstance(known, dict) or known.get("place") == place_of(source):
        return False
    try:
        return known.get("content") != source_digest(source)
    except OSError:  # it cannot be read, and its row will say so
        return True


def printable(text: str) -> str:
    """Text that can be written as UTF-8: a byte of a file's name that is none becomes `_`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "_")


def require_utf8(path: Path) -> None:
    """Raise ValueError for a name that readers of images cannot be given."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the name {path.name!a} is not UTF-8, which readers of images expect: rename the file or its folder"
        ) from error


def _is_volume_or_page(entry: Path) -> bool:
    known = (*SCANS, ".html")
    return entry.is_dir() or suffix_of(entry) in known or entry.name.endswith(RECORD_SUFFIX)


def _stem(path: Path) -> str:
    """A file's name without its suffix, which may be two; a folder's name."""
    if path.is_dir():
        return path.name
    for suffix in (".seg.nrrd", RECORD_SUFFIX):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    # the names of DICOM files are often numbers with dots, of which none is a suffix
    known = suffix_of(path) in (*SCANS, ".html")
    return path.name[: len(path.name) - len(suffix_of(path))] if known else path.name
