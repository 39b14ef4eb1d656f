"""What lies in a folder as a scanner or a PACS exports it: series, files of several frames, GE Kretz volumes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fhlib.images.dicom.embedded import kretz_in
from fhlib.images.dicom.headers import DamagedError, frame_count, is_cut, is_damaged, is_dicom, read_header
from fhlib.images.volume import ReadWarning


@dataclass(frozen=True)
class DicomSeries:
    """Slices of one series; `name` tells it apart, `faults` say why it cannot be whole."""

    name: str
    files: tuple[Path, ...]
    faults: tuple[str, ...] = ()


LEVELS_OF_A_DISC = 4
"""How far above a folder its DICOMDIR may lie: PATIENT/STUDY/SERIES, and one more."""

Source = Path | DicomSeries
"""What becomes one volume: a file, a folder with one series, or one series of several."""


def dicom_sources(folder: Path) -> list[Source]:
    """Every image or volume in a folder and the folders below it, foreign files and a DICOMDIR passed over.

    A file of several frames, a GE Kretz volume, the only file of its series, or a damaged file is itself a source. So is a
    folder that holds one series and no other image. Slices of several series in one folder are told apart by
    SeriesInstanceUID. A series has a fault where a damaged file lies beside it, or where a DICOMDIR lists files beside it
    that are missing.
    """
    folders: dict[Path, dict[str, list[Path]]] = {}
    indices: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.name.upper() == "DICOMDIR":
            indices.append(path)
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        series = None if hidden else _series_of(path)
        if series is not None:
            folders.setdefault(path.parent, {}).setdefault(series, []).append(path)

    missing = _missing_files(folder, indices)
    sources: list[Source] = []
    for place, groups in folders.items():
        # a folder with more below cannot stand for its own slices alone
        leaf = not any(place in other.parents for other in folders)
        sources += _sources_of(place, list(groups.values()), leaf, missing.get(place.resolve(), ()))
    return sources


def _series_of(path: Path) -> str | None:
    """What tells apart the series of a file; None for what is foreign or no scan."""
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return None
    try:
        if kretz_in(path) is not None:
            return str(path)
        header = read_header(path) if is_dicom(path) else None
    except DamagedError:
        return str(path)
    if header is None:
        return None
    if is_cut(header):
        return str(path)
    # reports and the like have no pixels; a segmentation is no scan
    if "Rows" not in header or header.get("Modality") == "SEG":
        return None
    return str(path) if frame_count(header) > 1 else str(header.get("SeriesInstanceUID", path))


def _sources_of(folder: Path, groups: Sequence[list[Path]], leaf: bool, missing: Sequence[str]) -> list[Source]:
    """The sources among the files of one folder.

    Args:
        folder: where they lie.
        groups: the files of each series.
        leaf: whether no folder below holds DICOM.
        missing: names that a DICOMDIR lists in this folder, and that are not there.
    """
    alone = [files[0] for files in groups if len(files) == 1]
    faults = [f"{path.name} lies among them and is damaged: copy it again" for path in alone if _is_damaged_slice(path)]
    if missing:
        faults.append(f"DICOMDIR lists {len(missing)} more that are missing ({missing[0]}): copy the disc again")
    if len(groups) == 1 and len(groups[0]) > 1:
        if leaf and not faults:
            return [folder]
        return [DicomSeries(folder.name, tuple(groups[0]), tuple(faults))]
    sources: list[Source] = []
    for files in groups:
        # the UID may identify a patient; a file's name was the user's choice
        name = f"{folder.name}-{files[0].stem}"
        sources.append(files[0] if len(files) == 1 else DicomSeries(name, tuple(files), tuple(faults)))
    return sources


def _is_damaged_slice(path: Path) -> bool:
    try:
        return is_dicom(path) and is_damaged(path) and kretz_in(path) is None
    except DamagedError:
        return True


def series_files(folder: Path) -> tuple[Path, ...]:
    """The files of the one series or volume of a folder; ValueError for none or several."""
    source = only_source(folder)
    return source.files if isinstance(source, DicomSeries) else (source,)


def only_source(folder: Path) -> Path | DicomSeries:
    """The one series or file of a folder, searched to its leaves; ValueError for none or several."""
    sources = dicom_sources(folder)
    if not sources:
        raise ValueError(
            f"the folder {folder.name}/ holds no DICOM series: give an image file or a folder of DICOM slices"
        )
    if len(sources) > 1:
        named = "; ".join(_described(source, folder) for source in sources[:8])
        more = f"; and {len(sources) - 8} more" if len(sources) > 8 else ""
        raise ValueError(
            f"the folder {folder.name}/ holds {len(sources)} DICOM series ({named}{more}): keep one series a folder, "
            "or name one of them"
        )
    source = sources[0]
    if isinstance(source, Path) and source.is_dir():
        return DicomSeries(source.name + "/", _slices_of(source))
    return source


def _slices_of(folder: Path) -> tuple[Path, ...]:
    """The DICOM images that lie in a folder itself, which holds one series."""
    visible = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return tuple(path for path in visible if _series_of(path) is not None)


def _described(source: Source, folder: Path) -> str:
    if isinstance(source, Path) and source.is_file():
        kind = "1 damaged file" if _is_damaged_slice(source) else "1 file"
        return f"{kind}, {source.relative_to(folder).as_posix()}"
    files = _slices_of(source) if isinstance(source, Path) else source.files
    return f"{len(files)} files from {files[0].relative_to(folder).as_posix()}"


def _missing_files(folder: Path, indices: Sequence[Path]) -> Mapping[Path, Sequence[str]]:
    """Names of files that a DICOMDIR in or above a folder lists and that are not there, by the folder they belong to.

    A warning tells of each such folder.
    """
    root = folder.resolve()
    above = [place / "DICOMDIR" for place in root.parents[:LEVELS_OF_A_DISC]]
    missing: dict[Path, list[str]] = {}
    for index in (*(path.resolve() for path in indices), *above):
        for parts in _listed(index):
            path = index.parent.joinpath(*parts)
            if path.is_relative_to(root) and not _is_there(path):
                missing.setdefault(path.parent, []).append(path.name)
    for place, names in missing.items():
        warnings.warn(
            f"DICOMDIR lists {len(names)} files in {place.name}/ that are missing (the first is {names[0]}): copy the disc "
            "again",
            ReadWarning,
            stacklevel=3,
        )
    return missing


def _is_there(path: Path) -> bool:
    """Whether a listed file exists, also with other capital letters or with a suffix, as copies of a disc have them."""
    if path.exists():
        return True
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return path.name.lower() in {name.lower() for file in beside for name in (file.name, file.stem)}


def _listed(index: Path) -> list[tuple[str, ...]]:
    """The path of each file that a DICOMDIR lists; none where there is no DICOMDIR that can be read."""
    if not index.is_file():
        return []
    try:
        import pydicom

        with warnings.catch_warnings(action="ignore"):
            records = pydicom.dcmread(index, specific_tags=["DirectoryRecordSequence"]).get("DirectoryRecordSequence")
            stated = [record.get("ReferencedFileID") for record in records or ()]
    except Exception:  # a damaged index says nothing, and its message may hold a value
        return []
    return [(name,) if isinstance(name, str) else tuple(name) for name in stated if name]
