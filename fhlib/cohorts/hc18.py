"""The HC18 images (van den Heuvel et al. 2018): their two folder layouts, and masks from one-pixel outlines."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.measure import EllipseModel

from fhlib.cohorts.pairs import SourceScan, contents_of
from fhlib.images.formats import read_volume
from fhlib.images.volume import Mask, Volume


def hc18_scans(source: Path) -> list[SourceScan]:
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
        scans.append(
            SourceScan(row, (image, annotation), hc18_reader(image, annotation, pixel_mm), label_is_skull=True)
        )
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
        f"annotation/ (the training set; the test set has no outlines); {contents_of(source)}"
    )


def hc18_reader(
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
    """Pixels with their centre within the ellipse that fits an outline's pixel centres best (Halir and Flusser 1998, scikit-image's)."""
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
