"""Is a cohort fit for the study? A report of what is wrong with its manifest and with the files that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import (
    Cohort,
    CohortError,
    Finding,
    as_findings,
    check_manifest,
    leaves_folder,
    load_cohort,
    structure_of,
)
from fhlib.cohorts.segments import read_label
from fhlib.files import progress
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume
from fhlib.models.inputs import is_thin

Problem = tuple[str, str, str]  # check, severity, message
Problems = Generator[Problem, None, None]


def check_cohort(cohort: Cohort | Path | str, show_progress: bool = True, raise_errors: bool = False) -> pd.DataFrame:
    """Read every image and label and list what is wrong: case, check, severity ("error" or "warning"), message.

    The checks are:

    - the manifest's schema, missing or unreadable files;
    - of images: dimensions, spacing, intensities, and scans whose voxels are those of another;
    - geometry of image and label (corners within a tenth of a voxel);
    - of labels: not binary, empty where a head is expected or filled where none is, touching the border, implausible in
      size.

    Raises CohortError with all findings if `raise_errors` and there is an error.

    Args:
        cohort: a cohort or its folder. With a folder, what `load_cohort` refuses is reported beside the files' findings.
        show_progress: a bar on standard error.
        raise_errors: whether an error is raised, too.
    """
    if not isinstance(cohort, Cohort):
        cohort = load_cohort(cohort, strict=False)
    manifest = check_manifest(cohort, tuple(cohort.table.columns))
    rows: list[Finding] = list(manifest.itertuples(index=False, name=None))
    seen: dict[str, str] = {}
    dimensions: dict[int, str] = {}
    cases = cohort.table.to_dict("records")
    for row in progress(cases, f"Checking {cohort.name}") if show_progress else cases:
        found = [(row["case"], *problem) for problem in _check_files(cohort, row, seen, dimensions)]
        rows += [finding for finding in found if finding not in rows]
    findings = as_findings(rows).sort_values("severity", kind="stable", ignore_index=True)
    if raise_errors and (findings["severity"] == "error").any():
        raise CohortError(findings, cohort.name)
    return findings


def _check_files(
    cohort: Cohort, row: dict[Hashable, str], seen: dict[str, str], dimensions: dict[int, str]
) -> Problems:
    """Findings of one case; `seen` (voxels) and `dimensions` name the first case that had the same."""
    image = yield from _read(cohort, row, "image")
    if image is not None:
        yield from _check_image(image)
        dimensions.setdefault(image.ndim, row["case"])
        expected = next(iter(dimensions))
        if image.ndim != expected:
            message = f"the image is {image.ndim}D, the cohort began with {expected}D: split it in two"
            yield "dimensions", "error", message
        content = hashlib.sha256(np.ascontiguousarray(image.array).tobytes()).hexdigest() + str(image.shape)
        first = seen.setdefault(content, row["case"])
        if first != row["case"]:
            yield "duplicate image", "error", f"the voxels are those of case {first}: keep one of the two"
    # where both columns name one file, it is checked once
    columns = ["label"] if row["label_skull"] == row["label"] else ["label", "label_skull"]
    for column in columns:
        label = yield from _read(cohort, row, column, image)
        if label is not None:
            yield from _check_label(label, image, column, row["has_head"] == "true")


def _read(
    cohort: Cohort, row: Mapping[Hashable, str], column: str, image: Volume | None = None
) -> Generator[Problem, None, Volume | None]:
    """Yield why a file cannot be read, or return its volume.

    Args:
        cohort: with the folder.
        row: of the manifest.
        column: that names the file.
        image: the scan, in whose grid a label of 3D Slicer is brought.
    """
    relative = row[column]
    if not relative or leaves_folder(cohort.folder, relative):
        return None  # the manifest's check has said so
    try:
        if column == "image":
            return read_volume(cohort.folder / relative)
        return read_label(cohort.folder / relative, image, structure_of(row, column))
    except FileNotFoundError:
        yield "missing file", "error", f"{column}: there is no {relative}"
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        yield "unreadable file", "error", f"{column}: {error}"
    return None


def _check_image(image: Volume) -> Problems:
    """Intensities and spacing of an image."""
    values = image.array
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        yield "intensities", "error", f"{count} voxels are not finite numbers: replace them, with 0 for instance"
    elif values.min() == values.max():
        yield "intensities", "error", f"every voxel is {values.flat[0]}: the image is blank"
    if is_thin(image):
        message = f"{_times(image.shape)} voxels, {_times(image.size_mm)} mm, are too thin to hold a head"
        yield "thin volume", "error", f"{message}: give the whole volume, or save a single slice as a 2D image"
    spacing = _times(image.spacing_mm)
    if not all(0.02 <= step <= 10 for step in image.spacing_mm):
        message = f"voxels of {spacing} mm are implausible (expected 0.02 to 10 mm): is it in another unit?"
        yield "spacing", "error", message
    elif np.allclose(image.spacing_mm, 1, atol=1e-6):
        yield "spacing", "warning", f"voxels of {spacing} mm are what files without a spacing get: check it"


def _check_label(label: Volume, image: Volume | None, column: str, has_head: bool) -> Problems:
    """Geometry and values of a label, and the head that it outlines."""
    if image is not None and not label.same_geometry(image, 0.1 * min(image.spacing_mm)):
        yield "geometry", "error", f"{column}: {_difference(label, image)}"
    inside = label.array != 0
    values = np.unique(label.array[inside])
    if not np.isfinite(values.astype(float)).all() or len(values) > 1:
        shown = ", ".join(str(value) for value in values[:5])
        message = f"{column} holds {len(values)} values besides 0 ({shown}): save one structure"
        yield "label not binary", "error", message
    if len(values) and has_head:
        yield from _check_head(label.with_array(inside), column)
    elif len(values):
        yield "unexpected head", "error", f"{column} is not empty, but has_head is false"
    elif has_head:
        yield "empty label", "error", f"{column} is empty where a head is expected: set has_head to false if so"


def _check_head(head: Volume, column: str) -> Problems:
    """Place and size of a mask that is not empty."""
    borders = [np.take(head.array, (0, -1), axis).any() for axis in range(head.ndim) if head.shape[axis] > 1]
    if any(borders):
        message = f"{column} touches the edge of the field of view: the head may be cut off"
        yield "head at the border", "warning", message
    size = head.array.sum() * np.prod(head.spacing_mm)
    diameter = 2 * np.sqrt(size / np.pi) if head.ndim == 2 else np.cbrt(6 * size / np.pi)
    if not 8 <= diameter <= 160:
        message = f"{column} is as large as a head of {diameter:.3g} mm diameter (expected 8 to 160 mm)"
        yield "head size", "warning", f"{message}: check the spacing"


def _difference(label: Volume, image: Volume) -> str:
    """The first property in which the geometry of a label and its image differ."""
    for name in ("shape", "spacing_mm", "direction", "origin"):
        ours, theirs = getattr(label, name), getattr(image, name)
        if len(ours) != len(theirs) or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
            what = {"shape": "size", "spacing_mm": "spacing"}.get(name, name)
            return f"its {what} is {_times(ours)}, the image's {_times(theirs)}: resample the label onto the image"
    return "its corners lie elsewhere than the image's: resample the label onto the image"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
