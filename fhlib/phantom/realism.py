"""Are simulated images like real ones? Grey levels and speckle of planes, and how the outline of a scan shows.

The measures of planes come from the stored 8-bit image: of real images the machine's own dynamic range and
tone curve are not known. Lengths are in mm by the pixel size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

from fhlib.images.volume import Floats, Mask, Volume
from fhlib.phantom.acoustics import expected_level_db
from fhlib.phantom.anatomy import Head
from fhlib.phantom.scan import Setting, set_up

MEASURES = {
    "brain_grey": "mean grey level of the brain",
    "skull_grey": "mean grey level of the skull",
    "around_grey": "mean grey level within 15 % of the head's size around it",
    "skull_minus_brain": "skull minus brain, grey levels",
    "black_share": "share of black pixels around the head",
    "speckle_sd": "local SD of grey in the brain (median of 3 mm windows)",
    "grain_along_mm": "speckle grain along the beam, FWHM [mm]",
    "grain_across_mm": "speckle grain across the beam, FWHM [mm]",
    "outline_visible": "share of the outline brighter than the brain by 2 of its SDs",
}
BLACK = 4
WINDOW_MM = 3.0
REGIONS = ("near", "far", "side wall", "face", "neck")
STEP_MM, VISIBLE_DB = 2.0, 3.0
FACING = 0.5  # the cosine of 60 degrees


def plane_measures(image: Volume, skull: Volume) -> dict[str, float]:
    """The MEASURES of one image (8 bit) with its filled outer skull; the beam is taken to run down the image."""
    grey, inside = image.array.astype(np.float32), skull.array > 0
    pixel = image.spacing_mm[0]
    radius = float(np.sqrt(inside.sum() / np.pi))
    depth, height = ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside)
    brain, bone = depth > 0.2 * radius, inside & (depth <= max(0.09 * radius, 2.0))
    around = (height > 0) & (height < 0.3 * radius)
    outline = inside & (depth <= 1.0)
    edge = ndimage.maximum_filter(np.where(depth <= 0.12 * radius, grey, 0), size=max(3, int(0.1 * radius)))

    # speckle is measured in windows that lie within the brain and are not black, where there are any
    size = max(5, round(WINDOW_MM / pixel))
    mean = ndimage.uniform_filter(grey, size)
    variance = np.maximum(ndimage.uniform_filter(grey * grey, size) - mean * mean, 0)
    shown = ndimage.minimum_filter(brain, size) & (mean > 3 * BLACK)
    if not shown.any():
        shown = brain
    residual = grey - mean
    return {
        "brain_grey": float(grey[brain].mean()),
        "skull_grey": float(grey[bone].mean()),
        "around_grey": float(grey[around].mean()),
        "skull_minus_brain": float(grey[bone].mean() - grey[brain].mean()),
        "black_share": float((grey[around] <= BLACK).mean()),
        "speckle_sd": float(np.median(np.sqrt(variance[shown]))),
        "grain_along_mm": _grain_mm(residual, shown, pixel),
        "grain_across_mm": _grain_mm(residual.T, shown.T, pixel),
        "outline_visible": float((edge[outline] > grey[brain].mean() + 2 * grey[brain].std()).mean()),
    }


def _grain_mm(residual: NDArray[np.float32], where: Mask, pixel_mm: float) -> float:
    """Full width at half maximum (mm) of the autocovariance of `residual` along its first axis; nan where unknown."""
    power, before = float((residual[where] ** 2).mean()), 1.0
    for lag in range(1, min(60, len(residual) // 2)):
        both = where[:-lag] & where[lag:]
        if power == 0 or not both.any():
            break
        now = float((residual[:-lag][both] * residual[lag:][both]).mean()) / power
        if now < 0.5:
            return 2 * pixel_mm * (lag - 1 + (before - 0.5) / (before - now))
        before = now
    return np.nan


def compare_planes(real: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """A row a measure: median and quartiles of both sets, and two measures of their distance.

    `ks` is the largest difference of the two cumulative distributions (0 the same, 1 apart). `auc` is the
    probability that a simulated image has the larger value (0.5 the same).
    """
    rows = []
    for name, meaning in MEASURES.items():
        a, b = real[name].dropna(), simulated[name].dropna()
        rows.append(
            {
                "measure": name,
                "meaning": meaning,
                **{f"real_q{q}": float(np.percentile(a, q)) for q in (25, 50, 75)},
                **{f"simulated_q{q}": float(np.percentile(b, q)) for q in (25, 50, 75)},
                "ks": float(stats.ks_2samp(a, b).statistic),
                "auc": float(stats.mannwhitneyu(b, a).statistic / (len(a) * len(b))),
            }
        )
    return pd.DataFrame(rows)


def edge_contrast(
    subject_seed: int,
    ga_weeks: float | None = None,
    scan_direction: str | None = None,
    site: str | None = None,
    spacing_mm: float = 0.95,
    points: int = 4000,
    threads: int = 2,
) -> pd.DataFrame:
    """Edge contrast of one scan at points spread evenly over the head's surface.

    Columns: region, contrast_db (inside minus outside), visible, and the weight of a point by the area it
    stands for. Region `neck` is the cut through jaw and C2, `face` the skin more than two scalps away from
    the skull. The rest is `near` or `far` as its normal points towards the probe or away from it. Where the
    normal points across the beam (60 degrees or more from it) it is `side wall`.

    Args:
        subject_seed: this and all others but `points` as in `simulate_scan`.
        ga_weeks: gestational age.
        scan_direction: from where.
        site: the machine.
        spacing_mm: edge of a voxel.
        points: how many.
        threads: how many work on it.
    """
    setting = set_up(subject_seed, ga_weeks, scan_direction, site, spacing_mm)
    beams = setting.acquire(threads)
    level = expected_level_db(beams, threads)
    at, normal, weight = _surface(setting.head, points)
    contrast = _sample(level, setting, at - STEP_MM * normal) - _sample(level, setting, at + STEP_MM * normal)
    frame = pd.DataFrame({"region": _regions(setting, at, normal), "contrast_db": contrast, "weight": weight})
    return frame.dropna().assign(visible=lambda rows: rows["contrast_db"].abs() >= VISIBLE_DB)


def invisible_share(contrast: pd.DataFrame) -> pd.Series:
    """Share of the surface (0-1) without a visible edge: overall, then by region."""
    hidden = contrast["weight"] * ~contrast["visible"]
    share = {"overall": hidden.sum() / contrast["weight"].sum()}
    by_region = contrast.assign(hidden=hidden).groupby("region")[["hidden", "weight"]].sum()
    share |= (by_region["hidden"] / by_region["weight"]).reindex(list(REGIONS)).to_dict()
    return pd.Series(share, name="share without a visible edge")


def _surface(head: Head, count: int) -> tuple[Floats, Floats, Floats]:
    """Points on the surface in head coordinates, outward unit normals, and the area each stands for (in proportion)."""
    at = head.surface(count)
    gradient = np.stack([_whole(head, at + 0.4 * axis) - _whole(head, at - 0.4 * axis) for axis in np.eye(3)], 1)
    normal = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    ray = at - head.bounding[0]
    distance = np.linalg.norm(ray, axis=1)
    # rays spread evenly over solid angle: area = distance^2 / cos(ray, normal)
    cosine = np.clip((ray * normal).sum(1) / distance, 0.2, 1)
    return at, normal, distance**2 / cosine


def _whole(head: Head, at: Floats) -> Floats:
    return head.whole(tuple(at.T.astype(np.float32))).astype(float)


def _sample(level: NDArray[np.float32], setting: Setting, at: Floats) -> Floats:
    """The level at points in head coordinates; NaN outside the sector."""
    grid = setting.grid
    coordinates = grid.probe.beam(tuple(setting.pose.to_probe(at).T))
    index = [(c - start) / step for c, start, step in zip(coordinates, grid.starts, grid.steps, strict=True)]
    return ndimage.map_coordinates(level, index, output=float, order=1, cval=np.nan)


def _regions(setting: Setting, at: Floats, normal: Floats) -> NDArray[np.str_]:
    """The name of the region that each point (head coordinates) belongs to."""
    head, pose = setting.head, setting.pose
    phi, theta, _ = setting.grid.probe.beam(tuple(pose.to_probe(at).T))
    beam = np.stack([np.sin(theta), -np.sin(phi) * np.cos(theta), np.cos(phi) * np.cos(theta)], 1)
    along = (beam * (normal @ pose.rotation)).sum(1)
    region = np.where(along < -FACING, "near", np.where(along > FACING, "far", "side wall"))
    points = tuple(at.T.astype(np.float32))
    region[head.skull(points) > 2 * head.subject.scalp_mm] = "face"
    region[np.abs(head.plane(points)) < 1.0] = "neck"
    return region
