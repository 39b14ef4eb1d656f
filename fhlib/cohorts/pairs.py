"""Scans brought as pairs of files: `X.nii.gz` beside `X_Label.nii.gz`, or beside `X_mask.seg.nrrd` as `segment` writes it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fhlib.cohorts.segments import SEGMENTATION, has_head_and_skull, is_segmentation, outlines_skull_only, read_label
from fhlib.files import is_foreign, read_json
from fhlib.fingerprints import file_digest
from fhlib.images.formats import READABLE, read_volume, suffix_of
from fhlib.images.parts import files_of
from fhlib.images.volume import Volume

RECORD_SUFFIX = ".fhlib.json"
"""Of the file in which `segment` tells what it wrote for a scan."""

LABEL_SOURCE, AS_WRITTEN = "x_label_source", "segment, unchanged"
"""A column of imports, and what it says of a label that a network drew and nobody has corrected."""

LABEL = re.compile(r"(?P<of>.+)_(?P<kind>label|mask)")
NO_SCAN = re.compile(r"(?P<of>.+?)(~new\d*_mask|(~new\d*)?_(skull|probability))")
"""What `segment` writes beside a scan and is neither a scan nor its label; in lower case."""


PICTURES = (".png", ".tif", ".tiff")

MOST_WITHOUT_LABEL = 50
"""A folder with so many more images than labels is not a study's."""


class Content(NamedTuple):
    """What a scan is read to: image, label where there is one, more columns of the manifest, and a skull's label."""

    image: Volume
    label: Volume | None
    columns: dict[str, str]
    skull: Volume | None = None
    label_is_skull: bool = False


@dataclass(frozen=True)
class SourceScan:
    """One scan to import: its row of the manifest (ids and known values), its files, and how they are read.

    `tables` are files that its row was found in.
    """

    row: dict[str, str]
    files: tuple[Path, ...]
    read: Callable[[], Content]
    label_is_skull: bool = False
    tables: tuple[Path, ...] = ()


def contents_of(folder: Path) -> str:
    """The first names in a folder, for an error's message."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder) if not is_foreign(entry.name))
    shown = ", ".join(names[:8]) or "nothing"
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    folders = sum(name.endswith("/") for name in names)
    counts = f"; {len(names) - folders:,} files and {folders:,} folders in all" if more else ""
    return f"found in it: {shown}{more}{counts}"


def case_name(stem: str) -> str:
    """A case's id from a file's name: letters, digits, `-`, `_` and `.`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "scan"


def pair_scans(source: Path) -> list[SourceScan]:
    """Scans of a folder of images with labels beside them (X_Label or X_mask); none if there is no label.

    Raises ValueError for two images of one name, a label without its image, two labels of one scan, and names that become one case.
    """
    images, labels = _images_and_labels(source)
    scans: dict[str, SourceScan] = {}
    for key, image in images.items():
        case = case_name(_stem(image))
        if case.lower() in scans:
            raise ValueError(f"{image.name} and another file both become case {case!r}: rename one of them")
        label = _one_label(labels[key], source) if key in labels else None
        skull = _corrected_skull(key, source) if label else None
        files = tuple(file for path in (image, label, skull) if path for file in files_of(path))
        row = {"case": case, "subject": case}
        if label and _is_as_written(label, source):
            row[LABEL_SOURCE] = AS_WRITTEN
        scans[case.lower()] = SourceScan(row, files, partial(_read_pair, image, label, skull))
    return list(scans.values())


def _images_and_labels(source: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Images and their labels by their common name in lower case; both empty if there is no label."""
    readable = {}
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        if is_foreign(entry.name):
            continue
        if entry.is_dir() or (suffix_of(entry.name) in READABLE and entry.is_file()):
            path = source / entry.name
            readable[path] = _stem(path).lower()
    # a scan may be missing beside what `segment` wrote for it
    recorded = [path.name.lower().removesuffix(RECORD_SUFFIX) for path in source.glob(f"*{RECORD_SUFFIX}")]
    names = {*readable.values(), *recorded}
    labels: dict[str, list[Path]] = {}
    images: dict[str, Path] = {}
    others: list[Path] = []
    for path, name in readable.items():
        label, beside = LABEL.fullmatch(name), NO_SCAN.fullmatch(name)
        # a DICOM SEG refers to its series and is no image that can be read as one
        if (beside and beside["of"] in names) or (name.endswith("_mask") and suffix_of(path) == ".dcm"):
            continue
        if label and (label["kind"] == "label" or label["of"] in names or is_segmentation(path)):
            labels.setdefault(label["of"], []).append(path)
        else:
            others.append(path)

    passed_over = [path.name for path in others if labels and path.is_dir() and readable[path] not in labels]
    if passed_over:
        shown = ", ".join(passed_over[:5]) + (" and others" if len(passed_over) > 5 else "")
        warnings.warn(f"passed over, as folders without a label: {shown}", stacklevel=2)
    for path in others:
        name = readable[path]
        # without any label this is another layout; a folder without a label may be anything
        if not labels or (path.is_dir() and name not in labels):
            continue
        if name in images:
            raise ValueError(f"{images[name].name} and {path.name} are two images of one name: keep one of them")
        images[name] = path
    _pass_over_pictures(images, labels)
    if len(images) > MOST_WITHOUT_LABEL and len(images) > MOST_WITHOUT_LABEL * len(labels):
        raise ValueError(
            f"{len(labels)} of {len(images):,} images in {source.name}/ have a label: give a folder that holds the study's "
            "scans alone, or write a cohort.csv that names them"
        )
    if orphans := sorted(labels[name][0].name for name in set(labels) - set(images)):
        raise ValueError(f"there is no image for {', '.join(orphans[:5])}: X_Label and X_mask need an X beside them")
    return images, labels


def _pass_over_pictures(images: dict[str, Path], labels: Mapping[str, list[Path]]) -> None:
    """Take out pictures beside volumes (screenshots, photographs), and say so: only where labels are pictures are they scans."""
    if any(suffix_of(path) in PICTURES for paths in labels.values() for path in paths):
        return
    pictures = [name for name, path in images.items() if name not in labels and suffix_of(path) in PICTURES]
    if pictures:
        shown = ", ".join(images[name].name for name in pictures[:5]) + (" and others" if len(pictures) > 5 else "")
        warnings.warn(f"passed over, as pictures without a label beside volumes: {shown}", stacklevel=2)
    for name in pictures:
        del images[name]


def _one_label(paths: list[Path], source: Path) -> Path:
    """The label of a scan: one named _Label, else the mask that a person has changed since `segment` wrote it.

    Of masks as `segment` wrote them any is as good, since they hold the same voxels.
    """
    given = [path for path in paths if _stem(path).lower().endswith("_label")]
    masks = given or paths
    if len(masks) == 1:
        return masks[0]
    as_written = [path for path in masks if not given and _is_as_written(path, source)]
    changed = [path for path in masks if path not in as_written]
    if len(changed) > 1 and not _agree(changed):
        names = " and ".join(path.name for path in changed)
        record = f"{_stem(changed[0]).rpartition('_')[0]}{RECORD_SUFFIX}"
        raise ValueError(
            f"{names} are labels of one scan: keep the one that is right, or copy {record} beside them, which tells what `segment` wrote"
        )
    return changed[0] if changed else as_written[0]


def _corrected_skull(name: str, source: Path) -> Path | None:
    """X_skull that a person has changed since `segment` wrote it; as it was written it is a guess that nobody has looked at."""
    skulls = [path for path in sorted(source.iterdir()) if _stem(path).lower() == f"{name}_skull" and path.is_file()]
    readable = [path for path in skulls if suffix_of(path) in READABLE and suffix_of(path) != ".dcm"]
    changed = [path for path in readable if file_digest(path) not in _written(path, source)]
    if len(changed) > 1 and not _agree(changed):
        raise ValueError(
            f"{' and '.join(path.name for path in changed)} are skulls of one scan: keep the one that is right"
        )
    return changed[0] if changed else None


def _agree(masks: list[Path]) -> bool:
    """Whether masks hold the same voxels."""
    first, *others = (read_label(path, None).array > 0 for path in masks)
    return all(np.array_equal(first, other) for other in others)


def _is_as_written(mask: Path, source: Path) -> bool:
    """Whether a mask holds the bytes that `segment` wrote."""
    written = _written(mask, source)
    return bool(written) and file_digest(mask) in written


def _written(mask: Path, source: Path) -> list[str]:
    """Digests that the record of `segment` has for a mask or skull; none where there is no record, or a damaged one."""
    record = source / f"{_stem(mask).rpartition('_')[0]}{RECORD_SUFFIX}"
    if mask.is_dir() or not record.is_file():
        return []
    try:
        known = read_json(record)
        return [*known["written"].get(mask.name, []), *known.get("earlier", {}).get(mask.name, [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _stem(path: Path) -> str:
    """The name without the format's suffix, which may be two (`.nii.gz`, `.seg.nrrd`)."""
    if is_segmentation(path):
        return path.name[: -len(SEGMENTATION)]
    return path.name if path.is_dir() else path.name[: len(path.name) - len(suffix_of(path))]


def _read_pair(image: Path, label: Path | None, skull_file: Path | None = None) -> Content:
    scan = read_volume(image)
    if label is None:
        return Content(scan, None, {})
    if outlines_skull_only(label):
        return Content(scan, read_label(label, scan, "skull"), {}, label_is_skull=True)
    skull_file = label if has_head_and_skull(label) else skull_file
    skull = read_label(skull_file, scan, "skull") if skull_file else None
    return Content(scan, read_label(label, scan), {}, skull)
