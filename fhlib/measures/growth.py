"""Growth charts: head measures against gestational age.

The equations are data (`data/reference/growth.csv`, one row a term): a statistic is the link function of
`sum(coefficient * (GA / ga_divisor) ** ga_power * ln(GA) ** log_power)`, GA in weeks.

- `hc`, `bpd`, `ofd`: head circumference, biparietal (outer to outer) and occipitofrontal diameter of the outer
  **skull**, in mm; `tcd`: transcerebellar diameter in mm. INTERGROWTH-21st, 14 to 40 weeks, coefficients as in the R
  package gigs.
- `icv`: intracranial volume in mL, mean only. Chang 2003, used from 22 to 34 weeks, where it agrees with the volume
  of an ellipsoid through BPD and OFD; it turns negative before 17.5 weeks.

No chart exists for the volume of the whole head with its face (the paper's section 4, first open point);
`fit_volume_chart` estimates one from a cohort.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.files import REFERENCE_TABLES
from fhlib.images.volume import Floats

GROWTH_TABLE = REFERENCE_TABLES / "growth.csv"
MEASURES = ("hc", "bpd", "ofd", "tcd", "icv")


def reference(measure: str, ga_weeks: ArrayLike, *, extrapolate: bool = False) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a measure at a gestational age; mm, or mL for `icv`, whose SD is NaN.

    `ga_weeks` may be a number or an array of any shape; both results have that shape. Raises ValueError outside the
    weeks in which the chart is valid, unless `extrapolate` is true (meant for simulation only: below 14 weeks the
    means contradict each other).
    """
    terms = _terms(measure)
    weeks = np.asarray(ga_weeks, dtype=float)
    if not extrapolate:
        _require_valid(measure, terms, weeks)
    return _statistic(terms, "mean", weeks), _statistic(terms, "sd", weeks)


def valid_weeks(measure: str) -> tuple[float, float]:
    """First and last gestational week in which the chart of `measure` is valid."""
    terms = _terms(measure)
    return float(terms["valid_from_weeks"].iloc[0]), float(terms["valid_to_weeks"].iloc[0])


def zscore(measure: str, value: ArrayLike, ga_weeks: ArrayLike) -> Floats:
    """(value - mean) / SD at this gestational age.

    Raises ValueError outside the chart's weeks, and for `icv`, which has no SD.
    """
    mean, sd = reference(measure, ga_weeks)
    if np.isnan(sd).any():
        raise ValueError(f"measure {measure!r} has no z-score: its source prints a mean only; compare with reference()")
    return (np.asarray(value, dtype=float) - mean) / sd


def centile(measure: str, value: ArrayLike, ga_weeks: ArrayLike) -> Floats:
    """Centile (0 to 100) under the chart's normal distribution. Raises ValueError where `zscore` does."""
    return 100 * stats.norm.cdf(zscore(measure, value, ga_weeks))


@dataclass(frozen=True)
class VolumeChart:
    """A volume chart estimated from one cohort: ln(volume) = a + b GA + c GA^2 + normal error with constant SD.

    The lognormal model keeps volumes positive and gives a constant coefficient of variation, which suits few
    subjects; it is the LMS model with L = 0 and constant S. `table` has a row for each week: ga_weeks, centile,
    volume_ml, ci_low, ci_high (95 % bootstrap over subjects). It describes the cohort it was fitted to and is not a
    clinical reference.
    """

    coefficients: tuple[float, float, float]
    log_sd: float
    n: int
    ga_range_weeks: tuple[float, float]
    table: pd.DataFrame

    def centile(self, volume_ml: ArrayLike, ga_weeks: ArrayLike) -> Floats:
        """Centile (0 to 100) of a volume at a gestational age; NaN outside the weeks the cohort covers."""
        weeks = np.asarray(ga_weeks, dtype=float)
        z = (np.log(np.asarray(volume_ml, dtype=float)) - np.polyval(self.coefficients[::-1], weeks)) / self.log_sd
        low, high = self.ga_range_weeks
        return np.where((weeks >= low) & (weeks <= high), 100 * stats.norm.cdf(z), np.nan)

    def asdict(self) -> dict[str, Any]:
        """Numbers of the fit, without the table."""
        return {name: value for name, value in asdict(self).items() if name != "table"}


def fit_volume_chart(
    ga_weeks: ArrayLike,
    volume_ml: ArrayLike,
    centiles: tuple[float, ...] = (3, 10, 50, 90, 97),
    resamples: int = 500,
    seed: int = 0,
) -> VolumeChart:
    """Estimate a volume chart from one scan a subject.

    Raises ValueError with fewer than 10 subjects or volumes that are not positive.
    """
    weeks, volume = np.asarray(ga_weeks, dtype=float), np.asarray(volume_ml, dtype=float)
    if weeks.shape != volume.shape or weeks.ndim != 1 or len(weeks) < 10:
        raise ValueError(
            f"a chart needs at least 10 subjects, one volume each; got {weeks.shape} ages and {volume.shape} volumes"
        )
    if not (np.isfinite(weeks).all() and np.isfinite(volume).all() and (volume > 0).all()):
        raise ValueError("ages and volumes must be finite and volumes positive; leave out missed cases before fitting")
    grid = np.linspace(weeks.min(), weeks.max(), 25)
    z = stats.norm.ppf(np.asarray(centiles) / 100)

    coefficients, log_sd = _fit_log_volume(weeks, np.log(volume))
    draws = np.random.default_rng(seed).integers(len(weeks), size=(resamples, len(weeks)))
    fits = [_fit_log_volume(weeks[rows], np.log(volume[rows])) for rows in draws]
    curves = np.array([np.polyval(c, grid)[:, None] + z * s for c, s in fits])  # (resamples, weeks, centiles)
    low, high = np.exp(np.nanpercentile(curves, [2.5, 97.5], axis=0))
    middle = np.exp(np.polyval(coefficients, grid)[:, None] + z * log_sd)
    rows = [
        {"ga_weeks": week, "centile": name, "volume_ml": middle[i, j], "ci_low": low[i, j], "ci_high": high[i, j]}
        for i, week in enumerate(grid)
        for j, name in enumerate(centiles)
    ]
    c, b, a = map(float, coefficients)
    return VolumeChart((a, b, c), log_sd, len(weeks), (float(grid[0]), float(grid[-1])), pd.DataFrame(rows))


def _fit_log_volume(weeks: Floats, log_volume: Floats) -> tuple[Floats, float]:
    """Least-squares parabola (highest power first) and residual SD with n - 3 degrees of freedom.

    Centred for stability.
    """
    centre = weeks.mean()
    design = np.vander(weeks - centre, 3)
    solution, *_ = np.linalg.lstsq(design, log_volume, rcond=None)
    residual = log_volume - design @ solution
    c, b, a = solution
    coefficients = np.array([c, b - 2 * c * centre, a - b * centre + c * centre**2])
    return coefficients, float(np.sqrt(residual @ residual / (len(weeks) - 3)))


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(GROWTH_TABLE)


@cache
def _terms(measure: str) -> pd.DataFrame:
    table = _table()
    if measure not in set(table["measure"]):
        raise ValueError(f"measure {measure!r} has no chart; expected one of {', '.join(MEASURES)}")
    return table[table["measure"] == measure]


def _statistic(chart: pd.DataFrame, statistic: str, weeks: Floats) -> Floats:
    rows = chart[chart["statistic"] == statistic]
    if rows.empty:
        return np.full(weeks.shape, math.nan)
    total: Floats = np.zeros(weeks.shape)
    terms = rows[["coefficient", "ga_divisor", "ga_power", "log_power"]].to_numpy(float)
    for coefficient, divisor, ga_power, log_power in terms:
        total = total + coefficient * (weeks / divisor) ** ga_power * np.log(weeks) ** log_power
    return np.exp(total) if rows["link"].iloc[0] == "exp" else total


def _require_valid(measure: str, terms: pd.DataFrame, weeks: Floats) -> None:
    low, high = terms["valid_from_weeks"].iloc[0], terms["valid_to_weeks"].iloc[0]
    outside = weeks[~((weeks >= low) & (weeks <= high))]
    if outside.size:
        raise ValueError(
            f"gestational age {outside.flat[0]:g} weeks is outside the chart of {measure!r} "
            f"({terms['source'].iloc[0]}), which is valid from {low:g} to {high:g} weeks: no value is given there"
        )
