"""Bring a folder of scans into the study's form: a cohort.csv with images and labels beside it.

Four layouts are understood, see `import_cohort`. Case and subject ids come from names of files and folders, never from
tags inside them; images are rewritten with voxels and geometry only, so that no tag or comment travels along.
"""

from __future__ import annotations

import os
import shutil
import warnings
from functools import partial
from pathlib import Path

import pandas as pd

from fhlib.cohorts.hc18 import hc18_scans
from fhlib.cohorts.manifest import MANIFEST, PATHS, Cohort, load_cohort, write_manifest
from fhlib.cohorts.nnunet import nnunet_scans
from fhlib.cohorts.pairs import SourceScan, contents_of, pair_scans
from fhlib.files import blank_gaps, progress, read_json, require_free_space, write_json
from fhlib.fingerprints import code_digest, digest, file_digest, kept_or_made
from fhlib.images.formats import write_volume
from fhlib.images.parts import files_of

LAYOUTS = """\
  1. a folder with cohort.csv (columns case, subject, image, label, ...; see data/README.md), used where it lies
  2. pairs X.nii.gz and X_Label.nii.gz (NRRD, MetaImage, NIfTI, PNG; X may be a folder with a DICOM series); the label
     may also be X_Label.seg.nrrd, X_mask.seg.nrrd or X_mask.nii.gz
  3. HC18: training_set_pixel_size_and_HC.csv with NNN_HC.png and NNN_HC_Annotation.png, in one folder or in
     image/ and annotation/
  4. nnU-Net's or the Medical Segmentation Decathlon's: dataset.json with imagesTr/ and labelsTr/"""


MISNAMED = tuple(f"cohort.{end}" for end in ("csv", "csv.csv", "csv.txt", "tsv", "xlsx", "xls", "ods"))
"""Names, in lower case, of what was meant for the manifest and is not read."""


def import_cohort(source: Path | str, destination: Path | str) -> Cohort:
    """Import a folder of scans; the layout is recognised by what lies in it.

    1. With a cohort.csv it is used in place: nothing is copied, `destination` stays untouched.
    2. Pairs `X.nii.gz` / `X_Label.nii.gz` (upper or lower case; any readable format; X and X_Label may be folders with
       a DICOM series). `X_mask` is a label too, as `segment` writes it, and both may be `.seg.nrrd`, as 3D Slicer saves
       them: of several segments those named head and skull are taken. Each X becomes a case and a subject of its own.
       Where a woman was scanned more than once, write a cohort.csv that says so. An image without a label is kept for
       prediction only.
    3. HC18 (van den Heuvel et al. 2018), images and annotations side by side or in `image/` and `annotation/`. The case
       is the file's stem, the subject its examination number: `010_HC` and `010_2HC` are one. A woman may recur under
       another number, which the data do not tell. Pixel size and `reference_hc_mm` come from the CSV. `label_skull` is
       `label`, since the outline is the outer skull; see `fhlib.cohorts.hc18.fill_outline` for the mask.

    4. nnU-Net's raw format and the Medical Segmentation Decathlon's (`fhlib.cohorts.nnunet`).

    Layouts 2 to 4 are written to `destination`: compressed .nrrd files under images/ and labels/, cohort.csv last. An
    interrupted import continues where it stopped; a changed source is imported again.

    Raises FileNotFoundError if there is no such folder, ValueError for an unknown layout or files that do not match.
    """
    source, destination = Path(source), Path(destination)
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source.name!r}: give a folder in one of these layouts\n{LAYOUTS}")
    if (source / MANIFEST).is_file():
        return load_cohort(source)
    return _write(source_scans(source), source, destination)


def look_at(source: Path) -> None:
    """Whether a folder can be a cohort, from its manifest or the names in it; raises as `import_cohort`, in seconds."""
    if (source / MANIFEST).is_file():
        load_cohort(source)
    else:
        _quietly(source)


def _quietly(source: Path) -> list[SourceScan]:
    """`source_scans` without its warnings, which the import gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return source_scans(source)


def source_scans(source: Path) -> list[SourceScan]:
    """The scans of a folder without a cohort.csv; no voxel is read, only names and small tables.

    Raises ValueError for an unknown layout, files that do not match, and a manifest with another name.
    """
    for path in source.iterdir():
        if path.name.lower() in MISNAMED:
            raise ValueError(f"{path.name} is not read: save it as {MANIFEST} ('CSV UTF-8'), or give it another name")
    scans = nnunet_scans(source) or hc18_scans(source) or pair_scans(source)
    if not scans:
        raise ValueError(
            f"{source.name}/ has none of the layouts that can be imported:\n{LAYOUTS}\n{contents_of(source)}"
        )
    return scans


def files_read(source: Path) -> list[Path]:
    """The files of a folder that its cohort is made of; what else lies there does not count.

    Where the folder is not fit to be read, it is the manifest alone, or nothing: what is wrong is said by `import_cohort`.
    """
    manifest = source / MANIFEST
    if not manifest.is_file():
        try:
            return sorted({file for scan in _quietly(source) for file in (*scan.files, *scan.tables)})
        except (ValueError, OSError):
            return []
    try:
        cohort = load_cohort(source)
    except (ValueError, OSError):
        return [manifest]
    named = {source / path for column in PATHS for path in cohort.table[column] if path}
    return sorted({manifest, *(file for path in named if path.exists() for file in files_of(path))})


def _write(scans: list[SourceScan], source: Path, destination: Path) -> Cohort:
    """Write the scans and, last, the manifest; what an earlier import of the same sources wrote is kept."""
    files = sorted({file for scan in scans for file in (*scan.files, *scan.tables)})
    contents = {os.path.relpath(file, source): file_digest(file) for file in progress(files, "Comparing sources")}
    state = {
        "sources": digest(contents, [scan.row for scan in scans]),
        "code": code_digest("fhlib.cohorts.importers"),
        "scans": len(scans),
    }
    record = destination / "import.json"
    if not (record.is_file() and read_json(record) == state):
        require_free_space(destination, 1.5 * sum(file.stat().st_size for file in files))
        _clear(destination)
        write_json(state, record)
    elif (destination / MANIFEST).is_file():
        return load_cohort(destination)

    marks = destination / "rows"
    rows = []
    for scan in progress(scans, f"Importing {destination.name}"):
        mark = marks / f"{scan.row['case']}.json"
        rows.append(kept_or_made(mark, digest(state), [], partial(_write_scan, scan, destination)))
    cohort = write_manifest(blank_gaps(pd.DataFrame(rows)), destination)
    shutil.rmtree(marks)
    return cohort


def _clear(destination: Path) -> None:
    """Take away what an import of other sources wrote."""
    (destination / MANIFEST).unlink(missing_ok=True)
    for name in ("images", "labels", "rows"):
        shutil.rmtree(destination / name, ignore_errors=True)


def _write_scan(scan: SourceScan, destination: Path) -> dict[str, str]:
    """Write one scan; returns its row of the manifest."""
    case = scan.row["case"]
    content = scan.read()
    row = {**scan.row, "image": f"images/{case}.nrrd", "label": ""}
    write_volume(content.image, destination / row["image"])
    if content.label is not None:
        row["label"] = f"labels/{case}.nrrd"
        write_volume(content.label, destination / row["label"])
        if scan.label_is_skull or content.label_is_skull:
            row["label_skull"] = row["label"]
    if content.skull is not None:
        row["label_skull"] = f"labels/{case}_skull.nrrd"
        write_volume(content.skull, destination / row["label_skull"])
    return row | content.columns
