"""Scans brought as pairs of files: `X.nii.gz` beside `X_Label.nii.gz`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fhlib.images.formats import READABLE, read_volume, suffix_of
from fhlib.images.volume import Volume


@dataclass(frozen=True)
class SourceScan:
    """One scan to import: its row of the manifest (ids and known values), its files, and how they are read."""

    row: dict[str, str]
    files: tuple[Path, ...]
    read: Callable[[], tuple[Volume, Volume | None, dict[str, str]]]
    label_is_skull: bool = False


def contents_of(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"found in it: {shown or 'nothing'}"


def stem(path: Path) -> str:
    return path.name if path.is_dir() else path.name[: len(path.name) - len(suffix_of(path))]


def pair_scans(source: Path) -> list[SourceScan]:
    """Scans of a folder of X / X_Label pairs; none if no file's name ends in _Label."""
    entries = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    readable = [path for path in entries if path.is_dir() or suffix_of(path) in (*READABLE, ".vol")]
    labels = {stem(path)[:-6].lower(): path for path in readable if stem(path).lower().endswith("_label")}
    if not labels:
        return []
    images: dict[str, Path] = {}
    for path in (path for path in readable if not stem(path).lower().endswith("_label")):
        key = stem(path).lower()
        if path.is_dir() and key not in labels:
            continue  # a folder without a label may be anything
        if key in images:
            raise ValueError(f"{images[key].name} and {path.name} are two images of one name: keep one of them")
        images[key] = path
    if orphans := sorted(labels[key].name for key in set(labels) - set(images)):
        raise ValueError(f"there is no image for {', '.join(orphans[:5])}: X_Label needs an X beside it")
    scans: dict[str, SourceScan] = {}
    for key, image in images.items():
        case = re.sub(r"[^A-Za-z0-9._-]+", "-", stem(image)).strip("-._") or "scan"
        if case.lower() in scans:
            raise ValueError(f"{image.name} and another file both become case {case!r}: rename one of them")
        label = labels.get(key)
        paths = tuple(path for path in (image, label) if path is not None)
        files = tuple(file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]))
        row = {"case": case, "subject": case}
        scans[case.lower()] = SourceScan(
            row, tuple(file for file in files if file.is_file()), pair_reader(image, label)
        )
    return list(scans.values())


def pair_reader(image: Path, label: Path | None) -> Callable[[], tuple[Volume, Volume | None, dict[str, str]]]:
    def read() -> tuple[Volume, Volume | None, dict[str, str]]:
        return read_volume(image), None if label is None else read_volume(label), {}

    return read
