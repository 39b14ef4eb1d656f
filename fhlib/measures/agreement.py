"""Agreement with the expert: bias, limits of agreement, correlation and concordance (section 3.2, Fig. 8).

Every standard deviation divides by n - 1 unless its name or docstring says otherwise. Intervals are 95 %. Where a
number cannot be had (too few cases, no spread) it is NaN and `notes` says why. Values that differ by rounding only
(`fhlib.measures.inputs.ROUNDING`) are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.images.volume import Floats
from fhlib.measures.inputs import SMALLEST, counted, has_spread, one_each, rounding, rows_of, told
from fhlib.measures.intervals import CONFIDENCE, HIGH_TAIL, LOW_TAIL, Interval, Z
from fhlib.measures.reliability import concordance, icc21


@dataclass(frozen=True)
class Agreement:
    """Two methods measured on the same cases; `difference` is measured minus reference, in their unit.

    The fields are the columns of a table. Each `_low`, `_high` pair of a quantity is its 95 % confidence interval.
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
    """Mean of |measured - reference| / reference over the pairs whose reference is above 0."""
    notes: tuple[str, ...] = ()

    def asdict(self) -> dict[str, float | str]:
        """The numbers by name; notes joined into one string."""
        return {**asdict(self), "notes": "; ".join(self.notes)}


def bland_altman(measured: ArrayLike, reference: ArrayLike) -> Agreement:
    """Agreement of two methods, one value a case each, matched by place.

    Pairs in which a value is missing or not finite are left out; `notes` counts and names them, by the index of a pandas
    Series or by place. With fewer than 3 pairs what needs a spread is NaN, and `notes` says so. Intervals of bias and
    slope are by Student's t, that of Pearson's r by Fisher's z.

    Raises ValueError where the two differ in length or in their pandas indexes, and for values that are no numbers.

    >>> found = bland_altman([12, 13, 17], [10, 12, 14])  # the differences are 2, 1 and 3
    >>> found.bias, found.sd
    (2.0, 1.0)
    >>> round(found.loa_low, 2), round(found.loa_high, 2)  # 2 - 1.96 and 2 + 1.96
    (0.04, 3.96)
    """
    rows = rows_of(measured=measured, reference=reference)
    first, second = one_each(measured, "measured"), one_each(reference, "reference")
    both = np.isfinite(first) & np.isfinite(second)
    positive = ~both | (second > SMALLEST)
    fates = {
        "left out: a value is missing or not finite": ~both,
        "without a relative error: the reference is 0 or less": ~positive,
    }
    first, second = first[both], second[both]

    difference = first - second
    noise = max(rounding(first), rounding(second))
    slope, slope_p = _slope((first + second) / 2, difference, noise)
    icc = icc21(np.column_stack([first, second]))
    relative = (np.abs(difference) / np.where(positive[both], second, math.nan))[positive[both]]
    return Agreement(
        n=len(difference),
        excluded=int((~both).sum()),
        **_limits(difference, noise),
        **slope.named("slope"),
        slope_p=slope_p,
        **_pearson(first, second).named("pearson"),
        ccc=concordance(first, second),
        **icc.named("icc21"),
        mean_absolute_error=_mean(np.abs(difference)),
        mean_absolute_relative_error=_mean(relative),
        notes=(*told("pair", rows, fates), *_notes(first, second, icc, noise)),
    )


def _limits(difference: Floats, noise: float) -> dict[str, float]:
    """Bias, SD and limits of agreement with their intervals, and the fraction of cases between the limits."""
    n, bias = len(difference), _mean(difference)
    sd = t = nearer = farther = within = math.nan
    if n >= 3:
        sd = float(difference.std(ddof=1)) if np.ptp(difference) > noise else 0.0
        t = float(stats.t.ppf(HIGH_TAIL, n - 1))
        # the exact interval of mean + 1.96 SD, in units of the sample SD: noncentral t quantiles (Carkeet 2015)
        nearer, farther = (stats.nct.ppf([LOW_TAIL, HIGH_TAIL], n - 1, Z * math.sqrt(n)) / math.sqrt(n)).tolist()
        within = float(np.mean(np.abs(difference - bias) <= Z * sd + noise))
    return {
        **Interval.around(bias, t * sd / math.sqrt(max(n, 1))).named("bias"),
        "sd": sd,
        **Interval(bias - Z * sd, bias - farther * sd, bias - nearer * sd).named("loa_low"),
        **Interval(bias + Z * sd, bias + nearer * sd, bias + farther * sd).named("loa_high"),
        "loa_approximate_half_width": t * math.sqrt(3 / max(n, 1)) * sd,
        "within_limits": within,
    }


def _slope(mean: Floats, difference: Floats, noise: float) -> tuple[Interval, float]:
    """Least-squares slope of the difference on the mean of both methods, and its p.

    No p where the differences are equal; 0 where they lie on one line.
    """
    if not has_spread(mean):
        return Interval(), math.nan
    if np.ptp(difference) <= noise:
        return Interval.around(0.0, 0.0), math.nan
    fit = stats.linregress(mean, difference)
    if np.ptp(difference - fit.slope * mean) <= noise:
        return Interval.around(float(fit.slope), 0.0), 0.0
    half_width = float(stats.t.ppf(HIGH_TAIL, len(mean) - 2) * fit.stderr)
    return Interval.around(float(fit.slope), half_width), float(fit.pvalue)


def _pearson(first: Floats, second: Floats) -> Interval:
    """Pearson's r; its interval needs 4 pairs."""
    if not (has_spread(first) and has_spread(second)):
        return Interval()
    result = stats.pearsonr(first, second)
    if len(first) < 4:
        return Interval(float(result.statistic))
    ends = result.confidence_interval(CONFIDENCE)
    return Interval(float(result.statistic), float(ends.low), float(ends.high))


def _notes(first: Floats, second: Floats, icc: Interval, noise: float) -> Iterator[str]:
    """Why numbers are NaN, or say little."""
    n = len(first)
    if n < 3:
        yield f"{counted(n, 'pair')}: spread, limits and correlations need at least 3"
        return
    if not has_spread((first + second) / 2):
        yield "all means are equal: no proportional bias can be given"
    elif np.ptp(first - second) <= noise:
        yield "all differences are equal: the limits are the bias, and its slope has no p"
    if math.isnan(icc.value):
        yield "all values are equal: no ICC(2,1) can be given"
    elif math.isnan(icc.low):
        yield "the cases do not tell an interval of ICC(2,1)"
    if not (has_spread(first) and has_spread(second)):
        yield "one method has no spread: no correlation can be given"
    elif n < 4:
        yield "3 pairs: the interval of Pearson's r needs at least 4"


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
