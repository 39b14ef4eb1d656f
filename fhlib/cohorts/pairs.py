"""Scans brought as pairs of files: `X.nii.gz` beside `X_Label.nii.gz`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fhlib.images.formats import READABLE, read_volume, suffix_of
from fhlib.images.volume import Volume

Content = tuple[Volume, Volume | None, dict[str, str]]
"""Image, label where there is one, and more columns of the manifest."""


@dataclass(frozen=True)
class SourceScan:
    """One scan to import: its row of the manifest (ids and known values), its files, and how they are read."""

    row: dict[str, str]
    files: tuple[Path, ...]
    read: Callable[[], Content]
    label_is_skull: bool = False


def contents_of(folder: Path) -> str:
    """The first names in a folder, for an error's message."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(names[:8]) or "nothing"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"found in it: {shown}{more}"


def pair_scans(source: Path) -> list[SourceScan]:
    """Scans of a folder of X / X_Label pairs; none if no file's name ends in _Label.

    Raises ValueError for two images of one name, a label without its image, and names that become one case.
    """
    images, labels = _images_and_labels(source)
    scans: dict[str, SourceScan] = {}
    for key, image in images.items():
        case = re.sub(r"[^A-Za-z0-9._-]+", "-", _stem(image)).strip("-._") or "scan"
        if case.lower() in scans:
            raise ValueError(f"{image.name} and another file both become case {case!r}: rename one of them")
        label = labels.get(key)
        files = _files(image) if label is None else (*_files(image), *_files(label))
        scans[case.lower()] = SourceScan({"case": case, "subject": case}, files, partial(_read_pair, image, label))
    return list(scans.values())


def _images_and_labels(source: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and labels by their common name in lower case; both empty if there is no label."""
    readable = {}
    for path in sorted(source.glob("[!.]*")):
        if path.is_dir() or suffix_of(path) in READABLE:
            readable[path] = _stem(path).lower()
    labels = {name.removesuffix("_label"): path for path, name in readable.items() if name.endswith("_label")}
    images: dict[str, Path] = {}
    for path, name in readable.items():
        # without any label this is another layout; a folder without a label may be anything
        if not labels or name.endswith("_label") or (path.is_dir() and name not in labels):
            continue
        if name in images:
            raise ValueError(f"{images[name].name} and {path.name} are two images of one name: keep one of them")
        images[name] = path
    if orphans := sorted(labels[name].name for name in set(labels) - set(images)):
        raise ValueError(f"there is no image for {', '.join(orphans[:5])}: X_Label needs an X beside it")
    return images, labels


def _files(path: Path) -> tuple[Path, ...]:
    """The file itself, or the files of a DICOM folder."""
    entries = sorted(path.rglob("*")) if path.is_dir() else [path]
    return tuple(entry for entry in entries if entry.is_file())


def _stem(path: Path) -> str:
    """The name without the format's suffix, which may be two (`.nii.gz`)."""
    return path.name if path.is_dir() else path.name[: len(path.name) - len(suffix_of(path))]


def _read_pair(image: Path, label: Path | None) -> Content:
    return read_volume(image), None if label is None else read_volume(label), {}
