"""Measure once what is normal for a segmentor, so that flags and intervals mean something; and damage scans to see whether flags notice.

Scans must be ones that the segmentor was not trained on; validation scans will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from fhlib.files import progress
from fhlib.images.grids import crop_to_box
from fhlib.images.volume import Volume
from fhlib.measures.biometry import biometry
from fhlib.measures.metrics import dice
from fhlib.models.boxes import enlarged, faces_of
from fhlib.segmentation.quality import Calibration, log_spread
from fhlib.segmentation.segmentor import Segmentation, Segmentor

COVERAGE = 0.95
SPARED = 0.99
"""Share of scans with a head that the threshold of each look lets pass."""
FLOORS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
INTENSITY_MARGIN = 0.25
"""Beyond the range of the calibration scans, as a share of it."""
VAULT_MM = 5.0
"""What lies within so much of the skull is the vault, scalp and all; the rest of the head is face and neck."""


def calibrate(segmentor: Segmentor, scans: Iterable[tuple[Volume, Volume]], flips: int = 4) -> Calibration:
    """What is normal for a segmentor, and how wide its intervals are.

    The interval is a conformal one, over scans in which the head was found (DSC above one half). `quantile` is the ceil(0.95 (n + 1))-th
    smallest of |log(true / found) - bias| / (s + floor). Of FLOORS that one is taken which gives the narrowest intervals on average.

    Args:
        segmentor: what is calibrated.
        scans: (image, label) pairs that it was not trained on; without a head the label is empty.
        flips: how many flipped copies of each scan are segmented.

    Raises ValueError for fewer than 20 heads found.
    """
    rows = pd.DataFrame([_look(segmentor, image, label, flips) for image, label in progress(scans, "calibrate")])
    heads = rows[rows["true_ml"] > 0]
    # where a flipped copy lost the head there is no interval
    found = heads[(heads["dsc"] > 0.5) & np.isfinite(heads["spread"])]
    if len(found) < 20:
        raise ValueError(f"a calibration needs at least 20 scans whose head is found, got {len(found)} of {len(heads)}")
    error = np.log(found["true_ml"] / found["volume_ml"])
    bias, spread = float(error.median()), found["spread"]
    rank = min(len(found), math.ceil(COVERAGE * (len(found) + 1))) - 1
    quantiles = {floor: float(np.sort((error - bias).abs() / (spread + floor))[rank]) for floor in FLOORS}
    floor = min(FLOORS, key=lambda value: quantiles[value] * float((spread + value).mean()))
    looks = np.array(rows["intensities"].tolist())
    margin = INTENSITY_MARGIN * np.ptp(looks, axis=0)
    return Calibration(
        cases=len(heads),
        headless=len(rows) - len(heads),
        flips=flips,
        least_agreement=float(found["agreement"].quantile(1 - SPARED)),
        least_confidence=float(found["confidence"].quantile(1 - SPARED)),
        log_bias=bias,
        floor=floor,
        quantile=quantiles[floor],
        intensity_low=tuple((looks.min(0) - margin).tolist()),
        intensity_high=tuple((looks.max(0) + margin).tolist()),
    )


def coverage(
    segmentor: Segmentor, scans: Iterable[tuple[Volume, Volume]], skulls: Iterable[Volume] | None = None
) -> pd.DataFrame:
    """How a calibrated segmentor does on scans of neither training nor calibration, a row a scan.

    Args:
        segmentor: that is measured.
        scans: (image, label) pairs.
        skulls: the outer skull of each, where the label is of the whole head.

    Returns:
        has_head, view_share (of the volume that the head takes), dsc, true_ml, volume_ml, low_ml, high_ml, covered (NaN without an
        interval), flags; of a skull also bpd_mm, ofd_mm, hc_mm and the true ones (true_hc_mm ...); with `skulls` also found_vault and
        found_face, which share of the true head within `VAULT_MM` of the skull is in the mask, and which of the rest, face and neck.
    """
    rows = []
    beside_it: Iterable[Volume | None] = repeat(None) if skulls is None else skulls
    for (image, label), skull in zip(progress(scans, "measure coverage"), beside_it, strict=False):
        result = segmentor.segment(image)
        beside = _beside_truth(result, label)
        (low, high), true_ml = result.interval_ml, beside["true_ml"]
        covered = float(low <= true_ml <= high) if math.isfinite(low) and true_ml > 0 else math.nan
        interval = {"low_ml": low, "high_ml": high, "covered": covered}
        sizes, flags = _skull_sizes(result, label), "; ".join(result.flags)
        known = {"has_head": true_ml > 0, "view_share": float((label.array > 0).mean())}
        parts = {} if skull is None else _found_in_parts(result, label, skull)
        rows.append({**known, **beside, **interval, **sizes, **parts, "flags": flags})
    return pd.DataFrame(rows)


def _found_in_parts(result: Segmentation, label: Volume, skull: Volume) -> dict[str, float]:
    truth, found, bone = label.array > 0, result.mask.array > 0, skull.array > 0
    if not (truth.any() and bone.any()):
        return {"found_vault": math.nan, "found_face": math.nan}
    near = ndimage.distance_transform_edt(~bone, skull.spacing_mm) <= VAULT_MM
    parts = {"found_vault": truth & near, "found_face": truth & ~near}
    return {name: float(found[part].mean()) if part.any() else math.nan for name, part in parts.items()}


def _skull_sizes(result: Segmentation, label: Volume) -> dict[str, float]:
    if result.outline != "skull":
        return {}
    sizes = {"": biometry(result.mask, "skull"), "true_": biometry(label, "skull")}
    return {f"{of}{name}": getattr(sizes[of], name) for name in ("bpd_mm", "ofd_mm", "hc_mm") for of in sizes}


def damaged(image: Volume, label: Volume, seed: int = 0) -> dict[str, Volume]:
    """The scan with one fault each, by the flag that should tell: what a careless export, a lost contact or a wrong file do.

    Args:
        image: the scan.
        label: of its head; the faults go through the head's middle.
        seed: of what is drawn.
    """
    random = np.random.default_rng(seed)
    array, axes = image.array, range(image.ndim)
    inside = np.argwhere(label.array > 0)
    middle = inside.mean(0).astype(int) if len(inside) else np.array(array.shape) // 2
    axis = int(random.integers(image.ndim))
    half = tuple((0, int(middle[a])) if a == axis else (0, array.shape[a]) for a in axes)
    dark = array.copy()
    dark[tuple(slice(int(middle[a]), None) if a == axis else slice(None) for a in axes)] = array.min()
    noise = random.permuted(array.reshape(-1)).reshape(array.shape)
    return {
        "cut by the border": crop_to_box(image, half)[0],
        "cut by the sector": image.with_array(dark),
        "implausible spacing": replace(image, spacing_mm=tuple(10 * s for s in image.spacing_mm)),
        "implausible shape": replace(image, spacing_mm=_one_axis_twice(image.spacing_mm, axis)),
        "spacing missing?": Volume(array, (1.0,) * image.ndim),
        "unfamiliar intensities": image.with_array((array.max() - array).astype(array.dtype)),
        "no head": image.with_array(noise),
    }


def _one_axis_twice(spacing_mm: tuple[float, ...], axis: int) -> tuple[float, ...]:
    return tuple(2 * step if number == axis else step for number, step in enumerate(spacing_mm))


def changed(image: Volume, label: Volume, seed: int = 0) -> dict[str, tuple[Volume, Volume]]:
    """The scan, with its label, in other forms that should change nothing: axes in another order and direction, surroundings blacked out
    as by a mask applied before export (a margin of 5 to 20 % of the head around it is kept), cropped to a box 1.4 times the head's.

    Args:
        image: the scan.
        label: of its head, not empty.
        seed: of the margin.
    """
    inside = label.array > 0
    radius = (inside.sum() * math.prod(image.spacing_mm) * 3 / (4 * math.pi)) ** (1 / 3)
    margin = np.random.default_rng(seed).uniform(0.1, 0.4) * radius
    kept = ndimage.distance_transform_edt(~inside, image.spacing_mm) <= margin
    black = image.with_array(np.where(kept, image.array, image.array.min()))
    faces = faces_of(inside)
    assert faces is not None
    box = enlarged(faces, 1.4, image.shape)

    def turned(volume: Volume) -> Volume:
        axes = (*range(1, volume.ndim), 0)
        array = np.flip(np.transpose(volume.array, axes), 0)
        return Volume(array, tuple(volume.spacing_mm[axis] for axis in axes))

    return {
        "as it is": (image, label),
        "axes exchanged": (turned(image), turned(label)),
        "surroundings black": (black, label),
        "cropped to 1.4 times the head": (crop_to_box(image, box)[0], crop_to_box(label, box)[0]),
    }


def robustness(segmentor: Segmentor, scans: Iterable[tuple[Volume, Volume]]) -> pd.DataFrame:
    """How far results depend on the form of a scan (`changed`), over scans with a head.

    Returns a row a form: form, n, dsc (mean, 0 to 1), dsc_p5 (5th centile), difference (of the mean from that of the scans as they are),
    volume_ratio (median of found over found as it is), no_head (share flagged so).
    """
    seen: dict[str, list[tuple[float, float, bool]]] = {}
    for image, label in progress(scans, "robustness"):
        if not (label.array > 0).any():
            continue
        for form, (scan, truth) in changed(image, label).items():
            result = segmentor.segment(scan)
            score = dice(result.mask.array > 0, truth.array > 0)
            seen.setdefault(form, []).append((score, result.volume_ml, "no head" in result.flags))
    rows: list[dict[str, Any]] = []
    for form, results in seen.items():
        scores, volumes, lost = (np.array(values) for values in zip(*results, strict=True))
        first, first_volumes, _ = (np.array(values) for values in zip(*seen["as it is"], strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = volumes / first_volumes
        rows.append(
            {
                "form": form,
                "n": len(scores),
                "dsc": scores.mean(),
                "dsc_p5": np.percentile(scores, 5),
                "difference": scores.mean() - first.mean(),
                "volume_ratio": float(np.nanmedian(ratio)),
                "no_head": lost.mean(),
            }
        )
    return pd.DataFrame(rows)


def flag_rates(
    segmentor: Segmentor,
    scans: Iterable[tuple[Volume, Volume]],
    damage: Callable[[Volume, Volume], dict[str, Volume]] = damaged,
) -> pd.DataFrame:
    """How often damaged scans are flagged.

    Args:
        segmentor: what segments and flags.
        scans: (image, label) pairs.
        damage: what is done to each, by the flag that should tell.

    Returns a row a damage: damage, n, flagged (its own flag), any_flag, false_alarm (its own flag on the scan as it is).
    """
    seen: dict[str, list[tuple[bool, bool, bool]]] = {}
    for image, label in progress(scans, "damage"):
        whole = segmentor.segment(image).flags
        for name, broken in damage(image, label).items():
            flags = segmentor.segment(broken).flags
            seen.setdefault(name, []).append((name in flags, bool(flags), name in whole))
    rows: list[dict[str, Any]] = []
    for name, results in seen.items():
        flagged, any_flag, false_alarm = np.mean(results, axis=0)
        rows.append(
            {"damage": name, "n": len(results), "flagged": flagged, "any_flag": any_flag, "false_alarm": false_alarm}
        )
    return pd.DataFrame(rows)


def _look(segmentor: Segmentor, image: Volume, label: Volume, flips: int) -> dict[str, Any]:
    result = segmentor.segment(image, flips=flips)
    evidence = result.evidence
    return {
        **_beside_truth(result, label),
        "spread": log_spread(evidence.copies_ml),
        "agreement": evidence.agreement,
        "confidence": evidence.confidence,
        "intensities": evidence.intensities,
    }


def _beside_truth(result: Segmentation, label: Volume) -> dict[str, float]:
    truth = label.array > 0
    true_ml = int(truth.sum()) * label.voxel_volume_ml
    return {"dsc": dice(result.mask.array > 0, truth), "true_ml": true_ml, "volume_ml": result.volume_ml}
