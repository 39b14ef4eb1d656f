"""Bring a folder of scans into the study's form: a cohort.csv with images and labels beside it.

Three layouts are understood, see `import_cohort`. Case and subject ids come from names of files and folders, never from
tags inside them; images are rewritten with voxels and geometry only, so that no tag or comment travels along.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pandas as pd

from fhlib.cohorts.hc18 import hc18_scans
from fhlib.cohorts.manifest import MANIFEST, Cohort, load_cohort, write_manifest
from fhlib.cohorts.pairs import SourceScan, contents_of, pair_scans
from fhlib.files import progress, read_json, require_free_space, write_json
from fhlib.fingerprints import code_digest, digest, file_digest, kept_or_made
from fhlib.images.formats import write_volume

LAYOUTS = """\
  1. a folder with cohort.csv (columns case, subject, image, label, ...; see data/README.md), used where it lies
  2. pairs X.nii.gz and X_Label.nii.gz (NRRD, MetaImage, NIfTI, PNG; X may be a folder with a DICOM series); the label
     may also be X_Label.seg.nrrd, X_mask.seg.nrrd or X_mask.nii.gz
  3. HC18: training_set_pixel_size_and_HC.csv with NNN_HC.png and NNN_HC_Annotation.png, in one folder or in
     image/ and annotation/"""


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

    Layouts 2 and 3 are written to `destination`: compressed .nrrd files under images/ and labels/, cohort.csv last. An
    interrupted import continues where it stopped; a changed source is imported again.

    Raises FileNotFoundError if there is no such folder, ValueError for an unknown layout or files that do not match.
    """
    source, destination = Path(source), Path(destination)
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source.name!r}: give a folder in one of these layouts\n{LAYOUTS}")
    if (source / MANIFEST).is_file():
        return load_cohort(source)
    scans = hc18_scans(source) or pair_scans(source)
    if not scans:
        raise ValueError(
            f"{source.name}/ has none of the layouts that can be imported:\n{LAYOUTS}\n{contents_of(source)}"
        )
    return _write(scans, destination)


def _write(scans: list[SourceScan], destination: Path) -> Cohort:
    """Write the scans and, last, the manifest; what an earlier import of the same sources wrote is kept."""
    files = sorted({file for scan in scans for file in scan.files})
    contents = {f"{file.parent.name}/{file.name}": file_digest(file) for file in progress(files, "Comparing sources")}
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
    cohort = write_manifest(pd.DataFrame(rows).fillna(""), destination)
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
