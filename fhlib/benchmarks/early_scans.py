"""Are scans of drawn machines at 13 to 14 weeks like real ones? Geometry, gain, skull, grain and fluid.

`python -m fhlib.benchmarks.early_scans` prints a table and writes data/results/early/early.csv. The real values are of
five clinical volumes (0.5 mm, Cartesian exports) whose heads were fitted by ellipsoids; where that measurement was a
range, both ends stand.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import ndimage

from fhlib.files import DATA, progress, write_csv
from fhlib.images.volume import Mask
from fhlib.phantom.probe import Box
from fhlib.phantom.scan import Setting, set_up, simulate, tissue_map
from fhlib.phantom.shapes import Field
from fhlib.phantom.tissues import ID

REAL: dict[str, tuple[float, float]] = {
    "far over near grey": (2.1, 2.1),
    "share of the box with signal": (0.48, 0.48),
    "lateral over depth": (1.2, 1.7),
    "elevation over depth": (1.4, 2.2),
    "centre distance [mm]": (25, 29),
    "skull grey, top": (185, 185),
    "skull grey, sides": (138, 138),
    "skull minus brain": (14, 14),
    "elevation grain [mm]": (2.2, 2.2),
    "depth grain [mm]": (0.75, 0.75),
    "fluid grey": (0, 10),
}
"""Measured on real volumes, lowest and highest; far over near is 108 over 51; `black` fluid is taken as 0 to 10."""
OUT = DATA / "results" / "early"
RING_MM, FLUID_MARGIN_MM, WINDOW_MM = 1.5, 2.0, 3.0
TOP, SIDE, STRIDE = 0.8, 0.35, 3
SPACING_MM = 0.5


def measure_scan(subject_seed: int, ga_weeks: float, spacing_mm: float = SPACING_MM) -> dict[str, float]:
    """The rows of `REAL` of one scan of a drawn machine; nan where a scan does not show it.

    Far and near are the deepest and the nearest third of the depths with signal. The skull is the outermost 1.5 mm of
    its label: its top lies within 37 degrees of the direction to the probe from the head's middle, its sides 70
    degrees or more from it. Brain lies deeper than a quarter of the head's radius. Grain is the width at half maximum
    of the autocovariance there. Fluid lies 2 mm or more from all else.

    Args:
        subject_seed: as in `fhlib.simulate_scan`.
        ga_weeks: gestational age.
        spacing_mm: edge of a voxel.
    """
    setting = set_up(subject_seed, ga_weeks, site="any", spacing_mm=spacing_mm)
    scan = simulate(setting)
    grey, voxel = scan.image.array.astype(np.float32), scan.image.spacing_mm[0]
    signal = grey > 0
    x, y, z = setting.site.box_mm
    by_depth = np.array(
        [layer[shown].mean() if shown.any() else np.nan for layer, shown in zip(grey, signal, strict=True)]
    )
    by_depth = by_depth[~np.isnan(by_depth)]
    third = max(1, len(by_depth) // 3)
    fluid = grey[::STRIDE, ::STRIDE, ::STRIDE][_fluid(setting) & signal[::STRIDE, ::STRIDE, ::STRIDE]]
    return {
        "far over near grey": float(by_depth[-third:].mean() / by_depth[:third].mean()),
        "share of the box with signal": float(signal.mean()),
        "lateral over depth": x / z,
        "elevation over depth": y / z,
        "centre distance [mm]": setting.site.probe.centre_distance_mm,
        **_head_measures(grey, signal, scan.label_skull.array > 0, voxel),
        "fluid grey": float(np.median(fluid)) if fluid.size else np.nan,
    }


def early_scans(
    count: int,
    spacing_mm: float = SPACING_MM,
    ages: tuple[float, float] = (13.0, 14.5),
    first_seed: int = 7_000_000,
) -> pd.DataFrame:
    """A row a measure: the real value's range, then median, 10th and 90th percentile of `count` simulated scans.

    Args:
        count: of scans.
        spacing_mm: edge of a voxel.
        ages: gestational ages (weeks), drawn evenly.
        first_seed: of the subjects.
    """
    rng = np.random.default_rng([first_seed, 501])
    rows = [
        measure_scan(first_seed + number, float(rng.uniform(*ages)), spacing_mm)
        for number in progress(range(count), "simulate and measure")
    ]
    measured = pd.DataFrame(rows)
    table = pd.DataFrame(REAL, index=["real_low", "real_high"]).T
    for name, share in (("median", 0.5), ("p10", 0.1), ("p90", 0.9)):
        table[name] = measured.quantile(share)
    table["within"] = (table["p10"] <= table["real_high"]) & (table["real_low"] <= table["p90"])
    return table.rename_axis("measure").reset_index()


def _fluid(setting: Setting) -> Mask:
    """Where amniotic fluid lies, at every `STRIDE`-th voxel of a scan's box."""
    box = setting.box
    shape = tuple(-(-n // STRIDE) for n in box.shape)
    coarse = Box((shape[0], shape[1], shape[2]), STRIDE * box.spacing_mm, box.corner)
    fluid = tissue_map(replace(setting, box=coarse), threads=1).array == ID["amniotic fluid"]
    return np.asarray(ndimage.distance_transform_edt(fluid, sampling=coarse.spacing_mm) > FLUID_MARGIN_MM)


def _head_measures(grey: Field, signal: Mask, skull: Mask, voxel: float) -> dict[str, float]:
    inside = ndimage.distance_transform_edt(skull, sampling=voxel)
    radius = float((3 * skull.sum() / (4 * np.pi)) ** (1 / 3)) * voxel
    away = np.indices(skull.shape) - np.argwhere(skull).mean(0)[:, None, None, None]
    towards_probe = -away[0] / np.maximum(np.linalg.norm(away, axis=0), 1e-6)
    ring = skull & signal & (inside <= RING_MM)
    brain = signal & (inside > 0.25 * radius)
    mean = ndimage.uniform_filter(grey, max(3, round(WINDOW_MM / voxel)))
    return {
        "skull grey, top": _mean(grey[ring & (towards_probe > TOP)]),
        "skull grey, sides": _mean(grey[ring & (np.abs(towards_probe) < SIDE)]),
        "skull minus brain": _mean(grey[ring]) - _mean(grey[brain]),
        "elevation grain [mm]": grain_mm(grey - mean, brain, 1, voxel),
        "depth grain [mm]": grain_mm(grey - mean, brain, 0, voxel),
    }


def grain_mm(residual: Field, where: Mask, axis: int, voxel: float) -> float:
    """Full width at half maximum of the autocovariance along an axis; nan where it does not fall to half.

    Args:
        residual: grey levels less their local mean.
        where: what is measured.
        axis: along which.
        voxel: its size (mm).
    """
    values, known = np.moveaxis(residual, axis, 0), np.moveaxis(where, axis, 0)
    power, before = float((values[known] ** 2).mean()) if known.any() else 0.0, 1.0
    for lag in range(1, min(40, len(values) - 1)):
        both = known[:-lag] & known[lag:]
        if power == 0 or not both.any():
            break
        now = float((values[:-lag][both] * values[lag:][both]).mean()) / power
        if now < 0.5:
            return 2 * voxel * (lag - 1 + (before - 0.5) / (before - now))
        before = now
    return float("nan")


def _mean(values: Field) -> float:
    return float(values.mean()) if values.size else float("nan")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Simulated early scans beside real ones.")
    parser.add_argument("--scans", type=int, default=40, help="how many are simulated")
    parser.add_argument("--spacing-mm", type=float, default=SPACING_MM, help="edge of a voxel")
    options = parser.parse_args()
    table = early_scans(options.scans, options.spacing_mm).round(2)
    write_csv(table, OUT / "early.csv")
    print(table.to_string(index=False))
