"""Head circumference in single images: its ellipse, its interval, and the gestational age that it speaks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from fhlib.files import progress
from fhlib.images.volume import Mask, Volume
from fhlib.measures.ellipse import Ellipse, ellipse_of
from fhlib.measures.growth import age_by_hc
from fhlib.measures.metrics import dice
from fhlib.models.boxes import largest_component
from fhlib.models.inputs import flips_of
from fhlib.segmentation.calibration import COVERAGE, FLOORS, INTENSITY_MARGIN
from fhlib.segmentation.quality import Calibration, log_spread
from fhlib.segmentation.segmentor import Segmentation, Segmentor

SUBMISSION = ("center_x_mm", "center_y_mm", "semi_axes_a_mm", "semi_axes_b_mm", "angle_rad")
"""What the HC18 challenge calls an ellipse's numbers."""
FEWEST_IMAGES = 20
Scan = tuple[Volume, Volume, float]
"""An image, its mask, and its true HC in mm."""


def fitted(result: Segmentation) -> Ellipse | None:
    """The ellipse of a result's mask, None where the mask is no ellipse."""
    try:
        return ellipse_of(result.mask)
    except ValueError:
        return None


def copies_hc_mm(segmentor: Segmentor, image: Volume) -> tuple[float, ...]:
    """HC of the masks of an image's flipped copies, as many as the calibration says; 0 where a copy has no ellipse."""
    reading = segmentor.cascade.reading(image)
    count = segmentor.calibration.flips if segmentor.calibration else len(flips_of(2))
    masks = [copy >= segmentor.prediction.threshold for copy in segmentor.copies(reading, count)]
    return tuple(_hc_mm(largest_component(mask), reading.image) for mask in masks)


def _hc_mm(mask: Mask, like: Volume) -> float:
    try:
        return ellipse_of(like.with_array(mask.astype(np.uint8))).hc_mm
    except ValueError:
        return 0.0


def hc_interval_mm(segmentor: Segmentor, image: Volume, result: Segmentation) -> tuple[float, float]:
    """95 % interval of an image's HC in mm; NaN without a calibration, and where the result or a flipped copy has no head."""
    ellipse = fitted(result)
    if segmentor.calibration is None or ellipse is None:
        return math.nan, math.nan
    return segmentor.calibration.interval(ellipse.hc_mm, copies_hc_mm(segmentor, image))


def image_measures(result: Segmentation, interval_mm: tuple[float, float]) -> dict[str, float]:
    """The ellipse of a result in the HC18 challenge's words, and of a skull HC's interval and the age by HC in weeks; finite numbers only.

    The age's interval holds both errors: the chart's SD, and half of HC's interval as 1.96 SD.
    """
    ellipse = fitted(result)
    if ellipse is None:
        return {}
    numbers = ellipse_numbers(ellipse)
    if result.outline == "skull":
        low, high = interval_mm
        error = (high - low) / (2 * 1.96) if math.isfinite(low) else 0.0
        age, youngest, oldest = age_by_hc(ellipse.hc_mm, error)
        numbers |= {"hc_low_mm": low, "hc_high_mm": high, "ga_by_hc_weeks": age}
        numbers |= {"ga_by_hc_low_weeks": youngest, "ga_by_hc_high_weeks": oldest}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def ellipse_numbers(ellipse: Ellipse) -> dict[str, float]:
    """An ellipse in the HC18 challenge's words, `SUBMISSION`."""
    numbers = ellipse.x_mm, ellipse.y_mm, ellipse.a_mm, ellipse.b_mm, ellipse.angle_rad
    return dict(zip(SUBMISSION, numbers, strict=True))


def calibrate_hc(segmentor: Segmentor, scans: Iterable[Scan], flips: int = 4) -> Calibration:
    """What is normal for a segmentor of single images: as `calibrate` for volumes, but that the interval is of HC in mm.

    `no head` begins below the least sure of these images, since there are none without a head to set it by.

    Args:
        segmentor: what is calibrated.
        scans: that it was not trained on, each with a head.
        flips: how many flipped copies of each image are segmented.

    Raises ValueError for fewer than 20 heads found.
    """
    segmentor.calibration = None
    rows = []
    for image, label, true_hc_mm in progress(scans, "calibrate"):
        result = segmentor.segment(image, flips=flips)
        ellipse, evidence = fitted(result), result.evidence
        if ellipse is None or dice(result.mask.array > 0, label.array > 0) <= 0.5:
            continue
        spread = log_spread(copies_hc_mm(segmentor, image)[:flips])
        looks = {
            "agreement": evidence.agreement,
            "confidence": evidence.confidence,
            "intensities": evidence.intensities,
        }
        rows.append({"error": math.log(true_hc_mm / ellipse.hc_mm), "spread": spread, **looks})
    found = pd.DataFrame(rows, columns=["error", "spread", "agreement", "confidence", "intensities"])
    found = found[np.isfinite(found["spread"])]  # where a flipped copy lost the head there is no interval
    if len(found) < FEWEST_IMAGES:
        raise ValueError(f"a calibration needs at least {FEWEST_IMAGES} images whose head is found, got {len(found)}")
    bias = float(found["error"].median())
    rank = min(len(found), math.ceil(COVERAGE * (len(found) + 1))) - 1
    error, spread = (found["error"] - bias).abs(), found["spread"]
    quantiles = {floor: float(np.sort(error / (spread + floor))[rank]) for floor in FLOORS}
    floor = min(FLOORS, key=lambda value: quantiles[value] * float((spread + value).mean()))
    looked = np.array(found["intensities"].tolist())
    margin = INTENSITY_MARGIN * np.ptp(looked, axis=0)
    return Calibration(
        cases=len(found),
        headless=0,
        flips=flips,
        least_agreement=float(found["agreement"].min()),
        least_confidence=float(found["confidence"].min()),
        log_bias=bias,
        floor=floor,
        quantile=quantiles[floor],
        intensity_low=tuple((looked.min(0) - margin).tolist()),
        intensity_high=tuple((looked.max(0) + margin).tolist()),
    )


def hc_coverage(segmentor: Segmentor, scans: Iterable[Scan]) -> pd.DataFrame:
    """How a segmentor does on images of neither training nor calibration, a row an image.

    Columns: dsc of the mask, dsc_ellipse, true_hc_mm, hc_mm, hc_low_mm, hc_high_mm, covered (NaN without an interval), flags. A head that
    is not found has DSC 0 and no HC.
    """
    rows: list[dict[str, Any]] = []
    for image, label, true_hc_mm in progress(scans, "measure"):
        result, truth = segmentor.segment(image), label.array > 0
        ellipse = fitted(result)
        row = {"dsc": dice(result.mask.array > 0, truth), "dsc_ellipse": 0.0, "true_hc_mm": true_hc_mm}
        row |= {"hc_mm": math.nan, "hc_low_mm": math.nan, "hc_high_mm": math.nan, "covered": math.nan}
        if ellipse is not None:
            low, high = hc_interval_mm(segmentor, image, result)
            row |= {"dsc_ellipse": dice(ellipse.inside(image), truth), "hc_mm": ellipse.hc_mm}
            row |= {"hc_low_mm": low, "hc_high_mm": high}
            row["covered"] = float(low <= true_hc_mm <= high) if math.isfinite(low) else math.nan
        rows.append({**row, "flags": "; ".join(result.flags)})
    return pd.DataFrame(rows)
