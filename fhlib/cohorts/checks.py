"""Is a cohort fit for the study, and who trains: a validation report, and splits that never divide a subject.

The manifest itself (`Cohort`, `load_cohort`, `write_manifest`) is in `fhlib.manifest`; its names are importable from here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Hashable
from pathlib import Path

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import Cohort, CohortError, Finding, as_findings, check_manifest, leaves_folder, load_cohort
from fhlib.files import progress
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume

Problem = tuple[str, str, str]  # check, severity, message
Problems = Generator[Problem, None, None]


def check_cohort(cohort: Cohort | Path | str, show_progress: bool = True, raise_errors: bool = False) -> pd.DataFrame:
    """Read every image and label and list what is wrong: case, check, severity ("error" or "warning"), message.

    A folder may be given instead of a cohort, so that a manifest that `load_cohort` refuses is reported together with
    its files. Checks: the manifest's schema, missing or unreadable files, dimensions, spacing, intensities, geometry of
    image and label (corners within a tenth of a voxel), labels not binary, empty where a head is expected or filled
    where none is, touching the border, implausible in size, and scans whose voxels are those of another.

    Raises CohortError with all findings if `raise_errors` and there is an error.
    """
    if not isinstance(cohort, Cohort):
        cohort = load_cohort(cohort, strict=False)
    manifest = check_manifest(cohort, tuple(cohort.table.columns))
    rows: list[Finding] = list(manifest.itertuples(index=False, name=None))
    seen: dict[str, str] = {}
    dimensions: dict[int, str] = {}
    cases = cohort.table.to_dict("records")
    for row in progress(cases, f"Checking {cohort.name}") if show_progress else cases:
        found = [(row["case"], *finding) for finding in _check_files(cohort, row, seen, dimensions)]
        rows += [finding for finding in found if finding not in rows]
    findings = as_findings(rows)
    findings = findings.sort_values("severity", kind="stable", ignore_index=True)
    if raise_errors and (findings["severity"] == "error").any():
        raise CohortError(findings, cohort.name)
    return findings


def _check_files(
    cohort: Cohort, row: dict[Hashable, str], seen: dict[str, str], dimensions: dict[int, str]
) -> Problems:
    """Findings of one case; `seen` (voxels) and `dimensions` name the first case that had the same."""
    image = yield from _read(cohort, row["image"], "image")
    if image is not None:
        yield from _check_image(image)
        dimensions.setdefault(image.ndim, row["case"])
        expected = next(iter(dimensions))
        if image.ndim != expected:
            yield (
                "dimensions",
                "error",
                f"the image is {image.ndim}D, the cohort began with {expected}D: split it in two",
            )
        content = hashlib.sha256(np.ascontiguousarray(image.array).tobytes()).hexdigest() + str(image.shape)
        first = seen.setdefault(content, row["case"])
        if first != row["case"]:
            yield "duplicate image", "error", f"the voxels are those of case {first}: keep one of the two"
    for column in ("label", "label_skull"):
        if row[column] and not (column == "label_skull" and row[column] == row["label"]):
            label = yield from _read(cohort, row[column], column)
            if label is not None:
                yield from _check_label(label, image, column, row["has_head"] == "true")


def _read(cohort: Cohort, relative: str, column: str) -> Generator[Problem, None, Volume | None]:
    """Yield why a file cannot be read, or return its volume."""
    if not relative or leaves_folder(cohort.folder, relative):
        return None  # the manifest's check has said so
    try:
        return read_volume(cohort.folder / relative)
    except FileNotFoundError:
        yield "missing file", "error", f"{column}: there is no {relative}"
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        yield "unreadable file", "error", f"{column}: {error}"
    return None


def _check_image(image: Volume) -> Problems:
    values = image.array
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        yield "intensities", "error", f"{count} voxels are not finite numbers: replace them, with 0 for instance"
    elif values.min() == values.max():
        yield "intensities", "error", f"every voxel is {values.flat[0]}: the image is blank"
    spacing = " x ".join(f"{step:g}" for step in image.spacing_mm)
    if not all(0.02 <= step <= 10 for step in image.spacing_mm):
        yield (
            "spacing",
            "error",
            f"voxels of {spacing} mm are implausible (expected 0.02 to 10 mm): is it in another unit?",
        )
    elif np.allclose(image.spacing_mm, 1, atol=1e-6):
        yield "spacing", "warning", f"voxels of {spacing} mm are what files without a spacing get: check it"


def _check_label(label: Volume, image: Volume | None, column: str, has_head: bool) -> Problems:
    if image is not None and not label.same_geometry(image, 0.1 * min(image.spacing_mm)):
        yield "geometry", "error", f"{column}: {_difference(label, image)}"
    inside = label.array != 0
    values = np.unique(label.array[inside])
    if not np.isfinite(values.astype(float)).all() or len(values) > 1:
        shown = ", ".join(str(value) for value in values[:5])
        yield (
            "label not binary",
            "error",
            f"{column} holds {len(values)} values besides 0 ({shown}): save one structure",
        )
    if not len(values):
        if has_head:
            yield "empty label", "error", f"{column} is empty where a head is expected: set has_head to false if so"
        return
    if not has_head:
        yield "unexpected head", "error", f"{column} is not empty, but has_head is false"
    borders = [np.take(inside, (0, -1), axis).any() for axis in range(label.ndim) if label.shape[axis] > 1]
    if any(borders):
        yield (
            "head at the border",
            "warning",
            f"{column} touches the edge of the field of view: the head may be cut off",
        )
    size = inside.sum() * np.prod(label.spacing_mm)
    diameter = 2 * np.sqrt(size / np.pi) if label.ndim == 2 else np.cbrt(6 * size / np.pi)
    if not 8 <= diameter <= 160:
        message = (
            f"{column} is as large as a head of {diameter:.3g} mm diameter (expected 8 to 160 mm): check the spacing"
        )
        yield "head size", "warning", message


def _difference(label: Volume, image: Volume) -> str:
    """The first property in which the geometry of a label and its image differ."""
    properties: tuple[tuple[str, Callable[[Volume], tuple[float, ...]]], ...] = (
        ("size", lambda volume: volume.shape),
        ("spacing", lambda volume: volume.spacing_mm),
        ("direction", lambda volume: volume.direction),
        ("origin", lambda volume: volume.origin),
    )
    for name, of in properties:
        ours, theirs = of(label), of(image)
        if len(ours) != len(theirs) or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
            shown = [" x ".join(f"{value:.6g}" for value in values) for values in (ours, theirs)]
            return f"its {name} is {shown[0]}, the image's {shown[1]}: resample the label onto the image"
    return "its corners lie elsewhere than the image's: resample the label onto the image"
