"""Agreement with the expert and reproducibility between scans (section 3.2, Fig. 8 and 9).

The paired comparison of variants is in `fhlib.comparison` and offered here too.

Every standard deviation divides by n - 1 unless its name or docstring says otherwise. Intervals are 95 %. Where a
number cannot be had (too few cases, no spread) it is NaN and `notes` says why.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.images.volume import Floats
from fhlib.measures.intervals import CONFIDENCE, Z
from fhlib.measures.reliability import concordance, icc21


@dataclass(frozen=True)
class Agreement:
    """Two methods measured on the same cases; `difference` is measured minus reference, in their unit.

    Each `_low`, `_high` pair of a quantity is its 95 % confidence interval.
    """

    n: int
    excluded: int
    """Pairs left out because one value is missing or not finite."""
    bias: float
    bias_low: float
    bias_high: float
    sd: float
    """SD of the differences, ddof 1."""
    loa_low: float
    """Lower limit of agreement: bias - 1.96 sd."""
    loa_low_low: float
    """Its confidence interval, exact by the noncentral t distribution (Carkeet 2015)."""
    loa_low_high: float
    loa_high: float
    loa_high_low: float
    loa_high_high: float
    loa_approximate_half_width: float
    """Half width of the limits' interval by Bland and Altman (1986): t(n - 1) sqrt(3 / n) sd."""
    within_limits: float
    """Fraction of cases between the limits of agreement."""
    slope: float
    """Proportional bias: slope of difference on the mean of both methods (Bland and Altman 1999)."""
    slope_low: float
    slope_high: float
    slope_p: float
    pearson: float
    pearson_low: float
    pearson_high: float
    ccc: float
    """Lin's concordance correlation coefficient, variances with ddof 0 as in Lin (1989)."""
    icc21: float
    """ICC(2,1): two-way random effects, absolute agreement, single measurement (Shrout and Fleiss 1979)."""
    icc21_low: float
    icc21_high: float
    mean_absolute_error: float
    mean_absolute_relative_error: float
    """Mean of |measured - reference| / reference."""
    notes: tuple[str, ...] = ()

    def asdict(self) -> dict[str, Any]:
        """The numbers by name; notes joined into one string."""
        return {**asdict(self), "notes": "; ".join(self.notes)}


def bland_altman(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """Agreement of two methods, one value a case each. Raises ValueError if the two differ in length.

    With fewer than 3 pairs what needs a spread is NaN, and `notes` says so. Intervals of bias and slope are by t, of
    Pearson's r by Fisher's z.
    """
    first, second = np.asarray(measured, dtype=float).ravel(), np.asarray(reference, dtype=float).ravel()
    if first.shape != second.shape:
        raise ValueError(
            f"{first.size} measured and {second.size} reference values: expected one of each for every case"
        )
    both = np.isfinite(first) & np.isfinite(second)
    excluded = int((~both).sum())
    first, second = first[both], second[both]
    n, difference, mean = len(first), first - second, (first + second) / 2
    notes = [f"{excluded} pairs left out: a value is missing"] if excluded else []
    if n < 3:
        notes.append(f"{n} pairs: spread, limits and correlations need at least 3")
    sd = float(difference.std(ddof=1)) if n > 2 else math.nan
    bias = float(difference.mean()) if n else math.nan
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) if n > 2 else math.nan
    nearer, farther = _limit_factors(n)
    slope = _slope(mean, difference, notes)
    pearson = _pearson(first, second, notes)
    icc = icc21(np.column_stack([first, second]))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.abs(difference) / second
    relative = relative[np.isfinite(relative)]
    return Agreement(
        n=n,
        excluded=excluded,
        bias=bias,
        bias_low=bias - t * sd / math.sqrt(max(n, 1)),
        bias_high=bias + t * sd / math.sqrt(max(n, 1)),
        sd=sd,
        loa_low=bias - Z * sd,
        loa_low_low=bias - farther * sd,
        loa_low_high=bias - nearer * sd,
        loa_high=bias + Z * sd,
        loa_high_low=bias + nearer * sd,
        loa_high_high=bias + farther * sd,
        loa_approximate_half_width=t * math.sqrt(3 / max(n, 1)) * sd,
        within_limits=float(np.mean(np.abs(difference - bias) <= Z * sd)) if n > 2 else math.nan,
        slope=slope[0],
        slope_low=slope[1],
        slope_high=slope[2],
        slope_p=slope[3],
        pearson=pearson[0],
        pearson_low=pearson[1],
        pearson_high=pearson[2],
        ccc=concordance(first, second),
        icc21=icc[0],
        icc21_low=icc[1],
        icc21_high=icc[2],
        mean_absolute_error=float(np.abs(difference).mean()) if n else math.nan,
        mean_absolute_relative_error=float(relative.mean()) if n else math.nan,
        notes=tuple(notes),
    )


def _limit_factors(n: int) -> tuple[float, float]:
    """Exact 95 % interval of mean + 1.96 SD in units of the sample SD: noncentral t quantiles (Carkeet 2015)."""
    if n < 3:
        return math.nan, math.nan
    low, high = stats.nct.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n - 1, Z * math.sqrt(n)) / math.sqrt(n)
    return float(low), float(high)


def _slope(mean: Floats, difference: Floats, notes: list[str]) -> tuple[float, float, float, float]:
    if len(mean) < 3 or np.ptp(mean) == 0:
        if len(mean) >= 3:
            notes.append("all means are equal: no proportional bias can be given")
        return (math.nan,) * 4
    fit = stats.linregress(mean, difference)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(mean) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half), float(fit.pvalue)


def _pearson(first: Floats, second: Floats, notes: list[str]) -> tuple[float, float, float]:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        if len(first) >= 3:
            notes.append("one method has no spread: no correlation can be given")
        return (math.nan,) * 3
    result = stats.pearsonr(first, second)
    if len(first) < 4:
        notes.append("3 pairs: the interval of Pearson's r needs at least 4")
        return float(result.statistic), math.nan, math.nan
    interval = result.confidence_interval(CONFIDENCE)
    return float(result.statistic), float(interval.low), float(interval.high)
