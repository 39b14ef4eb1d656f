"""Segment volumes of your own with trained or shipped weights: masks, measures, flags, and files for other programs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fhlib import __version__
from fhlib.figures.planes import planes
from fhlib.files import progress, write_csv
from fhlib.fingerprints import digest, file_digest
from fhlib.images.dicom import Source, read_dicom
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume
from fhlib.measures.biometry import biometry
from fhlib.measures.growth import valid_weeks
from fhlib.models.weights import weights_folder
from fhlib.segmentation.outputs import (
    STRUCTURES,
    Record,
    reason_of,
    require_space,
    require_usable,
    write_mask,
    write_probability,
)
from fhlib.segmentation.page import case_page
from fhlib.segmentation.quality import MEANINGS
from fhlib.segmentation.segmentor import Segmentation, Segmentor
from fhlib.segmentation.sources import TABLE, named, require_utf8, source_digest, volumes_in

__all__ = ["COLUMNS", "Found", "measures", "picture", "segment_files", "volumes_in", "weights_digest"]

COLUMNS = (
    "volume",
    "status",
    "volume_ml",
    "volume_low_ml",
    "volume_high_ml",
    "bpd_mm",
    "ofd_mm",
    "hc_mm",
    "hc_centile",
    "flags",
    "note",
)

NO_HEAD = "no head"
"""The flag of a mask that may be none."""


@dataclass(frozen=True)
class Found:
    """One volume with what was found in it; `skull` where a skull's segmentor was given."""

    volume: Volume
    head: Segmentation
    skull: Segmentation | None


def segment_files(
    segmentor: Segmentor,
    sources: Sequence[Source],
    folder: Path,
    skull: Segmentor | None = None,
    ga_weeks: float | None = None,
    keep: int = 6,
    weights: str = "",
    spacing_mm: Sequence[float] | None = None,
) -> tuple[pd.DataFrame, dict[str, Found]]:
    """Segment volumes that the study has not seen; returns a row a volume (COLUMNS) and the first results by name.

    Writes for each volume `<name>_mask.nii.gz` and `<name>_mask.seg.nrrd` (2D: `.nrrd`), `<name>_probability.nrrd` (0-255), `<name>.html`
    and, for a DICOM series, `<name>_mask.dcm`; with `skull` also `<name>_skull...`. `<name>.fhlib.json` records them, and `segment.csv`
    grows by a row a volume. A mask that was changed by hand is kept, and the new one goes to `<name>~new_mask...`.

    The status is `found`, `nothing found`, `uncertain` (a mask, with the flag `no head`: no sizes are given) or `failed`. BPD, OFD and HC
    are of the skull where there is one, else named `skin_bpd_mm` .... What cannot be read, segmented, written or drawn is told in the
    row's note and stops nothing.

    Args:
        segmentor: outlines the whole head. One that outlines the skull is taken at its word: its files and its page speak of the skull.
        sources: files, folders with a DICOM series, or series (see `volumes_in`).
        folder: for the results.
        skull: a second one that outlines the skull.
        ga_weeks: gestational age of all of them; the skull's HC then has a centile.
        keep: how many results are returned (some 300 MB each at the paper's size).
        weights: `weights_digest` of both segmentors. With it, a volume that is complete for the same bytes, weights and age is not
            computed again, and is not among the results.
        spacing_mm: of all of them, in place of what their files state; where one states another, its note says so.

    Raises ValueError for an age that is no positive number, OSError where the folder cannot be written to or its disk is full.
    """
    _require_age(ga_weeks)
    require_usable(folder)
    pairs = named(sources)
    require_space(folder, pairs)
    task = _Task(segmentor, skull, folder, ga_weeks, weights, spacing_mm)
    rows: list[dict[str, Any]] = []
    results: dict[str, Found] = {}
    write_csv(_table(rows), folder / TABLE)
    for name, source in progress(pairs, "segment", total=len(pairs)):
        row, found = task.row_of(name, source)
        rows.append(row)
        if found is not None and len(results) < keep:
            results[name] = found
        write_csv(_table(rows), folder / TABLE)
    return _table(rows), results


def weights_digest(*folders: Path | str) -> str:
    """Short hash of the weights, parameters and calibration of segmentors, by folder or name."""
    parts = []
    for folder in folders:
        files = sorted(path for path in weights_folder(folder).rglob("*") if path.suffix in (".safetensors", ".json"))
        parts.append([file_digest(path) for path in files])
    return digest(parts)


@dataclass(frozen=True)
class _Task:
    """What is done with each volume (see `segment_files`)."""

    segmentor: Segmentor
    skull: Segmentor | None
    folder: Path
    ga_weeks: float | None
    weights: str
    spacing_mm: Sequence[float] | None

    def row_of(self, name: str, source: Source) -> tuple[dict[str, Any], Found | None]:
        """The row of one volume, and its result where it was computed.

        Whatever goes wrong is of this volume only: it is foreign data, read by five libraries.
        """
        try:
            require_utf8(source if isinstance(source, Path) else source.files[0])
            record = Record.open(self.folder, name)
            fingerprint = self._fingerprint(source)
            kept = record.kept_row(fingerprint) if self.weights else None
            if kept is not None:
                return kept | {"volume": name}, None
            record.begin()
            return self._make(record, source, fingerprint)
        except Exception as error:
            return {"volume": name, "status": "failed", "note": reason_of(error)}, None

    def _fingerprint(self, source: Source) -> str:
        dicom = bool(list(distributions(name="highdicom")))  # once it is installed, a series lacks its DICOM SEG
        options = (self.weights, bool(self.skull), self.ga_weeks, self.spacing_mm, dicom)
        return digest(__version__, *options, source_digest(source))

    def _make(self, record: Record, source: Source, fingerprint: str) -> tuple[dict[str, Any], Found | None]:
        """Segment and write one volume; the result is returned where it could be drawn.

        A skull or a page that fails leaves the head, and the record without a row.
        """
        found, faults = self._segmented(_read(source, self.spacing_mm))
        row: dict[str, Any] = {"volume": record.name, **measures(found, self.ga_weeks), "note": ""}
        files, notes = (
            [write_probability(found.head, record)],
            [*self._about_spacing(source, found.volume), *faults, *_about_age(self.ga_weeks)],
        )
        given = {"mask": found.head} | ({"skull": found.skull} if found.skull else {})
        for label, result in given.items():
            written, said = write_mask(result, label, source, record)
            files += written
            notes += said
        try:
            files.append(self._draw(found, row | {"note": "; ".join(notes)}, record))
        except Exception as error:
            faults.append(f"no page: {reason_of(error)}")
            notes.append(faults[-1])
        row["note"] = "; ".join(notes)
        if not faults:
            record.complete(fingerprint, self.weights, row, files)
        drawn = f"{record.name}.html" in files
        return row, found if drawn else None

    def _segmented(self, volume: Volume) -> tuple[Found, list[str]]:
        """Head and skull; a skull that fails in words."""
        head = self.segmentor.segment(volume, ga_weeks=self.ga_weeks)
        if self.skull is None:
            return Found(volume, head, None), []
        try:
            return Found(volume, head, self.skull.segment(volume)), []
        except Exception as error:
            return Found(volume, head, None), [f"no skull: {reason_of(error)}"]

    def _about_spacing(self, source: Source, volume: Volume) -> list[str]:
        """What a file states of its spacing where the caller gave another; nothing where it states none."""
        if not self.spacing_mm:
            return []
        try:
            with warnings.catch_warnings(action="error"):
                stated = _read(source, None).spacing_mm
        except Exception:  # it cannot be read without one, or a warning says that there is none
            return []
        if np.allclose(stated, volume.spacing_mm, rtol=1e-3):
            return []
        return [f"spacing {_in_mm(volume.spacing_mm)} as given, in place of the file's {_in_mm(stated)}"]

    def _draw(self, found: Found, row: dict[str, Any], record: Record) -> str:
        path = self.folder / f"{record.name}.html"
        words = _in_words(row, found, self.ga_weeks)
        case_page(record.name, words, _meanings(found), picture(found, record.name), path)
        record.add({path.name: file_digest(path)})
        return path.name


def _in_mm(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{step:.4g}" for step in spacing_mm) + " mm"


def _read(source: Source, spacing_mm: Sequence[float] | None) -> Volume:
    return read_volume(source, spacing_mm) if isinstance(source, Path) else read_dicom(source, spacing_mm)


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    extra: dict[str, None] = {}
    for row in rows:
        extra |= dict.fromkeys(key for key in row if key not in COLUMNS)
    return pd.DataFrame(rows, columns=[*COLUMNS, *extra])


def _require_age(ga_weeks: float | None) -> None:
    if ga_weeks is not None and not (math.isfinite(ga_weeks) and ga_weeks > 0):
        raise ValueError(f"gestational age {ga_weeks:g} weeks is none: give a positive number of weeks, such as 26.5")


def _about_age(ga_weeks: float | None) -> list[str]:
    """Why an age gives no centile."""
    first, last = valid_weeks("hc")
    if ga_weeks is None or first <= ga_weeks <= last:
        return []
    days = f" ({ga_weeks:g} days are {ga_weeks / 7:.3g} weeks)" if first <= ga_weeks / 7 <= last else ""
    return [f"no centile: {ga_weeks:g} weeks is outside the chart's {first:g} to {last:g} weeks{days}"]


def measures(found: Found, ga_weeks: float | None = None) -> dict[str, Any]:
    """Status, volume with its interval, biometry and flags of one result (see `segment_files`)."""
    low, high = found.head.interval_ml
    skull_flags = found.skull.flags if found.skull else ()
    flags = [*found.head.flags, *(f"skull: {flag}" for flag in skull_flags)]
    row: dict[str, Any] = {
        "status": _status(found),
        "volume_ml": found.head.volume_ml,
        "volume_low_ml": low,
        "volume_high_ml": high,
        "flags": "; ".join(flags),
    }
    outlined = found.skull or found.head
    if row["status"] != "found" or not outlined.mask.array.any():
        return row
    sizes = biometry(outlined.mask, "skull" if outlined.outline == "skull" else "skin")
    row |= {name: value for name, value in sizes.asdict().items() if name.endswith(("bpd_mm", "ofd_mm", "hc_mm"))}
    first, last = valid_weeks("hc")
    if outlined.outline == "skull" and ga_weeks and first <= ga_weeks <= last and math.isfinite(sizes.hc_mm):
        row["hc_centile"] = sizes.growth(ga_weeks)["hc_centile"]
    return row


def _status(found: Found) -> str:
    if not found.head.mask.array.any():
        return "nothing found"
    if NO_HEAD in found.head.flags or (found.skull and NO_HEAD in found.skull.flags):
        return "uncertain"
    return "found"


def picture(found: Found, name: str) -> Any:
    """Three planes with the outlines that were found."""
    given = {STRUCTURES[result.outline]: result for result in (found.head, found.skull) if result}
    outlines = {label: result.mask for label, result in given.items() if result.mask.array.any()}
    title = f"{name}: {'; '.join(found.head.flags) or 'no flag'}"
    return planes(found.volume, outlines, probability=found.head.probability, title=title)


def _meanings(found: Found) -> dict[str, str]:
    flags = [*found.head.flags, *(found.skull.flags if found.skull else ())]
    return {flag: MEANINGS[flag] for flag in dict.fromkeys(flags)}


def _in_words(row: dict[str, Any], found: Found, ga_weeks: float | None) -> dict[str, str]:
    def number(name: str, unit: str, digits: int = 1) -> str:
        value = row.get(name)
        return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f} {unit}".strip()

    volume, low, high = (number(name, "", 0) for name in ("volume_ml", "volume_low_ml", "volume_high_ml"))
    words = {"Result": str(row["status"])}
    if row["status"] == "uncertain":
        words["Result"] = "uncertain: something is outlined, and it may be no head; no sizes are given"
    if volume and row["status"] in ("found", "uncertain"):
        whole = "the skull" if found.head.outline == "skull" else "the whole head, to the skin"
        whole = whole if row["status"] == "found" else "what is outlined"
        words[f"Volume of {whole}"] = f"{volume} mL" + (f" (95 % interval {low} to {high} mL)" if low else "")
    for label, name in (("BPD", "bpd_mm"), ("OFD", "ofd_mm"), ("HC", "hc_mm")):
        skull, skin = number(name, "mm"), number(f"skin_{name}", "mm")
        if skull or skin:
            words[f"{label}, {'outer skull' if skull else 'to the skin: not for growth charts'}"] = skull or skin
    if centile := number("hc_centile", "", 0):
        words[f"HC centile at {ga_weeks:g} weeks (INTERGROWTH-21st)"] = centile
    if row["note"]:
        words["Note"] = str(row["note"])
    return words
