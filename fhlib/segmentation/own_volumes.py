"""Segment volumes of your own with trained or shipped weights: masks, measures, flags, and files for other programs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
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
from fhlib.measures.growth import centile, valid_weeks
from fhlib.models.parameters import PARAMETERS_FILE
from fhlib.models.weights import weights_files, weights_folder
from fhlib.segmentation.outputs import (
    STRUCTURES,
    Record,
    earlier_rows,
    reason_of,
    require_space,
    require_usable,
    write_mask,
    write_probability,
)
from fhlib.segmentation.page import case_page
from fhlib.segmentation.quality import CALIBRATION, MEANINGS
from fhlib.segmentation.segmentor import Segmentation, Segmentor
from fhlib.segmentation.sources import (
    TABLE,
    named,
    place_of,
    plain_name,
    printable,
    require_utf8,
    source_digest,
    volumes_in,
)

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

THINNEST = 3
"""Voxels that a mask must span along each axis to have sizes."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the begin of a formula."""


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
    if skull is not None and skull.outline != "skull":
        raise ValueError(f"the second weights outline the {skull.outline}: give some that outline the skull, or none")
    require_usable(folder)
    pairs = named(sources, folder)
    require_space(folder, pairs)
    task = _Task(segmentor, skull, folder, ga_weeks, weights, spacing_mm)
    rows: list[dict[str, Any]] = []
    earlier = earlier_rows(folder, dict(pairs))
    results: dict[str, Found] = {}
    _write_table([*rows, *earlier], folder)
    for name, source in progress(pairs, "segment", total=len(pairs)):
        row, found = task.row_of(name, source)
        rows.append(row)
        if found is not None and len(results) < keep:
            results[name] = found
        _write_table([*rows, *earlier], folder)
    return _table(rows), results


def weights_digest(*folders: Path | str) -> str:
    """Short hash of the weights, parameters and calibration of segmentors, by folder or name."""
    parts = []
    for folder in map(weights_folder, folders):
        weights = weights_files(folder)
        files = [*weights, *(path.with_name(PARAMETERS_FILE) for path in weights), folder / CALIBRATION]
        parts.append([file_digest(path) for path in files if path.exists()])
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
            record, content = Record.open(self.folder, name), source_digest(source)
            fingerprint = self._fingerprint(content)
            kept = record.kept_row(fingerprint) if self.weights else None
            if kept is not None:
                return kept | {"volume": name}, None
            record.begin(place_of(source), content)
            return self._make(record, source, fingerprint)
        except Exception as error:
            return {"volume": name, "status": "failed", "note": reason_of(error)}, None

    def _fingerprint(self, content: str) -> str:
        dicom = bool(list(distributions(name="highdicom")))  # once it is installed, a series lacks its DICOM SEG
        options = (self.weights, bool(self.skull), self.ga_weeks, self.spacing_mm, dicom)
        return digest(__version__, *options, content)

    def _make(self, record: Record, source: Source, fingerprint: str) -> tuple[dict[str, Any], Found | None]:
        """Segment and write one volume; the result is returned where it could be drawn.

        A skull or a page that fails leaves the head, and the record without a row.
        """
        volume, warned = _read_with_warnings(source, self.spacing_mm)
        found, faults = self._segmented(volume)
        row = {"volume": record.name, **measures(found, self.ga_weeks)}
        files = [write_probability(found.head, record)]
        notes = [*_about_name(record.name, source), *warned, *self._about_spacing(source, volume), *faults]
        notes += [row["note"]] if row["note"] else []
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


def _read_with_warnings(source: Source, spacing_mm: Sequence[float] | None) -> tuple[Volume, list[str]]:
    """The volume, and what reading it warned of; not what libraries say, which may hold a patient's tags."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = _read(source, spacing_mm)
    return volume, [str(warning.message) for warning in caught if Path(warning.filename) == Path(__file__)]


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    extra: dict[str, None] = {}
    for row in rows:
        extra |= dict.fromkeys(key for key in row if key not in COLUMNS)
    return pd.DataFrame(rows, columns=[*COLUMNS, *extra])


def _write_table(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    table = _table(rows)
    table["note"] = [f"'{note}" if str(note).startswith(FORMULA) else note for note in table["note"]]
    write_csv(table, folder / TABLE)


def _about_name(name: str, source: Source) -> list[str]:
    """Which of several scans of one name this is."""
    plain = plain_name(source)
    if name == plain:
        return []
    path = source if isinstance(source, Path) else source.files[0]
    return [f"the name {plain} is another scan's: this one is {printable(f'{path.parent.name}/{path.name}')}"]


def _require_age(ga_weeks: float | None) -> None:
    if ga_weeks is not None and not (math.isfinite(ga_weeks) and ga_weeks > 0):
        raise ValueError(f"gestational age {ga_weeks:g} weeks is none: give a positive number of weeks, such as 26.5")


def measures(found: Found, ga_weeks: float | None = None) -> dict[str, Any]:
    """Status, volume with its interval, biometry, flags and note of one result (see `segment_files`)."""
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
    notes = []
    if found.head.outline == "skull" and found.volume.ndim == 3 and row["status"] != "nothing found":
        notes.append("volume_ml is of the skull, not of the whole head")
    if row["status"] == "found":
        sizes, why = _sizes(found.skull or found.head)
        row |= {name: value for name, value in sizes.items() if math.isfinite(value)}
        notes += [f"no BPD, OFD and HC: {why}"] if why else []
    if ga_weeks is not None:
        centile, why = _centile(row, ga_weeks)
        row |= centile
        notes += [f"no centile: {why}"] if why else []
    return row | {"note": "; ".join(notes)}


def _sizes(outlined: Segmentation) -> tuple[dict[str, float], str]:
    """BPD, OFD and HC by name, and why there are none, in words."""
    mask = outlined.mask.array != 0
    if not mask.any():
        return {}, f"no {STRUCTURES[outlined.outline]} is found"
    if mask.all():
        return {}, "the mask fills the whole image"
    if mask.ndim == 3 and min(np.ptp(place) + 1 for place in mask.nonzero()) < THINNEST:
        return {}, f"the mask spans fewer than {THINNEST} voxels along an axis"
    found = biometry(outlined.mask, "skull" if outlined.outline == "skull" else "skin")
    if not math.isfinite(found.hc_mm):
        return {}, found.note or "the mask is no ellipse"
    numbers = found.asdict()
    return {name: float(value) for name, value in numbers.items() if name.endswith(("bpd_mm", "ofd_mm", "hc_mm"))}, ""


def _centile(row: Mapping[str, Any], ga_weeks: float) -> tuple[dict[str, float], str]:
    """The centile of a row's HC, and why an age gives none, in words."""
    first, last = valid_weeks("hc")
    if not first <= ga_weeks <= last:
        days = f" ({ga_weeks:g} days are {ga_weeks / 7:.3g} weeks)" if first <= ga_weeks / 7 <= last else ""
        return {}, f"{ga_weeks:g} weeks is outside the chart's {first:g} to {last:g} weeks{days}"
    if "implausible spacing" in row["flags"]:
        return {}, "the spacing is implausible"
    if "hc_mm" in row:
        return {"hc_centile": float(centile("hc", row["hc_mm"], ga_weeks))}, ""
    return {}, "growth charts are of the skull, and this is the skin" if "skin_hc_mm" in row else ""


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
