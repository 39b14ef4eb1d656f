"""The HC18 images (van den Heuvel et al. 2018): their two folder layouts, and masks from one-pixel outlines.

What is drawn is measured, and compared with the head circumference in the table. So a mask that somebody has filled, resized,
inverted or exchanged is noticed.
"""

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
from fhlib.measures.biometry import ellipse_perimeter

COLUMNS = {"name": "filename", "pixel_mm": "pixel size", "hc_mm": "circumference"}
"""What the columns of HC18's table are called here, and words that their names hold there."""

SAME_HC = 0.02
"""Of the table's circumference. In HC18 itself the ellipse fitted to an outline is within 0.03 % of it."""
CLOSED, OPEN, FILLED = "closed", "open, ellipse fitted", "filled mask"


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
        read = partial(_read, image, annotation, pixel_mm, hc_mm)
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


def _read(image: Path, annotation: Path, pixel_mm: float, hc_mm: float) -> Content:
    """An image, its mask, and how the mask was found; ValueError where the head is not as large as the table says."""
    scan = read_volume(image, (pixel_mm, pixel_mm))
    drawn = read_volume(annotation, (pixel_mm, pixel_mm)).array
    if drawn.shape != scan.shape:
        raise ValueError(f"{annotation.name} has shape {drawn.shape}, its image {scan.shape}: download both again")
    drawn = drawn > drawn.max() / 2
    try:
        mask, kind, circumference = _mask_of(drawn, hc_mm / pixel_mm)
    except ValueError as error:
        raise ValueError(f"{annotation.name}: {error}") from error

    found_mm = circumference * pixel_mm
    # a table without the number says nothing against it
    if abs(found_mm - hc_mm) > SAME_HC * hc_mm:
        raise ValueError(
            f"{annotation.name} outlines {found_mm:.1f} mm at {pixel_mm:g} mm a pixel, the table says {hc_mm:.1f} mm, expected "
            f"within {SAME_HC:.0%}: is it inverted, resized, or of another image? Download both again"
        )
    if kind == OPEN:
        warnings.warn(f"{annotation.name}: the outline is open; the ellipse fitted to it was filled", stacklevel=2)
    return Content(scan, scan.with_array(mask.astype(np.uint8)), {"x_outline": kind})


def _mask_of(drawn: Mask, expected: float) -> tuple[Mask, str, float]:
    """Mask (h, w), what was drawn, and the circumference in pixels of the ellipse that fits it.

    Args:
        drawn: the annotation.
        expected: the table's circumference in pixels. It tells whether a filled mask includes the line that it was filled from.
    """
    if not _is_filled(drawn):
        mask, closed = fill_outline(drawn)
        return mask, CLOSED if closed else OPEN, _circumference(_fitted_ellipse(drawn), 0)
    model = _fitted_ellipse(drawn & ~ndimage.binary_erosion(drawn, border_value=1))
    # the curve runs half a pixel around the outermost centres; within them, where the line (of 2 pixels in HC18) was filled
    # with the rest; or farther around, where it was left out
    outwards = float(np.clip((expected - _circumference(model, 0)) / (2 * np.pi), -1.5, 2.5))
    if not abs(outwards - 0.5) > 0.2:
        return drawn, FILLED, _circumference(model, 0.5)
    return _inside(model, drawn.shape, outwards), FILLED, _circumference(model, outwards)


def _circumference(model: EllipseModel, outwards: float) -> float:
    first, second = model.axis_lengths
    return ellipse_perimeter(first + outwards, second + outwards)


def _is_filled(drawn: Mask) -> bool:
    """Whether an annotation is a mask, not a line: filling changes little, and there is much that is not near its edge."""
    holes = ndimage.binary_fill_holes(drawn).sum() - drawn.sum()
    inner = ndimage.distance_transform_edt(np.pad(drawn, 1)).max()
    return bool(holes < 0.1 * drawn.sum() and inner > 0.25 * np.sqrt(drawn.sum() / np.pi))


def fill_outline(outline: Mask) -> tuple[Mask, bool]:
    """Mask (h, w) within a one-pixel outline, and whether the outline was closed.

    The drawn curve runs through the centres of the outline's pixels, so half of them belong to the mask: those whose
    centre lies within the ellipse fitted to them. On HC18 the perimeter of the ellipse with the mask's second moments
    then differs from the table's head circumference by 0.01 mm on average. With all of the outline it is 1.13 mm too
    much, without it 1.13 mm too little. Where the outline is open, because the head leaves the picture, the fitted
    ellipse is filled as far as the picture goes.

    Raises ValueError if there are fewer than 6 pixels or no ellipse fits them.
    """
    within = _inside(_fitted_ellipse(outline), outline.shape)
    interior = ndimage.binary_fill_holes(outline) & ~outline
    # an open outline encloses nothing, or no more than a few loops of its own
    if (interior & within).sum() > 0.5 * within.sum():
        return interior | (outline & within), True
    return within, False


def _fitted_ellipse(outline: Mask) -> EllipseModel:
    """The ellipse that fits an outline's pixel centres best, by scikit-image (Halir and Flusser 1998)."""
    points = np.argwhere(outline)[:, ::-1].astype(float)  # x, y
    if len(points) < 6:
        raise ValueError(f"an outline of {len(points)} pixels is too short for an ellipse: is the annotation empty?")
    model = EllipseModel.from_estimate(points)
    if not model or not np.isfinite([*model.center, *model.axis_lengths]).all():
        raise ValueError(
            "no ellipse fits the outline (its pixels lie on one line?): expected a closed curve around the head"
        )
    return model


def _inside(model: EllipseModel, shape: tuple[int, ...], outwards: float = 0.0) -> Mask:
    """Pixels of a picture whose centre lies within an ellipse that is so many pixels larger all around."""
    (x_centre, y_centre), (first, second), angle = model.center, model.axis_lengths, model.theta
    y, x = np.indices(shape)
    x, y = x - x_centre, y - y_centre
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.asarray((along / (first + outwards)) ** 2 + (across / (second + outwards)) ** 2 < 1)
