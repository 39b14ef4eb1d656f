"""Growth charts: head measures against gestational age.

The equations are data (`data/reference/growth.csv`, one row a term): a statistic is the link function of
`sum(coefficient * (GA / ga_divisor) ** ga_power * ln(GA) ** log_power)`, GA in weeks.

- `hc`, `bpd`, `ofd`: head circumference, biparietal (outer to outer) and occipitofrontal diameter of the outer
  **skull**, in mm; `tcd`: transcerebellar diameter in mm. INTERGROWTH-21st, 14 to 40 weeks, coefficients as in the R
  package gigs.
- `icv`: intracranial volume in mL, mean only. Chang 2003, used from 22 to 34 weeks, where it agrees with the volume
  of an ellipsoid through BPD and OFD; it turns negative before 17.5 weeks.

No chart exists for the volume of the whole head with its face: the paper's section 4, first open point.
`fit_volume_chart` estimates one from a cohort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.files import REFERENCE_TABLES
from fhlib.images.volume import Floats

GROWTH_TABLE = REFERENCE_TABLES / "growth.csv"
MEASURES = ("hc", "bpd", "ofd", "tcd", "icv")
CENTILES = (3, 10, 50, 90, 97)  # of a chart estimated from a cohort


def reference(measure: str, ga_weeks: ArrayLike) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a measure at a gestational age; mm, or mL for `icv`, whose SD is NaN.

    `ga_weeks` may be a number or an array of any shape; both results have that shape. Raises ValueError outside the
    weeks in which the chart is valid.
    """
    weeks = np.asarray(ga_weeks, dtype=float)
    low, high = valid_weeks(measure)
    outside = weeks[~((weeks >= low) & (weeks <= high))]
    if outside.size:
        raise ValueError(
            f"gestational age {outside.flat[0]:g} weeks is outside the chart of {measure!r} "
            f"({_terms(measure)['source'].iloc[0]}), which is valid from {low:g} to {high:g} weeks: "
            "no value is given there"
        )
    return _statistic(measure, "mean", weeks), _statistic(measure, "sd", weeks)


def valid_weeks(measure: str) -> tuple[float, float]:
    """First and last gestational week in which the chart of `measure` is valid."""
    terms = _terms(measure)
    return float(terms["valid_from_weeks"].iloc[0]), float(terms["valid_to_weeks"].iloc[0])


def zscore(measure: str, value: ArrayLike, ga_weeks: ArrayLike) -> Floats:
    """(value - mean) / SD at this gestational age.

    Raises ValueError outside the chart's weeks, and for `icv`, which has no SD.

    Args:
        measure: one of MEASURES.
        value: in mm; a number or an array.
        ga_weeks: of the same shape, or one age for all.
    """
    mean, sd = reference(measure, ga_weeks)
    if np.isnan(sd).any():
        raise ValueError(f"measure {measure!r} has no z-score: its source prints a mean only; compare with reference()")
    return (np.asarray(value, dtype=float) - mean) / sd


def centile(measure: str, value: ArrayLike, ga_weeks: ArrayLike) -> Floats:
    """Centile (0 to 100) under the chart's normal distribution.

    Raises ValueError where `zscore` does.

    Args:
        measure: one of MEASURES.
        value: in mm; a number or an array.
        ga_weeks: of the same shape, or one age for all.
    """
    return 100 * stats.norm.cdf(zscore(measure, value, ga_weeks))


@dataclass(frozen=True)
class VolumeChart:
    """A volume chart estimated from one cohort: ln(volume) = a + b GA + c GA^2 + normal error with constant SD.

    The lognormal model keeps volumes positive and gives a constant coefficient of variation, which suits few
    subjects. It is the LMS model with L = 0 and constant S. The chart describes the cohort it was fitted to and is not
    a clinical reference.
    """

    n: int
    """Subjects."""
    log_sd: float
    """SD of ln(volume) about the parabola."""
    table: pd.DataFrame
    """A row for each of 25 ages and each centile: ga_weeks, centile, volume_ml, ci_low, ci_high (95 % bootstrap over subjects)."""


def fit_volume_chart(ga_weeks: ArrayLike, volume_ml: ArrayLike, resamples: int = 500) -> VolumeChart:
    """Estimate a volume chart from one scan a subject.

    Raises ValueError with fewer than 10 subjects or volumes that are not positive.

    Args:
        ga_weeks: an age a subject.
        volume_ml: a volume a subject.
        resamples: how many bootstrap samples, drawn with a fixed seed.
    """
    weeks, volume = np.asarray(ga_weeks, dtype=float), np.asarray(volume_ml, dtype=float)
    if weeks.shape != volume.shape or weeks.ndim != 1 or len(weeks) < 10:
        raise ValueError(
            f"a chart needs at least 10 subjects, one volume each; got {weeks.shape} ages and {volume.shape} volumes"
        )
    if not (np.isfinite(weeks).all() and np.isfinite(volume).all() and (volume > 0).all()):
        raise ValueError("ages and volumes must be finite and volumes positive; leave out missed cases before fitting")
    grid = np.linspace(weeks.min(), weeks.max(), 25)
    z = stats.norm.ppf(np.asarray(CENTILES) / 100)

    coefficients, log_sd = _fit_log_volume(weeks, np.log(volume))
    middle = np.exp(np.polyval(coefficients, grid)[:, None] + z * log_sd)
    draws = np.random.default_rng(0).integers(len(weeks), size=(resamples, len(weeks)))
    fits = [_fit_log_volume(weeks[rows], np.log(volume[rows])) for rows in draws]
    curves = np.array([np.polyval(c, grid)[:, None] + z * s for c, s in fits])  # (resamples, weeks, centiles)
    low, high = np.exp(np.nanpercentile(curves, [2.5, 97.5], axis=0))
    table = pd.DataFrame(
        {
            "ga_weeks": np.repeat(grid, len(CENTILES)),
            "centile": np.tile(CENTILES, len(grid)),
            "volume_ml": middle.ravel(),
            "ci_low": low.ravel(),
            "ci_high": high.ravel(),
        }
    )
    return VolumeChart(len(weeks), log_sd, table)


def _fit_log_volume(weeks: Floats, log_volume: Floats) -> tuple[Floats, float]:
    """Least-squares parabola (highest power first) and residual SD with n - 3 degrees of freedom."""
    # centred for stability; the coefficients given back are those of the weeks themselves
    centre = weeks.mean()
    design = np.vander(weeks - centre, 3)
    solution, *_ = np.linalg.lstsq(design, log_volume, rcond=None)
    residual = log_volume - design @ solution
    c, b, a = solution
    coefficients = np.array([c, b - 2 * c * centre, a - b * centre + c * centre**2])
    return coefficients, float(np.sqrt(residual @ residual / (len(weeks) - 3)))


@cache
def _terms(measure: str) -> pd.DataFrame:
    """The rows of the table that make up one chart."""
    table = pd.read_csv(GROWTH_TABLE)
    if measure not in set(table["measure"]):
        raise ValueError(f"measure {measure!r} has no chart; expected one of {', '.join(MEASURES)}")
    return table[table["measure"] == measure]


def _statistic(measure: str, statistic: str, weeks: Floats) -> Floats:
    """The equation in the module's docstring, summed term by term; NaN where the chart has no such statistic."""
    chart = _terms(measure)
    rows = chart[chart["statistic"] == statistic]
    if rows.empty:
        return np.full(weeks.shape, math.nan)
    total: Floats = np.zeros(weeks.shape)
    terms = rows[["coefficient", "ga_divisor", "ga_power", "log_power"]].to_numpy(float)
    for coefficient, divisor, ga_power, log_power in terms:
        total = total + coefficient * (weeks / divisor) ** ga_power * np.log(weeks) ** log_power
    return np.exp(total) if rows["link"].iloc[0] == "exp" else total
