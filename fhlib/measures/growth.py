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
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from fhlib.files import REFERENCE_TABLES
from fhlib.images.volume import Floats, Mask
from fhlib.measures.inputs import as_numbers, counted, listed, one_each, rows_of
from fhlib.measures.intervals import require_resamples

GROWTH_TABLE = REFERENCE_TABLES / "growth.csv"
MEASURES = ("hc", "bpd", "ofd", "tcd", "icv")
CENTILES = (3, 10, 50, 90, 97)  # of a chart estimated from a cohort
FEWEST_SUBJECTS, FEWEST_AGES = 10, 3  # a parabola has three coefficients
AGES_WEEKS = (4, 45)  # of a pregnancy, as in a cohort's manifest
FITTED_SHARE = 0.95
"""Share of bootstrap samples that must hold enough ages for their percentiles to be 95 % ones."""
SMALLEST_LOG_SD = 1e-9
"""Below it the volumes lie on the curve but for rounding."""


def reference(measure: str, ga_weeks: ArrayLike) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a measure at a gestational age; mm, or mL for `icv`, whose SD is NaN.

    `ga_weeks` may be a number or an array of any shape; both results have that shape. Raises ValueError outside the
    weeks in which the chart is valid, and for an age that is missing or no number.
    """
    weeks = as_numbers(ga_weeks, "ga_weeks")
    low, high = valid_weeks(measure)
    outside = weeks[~((weeks >= low) & (weeks <= high))]
    if outside.size:
        of_all = f" ({outside.size} of {weeks.size} ages are outside)" if weeks.size > 1 else ""
        raise ValueError(
            f"gestational age {outside.flat[0]:g} weeks is outside the chart of {measure!r} "
            f"({_terms(measure)['source'].iloc[0]}), which is valid from {low:g} to {high:g} weeks: "
            f"no value is given there{of_all}"
        )
    return _statistic(measure, "mean", weeks), _statistic(measure, "sd", weeks)


def valid_weeks(measure: str) -> tuple[float, float]:
    """First and last gestational week in which the chart of `measure` is valid."""
    terms = _terms(measure)
    return float(terms["valid_from_weeks"].iloc[0]), float(terms["valid_to_weeks"].iloc[0])


def zscore(measure: str, value: ArrayLike, ga_weeks: ArrayLike) -> Floats:
    """(value - mean) / SD at this gestational age.

    NaN where the value is missing. Raises ValueError outside the chart's weeks, for lengths that are 0, negative or
    infinite, for values and ages of different shapes, and for `icv`, which has no SD.

    Args:
        measure: one of MEASURES.
        value: in mm; a number or an array.
        ga_weeks: of the same shape, or one age for all.
    """
    mean, sd = reference(measure, ga_weeks)
    length = as_numbers(value, measure)
    if length.ndim and mean.ndim:
        rows_of(**{measure: value, "ga_weeks": ga_weeks})
        if length.shape != mean.shape:
            raise ValueError(f"{measure} {length.shape} and ga_weeks {mean.shape} differ in shape: give an age a value")
    impossible = length[(length <= 0) | np.isinf(length)]
    if impossible.size:
        raise ValueError(
            f"{measure} is {impossible.flat[0]:g} mm, with {counted(impossible.size, 'value')} so of {length.size}: "
            "expected a length above 0, and NaN where it is missing"
        )
    if np.isnan(sd).any():
        raise ValueError(f"measure {measure!r} has no z-score: its source prints a mean only; compare with reference()")
    return (length - mean) / sd


def centile(measure: str, value: ArrayLike, ga_weeks: ArrayLike) -> Floats:
    """Centile (0 to 100) under the chart's normal distribution.

    Raises ValueError where `zscore` does.

    Args:
        measure: one of MEASURES.
        value: in mm; a number or an array.
        ga_weeks: of the same shape, or one age for all.
    """
    return 100 * ndtr(zscore(measure, value, ga_weeks))


def age_by_hc(hc_mm: float, error_sd_mm: float = 0.0) -> tuple[float, float, float]:
    """Gestational age in weeks at which the mean HC of INTERGROWTH-21st's chart is `hc_mm`, and its 95 % interval.

    The interval holds the ages at which this HC is within 1.96 SD of the mean; the SD is the chart's, and `error_sd_mm` of the measurement
    beside it. What lies outside the chart's weeks is NaN. It is the chart read backwards, not a dating equation of its own.

    >>> [round(week, 1) for week in age_by_hc(172.5)]
    [20.0, 18.9, 21.3]
    """
    weeks = np.linspace(*valid_weeks("hc"), 2601)  # hundredths of a week
    mean, sd = reference("hc", weeks)
    reach = ndtri(0.975) * np.hypot(sd, error_sd_mm)

    def age(curve: Floats) -> float:
        return float(np.interp(hc_mm, curve, weeks, left=math.nan, right=math.nan))

    return age(mean), age(mean + reach), age(mean - reach)


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
    """Estimate a volume chart from one scan a subject, within the ages of the cohort. The order of subjects is no matter.

    Raises ValueError, with counts, for fewer than 10 subjects, or ages on fewer than 3 days, also in more than 5 % of the
    bootstrap samples. So it does for ages and volumes that are missing or impossible, for volumes without spread, and for a
    pandas index that names a subject twice.

    Args:
        ga_weeks: an age a subject.
        volume_ml: a volume a subject.
        resamples: how many bootstrap samples, drawn with a fixed seed; at least 100.
    """
    require_resamples(resamples)
    rows = rows_of(ages=ga_weeks, volumes=volume_ml)
    weeks, volume = one_each(ga_weeks, "ages"), one_each(volume_ml, "volumes")
    if not rows.is_unique:
        raise ValueError(f"the index names subjects twice ({listed(rows[rows.duplicated()])}): keep one scan of each")
    obstacles = [*_unfit(weeks, volume, rows), *_too_few(weeks)]
    if obstacles:
        raise ValueError(f"no chart can be fitted to {counted(len(weeks), 'subject')}: {'; '.join(obstacles)}")

    order = np.lexsort((volume, weeks))
    weeks, log_volume = weeks[order], np.log(volume[order])
    coefficients, log_sd = _fit_log_volume(weeks, log_volume)
    if log_sd < SMALLEST_LOG_SD:
        raise ValueError(f"all {len(weeks)} volumes lie on one curve: there is no spread to take centiles from")
    grid = np.linspace(weeks.min(), weeks.max(), 25)
    z = ndtri(np.asarray(CENTILES) / 100)
    middle = np.exp(np.polyval(coefficients, grid)[:, None] + z * log_sd)

    draws = np.random.default_rng(0).integers(len(weeks), size=(resamples, len(weeks)))
    fits = [_fit_log_volume(weeks[drawn], log_volume[drawn]) for drawn in draws if _days(weeks[drawn]) >= FEWEST_AGES]
    if len(fits) < FITTED_SHARE * resamples:
        raise ValueError(
            f"too few of the {len(weeks)} subjects differ in age: only {len(fits)} of {resamples} bootstrap samples have "
            f"{FEWEST_AGES} ages, so the chart's error cannot be told"
        )
    curves = np.array([np.polyval(c, grid)[:, None] + z * s for c, s in fits])  # (resamples, weeks, centiles)
    low, high = np.exp(np.percentile(curves, [2.5, 97.5], axis=0))
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


def _unfit(weeks: Floats, volume: Floats, rows: pd.Index) -> Iterator[str]:
    """Subjects whose age or volume cannot be used: how many, and which."""
    first, last = AGES_WEEKS
    reasons: dict[str, Mask] = {
        "age missing or not finite": ~np.isfinite(weeks),
        f"age outside {first} to {last} weeks": np.isfinite(weeks) & ~((weeks >= first) & (weeks <= last)),
        "volume missing or not finite": ~np.isfinite(volume),
        "volume not positive": np.isfinite(volume) & (volume <= 0),
    }
    for reason, lost in reasons.items():
        if lost.any():
            yield f"{int(lost.sum())} with {reason} ({listed(rows[lost])}), to be left out first"


def _too_few(weeks: Floats) -> Iterator[str]:
    """Why the subjects are too few for the fit."""
    if len(weeks) < FEWEST_SUBJECTS:
        yield f"at least {FEWEST_SUBJECTS} are needed"
    days = _days(weeks[np.isfinite(weeks)])
    if days < FEWEST_AGES:
        yield f"they have {counted(days, 'distinct age')} (to the day), and at least {FEWEST_AGES} are needed"


def _days(weeks: Floats) -> int:
    """How many distinct ages there are, to the day."""
    return len(np.unique(np.round(7 * weeks)))


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


def _terms(measure: str) -> pd.DataFrame:
    """The rows of the table that make up one chart."""
    if measure not in MEASURES:
        raise ValueError(f"measure {measure!r} has no chart; expected one of {', '.join(MEASURES)}")
    table = _table()
    return table[table["measure"] == measure]


@cache
def _table() -> pd.DataFrame:
    return pd.read_csv(GROWTH_TABLE)


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
