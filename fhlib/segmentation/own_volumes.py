"""Segment volumes of your own with trained or shipped weights: masks, measures, flags, and files for other programs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fhlib.figures.planes import planes
from fhlib.files import progress
from fhlib.images.dicom import DicomSeries, Source, dicom_sources, is_damaged, is_dicom, read_dicom
from fhlib.images.exchange import write_dicom_seg, write_segmentation
from fhlib.images.formats import READABLE, read_volume, suffix_of, write_volume
from fhlib.images.volume import Volume
from fhlib.measures.biometry import biometry
from fhlib.measures.growth import valid_weeks
from fhlib.segmentation.page import case_page
from fhlib.segmentation.quality import MEANINGS
from fhlib.segmentation.segmentor import Segmentation, Segmentor

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

FAULTS = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, OSError)
"""Of one volume, that shall not stop the others."""

STRUCTURES = {"skin": "head", "skull": "skull"}
"""What a mask is called, by what it outlines."""


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
    spacing_mm: Sequence[float] | None = None,
) -> tuple[pd.DataFrame, dict[str, Found]]:
    """Segment volumes that the study has not seen; returns a row a volume (COLUMNS) and the first results by name.

    Writes for each volume `<name>_mask.nii.gz` and `<name>_mask.seg.nrrd` (2D: `.nrrd`), `<name>_probability.nrrd`, `<name>.html` and, for
    a DICOM series, `<name>_mask.dcm`; with `skull` also `<name>_skull...`. BPD, OFD and HC are of the skull where there is one, else named
    `skin_bpd_mm` .... What cannot be read, segmented, written or drawn is told in the row's note and stops nothing.

    Args:
        segmentor: outlines the whole head. One that outlines the skull is taken at its word: its files and its page speak of the skull.
        sources: files, folders with a DICOM series, or series (see `volumes_in`).
        folder: for the results.
        skull: a second one that outlines the skull.
        ga_weeks: gestational age of all of them; the skull's HC then has a centile.
        keep: how many results are returned (some 300 MB each at the paper's size).
        spacing_mm: of all of them, in place of what their files state; where one states another, its note says so.
    """
    rows: list[dict[str, Any]] = []
    results: dict[str, Found] = {}
    for source in progress(sources, "segment", total=len(sources)):
        stem = _stem(source)
        taken = sum(row["volume"] == stem or row["volume"].startswith(f"{stem}~") for row in rows)
        name = f"{stem}~{taken + 1}" if taken else stem
        row: dict[str, Any] = {"volume": name, "status": "failed", "note": ""}
        rows.append(row)
        try:
            volume = _read(source, spacing_mm)
            row["note"] = _replaced(source, volume) if spacing_mm else ""
            found = Found(volume, segmentor.segment(volume, ga_weeks=ga_weeks), None)
            if skull:
                try:
                    found = replace(found, skull=skull.segment(volume))
                except FAULTS as error:
                    row["note"] = "; ".join(filter(None, (row["note"], f"no skull: {_reason(error)}")))
            row |= measures(found, ga_weeks)
            row["note"] = "; ".join(filter(None, (row["note"], _write(found, source, folder, name))))
            words, meanings = _in_words(row, found, ga_weeks), _meanings(found)
            case_page(name, words, meanings, picture(found, name), folder / f"{name}.html")
        except FAULTS as error:
            row["note"] = "; ".join(filter(None, (row["note"], _reason(error))))
        else:
            if len(results) < keep:
                results[name] = found
    extra = dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    return pd.DataFrame(rows, columns=[*COLUMNS, *extra]), results


def _stem(source: Source) -> str:
    # the names of DICOM files are often numbers with dots, of which none is a suffix
    known = isinstance(source, Path) and source.is_file() and suffix_of(source) in (*READABLE, ".vol")
    return source.name.removesuffix(suffix_of(source.name)) if known else source.name


def _read(source: Source, spacing_mm: Sequence[float] | None) -> Volume:
    return read_volume(source, spacing_mm) if isinstance(source, Path) else read_dicom(source, spacing_mm)


def _replaced(source: Source, volume: Volume) -> str:
    """What a file states of its spacing where the caller gave another; nothing where it states none."""
    try:
        with warnings.catch_warnings(action="error"):
            stated = _read(source, None).spacing_mm
    except (*FAULTS, UserWarning):
        return ""
    if np.allclose(stated, volume.spacing_mm, rtol=1e-3):
        return ""
    shown = [" x ".join(f"{step:.4g}" for step in spacing) for spacing in (volume.spacing_mm, stated)]
    return f"spacing {shown[0]} mm as given, in place of the file's {shown[1]} mm"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def measures(found: Found, ga_weeks: float | None = None) -> dict[str, Any]:
    """Status, volume with its interval, biometry and flags of one result (see `segment_files`)."""
    low, high = found.head.interval_ml
    flags = [*found.head.flags, *(f"skull: {flag}" for flag in (found.skull.flags if found.skull else ()))]
    row: dict[str, Any] = {
        "status": "found" if found.head.mask.array.any() else "nothing found",
        "volume_ml": found.head.volume_ml,
        "volume_low_ml": low,
        "volume_high_ml": high,
        "flags": "; ".join(flags),
    }
    outlined = found.skull or found.head
    if not outlined.mask.array.any():
        return row
    sizes = biometry(outlined.mask, "skull" if outlined.outline == "skull" else "skin")
    row |= {name: value for name, value in sizes.asdict().items() if name.endswith(("bpd_mm", "ofd_mm", "hc_mm"))}
    first, last = valid_weeks("hc")
    if outlined.outline == "skull" and ga_weeks and first <= ga_weeks <= last and math.isfinite(sizes.hc_mm):
        row["hc_centile"] = sizes.growth(ga_weeks)["hc_centile"]
    return row


def picture(found: Found, name: str) -> Any:
    """Three planes with the outlines that were found."""
    given = {STRUCTURES[result.outline]: result for result in (found.head, found.skull) if result}
    outlines = {label: result.mask for label, result in given.items() if result.mask.array.any()}
    title = f"{name}: {'; '.join(found.head.flags) or 'no flag'}"
    return planes(found.volume, outlines, probability=found.head.probability, title=title)


def volumes_in(path: str | Path) -> list[Source]:
    """The file named, or what a folder holds: files that may be volumes, and the DICOM in it and in the folders below it.

    Each DICOM series is a volume of its own, and so is each DICOM file of several frames. A folder that holds one
    series and nothing else of DICOM stands for it. A DICOMDIR stands for its folder.

    Raises FileNotFoundError if it is missing.
    """
    path = Path(path).expanduser()
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
    files = {file for file in path.iterdir() if suffix_of(file) in READABLE and file.is_file()}
    dicom = dicom_sources(path)
    # what is DICOM stands in the second list, or is no image
    single = {file for file in files if not is_dicom(file) or is_damaged(file)}
    single |= {source for source in dicom if isinstance(source, Path) and source.parent == path and source.is_file()}
    rest = [source for source in dicom if source not in single]
    return [*sorted(single), *rest] or [path]


def _write(found: Found, source: Source, folder: Path, name: str) -> str:
    """Write the files of one result; what could not be written, in words."""
    write_volume(found.head.probability, folder / f"{name}_probability.nrrd")
    given = {"mask": found.head} | ({"skull": found.skull} if found.skull else {})
    for label, result in given.items():
        structure = STRUCTURES[result.outline]
        if result.mask.ndim == 2:
            write_volume(result.mask, folder / f"{name}_{label}.nrrd")
            continue
        write_volume(result.mask, folder / f"{name}_{label}.nii.gz")
        write_segmentation(result.mask, folder / f"{name}_{label}.seg.nrrd", structure)
        if (isinstance(source, DicomSeries) or source.is_dir()) and result.mask.array.any():
            slices = source.files if isinstance(source, DicomSeries) else source
            try:
                write_dicom_seg(result.mask, slices, folder / f"{name}_{label}.dcm", structure)
            except (ImportError, ValueError, AttributeError, TypeError) as error:
                return f"no DICOM SEG: {error}"
    return ""


def _meanings(found: Found) -> dict[str, str]:
    flags = [*found.head.flags, *(found.skull.flags if found.skull else ())]
    return {flag: MEANINGS[flag] for flag in dict.fromkeys(flags)}


def _in_words(row: dict[str, Any], found: Found, ga_weeks: float | None) -> dict[str, str]:
    def number(name: str, unit: str, digits: int = 1) -> str:
        value = row.get(name)
        return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f} {unit}".strip()

    volume, low, high = (number(name, "", 0) for name in ("volume_ml", "volume_low_ml", "volume_high_ml"))
    words = {"Result": str(row["status"])}
    if volume and row["status"] == "found":
        whole = "the skull" if found.head.outline == "skull" else "the whole head, to the skin"
        words[f"Volume of {whole}"] = f"{volume} mL" + (f" (95 % interval {low} to {high} mL)" if low else "")
    for label, name in (("BPD", "bpd_mm"), ("OFD", "ofd_mm"), ("HC", "hc_mm")):
        skull, skin = number(name, "mm"), number(f"skin_{name}", "mm")
        if skull or skin:
            words[f"{label}, {'outer skull' if skull else 'to the skin: not for growth charts'}"] = skull or skin
    if centile := number("hc_centile", "", 0):
        words[f"HC centile at {ga_weeks:g} weeks (INTERGROWTH-21st)"] = centile
    return words
