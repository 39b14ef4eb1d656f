"""What is said of one segmented volume: its row, its words and its picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fhlib.figures.planes import planes
from fhlib.images.grids import bounding_box
from fhlib.images.volume import Volume
from fhlib.measures.biometry import biometry
from fhlib.measures.growth import centile, valid_weeks
from fhlib.segmentation.head_circumference import fitted, image_measures
from fhlib.segmentation.quality import MEANINGS
from fhlib.segmentation.segmentor import Segmentation

STRUCTURES = {"skin": "head", "skull": "skull"}
"""What a mask is called, by what it outlines."""

COLUMNS = (
    "volume",
    "status",
    "volume_ml",
    "volume_low_ml",
    "volume_high_ml",
    "bpd_mm",
    "ofd_mm",
    "hc_mm",
    "hc_centile",
    "flags",
    "note",
)

NO_HEAD = "no head"
"""The flag of a mask that may be none."""

THINNEST = 3
"""Voxels that a mask must span along each axis to have sizes."""


@dataclass(frozen=True)
class Found:
    """One volume with what was found in it; `skull` where a skull's segmentor was given, and of an image HC's 95 % interval in mm."""

    volume: Volume
    head: Segmentation
    skull: Segmentation | None
    hc_interval_mm: tuple[float, float] = (math.nan, math.nan)


def table_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `measures` as a table with COLUMNS, and what else they have."""
    extra: dict[str, None] = {}
    for row in rows:
        extra |= dict.fromkeys(key for key in row if key not in COLUMNS)
    return pd.DataFrame(rows, columns=[*COLUMNS, *extra])


def measures(found: Found, ga_weeks: float | None = None) -> dict[str, Any]:
    """Status, volume with its interval, biometry, flags and note of one result (see `segment_files`)."""
    low, high = found.head.interval_ml
    skull_flags = found.skull.flags if found.skull else ()
    flags = [*found.head.flags, *(f"skull: {flag}" for flag in skull_flags)]
    row: dict[str, Any] = {
        "status": _status(found),
        "volume_ml": found.head.volume_ml,
        "volume_low_ml": low,
        "volume_high_ml": high,
        "flags": "; ".join(flags),
    }
    notes = []
    if found.head.outline == "skull" and found.volume.ndim == 3 and row["status"] != "nothing found":
        notes.append("volume_ml is of the skull")
    if row["status"] == "found":
        sizes, why = _sizes(found.skull or found.head)
        row |= {name: value for name, value in sizes.items() if math.isfinite(value)}
        notes += [f"no BPD, OFD and HC: {why}"] if why else []
        if found.volume.ndim == 2 and not why:
            row |= image_measures(found.head, found.hc_interval_mm)
            if "implausible spacing" in found.head.flags:
                row = {name: value for name, value in row.items() if not name.startswith("ga_by_hc")}
            notes += _about_age(row)
    if ga_weeks is not None:
        centile, why = _centile(row, ga_weeks)
        row |= centile | {"ga_weeks": ga_weeks}
        notes += [f"no centile: {why}"] if why else []
    return row | {"note": "; ".join(notes)}


def _sizes(outlined: Segmentation) -> tuple[dict[str, float], str]:
    """BPD, OFD and HC by name, and why there are none, in words."""
    mask = outlined.mask.array != 0
    if not mask.any():
        return {}, f"no {STRUCTURES[outlined.outline]} is found"
    if mask.all():
        return {}, "the mask fills the whole image"
    if mask.ndim == 3 and min(side.stop - side.start for side in bounding_box(mask)) < THINNEST:
        return {}, f"the mask spans fewer than {THINNEST} voxels along an axis"
    found = biometry(outlined.mask, "skull" if outlined.outline == "skull" else "skin")
    if not math.isfinite(found.hc_mm):
        return {}, found.note or "the mask is no ellipse"
    numbers = found.asdict()
    return {name: float(value) for name, value in numbers.items() if name.endswith(("bpd_mm", "ofd_mm", "hc_mm"))}, ""


def _about_age(row: Mapping[str, Any]) -> list[str]:
    """Why an image's HC gives no age, or one without an end."""
    if "hc_mm" not in row:
        return []
    if "implausible spacing" in row["flags"]:
        return ["no age by HC: the spacing is implausible"]
    first, last = (f"{week:g}" for week in valid_weeks("hc"))
    missing = [end for end in ("low", "high") if f"ga_by_hc_{end}_weeks" not in row]
    if "ga_by_hc_weeks" not in row:
        return [f"no age by HC: the chart goes from {first} to {last} weeks"]
    return [f"the age's {end} end is beyond the chart's {first} to {last} weeks" for end in missing]


def _centile(row: Mapping[str, Any], ga_weeks: float) -> tuple[dict[str, float], str]:
    """The centile of a row's HC, and why an age gives none, in words."""
    first, last = valid_weeks("hc")
    if not first <= ga_weeks <= last:
        days = f" ({ga_weeks:g} days are {ga_weeks / 7:.3g} weeks)" if first <= ga_weeks / 7 <= last else ""
        return {}, f"{ga_weeks:g} weeks is outside the chart's {first:g} to {last:g} weeks{days}"
    if "hc_mm" in row and "implausible spacing" in row["flags"]:
        return {}, "the spacing is implausible"
    if "hc_mm" in row:
        return {"hc_centile": float(centile("hc", row["hc_mm"], ga_weeks))}, ""
    return {}, "growth charts are of the skull, and this is the skin" if "skin_hc_mm" in row else ""


def _status(found: Found) -> str:
    if not found.head.mask.array.any():
        return "nothing found"
    if NO_HEAD in found.head.flags or (found.skull and NO_HEAD in found.skull.flags):
        return "uncertain"
    return "found"


def centile_in_words(value: float) -> str:
    """A centile in whole numbers, of which 0 and 100 are none.

    >>> centile_in_words(0.004), centile_in_words(38.6), centile_in_words(99.8)
    ('below 1', '39', 'above 99')
    """
    if math.isnan(value):
        return ""
    if value < 1:
        return "below 1"
    return "above 99" if value > 99 else f"{value:.0f}"


def picture(found: Found, name: str) -> Any:
    """Three planes with the outlines that were found; an image with the ellipse of its mask, too."""
    given = {STRUCTURES[result.outline]: result for result in (found.head, found.skull) if result}
    outlines = {label: result.mask for label, result in given.items() if result.mask.array.any()}
    ellipse = fitted(found.head) if found.volume.ndim == 2 else None
    if ellipse is not None:
        outlines["ellipse"] = found.volume.with_array(ellipse.inside(found.volume).astype(np.uint8))
    title = f"{name}: {'; '.join(found.head.flags) or 'no flag'}"
    return planes(found.volume, outlines, probability=found.head.probability, title=title)


def meanings(found: Found) -> dict[str, str]:
    """The flags of a result with what they mean."""
    flags = [*found.head.flags, *(found.skull.flags if found.skull else ())]
    return {flag: MEANINGS[flag] for flag in dict.fromkeys(flags)}


def in_words(row: Mapping[str, Any], found: Found, ga_weeks: float | None) -> dict[str, str]:
    """A row in words, for a page: label -> text."""

    def number(name: str, unit: str, digits: int = 1) -> str:
        value = row.get(name)
        return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f} {unit}".strip()

    volume, low, high = (number(name, "", 0) for name in ("volume_ml", "volume_low_ml", "volume_high_ml"))
    words = {"Result": str(row["status"])}
    if row["status"] == "uncertain":
        words["Result"] = "uncertain: something is outlined, and it may be no head; no sizes are given"
    if volume and row["status"] in ("found", "uncertain"):
        whole = "the skull" if found.head.outline == "skull" else "the whole head, to the skin"
        whole = whole if row["status"] == "found" else "what is outlined"
        interval = (
            f"95 % interval {low} to {high} mL" if low else "no interval, and fewer flags: weights not calibrated"
        )
        words[f"Volume of {whole}"] = f"{volume} mL ({interval})"
    for label, name in (("BPD", "bpd_mm"), ("OFD", "ofd_mm"), ("HC", "hc_mm")):
        skull, skin = number(name, "mm"), number(f"skin_{name}", "mm")
        if skull or skin:
            words[f"{label}, {'outer skull' if skull else 'to the skin: not for growth charts'}"] = skull or skin
    if number("hc_low_mm", ""):
        words["95 % interval of HC"] = f"{number('hc_low_mm', '')} to {number('hc_high_mm', 'mm')}"
    if number("ga_by_hc_weeks", ""):
        first, last = (f"{week:g}" for week in valid_weeks("hc"))
        youngest, oldest = number("ga_by_hc_low_weeks", "") or f"below {first}", number("ga_by_hc_high_weeks", "")
        words["Gestational age by HC (INTERGROWTH-21st's chart read backwards)"] = (
            f"{number('ga_by_hc_weeks', 'weeks')} (95 % interval {youngest} to {oldest or f'above {last}'})"
        )
    if number("center_x_mm", ""):
        words["Ellipse"] = (
            f"centre {number('center_x_mm', '')} mm to the right and {number('center_y_mm', '')} mm down from the first pixel, semi-axes "
            f"{number('semi_axes_a_mm', '')} and {number('semi_axes_b_mm', 'mm')}, angle {number('angle_rad', 'rad', 3)}"
        )
    if number("hc_centile", ""):
        words[f"HC centile at {ga_weeks:.4g} weeks (INTERGROWTH-21st)"] = (
            f"{centile_in_words(row['hc_centile'])}. An illustration: HC errs by a week of growth or two"
        )
    if row["note"]:
        words["Note"] = str(row["note"])
    return words
