"""The HC18 images (van den Heuvel et al. 2018): their two folder layouts, and masks from one-pixel outlines."""

from __future__ import annotations

import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.measure import EllipseModel

from fhlib.cohorts.pairs import Content, SourceScan, contents_of
from fhlib.cohorts.tables import read_table
from fhlib.images.formats import read_volume
from fhlib.images.volume import Mask

COLUMNS = {"name": "filename", "pixel_mm": "pixel size", "hc_mm": "circumference"}
"""What the columns of HC18's table are called here, and words that their names hold there."""


MOST_TABLES = 100
"""A folder with more tables is not HC18's."""


def hc18_scans(source: Path) -> list[SourceScan]:
    """Scans of an HC18 folder; none if it has no table of pixel sizes.

    Raises ValueError for a row that is not HC18's, and for files that the table implies and the folder lacks.
    """
    found = _table(source)
    if found is None:
        return []
    path, table = found
    images, annotations = _folders(source)
    scans, missing = [], []
    for name, pixel_mm, hc_mm in table.itertuples(index=False, name=None):
        case = Path(name).stem
        files = image, annotation = images / name, annotations / f"{case}_Annotation.png"
        missing += [file.name for file in files if not file.is_file()]
        number = re.match(r"\d+", case)
        if number is None or not pixel_mm > 0:
            raise ValueError(f"{name!r} with {pixel_mm} mm a pixel is no row of HC18: expected 010_HC.png and its mm")
        row = {"case": case, "subject": number[0], "reference_hc_mm": f"{hc_mm:.10g}"}
        row["x_pixel_size_mm"] = f"{pixel_mm:.12g}"
        read = partial(_read, image, annotation, pixel_mm)
        scans.append(SourceScan(row, files, read, label_is_skull=True, tables=(path,)))
    if missing:
        raise ValueError(
            f"{len(missing)} files that the table of pixel sizes implies are missing in {source.name}/, "
            f"such as {missing[0]}: complete the download, or take their rows out of the table"
        )
    return scans


def _table(source: Path) -> tuple[Path, pd.DataFrame] | None:
    """The CSV with pixel sizes in, or directly above, the folder, and its columns name, pixel_mm and hc_mm."""
    tables = sorted(source.glob("[!.]*.csv"))[:MOST_TABLES]
    for path in (*tables, *sorted(source.parent.glob("training_set_pixel_size*.csv"))):
        if not _may_be_the_table(path):
            continue  # somebody's own file, whatever is in it
        table = read_table(path).frame
        found = [_column(table, words) for words in COLUMNS.values()]
        if None not in found:
            table = table[found].set_axis(list(COLUMNS), axis=1)
            numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("pixel_mm", "hc_mm")}
            return path, table.assign(**numbers)
    return None


def _may_be_the_table(path: Path) -> bool:
    """Whether the names of HC18's columns stand at a file's start."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(4096).replace(b"\0", b"").lower()  # zeros are of UTF-16
    return all(words.encode() in start for words in COLUMNS.values())


def _column(table: pd.DataFrame, words: str) -> str | None:
    """The first column with these words in its name."""
    return next((name for name in table if words in str(name).lower()), None)


def _folders(source: Path) -> tuple[Path, Path]:
    """Folders of images and of annotations."""
    for folder in (source, source / "training_set"):
        if (folder / "image").is_dir() and (folder / "annotation").is_dir():
            return folder / "image", folder / "annotation"
        if any(folder.glob("*_Annotation.png")):
            return folder, folder
    raise ValueError(
        f"{source.name}/ has HC18's table but no annotations: expected *_Annotation.png beside the images, or image/ "
        f"and annotation/ (the training set; the test set has no outlines); {contents_of(source)}"
    )


def _read(image: Path, annotation: Path, pixel_mm: float) -> Content:
    """An image, its mask, and whether the outline was closed."""
    scan = read_volume(image, (pixel_mm, pixel_mm))
    outline = read_volume(annotation, (pixel_mm, pixel_mm)).array
    if outline.shape != scan.shape:
        raise ValueError(f"{annotation.name} has shape {outline.shape}, its image {scan.shape}: download both again")
    mask, closed = fill_outline(outline > outline.max() / 2)
    if not closed:
        warnings.warn(f"{annotation.name}: the outline is open; the ellipse fitted to it was filled", stacklevel=2)
    note = {"x_outline": "closed" if closed else "open, ellipse fitted"}
    return Content(scan, scan.with_array(mask.astype(np.uint8)), note)


def fill_outline(outline: Mask) -> tuple[Mask, bool]:
    """Mask (h, w) within a one-pixel outline, and whether the outline was closed.

    The drawn curve runs through the centres of the outline's pixels, so half of them belong to the mask: those whose
    centre lies within the ellipse fitted to them. On HC18 the perimeter of the ellipse with the mask's second moments
    then differs from the table's head circumference by 0.01 mm on average. With all of the outline it is 1.13 mm too
    much, without it 1.13 mm too little. Where the outline is open, because the head leaves the picture, the fitted
    ellipse is filled as far as the picture goes.

    Raises ValueError if there are fewer than 6 pixels or no ellipse fits them.
    """
    within = _fitted_ellipse(outline)
    interior = ndimage.binary_fill_holes(outline) & ~outline
    # an open outline encloses nothing, or no more than a few loops of its own
    if (interior & within).sum() > 0.5 * within.sum():
        return interior | (outline & within), True
    return within, False


def _fitted_ellipse(outline: Mask) -> Mask:
    """Pixels whose centre lies within the ellipse that fits an outline's pixel centres best.

    The fit is scikit-image's (Halir and Flusser 1998).
    """
    points = np.argwhere(outline)[:, ::-1].astype(float)  # x, y
    if len(points) < 6:
        raise ValueError(f"an outline of {len(points)} pixels is too short for an ellipse: is the annotation empty?")
    model = EllipseModel.from_estimate(points)
    if not model or not np.isfinite([*model.center, *model.axis_lengths]).all():
        raise ValueError(
            "no ellipse fits the outline (its pixels lie on one line?): expected a closed curve around the head"
        )
    (x_centre, y_centre), (first, second), angle = model.center, model.axis_lengths, model.theta
    y, x = np.indices(outline.shape)
    x, y = x - x_centre, y - y_centre
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.asarray((along / first) ** 2 + (across / second) ** 2 < 1)
