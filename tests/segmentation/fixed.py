"""A segmentor that costs nothing: what is bright enough is inside."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fhlib.images.volume import Volume
from fhlib.segmentation.quality import Evidence
from fhlib.segmentation.segmentor import Segmentation


@dataclass
class Fixed:
    """Finds the voxels above a level, with flags that are given and an interval of 10 % to each side; counts its calls."""

    level: float
    outline: str
    flags: tuple[str, ...] = ()
    calibration: str | None = "its interval is given"
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def segment(self, volume: Volume, flips: int | None = None, ga_weeks: float | None = None) -> Segmentation:
        self.seen.append(volume.shape)
        mask = volume.array >= self.level
        volume_ml = int(mask.sum()) * volume.voxel_volume_ml
        return Segmentation(
            volume.with_array(mask.astype(np.uint8)),
            volume.with_array(np.where(mask, np.float32(0.7), np.float32(0.1))),
            volume_ml,
            self.flags,
            (0.9 * volume_ml, 1.1 * volume_ml) if mask.any() else (math.nan, math.nan),
            Evidence(0.9, 0.9, (volume_ml,), (0.0,) * 5),
            self.outline,
        )
