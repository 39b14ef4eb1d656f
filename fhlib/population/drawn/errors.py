"""The segmentor's error of volume, as its calibration measured it: `coverage.csv` beside the weights.

ln(measured) = ln(true) + offset + slope (ln(true) - centre) + normal error. Flagged masks are left out, as a reader would look at them.
So are gross failures, more than half too large or a third too small, which a reader sees on the outline; they are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fhlib.files import own_or_shipped
from fhlib.images.volume import Floats

GROSS = math.log(1.5)
FEWEST = 20


@dataclass(frozen=True)
class ErrorModel:
    """Bias and spread of a measured volume; logarithms of mL.

    `n` scans it was calibrated on; with 0 it is known exactly.
    """

    sd: float
    offset: float = 0.0
    slope: float = 0.0
    centre: float = 0.0
    centre_sd: float = 1.0
    """SD of ln(true) of the calibration's scans."""
    n: int = 0
    left_out: int = 0
    """Heads without a usable mask: flagged, or gross failures."""

    @property
    def calibrated_sd(self) -> float:
        """SD of ln(volume) after `calibrated`."""
        return self.sd / (1 + self.slope)

    def measured(self, volume_ml: ArrayLike, rng: np.random.Generator) -> Floats:
        """Volumes as the segmentor would measure them."""
        log_ml = np.log(np.asarray(volume_ml, float))
        bias = self.offset + self.slope * (log_ml - self.centre)
        return np.exp(log_ml + bias + rng.normal(0, self.sd, log_ml.shape))

    def calibrated(self, volume_ml: ArrayLike) -> Floats:
        """Measured volumes with the bias taken out."""
        log_ml = np.log(np.asarray(volume_ml, float))
        return np.exp((log_ml - self.offset + self.slope * self.centre) / (1 + self.slope))

    def with_sd(self, sd: float) -> ErrorModel:
        """An unbiased segmentor with another spread."""
        return ErrorModel(sd=sd)

    def corrected(self, table: pd.DataFrame) -> pd.DataFrame:
        """Measurements with the bias taken out, and the SD of their error in column `error_sd`."""
        return table.assign(volume_ml=self.calibrated(table["volume_ml"].to_numpy()), error_sd=self.calibrated_sd)

    def neighbours(self) -> list[ErrorModel]:
        """This model with offset, slope and SD each one standard error larger: what its calibration leaves open."""
        if not self.n:
            return []
        root = math.sqrt(self.n)
        return [
            replace(self, offset=self.offset + self.sd / root),
            replace(self, slope=self.slope + self.sd / root / self.centre_sd),
            replace(self, sd=self.sd * (1 + 1 / math.sqrt(2 * (self.n - 2)))),
        ]


def fit_error_model(true_ml: ArrayLike, measured_ml: ArrayLike, left_out: int = 0) -> ErrorModel:
    """Bias and spread from volumes whose truth is known. Raises ValueError for fewer than 20."""
    x, y = (np.log(np.asarray(values, float)) for values in (true_ml, measured_ml))
    if len(x) < FEWEST:
        raise ValueError(f"an error model needs {FEWEST} heads of known volume, got {len(x)}: measure more")
    centre = float(x.mean())
    slope, offset = np.polyfit(x - centre, y - x, 1)
    residual = y - x - offset - slope * (x - centre)
    sd = float(np.sqrt(residual @ residual / (len(x) - 2)))
    return ErrorModel(sd, float(offset), float(slope), centre, float(x.std()), len(x), left_out)


def segmentor_error(weights: str = "head") -> ErrorModel:
    """The error model of shipped (or own) weights, from their `coverage.csv`."""
    table = pd.read_csv(own_or_shipped("weights", weights) / "coverage.csv")
    heads = table[table["has_head"].astype(bool) & (table["true_ml"] > 0)]
    ratio = np.log(heads["volume_ml"].clip(lower=1e-9) / heads["true_ml"])
    kept = heads[heads["flags"].isna() & (ratio.abs() <= GROSS)]
    return fit_error_model(kept["true_ml"], kept["volume_ml"], left_out=len(heads) - len(kept))
