"""Is a cohort fit for the study? A report of what is wrong with its manifest and with the files that it names."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Generator, Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fhlib.cohorts.manifest import (
    NUMBER,
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
from fhlib.cohorts.segments import has_head_and_skull
from fhlib.cohorts.splits import subjects_alike
from fhlib.files import progress
from fhlib.images.formats import read_volume
from fhlib.images.volume import Array, ReadWarning, Volume, is_binary

LOOKS = 4096
"""So many voxels tell a scan from others at first sight."""
SAME_GREY = 0.003
"""Grey levels, of 1, that differ by less are the same after a change of the pixel type (half a step of 255 is 0.002)."""

FEW_LEVELS = 8
"""Labels of several structures have so many values; scans have more."""
UNLIKE_LABEL = {"reference_volume_ml": (1.6, 3.0), "reference_hc_mm": (1.35, 2.5)}
"""Ratios to the label's own size that are a warning, and an error: whole head and skull differ by 1.3 in volume."""


class Look(NamedTuple):
    """A scan at first sight: case, subject, shape, and some grey levels, 0 to 1, whatever its file's type or order of axes."""

    case: str
    subject: str
    shape: tuple[int, ...]
    levels: Array


FEWEST_SLICES = 3
SMALLEST_HEAD_MM = 8.0
"""Of a volume's shortest side."""


def check_cohort(cohort: Cohort | Path | str, show_progress: bool = True, raise_errors: bool = False) -> pd.DataFrame:
    """Read every image and label and list what is wrong: case, check, severity ("error" or "warning"), message.

    The checks are:

    - the manifest's schema, missing or unreadable files;
    - of images: dimensions, spacing, intensities, and scans whose voxels are those of another, whatever their files' types;
    - subjects whose names may be one woman's (`subjects_alike`);
    - geometry of image and label (corners within a tenth of a voxel), and labels that are copies of another case's;
    - reference measurements that cannot be of the head outlined (another unit);
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
    outlined: dict[bytes, tuple[str, str]] = {}
    dimensions: dict[int, str] = {}
    cases = cohort.table.to_dict("records")
    for row in progress(cases, f"Checking {cohort.name}") if show_progress else cases:
        found = [(row["case"], *problem) for problem in _check_files(cohort, row, seen, outlined, dimensions)]
        rows += [finding for finding in found if finding not in rows]
    findings = as_findings(rows).sort_values("severity", kind="stable", ignore_index=True)
    if raise_errors and (findings["severity"] == "error").any():
        raise CohortError(findings, cohort.name)
    return findings


def _check_files(
    cohort: Cohort,
    row: dict[Hashable, str],
    seen: list[Look],
    outlined: dict[bytes, tuple[str, str]],
    dimensions: dict[int, str],
) -> Problems:
    """Findings of one case.

    Args:
        cohort: with the folder.
        row: of the manifest.
        seen: the scans before it; it is added.
        outlined: case and subject by the digest of a label; its own are added.
        dimensions: the first case of each number of dimensions.
    """
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
            yield from _check_outlined(masks[column], column, row, outlined)
    if one_file and "label" in masks and has_head_and_skull(cohort.folder / row["label"]):
        message = f"{row['label']} holds a head and a skull, and both columns name it, which says that the outline is the skull"
        yield "two outlines", "error", f"{message}: leave label_skull empty, or save each in a file of its own"
    head, skull = masks.get("label"), masks.get("label_skull")
    if (outline := skull or head) is not None:
        yield from _check_references(head, outline, row)
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
    volume = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            volume = read_file(cohort.folder, row, column, image)
        except FileNotFoundError:
            fault = "missing file", "error", f"{column}: there is no {relative}"
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            fault = "unreadable file", "error", f"{column}: {error}"
    if volume is None:
        yield fault
    for warning in caught:
        if issubclass(warning.category, ReadWarning):
            yield "reading", "warning", f"{column}: {warning.message}"
    return volume


def _check_outlined(
    head: Volume | None, column: str, row: Mapping[Hashable, str], outlined: dict[bytes, tuple[str, str]]
) -> Problems:
    """Whether the voxels of a label are those of another case's: it was copied. HC18 has two such pairs, of one subject each."""
    if head is None:
        return
    key = hashlib.sha256(repr(head.shape).encode() + np.packbits(head.array).tobytes()).digest()
    other, subject = outlined.setdefault(key, (row["case"], row["subject"]))
    if other != row["case"]:
        severity = "warning" if subject == row["subject"] else "error"
        message = f"{column} holds the voxels of a label of case {other}: give each scan its own label"
        yield "duplicate label", severity, message


def _check_references(head: Volume | None, outline: Volume, row: Mapping[Hashable, str]) -> Problems:
    """Whether what somebody measured can be of the head that is outlined: another unit differs by more than an error does.

    Args:
        head: the label; None where there is none.
        outline: the skull's label where there is one, else the head's.
        row: of the manifest.
    """
    if _is_cut(head or outline):
        return  # a finding of its own, and what is cut off was measured perhaps
    found: dict[str, float] = {}
    if head is not None and head.ndim == 3:
        found["reference_volume_ml"] = int(np.count_nonzero(head.array)) * head.voxel_volume_ml
    found["reference_hc_mm"] = math.pi * _diameter(outline)  # that of a sphere is near enough
    for column, measured in found.items():
        if not NUMBER.fullmatch(row[column]) or float(row[column]) <= 0:
            continue
        ratio, (unlikely, impossible) = float(row[column]) / measured, UNLIKE_LABEL[column]
        if max(ratio, 1 / ratio) > unlikely:
            severity = "error" if max(ratio, 1 / ratio) > impossible else "warning"
            message = f"{column} is {row[column]}, and the label has about {measured:.3g}"
            yield "reference", severity, f"{message}: is it in another unit, or of another scan?"


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
    elif is_binary(values):
        message = f"the image holds {values.min():g} and {values.max():g} alone, as a mask does"
        yield "intensities", "error", f"{message}: name the scan; a label beside a scan X is named X_Label"
    elif _has_few_levels(values):
        message = f"the image holds {FEW_LEVELS} levels or fewer: is it a label of several structures?"
        yield "intensities", "warning", message
    if image.ndim == 3 and (min(image.shape) < FEWEST_SLICES or min(image.size_mm) < SMALLEST_HEAD_MM):
        message = f"{_times(image.shape)} voxels, {_times(image.size_mm)} mm, are too thin to hold a head"
        yield "thin volume", "warning", f"{message}: give the whole volume, or save a single slice as a 2D image"
    spacing = _times(image.spacing_mm)
    if not all(0.02 <= step <= 10 for step in image.spacing_mm):
        message = f"voxels of {spacing} mm are implausible (expected 0.02 to 10 mm): is it in another unit?"
        yield "spacing", "error", message
    elif not given and np.allclose(image.spacing_mm, 1, atol=1e-6):
        yield "spacing", "warning", f"voxels of {spacing} mm are what files without a spacing get: check it"


def _has_few_levels(values: Array) -> bool:
    sample = np.unique(values.flat[:: max(1, values.size // LOOKS)])
    return len(sample) <= FEW_LEVELS and len(np.unique(values)) <= FEW_LEVELS


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
    diameter = _diameter(head)
    if not 8 <= diameter <= 160:
        message = f"{column} is as large as a head of {diameter:.3g} mm diameter (expected 8 to 160 mm)"
        yield "head size", "warning", f"{message}: check the spacing"


def _is_cut(head: Volume) -> bool:
    """Whether a mask touches the edge of its image."""
    axes = [axis for axis, size in enumerate(head.shape) if size > 1]
    return any(head.array.take(end, axis).any() for axis in axes for end in (0, -1))


def _diameter(head: Volume) -> float:
    """Of the sphere, or the circle, that is as large, in mm."""
    size = float(np.count_nonzero(head.array) * np.prod(head.spacing_mm))
    return 2 * math.sqrt(size / math.pi) if head.ndim == 2 else math.cbrt(6 * size / math.pi)


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
