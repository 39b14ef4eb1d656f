"""Agreement of repeated measurements: within-subject SD, intraclass and concordance correlation (section 3.2, Fig. 9).

Intervals are 95 %.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.images.volume import Floats
from fhlib.measures.intervals import CONFIDENCE, HIGH_TAIL, LOW_TAIL, Interval, Z


@dataclass(frozen=True)
class Repeatability:
    """Several scans of each subject: how far the same method disagrees with itself, in the values' unit."""

    subjects: int
    """Subjects with at least two finite values; the others are counted in `excluded_subjects`."""
    excluded_subjects: int
    values: int
    mean: float
    ddof: int
    """Of the per-subject standard deviations."""
    mean_sd: float
    """Mean of the per-subject SDs, as the paper prints it (11.524 mL), with this `ddof`."""
    min_sd: float
    max_sd: float
    within_subject_sd: float
    """s_w = sqrt(mean of the per-subject variances, ddof 1, weighted by their degrees of freedom)."""
    within_subject_sd_low: float
    within_subject_sd_high: float
    repeatability_coefficient: float
    """1.96 sqrt(2) s_w: two scans of a subject differ by less in 95 % of pairs (Bland and Altman 1999)."""
    repeatability_coefficient_low: float
    repeatability_coefficient_high: float
    icc11: float
    """ICC(1,1): one-way random effects, single measurement (Shrout and Fleiss 1979)."""
    icc11_low: float
    icc11_high: float
    per_subject: pd.DataFrame
    """A row a subject: subject, n, mean, sd (with `ddof`), low, high (smallest and largest value)."""
    notes: tuple[str, ...] = ()

    def asdict(self) -> dict[str, float | str]:
        """The numbers by name, without the table; notes joined into one string."""
        numbers = {name: value for name, value in vars(self).items() if name != "per_subject"}
        return {**numbers, "notes": "; ".join(self.notes)}


def repeatability(values: ArrayLike, subjects: Sequence[Hashable] | pd.Series, ddof: int = 1) -> Repeatability:
    """Spread of repeated measurements within subjects. What cannot be had is NaN, and `notes` says why.

    Raises ValueError if values and subjects differ in length or ddof is neither 0 nor 1.

    Args:
        values: one number a scan; those that are not finite are left out.
        subjects: the name of each scan's subject.
        ddof: of the per-subject SDs. The paper does not say which its SDs have.

    >>> found = repeatability([10, 12, 20, 22], ["a", "a", "b", "b"])  # the variance of either subject is 2
    >>> round(found.mean_sd, 3), round(found.repeatability_coefficient, 2)  # sqrt(2) and 1.96 sqrt(2) sqrt(2)
    (1.414, 3.92)
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof}: expected 0 or 1")
    numbers = np.asarray(values, dtype=float).ravel()
    names = np.asarray(subjects, dtype=object).ravel()
    if len(numbers) != len(names):
        raise ValueError(f"{len(numbers)} values and {len(names)} subject names: expected one name for every value")
    frame = pd.DataFrame({"subject": names, "value": numbers})
    finite = frame[np.isfinite(numbers)]
    repeated = {name: g.to_numpy() for name, g in finite.groupby("subject", sort=True)["value"] if len(g) > 1}
    groups = list(repeated.values())
    excluded = int(frame["subject"].nunique()) - len(groups)
    rows = [(name, len(g), g.mean(), g.std(ddof=ddof), g.min(), g.max()) for name, g in repeated.items()]
    table = pd.DataFrame(rows, columns=["subject", "n", "mean", "sd", "low", "high"])
    within = _within_subject_sd(groups)
    return Repeatability(
        subjects=len(groups),
        excluded_subjects=excluded,
        values=int(table["n"].sum()),
        mean=float(np.concatenate(groups).mean()) if groups else math.nan,
        ddof=ddof,
        mean_sd=float(table["sd"].mean()),
        min_sd=float(table["sd"].min()),
        max_sd=float(table["sd"].max()),
        **within.named("within_subject_sd"),
        **Interval(*(Z * math.sqrt(2) * sd for sd in within)).named("repeatability_coefficient"),
        **icc11(groups).named("icc11"),
        per_subject=table,
        notes=_notes(len(groups), excluded, missing=len(frame) - len(finite)),
    )


def _within_subject_sd(groups: Sequence[Floats]) -> Interval:
    """Pooled SD of groups of repeated values; the interval by the chi-square distribution."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return Interval()
    within = math.sqrt(sum((len(group) - 1) * group.var(ddof=1) for group in groups) / freedom)
    low, high = (within * math.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in (1 - LOW_TAIL, LOW_TAIL))
    return Interval(within, low, high)


def _notes(subjects: int, excluded: int, missing: int) -> tuple[str, ...]:
    """Why values and subjects were left out and numbers are NaN."""
    notes = {
        f"{missing} values left out: missing": missing > 0,
        f"{excluded} subjects left out: fewer than two values": excluded > 0,
        "no subject has two values: no spread can be given": subjects == 0,
        f"{subjects} subjects: ICC(1,1) needs at least 3": subjects < 3,
    }
    return tuple(note for note, holds in notes.items() if holds)


def direction_effect(frame: pd.DataFrame) -> pd.DataFrame:
    """Does the scanning direction shift the volume? Mixed model: direction fixed, subject random, by REML.

    `frame` has a row a scan: volume_ml, scan_direction, subject. The result has a row a direction: direction, n, mean,
    difference (from the first direction by name), low, high, p, p_all, note. `p_all` is the Wald test that all
    directions agree. With one direction, fewer than 3 subjects or a fit that fails, differences are NaN and `note` says
    why.
    """
    data = frame[["volume_ml", "scan_direction", "subject"]].set_axis(["value", "direction", "subject"], axis=1)
    data = data[np.isfinite(data["value"].astype(float))]
    summary = data.groupby("direction", sort=True)["value"].agg(n="size", mean="mean").reset_index()
    summary[["difference", "low", "high", "p", "p_all"]] = math.nan
    subjects = data["subject"].nunique()
    if len(summary) < 2 or subjects < 3:
        return summary.assign(note=f"{len(summary)} directions, {subjects} subjects: at least 2 and 3 are needed")

    import statsmodels.formula.api as smf  # here, so that `repeatability` does not wait for it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = smf.mixedlm("value ~ C(direction)", data, groups=data["subject"]).fit(reml=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        return summary.assign(note=f"the model could not be fitted: {error}")
    terms = [name for name in fit.fe_params.index if name.startswith("C(direction)")]
    effect = fit.fe_params[terms].to_numpy()
    covariance = fit.cov_params().loc[terms, terms].to_numpy()
    wald = float(effect @ np.linalg.solve(covariance, effect))
    summary["difference"] = [0.0, *effect]
    summary.loc[1:, ["low", "high"]] = fit.conf_int(alpha=1 - CONFIDENCE).loc[terms].to_numpy()
    summary.loc[1:, "p"] = fit.pvalues[terms].to_numpy()
    summary["p_all"] = float(stats.chi2.sf(wald, len(terms)))
    return summary.assign(note="" if fit.converged else "the fit did not converge: take the intervals with caution")


def concordance(first: ArrayLike, second: ArrayLike) -> float:
    """Lin's concordance correlation: 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2), ddof 0.

    NaN for fewer than 3 pairs or no spread.
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(x) < 3:
        return math.nan
    total = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / total) if total > 0 else math.nan


def icc21(table: ArrayLike) -> Interval:
    """ICC(2,1) for (targets, judges) without gaps; formulas of Shrout and Fleiss (1979).

    NaN below 3 targets or 2 judges, and without spread.
    """
    x = np.asarray(table, dtype=float)
    n, k = x.shape
    if n < 3 or k < 2:
        return Interval()
    # mean squares between targets, between judges, and of the error
    rows, columns, grand = x.mean(axis=1), x.mean(axis=0), x.mean()
    bms = k * ((rows - grand) ** 2).sum() / (n - 1)
    jms = n * ((columns - grand) ** 2).sum() / (k - 1)
    ems = ((x - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    denominator = bms + (k - 1) * ems + k * (jms - ems) / n
    if denominator <= 0 or bms <= 0:
        return Interval()
    icc = float((bms - ems) / denominator)
    if ems <= 0:
        return Interval(icc)

    f = jms / ems
    a, b = k * icc * f, n * (1 + (k - 1) * icc) - k * icc
    freedom = (k - 1) * (n - 1) * (a + b) ** 2 / ((n - 1) * k**2 * icc**2 * f**2 + b**2)
    f_low, f_high = stats.f.ppf(HIGH_TAIL, n - 1, freedom), stats.f.ppf(HIGH_TAIL, freedom, n - 1)
    common = k * jms + (k * n - k - n) * ems
    low = n * (bms - f_low * ems) / (f_low * common + n * bms)
    high = n * (f_high * bms - ems) / (common + n * f_high * bms)
    return Interval(icc, float(low), float(high))


def icc11(groups: Sequence[ArrayLike]) -> Interval:
    """ICC(1,1) for groups of repeated values, by one-way analysis of variance.

    Groups may differ in size: k is then the analysis's mean size, and the interval is approximate. It is exact for
    equal sizes. NaN for fewer than 3 groups or no spread.
    """
    data = [np.asarray(group, dtype=float) for group in groups]
    n, sizes = len(data), np.array([len(group) for group in data])
    if n < 3 or (sizes < 2).any():
        return Interval()
    total = int(sizes.sum())
    k = (total - (sizes**2).sum() / total) / (n - 1)
    grand = np.concatenate(data).mean()
    between = sum(size * (group.mean() - grand) ** 2 for size, group in zip(sizes, data, strict=True)) / (n - 1)
    within = sum(((group - group.mean()) ** 2).sum() for group in data) / (total - n)
    if between + within <= 0:
        return Interval()
    icc = float((between - within) / (between + (k - 1) * within))
    if within <= 0:
        return Interval(icc)

    f = between / within
    f_low = f / stats.f.ppf(HIGH_TAIL, n - 1, total - n)
    f_high = f * stats.f.ppf(HIGH_TAIL, total - n, n - 1)
    return Interval(icc, float((f_low - 1) / (f_low + k - 1)), float((f_high - 1) / (f_high + k - 1)))
