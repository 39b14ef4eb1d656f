"""Bring a folder of scans into the study's form: a cohort.csv with images and labels beside it.

Three layouts are understood, see `import_cohort`. Case and subject ids come from names of files and folders, never from
tags inside them; images are rewritten with voxels and geometry only, so that no tag or comment travels along.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.files import digest, file_digest, progress, read_json, require_free_space, write_json
from fhlib.manifest import MANIFEST, Cohort, load_cohort, write_manifest
from fhlib.reach import code_digest
from fhlib.volume import READABLE, Volume, read_volume, suffix_of, write_volume

LAYOUTS = """\
  1. a folder with cohort.csv (columns case, subject, image, label, ...; see data/README.md), used where it lies
  2. pairs X.nii.gz and X_Label.nii.gz (any format SimpleITK reads, X may be a folder with a DICOM series)
  3. HC18: training_set_pixel_size_and_HC.csv with NNN_HC.png and NNN_HC_Annotation.png, in one folder or in
     image/ and annotation/"""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Scan:
    """One scan to import: its row of the manifest (ids and known values), its files, and how they are read."""

    row: dict[str, str]
    files: tuple[Path, ...]
    read: Callable[[], tuple[Volume, Volume | None, dict[str, str]]]
    label_is_skull: bool = False


def import_cohort(source: Path | str, destination: Path | str) -> Cohort:
    """Import a folder of scans; the layout is recognised by what lies in it.

    1. With a cohort.csv it is used in place: nothing is copied, `destination` stays untouched.
    2. Pairs `X.nii.gz` / `X_Label.nii.gz` (upper or lower case; any readable format; X and X_Label may be folders with a
       DICOM series). Each X becomes a case and a subject of its own: where a woman was scanned more than once, write a
       cohort.csv that says so. An image without a label is kept for prediction only.
    3. HC18 (van den Heuvel et al. 2018), images and annotations side by side or in `image/` and `annotation/`. The case is
       the file's stem, the subject its examination number (`010_HC` and `010_2HC` are one; a woman may recur under another
       number, which the data do not tell), pixel size and `reference_hc_mm` come from the CSV. `label_skull` is `label`,
       since the outline is the outer skull; see `fill_outline` for the mask.

    Layouts 2 and 3 are written to `destination`: compressed .nrrd files under images/ and labels/, cohort.csv last. An
    interrupted import continues where it stopped; a changed source is imported again.

    Raises FileNotFoundError if there is no such folder, ValueError for an unknown layout or files that do not match.
    """
    source, destination = Path(source), Path(destination)
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source.name!r}: give a folder in one of these layouts\n{LAYOUTS}")
    if (source / MANIFEST).is_file():
        return load_cohort(source)
    scans = _hc18_scans(source) or _pair_scans(source)
    if not scans:
        raise ValueError(
            f"{source.name}/ has none of the layouts that can be imported:\n{LAYOUTS}\n{_contents(source)}"
        )
    return _write(scans, destination)


def _contents(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"found in it: {shown or 'nothing'}"


def _write(scans: list[_Scan], destination: Path) -> Cohort:
    """Write the scans and, last, the manifest; what an earlier import of the same sources wrote is kept."""
    files = sorted({file for scan in scans for file in scan.files})
    contents = {f"{file.parent.name}/{file.name}": file_digest(file) for file in progress(files, "Comparing sources")}
    state = {
        "sources": digest(contents, [scan.row for scan in scans]),
        "code": code_digest("fhlib.importers"),
        "scans": len(scans),
    }
    record = destination / "import.json"
    done = record.is_file() and read_json(record) == state
    if done and (destination / MANIFEST).is_file():
        return load_cohort(destination)
    if not done:
        require_free_space(destination, 1.5 * sum(file.stat().st_size for file in files))
        (destination / MANIFEST).unlink(missing_ok=True)
        for name in ("images", "labels", "rows"):
            for old in (destination / name).glob("*"):
                old.unlink()
        write_json(state, record)
    rows = [_write_scan(scan, destination) for scan in progress(scans, f"Importing {destination.name}")]
    cohort = write_manifest(pd.DataFrame(rows).fillna(""), destination)
    for path in (destination / "rows").glob("*.json"):
        path.unlink()
    (destination / "rows").rmdir()
    return cohort


def _write_scan(scan: _Scan, destination: Path) -> dict[str, str]:
    """Write one scan and its row (as JSON, the mark that the scan is complete), or return the row written before."""
    case = scan.row["case"]
    mark = destination / "rows" / f"{case}.json"
    if mark.is_file():
        return dict(read_json(mark))
    image, label, extra = scan.read()
    row = {**scan.row, "image": f"images/{case}.nrrd", "label": ""}
    write_volume(image, destination / row["image"])
    if label is not None:
        row["label"] = f"labels/{case}.nrrd"
        write_volume(label, destination / row["label"])
        if scan.label_is_skull:
            row["label_skull"] = row["label"]
    row |= extra
    write_json(row, mark)
    return row


# pairs


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.name[: len(path.name) - len(suffix_of(path))]


def _pair_scans(source: Path) -> list[_Scan]:
    """Scans of a folder of X / X_Label pairs; none if no file's name ends in _Label."""
    entries = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    readable = [path for path in entries if path.is_dir() or suffix_of(path) in (*READABLE, ".vol")]
    labels = {_stem(path)[:-6].lower(): path for path in readable if _stem(path).lower().endswith("_label")}
    if not labels:
        return []
    images: dict[str, Path] = {}
    for path in (path for path in readable if not _stem(path).lower().endswith("_label")):
        key = _stem(path).lower()
        if path.is_dir() and key not in labels:
            continue  # a folder without a label may be anything
        if key in images:
            raise ValueError(f"{images[key].name} and {path.name} are two images of one name: keep one of them")
        images[key] = path
    if orphans := sorted(labels[key].name for key in set(labels) - set(images)):
        raise ValueError(f"there is no image for {', '.join(orphans[:5])}: X_Label needs an X beside it")
    scans: dict[str, _Scan] = {}
    for key, image in images.items():
        case = re.sub(r"[^A-Za-z0-9._-]+", "-", _stem(image)).strip("-._") or "scan"
        if case.lower() in scans:
            raise ValueError(f"{image.name} and another file both become case {case!r}: rename one of them")
        label = labels.get(key)
        paths = tuple(path for path in (image, label) if path is not None)
        files = tuple(file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]))
        row = {"case": case, "subject": case}
        scans[case.lower()] = _Scan(row, tuple(file for file in files if file.is_file()), _pair_reader(image, label))
    return list(scans.values())


def _pair_reader(image: Path, label: Path | None) -> Callable[[], tuple[Volume, Volume | None, dict[str, str]]]:
    def read() -> tuple[Volume, Volume | None, dict[str, str]]:
        return read_volume(image), None if label is None else read_volume(label), {}

    return read


# HC18


def _hc18_scans(source: Path) -> list[_Scan]:
    """Scans of an HC18 folder; none if it has no table of pixel sizes."""
    table = _hc18_table(source)
    if table is None:
        return []
    images, annotations = _hc18_folders(source)
    scans, missing = [], []
    for name, pixel_mm, hc_mm in table.itertuples(index=False, name=None):
        image, annotation = images / name, annotations / f"{Path(name).stem}_Annotation.png"
        missing += [path.name for path in (image, annotation) if not path.is_file()]
        case = Path(name).stem
        number = re.match(r"\d+", case)
        if number is None or not pixel_mm > 0:
            raise ValueError(f"{name!r} with {pixel_mm} mm a pixel is no row of HC18: expected 010_HC.png and its mm")
        row = {"case": case, "subject": number[0], "reference_hc_mm": f"{hc_mm:.10g}"}
        row["x_pixel_size_mm"] = f"{pixel_mm:.12g}"
        scans.append(_Scan(row, (image, annotation), _hc18_reader(image, annotation, pixel_mm), label_is_skull=True))
    if missing:
        raise ValueError(
            f"{len(missing)} files that the table of pixel sizes implies are missing in {source.name}/, such as {missing[0]}: "
            "complete the download, or take their rows out of the table"
        )
    return scans


def _hc18_table(source: Path) -> pd.DataFrame | None:
    """Columns name, pixel_mm and hc_mm of the CSV with pixel sizes in, or directly above, the folder."""
    for path in (*sorted(source.glob("*.csv")), *sorted(source.parent.glob("training_set_pixel_size*.csv"))):
        table = pd.read_csv(path, skipinitialspace=True)
        found = {
            key: [c for c in table if key in str(c).lower()] for key in ("filename", "pixel size", "circumference")
        }
        if all(found.values()):
            table = table[[columns[0] for columns in found.values()]].set_axis(["name", "pixel_mm", "hc_mm"], axis=1)
            return table.astype({"name": str, "pixel_mm": float, "hc_mm": float})
    return None


def _hc18_folders(source: Path) -> tuple[Path, Path]:
    """Folders of images and of annotations."""
    for folder in (source, source / "training_set"):
        if (folder / "image").is_dir() and (folder / "annotation").is_dir():
            return folder / "image", folder / "annotation"
        if any(folder.glob("*_Annotation.png")):
            return folder, folder
    raise ValueError(
        f"{source.name}/ has HC18's table but no annotations: expected *_Annotation.png beside the images, or image/ and "
        f"annotation/ (the training set; the test set has no outlines); {_contents(source)}"
    )


def _hc18_reader(
    image: Path, annotation: Path, pixel_mm: float
) -> Callable[[], tuple[Volume, Volume | None, dict[str, str]]]:
    def read() -> tuple[Volume, Volume | None, dict[str, str]]:
        scan = read_volume(image, (pixel_mm, pixel_mm))
        outline = read_volume(annotation, (pixel_mm, pixel_mm)).array
        if outline.shape != scan.shape:
            raise ValueError(
                f"{annotation.name} has shape {outline.shape}, its image {scan.shape}: download both again"
            )
        mask, closed = fill_outline(outline > outline.max() / 2)
        if not closed:
            warnings.warn(f"{annotation.name}: the outline is open; the ellipse fitted to it was filled", stacklevel=2)
        note = {"x_outline": "closed" if closed else "open, ellipse fitted"}
        return scan, scan.with_array(mask.astype(np.uint8)), note

    return read


def fill_outline(outline: Mask) -> tuple[Mask, bool]:
    """Mask (h, w) within a one-pixel outline, and whether the outline was closed.

    The drawn curve runs through the centres of the outline's pixels, so half of them belong to the mask: those whose
    centre lies within the ellipse fitted to them. On HC18 the perimeter of the ellipse with the mask's second moments then
    differs from the table's head circumference by 0.01 mm on average, against 1.13 mm too much with all of the outline and
    1.13 mm too little without it. Where the outline is open, because the head leaves the picture, the fitted ellipse is
    filled as far as the picture goes.

    Raises ValueError if there are fewer than 6 pixels or no ellipse fits them.
    """
    within = _fitted_ellipse(outline)
    interior = _interior(outline)
    closed = bool((interior & within).sum() > 0.5 * within.sum())
    return (interior | (outline & within), True) if closed else (within, False)


def _interior(outline: Mask) -> Mask:
    """Pixels that the outline cuts off from the picture's edge (its own not included)."""
    parts, count = ndimage.label(~outline)
    enclosed = np.ones(count + 1, bool)
    enclosed[np.concatenate([[0], parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = False
    return np.asarray(enclosed[parts])


def _fitted_ellipse(outline: Mask) -> Mask:
    """Pixels with their centre within the ellipse that fits an outline's pixel centres best.

    Direct least squares fit with the ellipse constraint, in its numerically stable form (Halir and Flusser 1998).
    """
    points = np.argwhere(outline).astype(float)
    if len(points) < 6:
        raise ValueError(f"an outline of {len(points)} pixels is too short for an ellipse: is the annotation empty?")
    centre = points.mean(0)
    scale = float(np.abs(points - centre).mean()) or 1.0
    y, x = ((points - centre) / scale).T
    quadratic, linear = np.stack([x * x, x * y, y * y], 1), np.stack([x, y, np.ones_like(x)], 1)
    try:
        reduction = -np.linalg.solve(linear.T @ linear, linear.T @ quadratic)
        scatter = quadratic.T @ quadratic + quadratic.T @ linear @ reduction
        vectors = np.linalg.eig(np.stack([scatter[2] / 2, -scatter[1], scatter[0] / 2]))[1].real
    except np.linalg.LinAlgError as error:
        raise ValueError("the outline's pixels lie on one line: no ellipse fits them") from error
    (elliptic,) = np.nonzero(4 * vectors[0] * vectors[2] - vectors[1] ** 2 > 0)
    if not len(elliptic):
        raise ValueError("no ellipse fits the outline: expected one closed curve around the head")
    a, b, c = vectors[:, elliptic[0]] * np.sign(vectors[0, elliptic[0]])
    d, e, f = reduction @ (a, b, c)
    y = (np.arange(outline.shape[0])[:, None] - centre[0]) / scale
    x = (np.arange(outline.shape[1])[None, :] - centre[1]) / scale
    return np.asarray((a * x + d) * x + (b * x + c * y + e) * y + f < 0)
