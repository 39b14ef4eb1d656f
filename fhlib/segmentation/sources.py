"""What is to be segmented: volumes in a folder, and never the results that lie beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fhlib.cohorts.pairs import RECORD_SUFFIX
from fhlib.files import read_json
from fhlib.fingerprints import digest, file_digest
from fhlib.images.dicom import Source, dicom_sources, is_damaged, is_dicom
from fhlib.images.formats import READABLE, files_of, suffix_of

TABLE = "segment.csv"

_RESULT = re.compile(r"(?P<of>.+?)(~new\d*)?_(mask|skull|probability|label)", re.IGNORECASE)


def volumes_in(path: str | Path) -> list[Source]:
    """The file named, or what a folder holds: files that may be volumes, and the DICOM in it and in the folders below it.

    Each DICOM series is a volume of its own, and so is each DICOM file of several frames. A folder that holds one
    series and nothing else of DICOM stands for it. A DICOMDIR stands for its folder. Hidden files are passed over
    (macOS leaves `._a.nrrd` beside `a.nrrd`), and so are results and labels, see `results_in`.

    Raises FileNotFoundError if it is missing or holds no volume, ValueError for a name that is not UTF-8.
    """
    path = Path(path).expanduser()
    require_utf8(path)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path.name!r}: give a volume, a folder of volumes or a DICOM series folder"
        )
    if path.name.upper() == "DICOMDIR":
        path = path.resolve().parent
    if path.name in ("", ".."):
        path = path.resolve()  # results are named for it
    if path.is_file():
        return [path]

    passed_over = results_in(path)
    shown = [entry for entry in path.iterdir() if not entry.name.startswith(".") and entry.name not in passed_over]
    files = {entry for entry in shown if suffix_of(entry) in READABLE and entry.is_file()}
    dicom = [source for source in dicom_sources(path) if source.name not in passed_over]
    # what is DICOM stands in the second list, or is no image
    single = {file for file in files if not is_dicom(file) or is_damaged(file)}
    single |= {source for source in dicom if isinstance(source, Path) and source.parent == path and source.is_file()}
    found = [*sorted(single), *(source for source in dicom if source not in single)]
    if not found:
        raise FileNotFoundError(
            f"there is no volume in {path.name!r}: expected NRRD, MHA, NIfTI or DICOM files, or folders with a DICOM "
            "series; results of `segment` and hidden files do not count"
        )
    return found


def results_in(folder: Path) -> set[str]:
    """Names of files in a folder that are results of `segment` or labels, which are no scans.

    Those are what a record lists, any `.seg.nrrd`, and `X_mask`, `X_skull`, `X_probability` and `X_Label` where an X lies beside.
    """
    found = {TABLE}
    entries = sorted(folder.iterdir())
    beside = {_stem(entry).lower() for entry in entries if _is_volume_or_page(entry)}
    for entry in entries:
        name = entry.name.lower()
        result = _RESULT.fullmatch(_stem(entry))
        if name.endswith(".seg.nrrd") or (result and result["of"].lower() in beside):
            found.add(entry.name)
        if name.endswith(RECORD_SUFFIX):
            found |= {entry.name, *read_record(entry).get("written", {})}
    return found


def passed_over(path: str | Path) -> list[str]:
    """Names of images in a folder that `volumes_in` takes for results or labels."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return []
    return sorted(name for name in results_in(folder) if suffix_of(name) in READABLE and (folder / name).is_file())


def read_record(path: Path) -> dict:
    """What a record says; nothing where there is none, or where it cannot be read."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def source_digest(source: Source) -> str:
    """Short hash of the bytes that a volume is read from."""
    if not isinstance(source, Path):
        return digest([file_digest(file) for file in source.files])
    if source.is_dir():
        results = results_in(source)
        files = [file for file in sorted(source.iterdir()) if file.name not in results and is_dicom(file)]
        return digest([file_digest(file) for file in files])
    return digest([file_digest(file) for file in files_of(source)])


def named(sources: Sequence[Source]) -> list[tuple[str, Source]]:
    """Each source with the name of its results: that of the file, with `~2` and so on where it is taken.

    Capital letters do not tell names apart, since some disks do not. What is not UTF-8 becomes `_`.
    """
    taken: set[str] = set()
    pairs = []
    for source in sources:
        stem = printable(_stem(source) if isinstance(source, Path) else source.name)
        name, count = stem, 1
        while name.lower() in taken:
            count += 1
            name = f"{stem}~{count}"
        taken.add(name.lower())
        pairs.append((name, source))
    return pairs


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
    known = (*READABLE, ".html")
    return entry.is_dir() or suffix_of(entry) in known or entry.name.endswith(RECORD_SUFFIX)


def _stem(path: Path) -> str:
    """A file's name without its suffix, which may be two; a folder's name."""
    if path.is_dir():
        return path.name
    for suffix in (".seg.nrrd", RECORD_SUFFIX):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    # the names of DICOM files are often numbers with dots, of which none is a suffix
    known = suffix_of(path) in (*READABLE, ".html")
    return path.name[: len(path.name) - len(suffix_of(path))] if known else path.name
