"""Files of one segmented volume: written whole, recorded, and never over a mask that a person has corrected."""

from __future__ import annotations

import math
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from filelock import FileLock, Timeout

from fhlib.cohorts.pairs import RECORD_SUFFIX
from fhlib.files import atomic_path, require_free_space, require_own_table, write_json
from fhlib.fingerprints import file_digest, stamped_row
from fhlib.images.dicom import Source
from fhlib.images.exchange import write_dicom_seg, write_segmentation
from fhlib.images.volume import Volume, to_sitk
from fhlib.segmentation.predictions import in_steps
from fhlib.segmentation.rows import STRUCTURES
from fhlib.segmentation.segmentor import Segmentation
from fhlib.segmentation.sources import RESULT_MARK, TABLE, printable, read_record

PAGE_BYTES = 3e6
"""A page with its picture, masks and record, at most."""


@dataclass
class Record:
    """`<name>.fhlib.json`: the digests of a volume's files as they were written, and its row once all of them are there.

    Every digest that was ever written under a name is kept until the volume is complete, so that a killed start takes no file of its own
    for a person's.
    """

    folder: Path
    name: str
    written: dict[str, list[str]] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, list[str]] = field(default_factory=dict)
    """Of files beside a corrected one, which later starts left as they were."""

    @classmethod
    def open(cls, folder: Path, name: str) -> Record:
        """That of an earlier start, or an empty one."""
        known = read_record(folder / f"{name}{RECORD_SUFFIX}")
        return cls(folder, name, known.get("written", {}), earlier=known.get("earlier", {}))

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / f"{self.name}{RECORD_SUFFIX}"

    def kept_row(self, fingerprint: str) -> dict[str, Any] | None:
        """The row of a volume that is complete for this fingerprint, or None."""
        if not self.written:
            return None
        row = _by_case(stamped_row(self.path, fingerprint, [self.folder / file for file in self.written]))
        masks = [file for file in sorted(self.written) if "_mask." in file or "_skull." in file]
        changed = [file for file in masks if self.is_changed(file)]
        if row is None or not changed:
            return row
        sizes = "".join(f"; {file} has {size:.1f} mL" for file in changed if (size := _size_ml(self.folder / file)))
        said = (
            f"{', '.join(changed)} was changed since and is kept: the numbers are of the mask as it was computed{sizes}"
        )
        return row | {"note": "; ".join(filter(None, (row["note"], said)))}

    def begin(self, place: str, content: str) -> None:
        """From here on the volume is not complete. Keeps hashes of its scan: of where it lies, and of its bytes."""
        self.source = {"place": place, "content": content}
        self._save({})

    def add(self, files: Mapping[str, str]) -> None:
        """Note digests of files, by name, before they are put in place."""
        for file, content in files.items():
            self.written[file] = [*self.written.get(file, []), content]
        self._save({})

    def complete(self, fingerprint: str, weights: str, row: Mapping[str, Any], files: Iterable[str]) -> None:
        """All is written: keep the row, and the last digest of each of these files."""
        last = {file: digests[-1:] for file, digests in (self.earlier | self.written).items()}
        self.written = {file: last.pop(file) for file in files}
        self.earlier = {file: digests for file, digests in last.items() if (self.folder / file).is_file()}
        self._save({"fingerprint": fingerprint, "weights": weights, "row": row})

    def is_changed(self, file: str, fresh: str = "") -> bool:
        """Whether a file is there that neither an earlier start wrote nor this one would write."""
        path = self.folder / file
        if not path.is_file():
            return path.exists()  # a folder of that name
        return file_digest(path) not in (fresh, *self.written.get(file, []), *self.earlier.get(file, []))

    def _save(self, more: Mapping[str, Any]) -> None:
        earlier = {"earlier": self.earlier} if self.earlier else {}
        write_json({**more, "source": self.source, "written": self.written, **earlier}, self.path)


def _size_ml(path: Path) -> float | None:
    """Volume of a mask that a person changed; None where it is no mask of one structure in 3D."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        return None
    inside = np.count_nonzero(sitk.GetArrayViewFromImage(image))
    return float(inside * math.prod(image.GetSpacing()) / 1000)


def _by_case(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """A row, of which earlier versions called the case `volume`."""
    if row is None or "volume" not in row:
        return row
    return {"case": row["volume"], **{name: value for name, value in row.items() if name != "volume"}}


def require_usable(folder: Path) -> None:
    """Make the folder for the results; raises OSError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as place:
            (Path(place) / "probe").write_bytes(b"1")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OSError(
            f"cannot write results to {folder.name!r} ({reason}): name a folder that can be written to"
        ) from error
    if (folder / TABLE).is_dir():
        raise OSError(f"in {folder.name!r} {TABLE} is a folder: move it away, or name another folder for the results")
    require_own_table(folder / TABLE, "status", "volume_ml")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait, and say so, while another process writes results to this folder; else each takes the other's files for a person's."""
    lock = FileLock(folder / ".fhlib-lock")
    try:
        with suppress(NotImplementedError, OSError):  # a file system without locks
            try:
                lock.acquire(blocking=False)
            except Timeout:
                print(f"another process writes to {folder.name}/: waiting for it", file=sys.stderr)
                lock.acquire()
        yield
    finally:
        lock.release()


def require_space(folder: Path, named: Iterable[tuple[str, Source]]) -> None:
    """Raise OSError where results of these volumes would not fit on the disk; what is complete is there already.

    A compressed probability is no larger than its scan.
    """
    needed = 0.0
    for name, source in named:
        if unfinished(folder, [name]):
            needed += PAGE_BYTES + _bytes_of(source)
    try:
        require_free_space(folder, needed)
    except OSError as error:
        raise OSError(f"{error}, or name a folder for the results on one") from error


def _bytes_of(source: Source) -> int:
    """Size of what a volume is read from; what cannot be looked at counts nothing."""
    files: Iterable[Path] = [source] if isinstance(source, Path) else source.files
    try:
        if isinstance(source, Path) and source.is_dir():
            files = list(source.iterdir())
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def earlier_rows(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of volumes that are complete in a folder, but for these; a second call with other scans loses none."""
    rows = []
    others = {name.lower() for name in names}
    for path in sorted(folder.glob(f"*{RECORD_SUFFIX}")):
        name = path.name.removesuffix(RECORD_SUFFIX)
        known = read_record(path)
        if name.lower() not in others and "fingerprint" in known:
            kept = Record.open(folder, name).kept_row(known["fingerprint"])
            rows += [kept] if kept else []
    return rows


def unfinished(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the volumes of which not all is written."""
    return [name for name in names if "fingerprint" not in read_record(folder / f"{name}{RECORD_SUFFIX}")]


def write_probability(found: Segmentation, record: Record) -> str:
    """Write the probability as predictions are; returns the file's name."""
    path = record.folder / f"{record.name}_probability.nrrd"
    _write_marked(in_steps(found.probability), path)
    record.add({path.name: file_digest(path)})
    return path.name


def write_mask(
    result: Segmentation, label: str, source: Source, record: Record, weights: str = ""
) -> tuple[list[str], list[str]]:
    """Write the files of one mask; returns their names, and what there is to say.

    Where a person has changed one of them, all of the new ones go to `<name>~new_...` beside.

    Args:
        result: with the mask.
        label: mask or skull.
        source: what was read. A DICOM series gets a DICOM SEG, too, where one can be made.
        record: of the volume.
        weights: name and hash of those that made the mask.
    """
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=record.folder) as place:
        notes = _stage(result, label, source, Path(place), weights)
        staged = {path: file_digest(path) for path in sorted(Path(place).iterdir())}
        stem, changed = _free_stem(staged, record)
        if changed:
            notes.append(f"{', '.join(changed)} was changed by hand and is kept: the new files are {stem}_{label}...")
        named = {path: f"{stem}{path.name}" for path in staged}
        record.add({file: staged[path] for path, file in named.items()})
        for path, file in named.items():
            path.replace(record.folder / file)
    return list(named.values()), notes


def _stage(result: Segmentation, label: str, source: Source, place: Path, weights: str) -> list[str]:
    """Write a mask in all its formats, with names that lack the volume's; what could not be made, in words."""
    structure = STRUCTURES[result.outline]
    if result.mask.ndim == 2:
        _write_marked(result.mask, place / f"_{label}.nrrd")
        return []
    _write_marked(result.mask, place / f"_{label}.nii.gz")
    write_segmentation(result.mask, place / f"_{label}.seg.nrrd", structure)
    slices = source if isinstance(source, Path) else source.files
    if not ((isinstance(slices, tuple) or slices.is_dir()) and result.mask.array.any()):
        return []
    path = place / f"_{label}.dcm"
    try:
        write_dicom_seg(result.mask, slices, path, structure, weights)
    except Exception as error:  # highdicom reads tags that a foreign file may lack or hold in any form
        path.unlink(missing_ok=True)
        return [f"no DICOM SEG of the {structure}: {reason_of(error)}"]
    return []


def _write_marked(volume: Volume, path: Path) -> None:
    """Write a volume, compressed, with `RESULT_MARK` in its header."""
    image = to_sitk(volume)
    image.SetMetaData("ITK_FileNotes", RESULT_MARK)
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


def _free_stem(staged: Mapping[Path, str], record: Record) -> tuple[str, list[str]]:
    """The first of `<name>`, `<name>~new`, `<name>~new2` ... under which no file was changed; the changed ones of the first."""
    first: list[str] = []
    stem, number = record.name, 1
    while changed := [file for path, fresh in staged.items() if record.is_changed(file := f"{stem}{path.name}", fresh)]:
        first = first or changed
        stem = f"{record.name}~new{number if number > 1 else ''}"
        number += 1
    return stem, first


def reason_of(error: BaseException) -> str:
    """Why something failed, in words."""
    text = printable(str(error))
    # torch has no MemoryError of its own on a processor
    if isinstance(error, MemoryError) or "allocate memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory: free some, or resample the volume"
    if isinstance(error, OSError) and error.strerror:
        file = printable(Path(os.fsdecode(error.filename)).name) if isinstance(error.filename, str | bytes) else ""
        return f"{error.strerror}: {file}" if file else error.strerror
    if lacking := re.search(r"Dataset' object has no attribute '(\w+)'", text):
        return f"the series lacks the attribute {lacking[1]}"
    return text or type(error).__name__
