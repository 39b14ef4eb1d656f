"""How much of the head's outline a scan shows: the edge contrast of the expected image along the head's surface.

The expected level (no speckle; after attenuation, point spread, clutter and noise, before the cut to the display's range) 2 mm
inside the surface is compared with that 2 mm outside; below 3 dB the edge counts as invisible.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from fhlib.phantom.acoustics import expected_level_db
from fhlib.phantom.anatomy import Head
from fhlib.phantom.scan import Setting, acquire, set_up

REGIONS = ("near", "far", "side wall", "face", "neck")
STEP_MM, VISIBLE_DB = 2.0, 3.0
FACING = 0.5


def edge_contrast(
    subject_seed: int,
    ga_weeks: float | None = None,
    scan_direction: str | None = None,
    site: str | None = None,
    spacing_mm: float = 0.95,
    points: int = 4000,
    threads: int = 2,
) -> pd.DataFrame:
    """Edge contrast of one scan at points spread evenly over the head's surface: region, contrast_db (inside minus outside), visible.

    `neck` is the cut through jaw and C2, `face` the skin more than two scalps away from the skull; the rest is `near`, `far` or
    `side wall` as its normal points towards the probe, away from it or across the beam (60 degrees or more from it). Points weigh
    by the area they stand for. Arguments as in `simulate_scan`.
    """
    setting = set_up(subject_seed, ga_weeks, scan_direction, site, spacing_mm)
    beams = acquire(setting.scene, setting.site, setting.grid, setting.half_mm, setting.rng, threads)
    level = expected_level_db(beams, threads)
    at, normal, weight = _surface(setting.head, points)
    inside, outside = (_sample(level, setting, at + sign * STEP_MM * normal) for sign in (-1, 1))
    contrast = inside - outside
    frame = pd.DataFrame({"region": _regions(setting, at, normal), "contrast_db": contrast, "weight": weight})
    return frame.dropna().assign(visible=lambda rows: rows["contrast_db"].abs() >= VISIBLE_DB)


def invisible_share(contrast: pd.DataFrame) -> pd.Series:
    """Share of the surface (0-1) without a visible edge: overall, then by region."""
    hidden = contrast["weight"] * ~contrast["visible"]
    share = {"overall": hidden.sum() / contrast["weight"].sum()}
    by_region = contrast.assign(hidden=hidden).groupby("region")[["hidden", "weight"]].sum()
    share |= (by_region["hidden"] / by_region["weight"]).reindex(list(REGIONS)).to_dict()
    return pd.Series(share, name="share without a visible edge")


def _surface(head: Head, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points on the surface in head coordinates, outward unit normals, and the area each stands for (in proportion)."""
    at = head.surface(count)
    gradient = np.stack([_whole(head, at + 0.4 * axis) - _whole(head, at - 0.4 * axis) for axis in np.eye(3)], 1)
    normal = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    ray = at - head.bounding[0]
    distance = np.linalg.norm(ray, axis=1)
    # rays spread evenly over solid angle: area = distance^2 / cos(ray, normal)
    cosine = np.clip((ray * normal).sum(1) / distance, 0.2, 1)
    return at, normal, distance**2 / cosine


def _whole(head: Head, at: NDArray[np.float64]) -> NDArray[np.float64]:
    return head.whole(tuple(at.T.astype(np.float32))).astype(float)


def _sample(level: NDArray[np.float32], setting: Setting, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The level at points in head coordinates; NaN outside the sector."""
    grid = setting.grid
    coordinates = grid.probe.beam(tuple(setting.pose.to_probe(at).T))
    starts = (grid.phi[0], grid.theta[0], grid.r[0])
    index = [(c - s) / step for c, s, step in zip(coordinates, starts, grid.steps, strict=True)]
    return ndimage.map_coordinates(level, index, output=float, order=1, cval=np.nan)


def _regions(setting: Setting, at: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.str_]:
    head, pose = setting.head, setting.pose
    points = tuple(at.T.astype(np.float32))
    here = pose.to_probe(at)
    phi, theta, _ = setting.grid.probe.beam(tuple(here.T))
    beam = np.stack([np.sin(theta), -np.sin(phi) * np.cos(theta), np.cos(phi) * np.cos(theta)], 1)
    along = (beam * (normal @ pose.rotation)).sum(1)
    region = np.where(along < -FACING, "near", np.where(along > FACING, "far", "side wall"))
    region[head.skull(points) > 2 * head.subject.scalp_mm] = "face"
    region[np.abs(head.plane(points)) < 1.0] = "neck"
    return region
