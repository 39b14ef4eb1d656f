"""What single arguments may say. argparse tells the user what is wrong."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path


def fail(error: Exception | str) -> int:
    """Say on standard error why a request cannot be met; returns the exit code 2."""
    print(error, file=sys.stderr)
    return 2


def missing_input(options: argparse.Namespace) -> str:
    """What to say where the scans to segment are not there; empty where they are. Needs no import of weight."""
    path = getattr(options, "volumes", None)
    if path is None or os.path.exists(path) or not str(path).isprintable():
        return ""
    return f"there is no {path.name!r}: give a scan, a folder of scans or a DICOM series folder"


def count(text: str) -> int:
    """A number of processor cores."""
    if not (text.isdecimal() and 0 < len(text) < 7 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores: give 1 or more, or leave it out for all")
    return int(text)


def spacing(text: str) -> tuple[float, ...]:
    """Size of a voxel in mm: one number, or two or three with commas."""
    from fhlib.images.volume import parse_spacing

    try:
        numbers = parse_spacing(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if numbers is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no spacing: give mm as 0.5, or one number an axis as 0.5,0.5,0.7"
        )
    return numbers


def pixel_size(text: str) -> float:
    """Size of a pixel in mm."""
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of a pixel: give mm as 0.12")
    return size


def weeks(text: str) -> float:
    """Gestational age as 26.5, or as 26+3 (weeks and days)."""
    from fhlib.cohorts.tables import parse_weeks

    try:
        return parse_weeks(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def given_path(text: str) -> Path:
    """A path that must be given, `~` and all."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: give one")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such user's home folder") from error


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        return tuple(int(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers with commas, such as 0,1,2") from None
