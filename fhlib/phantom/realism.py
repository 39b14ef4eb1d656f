"""Are simulated planes like real ones? Grey levels and speckle of an image with a skull outline, and two sets of them compared.

All measures come from the stored 8-bit image, as the machine's own dynamic range and tone curve are not known for real images;
lengths are in mm by the pixel size.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

from fhlib.volume import Volume

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


def plane_measures(image: Volume, skull: Volume) -> dict[str, float]:
    """The MEASURES of one image (8 bit) with its filled outer skull; the beam is taken to run down the image."""
    grey, inside = image.array.astype(np.float32), skull.array > 0
    pixel = image.spacing_mm[0]
    radius = float(np.sqrt(inside.sum() / np.pi))
    depth = ndimage.distance_transform_edt(inside)
    height = ndimage.distance_transform_edt(~inside)
    brain, bone = depth > 0.2 * radius, inside & (depth <= max(0.09 * radius, 2.0))
    around = (height > 0) & (height < 0.3 * radius)
    edge = ndimage.maximum_filter(np.where(depth <= 0.12 * radius, grey, 0), size=max(3, int(0.1 * radius)))
    outline = inside & (depth <= 1.0)
    size = max(5, round(WINDOW_MM / pixel))
    mean = ndimage.uniform_filter(grey, size)
    variance = np.maximum(ndimage.uniform_filter(grey * grey, size) - mean * mean, 0)
    whole = ndimage.minimum_filter(brain, size)
    shown = whole & (mean > 3 * BLACK) if (whole & (mean > 3 * BLACK)).any() else brain
    along, across = _grain(grey - mean, shown, pixel)
    return {
        "brain_grey": float(grey[brain].mean()),
        "skull_grey": float(grey[bone].mean()),
        "around_grey": float(grey[around].mean()),
        "skull_minus_brain": float(grey[bone].mean() - grey[brain].mean()),
        "black_share": float((grey[around] <= BLACK).mean()),
        "speckle_sd": float(np.median(np.sqrt(variance[shown]))),
        "grain_along_mm": along,
        "grain_across_mm": across,
        "outline_visible": float((edge[outline] > grey[brain].mean() + 2 * grey[brain].std()).mean()),
    }


def _grain(residual: NDArray[np.float32], where: NDArray[np.bool_], pixel_mm: float) -> tuple[float, float]:
    """Full width at half maximum (mm) of the autocovariance of `residual`, along and across the beam."""
    widths = []
    for axis in (0, 1):
        r, w = np.moveaxis(residual, axis, 0), np.moveaxis(where, axis, 0)
        power, before = float((r[w] ** 2).mean()), 1.0
        width = np.nan
        for lag in range(1, min(60, len(r) // 2)):
            both = w[:-lag] & w[lag:]
            if power == 0 or not both.any():
                break
            now = float((r[:-lag][both] * r[lag:][both]).mean()) / power
            if now < 0.5:
                width = 2 * pixel_mm * (lag - 1 + (before - 0.5) / (before - now))
                break
            before = now
        widths.append(width)
    return widths[0], widths[1]


def compare_planes(real: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """A row a measure: median and quartiles of both sets, and two measures of their distance.

    `ks` is the largest difference of the two cumulative distributions (0 the same, 1 apart), `auc` the probability that a
    simulated image has the larger value (0.5 the same).
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
