"""What is to be segmented: volumes in a folder, and never the results that lie beside them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from fhlib.cohorts.pairs import RECORD_SUFFIX
from fhlib.files import read_json
from fhlib.fingerprints import digest, file_digest
from fhlib.images.formats import READABLE, is_series, series_ids, suffix_of

TABLE = "segment.csv"

HEADERS = (".mhd", ".nhdr", ".hdr")
"""Formats whose voxels lie in another file of the same name."""

_RESULT = re.compile(r"(?P<of>.+?)(~new\d*)?_(mask|skull|probability|label)", re.IGNORECASE)


def volumes_in(path: str | Path) -> list[Path]:
    """The file or DICOM series folder named, or what a folder holds: files that may be volumes and folders with a DICOM series.

    Hidden files are passed over (macOS leaves `._a.nrrd` beside `a.nrrd`), and so are results and labels, see `results_in`.

    Raises FileNotFoundError if it is missing or holds no volume, ValueError for a name that is not UTF-8.
    """
    path = Path(path).expanduser()
    require_utf8(path)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path.name!r}: give a volume, a folder of volumes or a DICOM series folder"
        )
    if path.is_file():
        return [path]

    passed_over = results_in(path)
    entries = [entry for entry in sorted(path.iterdir()) if entry.name not in passed_over]
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    files = [entry for entry in shown if suffix_of(entry) in READABLE and entry.is_file()]
    if is_series(path):
        return [path, *(file for file in files if suffix_of(file) != ".dcm")]
    found = [*files, *(entry for entry in shown if entry.is_dir() and _may_be_series(entry))]
    if not found and slices_of(path):
        return [path]
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


def slices_of(folder: Path) -> list[Path]:
    """DICOM files of a folder, in the order of its series, without results of `segment`."""
    results = results_in(folder)
    files: list[Path] = []
    for series in series_ids(folder):
        names = (Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
        files += [file for file in names if file.name not in results]
    return files


@contextmanager
def without_results(source: Path) -> Iterator[Path]:
    """The source; for a folder among whose files results lie, a copy without them, which is removed in the end.

    A DICOM SEG beside the slices is a second series to every reader, and a folder counts as the one file that it holds.
    """
    if not (source.is_dir() and any((source / name).exists() for name in results_in(source))):
        yield source
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / source.resolve().name
        copy.mkdir()
        for file in _files_of(source):
            shutil.copy(file, copy)
        yield copy


def source_digest(source: Path) -> str:
    """Short hash of the bytes that a volume is read from."""
    if source.is_dir():
        return digest([file_digest(file) for file in _files_of(source)])
    files = [source]
    if suffix_of(source) in HEADERS:
        results = results_in(source.parent)
        near = (file for file in sorted(source.parent.iterdir()) if file.name.startswith(_stem(source)))
        files += [file for file in near if file.is_file() and file.name not in results]
    return digest([file_digest(file) for file in files])


def named(sources: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each source with the name of its results: that of the file, with `~2` and so on where it is taken.

    Capital letters do not tell names apart, since some disks do not. What is not UTF-8 becomes `_`.
    """
    taken: set[str] = set()
    pairs = []
    for source in sources:
        whole = source if source.name not in ("", "..") else source.resolve()
        stem = printable(_stem(whole))
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


def _files_of(folder: Path) -> list[Path]:
    """What the volume of a folder is read from; it may be no series of slices, such as a Kretz file in DICOM."""
    results = results_in(folder)
    files = (file for file in sorted(folder.iterdir()) if file.name not in results)
    return slices_of(folder) or [file for file in files if file.is_file() and not file.name.startswith(".")]


def _may_be_series(folder: Path) -> bool:
    try:
        require_utf8(folder)
    except ValueError:
        return True  # nobody can look into it, so it gets a row that says why
    return bool(slices_of(folder))


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
    return path.name[: len(path.name) - len(suffix_of(path))]
