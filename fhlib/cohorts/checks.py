"""Is a cohort fit for the study? A report of what is wrong with its manifest and with the files that it names."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import (
    PATHS,
    Cohort,
    CohortError,
    Finding,
    as_findings,
    check_manifest,
    leaves_folder,
    load_cohort,
    read_file,
)
from fhlib.cohorts.outlines import Problem, Problems, check_nesting, check_outline
from fhlib.cohorts.pairs import LABEL_BY
from fhlib.cohorts.segments import has_head_and_skull
from fhlib.cohorts.splits import subjects_alike
from fhlib.files import progress
from fhlib.images.formats import read_volume
from fhlib.images.volume import Array, Volume

LOOKS = 4096
"""So many voxels tell a scan from others at first sight."""
SAME_GREY = 0.003
"""Grey levels, of 1, that differ by less are the same after a change of the pixel type (half a step of 255 is 0.002)."""


class Look(NamedTuple):
    """A scan at first sight: case, subject, shape, and some grey levels, 0 to 1, whatever its file's type or order of axes."""

    case: str
    subject: str
    shape: tuple[int, ...]
    levels: Array


def check_cohort(cohort: Cohort | Path | str, show_progress: bool = True, raise_errors: bool = False) -> pd.DataFrame:
    """Read every image and label and list what is wrong: case, check, severity ("error" or "warning"), message.

    The checks are:

    - the manifest's schema, missing or unreadable files;
    - of images: dimensions, spacing, intensities, and scans whose voxels are those of another, whatever their files' types;
    - subjects whose names may be one woman's (`subjects_alike`);
    - geometry of image and label (corners within a tenth of a voxel);
    - of labels: not binary, empty where a head is expected or filled where none is, implausible in size; form and place
      (see `fhlib.cohorts.outlines`), with the slices where they are wrong;
    - of head and skull: exchanged, the same, or the skull outside of the head.

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
    rows += subjects_alike(cohort.table["subject"].tolist())
    seen: list[Look] = []
    dimensions: dict[int, str] = {}
    cases = cohort.table.to_dict("records")
    for row in progress(cases, f"Checking {cohort.name}") if show_progress else cases:
        found = [(row["case"], *problem) for problem in _check_files(cohort, row, seen, dimensions)]
        rows += [finding for finding in found if finding not in rows]
    findings = as_findings(rows).sort_values("severity", kind="stable", ignore_index=True)
    if raise_errors and (findings["severity"] == "error").any():
        raise CohortError(findings, cohort.name)
    return findings


def _check_files(cohort: Cohort, row: dict[Hashable, str], seen: list[Look], dimensions: dict[int, str]) -> Problems:
    """Findings of one case; `seen` has the scans before it, and `dimensions` names the first case that had the same."""
    image = yield from _read(cohort, row, "image")
    if image is not None:
        given = bool(row["spacing_mm"])
        yield from _check_image(image, given)
        if given:
            yield from _check_spacing(cohort, row, image)
        dimensions.setdefault(image.ndim, row["case"])
        expected = next(iter(dimensions))
        if image.ndim != expected:
            message = f"the image is {image.ndim}D, the cohort began with {expected}D: split it in two"
            yield "dimensions", "error", message
        yield from _check_repeated(cohort, row, image, seen)
    masks = {}
    # where both columns name one file, it is checked once
    one_file = row["label_skull"] == row["label"]
    for column in ["label"] if one_file else ["label", "label_skull"]:
        label = yield from _read(cohort, row, column, image)
        if label is not None:
            masks[column] = yield from _check_label(label, image, column, row["has_head"] == "true")
    if one_file and "label" in masks and has_head_and_skull(cohort.folder / row["label"]):
        message = f"{row['label']} holds a head and a skull, and both columns name it, which says that the outline is the skull"
        yield "two outlines", "error", f"{message}: leave label_skull empty, or save each in a file of its own"
    if row.get(LABEL_BY):
        message = (
            "the label is the mask as `segment` wrote it, which nobody has changed: scores against it are no accuracy"
        )
        yield "label", "warning", f"{message}; correct it, or leave the case out"
    head, skull = masks.get("label"), masks.get("label_skull")
    if head is not None and skull is not None and head.same_geometry(skull, 0.1 * min(head.spacing_mm)):
        yield from check_nesting(head, skull)


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
        return read_file(cohort.folder, row, column, image)
    except FileNotFoundError:
        yield "missing file", "error", f"{column}: there is no {relative}"
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        yield "unreadable file", "error", f"{column}: {error}"
    return None


def _check_repeated(cohort: Cohort, row: Mapping[Hashable, str], image: Volume, seen: list[Look]) -> Problems:
    """Whether a scan is one of those before it, in another type of file or voxel, or with its axes in another order."""
    look = _look(row, image)
    for other in seen:
        if look is None or look.shape != other.shape or not _same_grey(look.levels, other.levels):
            continue
        # sure only where every voxel agrees
        if _same_grey(_grey(image), _grey(cohort.read_image(other.case))):
            message = f"the voxels are those of case {other.case}: keep one of the two"
            if other.subject != row["subject"]:
                message += (
                    f"; they are given to subjects {other.subject} and {row['subject']}, who would be in two splits"
                )
            yield "duplicate image", "error", message
            return
    if look is not None:
        seen.append(look)


def _look(row: Mapping[Hashable, str], image: Volume) -> Look | None:
    """None for an image that is blank or not finite, which is a finding of its own."""
    array = _oriented(image)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all() or low == high:
        return None
    chosen = np.linspace(0, array.size - 1, LOOKS).round().astype(int)
    levels = (array.flat[chosen].astype(np.float64) - low) / (high - low)
    return Look(row["case"], row["subject"], array.shape, levels)


def _grey(image: Volume) -> Array:
    """Voxels from 0 to 1, oriented."""
    array = _oriented(image).astype(np.float32)
    return (array - array.min()) / np.ptp(array)


def _oriented(image: Volume) -> Array:
    """The array with its axes along superior, posterior and left, as far as they are near them; nothing is copied."""
    matrix = np.array(image.direction).reshape(image.ndim, image.ndim)[::-1, ::-1]
    nearest = np.abs(matrix).argmax(axis=0).tolist()  # the physical axis of each array axis
    if len(set(nearest)) < image.ndim:
        return image.array
    order = np.argsort(nearest)
    flips = tuple(slice(None, None, -1 if matrix[nearest[axis], axis] < 0 else 1) for axis in order)
    return image.array.transpose(order)[flips]


def _same_grey(one: Array, other: Array) -> bool:
    return one.shape == other.shape and bool(np.abs(one - other).max() < SAME_GREY)


def _check_spacing(cohort: Cohort, row: Mapping[Hashable, str], image: Volume) -> Problems:
    """Whether files state another size of a voxel than their row gives."""
    for column in [column for column in PATHS if row[column]]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stated = read_volume(cohort.folder / row[column]).spacing_mm
        except (ValueError, TypeError, OSError, RuntimeError):
            continue  # it states none, which the cell is for; or another check says what is wrong
        if np.allclose(stated, 1, atol=1e-6) or np.allclose(stated, image.spacing_mm, rtol=1e-3):
            continue
        message = (
            f"{column} states voxels of {_times(stated)} mm, and spacing_mm replaces them by {_times(image.spacing_mm)}"
        )
        yield "spacing", "warning", f"{message}: leave the cell empty where the file is right"


def _check_image(image: Volume, given: bool) -> Problems:
    """Intensities and spacing of an image; `given` if the manifest tells the spacing."""
    values = image.array
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        yield "intensities", "error", f"{count} voxels are not finite numbers: replace them, with 0 for instance"
    elif values.min() == values.max():
        yield "intensities", "error", f"every voxel is {values.flat[0]}: the image is blank"
    elif ((values == values.min()) | (values == values.max())).all():
        message = f"every voxel is {values.min()} or {values.max()}: is it a mask? The label of X is named X_Label, or in cohort.csv"
        yield "intensities", "warning", message
    spacing = _times(image.spacing_mm)
    if not all(0.02 <= step <= 10 for step in image.spacing_mm):
        message = f"voxels of {spacing} mm are implausible (expected 0.02 to 10 mm): is it in another unit?"
        yield "spacing", "error", message
    elif not given and np.allclose(image.spacing_mm, 1, atol=1e-6):
        yield "spacing", "warning", f"voxels of {spacing} mm are what files without a spacing get: check it"


def _check_label(
    label: Volume, image: Volume | None, column: str, has_head: bool
) -> Generator[Problem, None, Volume | None]:
    """Geometry and values of a label, and the head that it outlines, which is returned (bool) unless there is none."""
    if image is not None and not label.same_geometry(image, 0.1 * min(image.spacing_mm)):
        yield "geometry", "error", f"{column}: {_difference(label, image)}"
    head = label.with_array(label.array != 0)
    if not head.array.any():
        if has_head:
            yield "empty label", "error", f"{column} is empty where a head is expected: set has_head to false if so"
        return None
    if not has_head:
        yield "unexpected head", "error", f"{column} is not empty, but has_head is false"
        return None

    inside = label.array[head.array]
    if inside.min() != inside.max():  # also where one is nan
        yield "label not binary", "error", f"{column} {_many_values(inside)}"
        return None
    if inside[0] not in (1, 255):
        message = f"the only value of {column} besides 0 is {inside[0]:g}, and it is taken for the head"
        yield "label value", "warning", f"{message}: if it is, save it as 1"
    yield from check_outline(head, column)
    yield from _check_size(head, column)
    return head


def _many_values(inside: Array) -> str:
    """Which values a label holds besides 0, and the remedy."""
    values = np.unique(inside)
    shown = ", ".join(str(value) for value in values[:5])
    holds = f"holds {len(values)} values besides 0 ({shown}{', ...' * (len(values) > 5)})"
    if len(values) > 5 or not np.array_equal(values, np.rint(values)):
        return f"{holds}, as a probability, a smoothed mask or an image does: save 1 where it is at least half, 0 elsewhere"
    return f"{holds}: save one structure"


def _check_size(head: Volume, column: str) -> Problems:
    size = np.count_nonzero(head.array) * np.prod(head.spacing_mm)
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
