"""What is said of one segmented volume: its row, with one list of flags."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fhlib.images.grids import bounding_box
from fhlib.images.volume import Volume
from fhlib.measures.biometry import biometry
from fhlib.measures.growth import centile, valid_weeks
from fhlib.models.card import Card
from fhlib.segmentation.head_circumference import SUBMISSION, image_measures
from fhlib.segmentation.quality import MEANINGS, SPACING_MISSING
from fhlib.segmentation.segmentor import Segmentation

STRUCTURES = {"skin": "head", "skull": "skull"}
"""What a mask is called, by what it outlines."""

COLUMNS = (
    "case",
    "status",
    "volume_ml",
    "volume_low_ml",
    "volume_high_ml",
    "bpd_mm",
    "ofd_mm",
    "hc_mm",
    "hc_low_mm",
    "hc_high_mm",
    "hc_centile",
    "hc_centile_note",
    "ga_weeks",
    "flags",
    "note",
    "spacing_mm",
    "weights",
)

DIGITS = {"angle_rad": 4} | dict.fromkeys([name for name in SUBMISSION if name != "angle_rad"], 2)
"""Decimals of a column, where they are not its unit's."""
UNIT_DIGITS = {"_ml": 1, "_mm": 1, "_weeks": 2, "_centile": 1}

NO_HEAD = "no head"
"""The flag of a mask that may be none."""

THINNEST = 3
"""Voxels that a mask must span along each axis to have sizes."""


@dataclass(frozen=True)
class Found:
    """One volume with what was found in it; `skull` where a skull's segmentor was given, and of an image HC's 95 % interval in mm.

    `cards`: of the weights that made `head` and `skull`, as far as they are known. `in_probe_axes`: whether the array's axes are the
    probe's depth, elevation and lateral, as those of a scan-converted GE Kretz file.
    """

    volume: Volume
    head: Segmentation
    skull: Segmentation | None
    hc_interval_mm: tuple[float, float] = (math.nan, math.nan)
    cards: tuple[Card, ...] = ()
    in_probe_axes: bool = False

    @property
    def outlined(self) -> dict[str, Segmentation]:
        """What was outlined, by structure: head, skull."""
        return {STRUCTURES[result.outline]: result for result in (self.head, self.skull) if result}


def table_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `measures` as a table with COLUMNS, and what else they have."""
    extra: dict[str, None] = {}
    for row in rows:
        extra |= dict.fromkeys(key for key in row if key not in COLUMNS)
    return pd.DataFrame(rows, columns=[*COLUMNS, *extra])


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """A table of `table_of` as a reader wants it: mL and mm to a tenth, weeks to a hundredth."""
    digits = {name: decimals for name in table for unit, decimals in UNIT_DIGITS.items() if str(name).endswith(unit)}
    numbers = {name: decimals for name, decimals in (digits | DIGITS).items() if name in table and name != "spacing_mm"}
    return table.assign(**{name: pd.to_numeric(table[name]).round(decimals) for name, decimals in numbers.items()})


def in_mm(spacing_mm: Sequence[float]) -> str:
    """A spacing in words, without its unit.

    >>> in_mm((0.5, 0.5, 0.7))
    '0.5 x 0.5 x 0.7'
    """
    return " x ".join(f"{step:.4g}" for step in spacing_mm)


def flags_of(found: Found) -> dict[str, str]:
    """Every flag of a result with its meaning: the one list that title, table and page show. Those of the skull say so."""
    flags = {flag: MEANINGS[flag] for flag in found.head.flags}
    if found.skull:
        flags |= {f"skull: {flag}": MEANINGS[flag] for flag in found.skull.flags}
    return flags


def measures(found: Found, ga_weeks: float | None = None) -> dict[str, Any]:
    """Status, volume with its interval, biometry, flags and note of one result (see `segment_files`)."""
    low, high = found.head.interval_ml
    row: dict[str, Any] = {
        "status": _status(found),
        "volume_ml": found.head.volume_ml,
        "volume_low_ml": low,
        "volume_high_ml": high,
        "flags": "; ".join(flags_of(found)),
        "spacing_mm": in_mm(found.volume.spacing_mm),
        "weights": "; ".join(card.version for card in found.cards),
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
        row |= _hc_interval(row, found)
    if SPACING_MISSING in found.head.flags:
        notes.append("mL and mm may be wrong: the file may state no voxel size; give it with --spacing-mm")
    if ga_weeks is not None:
        row["ga_weeks"] = ga_weeks
    value, why = _centile(row, ga_weeks)
    return row | value | {"hc_centile_note": why, "note": "; ".join(notes)}


def _hc_interval(row: Mapping[str, Any], found: Found) -> dict[str, float]:
    """Between which ends the HC of a volume lies, by the errors that its weights were measured to make; images have another."""
    card = dict(zip(found.outlined, found.cards, strict=False)).get("skull")
    if found.volume.ndim == 2 or "hc_mm" not in row or card is None or card.hc_error_mm is None:
        return {}
    low, high = card.hc_error_mm
    return {"hc_low_mm": row["hc_mm"] - high, "hc_high_mm": row["hc_mm"] - low}


def _sizes(outlined: Segmentation) -> tuple[dict[str, float], str]:
    """BPD, OFD and HC by name, and why there are none, in words."""
    mask = outlined.mask.array != 0
    if not mask.any():
        return {}, f"no {STRUCTURES[outlined.outline]} is found"
    if mask.ndim == 3 and outlined.outline == "skull" and outlined.flags:
        return {}, f"the skull is flagged ({', '.join(outlined.flags)})"
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


def _centile(row: Mapping[str, Any], ga_weeks: float | None) -> tuple[dict[str, float], str]:
    """The centile of a row's HC, and how far it is to be trusted, or why there is none, in words."""
    if ga_weeks is None:
        return {}, "no gestational age is given"
    first, last = valid_weeks("hc")
    if not first <= ga_weeks <= last:
        days = f" ({ga_weeks:g} days are {ga_weeks / 7:.3g} weeks)" if first <= ga_weeks / 7 <= last else ""
        return {}, f"{ga_weeks:.4g} weeks is outside the chart's {first:g} to {last:g} weeks{days}"
    if "hc_mm" not in row:
        skin = "growth charts are of the skull, and this is the skin"
        return {}, skin if "skin_hc_mm" in row else "there is no HC"
    if "implausible spacing" in row["flags"]:
        return {}, "the spacing is implausible"
    value = float(centile("hc", row["hc_mm"], ga_weeks))
    if not math.isfinite(row.get("hc_low_mm", math.nan)):
        return {"hc_centile": value}, "how far this HC errs is not known"
    ends = [centile_in_words(float(centile("hc", row[name], ga_weeks))) for name in ("hc_low_mm", "hc_high_mm")]
    return {"hc_centile": value}, f"{' to '.join(ends)} by the error of HC" if ends[0] != ends[
        1
    ] else f"{ends[0]} by the error of HC, too"


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
