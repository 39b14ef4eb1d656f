"""Agreement of repeated measurements: within-subject SD, intraclass and concordance correlation (section 3.3, Fig. 9)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.measures.intervals import CONFIDENCE, Z


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

    def asdict(self) -> dict[str, Any]:
        """The numbers by name, without the table; notes joined into one string."""
        numbers = {name: value for name, value in vars(self).items() if name != "per_subject"}
        return {**numbers, "notes": "; ".join(self.notes)}


def repeatability(values: ArrayLike, subjects: Sequence[Any] | pd.Series, ddof: int = 1) -> Repeatability:
    """Spread of repeated measurements within subjects: one value and one subject name a scan.

    The paper does not say which ddof its SDs have; 1 is the default here. Raises ValueError if the two differ in
    length or ddof is neither 0 nor 1.
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof}: expected 0 or 1")
    numbers, names = np.asarray(values, dtype=float).ravel(), np.asarray(subjects, dtype=object).ravel()
    if len(numbers) != len(names):
        raise ValueError(f"{len(numbers)} values and {len(names)} subject names: expected one name for every value")
    frame = pd.DataFrame({"subject": names, "value": numbers})
    finite = frame[np.isfinite(numbers)]
    notes = [f"{len(frame) - len(finite)} values left out: missing"] if len(finite) < len(frame) else []
    groups = [(name, group["value"].to_numpy()) for name, group in finite.groupby("subject", sort=True)]
    groups = [(name, group) for name, group in groups if len(group) > 1]
    excluded = frame["subject"].nunique() - len(groups)
    if excluded:
        notes.append(f"{excluded} subjects left out: fewer than two values")
    rows = [(name, len(g), g.mean(), g.std(ddof=ddof), g.min(), g.max()) for name, g in groups]
    table = pd.DataFrame(rows, columns=["subject", "n", "mean", "sd", "low", "high"])
    freedom = sum(len(g) - 1 for _, g in groups)
    if not groups:
        notes.append("no subject has two values: no spread can be given")
    within = math.sqrt(sum((len(g) - 1) * g.var(ddof=1) for _, g in groups) / freedom) if groups else math.nan
    tail = (1 - CONFIDENCE) / 2
    low, high = (
        (within * math.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in (1 - tail, tail))
        if groups
        else [math.nan] * 2
    )
    if len(groups) < 3:
        notes.append(f"{len(groups)} subjects: ICC(1,1) needs at least 3")
    icc = icc11([g for _, g in groups])
    factor = Z * math.sqrt(2)
    spread = table["sd"]
    return Repeatability(
        subjects=len(groups),
        excluded_subjects=int(excluded),
        values=int(table["n"].sum()),
        mean=float(np.concatenate([g for _, g in groups]).mean()) if groups else math.nan,
        ddof=ddof,
        mean_sd=float(spread.mean()) if groups else math.nan,
        min_sd=float(spread.min()) if groups else math.nan,
        max_sd=float(spread.max()) if groups else math.nan,
        within_subject_sd=within,
        within_subject_sd_low=low,
        within_subject_sd_high=high,
        repeatability_coefficient=factor * within,
        repeatability_coefficient_low=factor * low,
        repeatability_coefficient_high=factor * high,
        icc11=icc[0],
        icc11_low=icc[1],
        icc11_high=icc[2],
        per_subject=table,
        notes=tuple(notes),
    )


def direction_effect(
    frame: pd.DataFrame, value: str = "volume_ml", direction: str = "scan_direction", subject: str = "subject"
) -> pd.DataFrame:
    """Does the scanning direction shift the measurement? Mixed model: direction fixed, subject random, by REML.

    One row a direction: direction, n, mean, difference (from the first direction by name), low, high, p, p_all (Wald
    test that all directions agree), note. With one direction, fewer than 3 subjects or a fit that fails, differences
    are NaN and `note` says why.
    """
    data = frame[[value, direction, subject]].rename(
        columns={value: "value", direction: "direction", subject: "subject"}
    )
    data = data[np.isfinite(data["value"].astype(float))]
    summary = data.groupby("direction", sort=True)["value"].agg(n="size", mean="mean").reset_index()
    columns = ["difference", "low", "high", "p", "p_all"]
    summary[columns] = math.nan
    summary["note"] = ""
    if len(summary) < 2 or data["subject"].nunique() < 3:
        summary["note"] = (
            f"{len(summary)} directions, {data['subject'].nunique()} subjects: at least 2 and 3 are needed"
        )
        return summary
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = smf.mixedlm("value ~ C(direction)", data, groups=data["subject"]).fit(reml=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        summary["note"] = f"the model could not be fitted: {error}"
        return summary
    terms = [name for name in fit.fe_params.index if name.startswith("C(direction)")]
    intervals = fit.conf_int(alpha=1 - CONFIDENCE).loc[terms]
    effect, covariance = fit.fe_params[terms].to_numpy(), fit.cov_params().loc[terms, terms].to_numpy()
    wald = float(effect @ np.linalg.solve(covariance, effect))
    if not fit.converged:
        summary["note"] = "the fit did not converge: take the intervals with caution"
    summary.loc[0, "difference"] = 0.0
    summary.loc[1:, "difference"] = effect
    summary.loc[1:, ["low", "high"]] = intervals.to_numpy()
    summary.loc[1:, "p"] = fit.pvalues[terms].to_numpy()
    summary["p_all"] = float(stats.chi2.sf(wald, len(terms)))
    return summary


def concordance(first: ArrayLike, second: ArrayLike) -> float:
    """Lin's concordance correlation: 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2), ddof 0.

    NaN for fewer than 3 pairs or no spread.
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(x) < 3:
        return math.nan
    total = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / total) if total > 0 else math.nan


def icc21(table: ArrayLike) -> tuple[float, float, float]:
    """ICC(2,1) and its 95 % interval for (targets, judges) without gaps; formulas of Shrout and Fleiss (1979).

    NaN below 3 targets.
    """
    x = np.asarray(table, dtype=float)
    n, k = x.shape
    if n < 3 or k < 2:
        return (math.nan,) * 3
    rows, columns, grand = x.mean(axis=1), x.mean(axis=0), x.mean()
    bms = k * ((rows - grand) ** 2).sum() / (n - 1)
    jms = n * ((columns - grand) ** 2).sum() / (k - 1)
    ems = ((x - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    denominator = bms + (k - 1) * ems + k * (jms - ems) / n
    if denominator <= 0 or bms <= 0:
        return (math.nan,) * 3
    icc = (bms - ems) / denominator
    if ems <= 0:
        return icc, math.nan, math.nan
    f = jms / ems
    a, b = k * icc * f, n * (1 + (k - 1) * icc) - k * icc
    freedom = (k - 1) * (n - 1) * (a + b) ** 2 / ((n - 1) * k**2 * icc**2 * f**2 + b**2)
    q = (1 + CONFIDENCE) / 2
    f_low, f_high = stats.f.ppf(q, n - 1, freedom), stats.f.ppf(q, freedom, n - 1)
    common = k * jms + (k * n - k - n) * ems
    low = n * (bms - f_low * ems) / (f_low * common + n * bms)
    high = n * (f_high * bms - ems) / (common + n * f_high * bms)
    return float(icc), float(low), float(high)


def icc11(groups: Sequence[ArrayLike]) -> tuple[float, float, float]:
    """ICC(1,1) and its 95 % interval for groups of repeated values, which may differ in size (k is then the ANOVA's
    mean size).

    The interval is exact for equal sizes and approximate otherwise. NaN for fewer than 3 groups or no spread.
    """
    data = [np.asarray(group, dtype=float) for group in groups]
    n, sizes = len(data), np.array([len(group) for group in data])
    if n < 3 or (sizes < 2).any():
        return (math.nan,) * 3
    total = int(sizes.sum())
    k = (total - (sizes**2).sum() / total) / (n - 1)
    grand = np.concatenate(data).mean()
    between = sum(size * (group.mean() - grand) ** 2 for size, group in zip(sizes, data, strict=True)) / (n - 1)
    within = sum(((group - group.mean()) ** 2).sum() for group in data) / (total - n)
    if between + within <= 0:
        return (math.nan,) * 3
    icc = (between - within) / (between + (k - 1) * within)
    if within <= 0:
        return float(icc), math.nan, math.nan
    q, f = (1 + CONFIDENCE) / 2, between / within
    f_low = f / stats.f.ppf(q, n - 1, total - n)
    f_high = f * stats.f.ppf(q, total - n, n - 1)
    return float(icc), float((f_low - 1) / (f_low + k - 1)), float((f_high - 1) / (f_high + k - 1))
