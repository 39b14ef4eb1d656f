"""Agreement of repeated measurements: within-subject SD, intraclass and concordance correlation (section 3.2, Fig. 9).

Intervals are 95 %. Values that differ by rounding only (`fhlib.measures.inputs.ROUNDING`) are equal. Values without a
subject, a direction or a finite number are left out, counted and named.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.images.volume import Floats
from fhlib.measures.inputs import (
    as_numbers,
    counted,
    has_spread,
    listed,
    names_of,
    one_each,
    rounding,
    rows_of,
    spelled_alike,
    told,
)
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

    Raises ValueError if values and subjects differ in length or in their pandas indexes, for values that are no numbers,
    and if ddof is neither 0 nor 1.

    Args:
        values: one number a scan; those that are not finite are left out.
        subjects: the name of each scan's subject; scans without one are left out.
        ddof: of the per-subject SDs. The paper does not say which its SDs have.

    >>> found = repeatability([10, 12, 20, 22], ["a", "a", "b", "b"])  # the variance of either subject is 2
    >>> round(found.mean_sd, 3), round(found.repeatability_coefficient, 2)  # sqrt(2) and 1.96 sqrt(2) sqrt(2)
    (1.414, 3.92)
    """
    if ddof not in (0, 1):
        raise ValueError(f"ddof is {ddof}: expected 0 or 1")
    rows = rows_of(values=values, subjects=subjects)
    frame = pd.DataFrame({"subject": names_of(subjects, "subjects"), "value": one_each(values, "values")})
    known, finite = frame["subject"].notna(), np.isfinite(frame["value"])
    used = frame[known & finite]
    noise = rounding(used["value"].to_numpy())

    by_subject = {name: g.to_numpy() for name, g in used.groupby("subject", sort=True)["value"]}
    repeated = {name: g for name, g in by_subject.items() if len(g) > 1}
    groups = list(repeated.values())
    once = [name for name in dict.fromkeys(frame.loc[known, "subject"]) if name not in repeated]
    lines = [(name, len(g), g.mean(), _sd(g, ddof, noise), g.min(), g.max()) for name, g in repeated.items()]
    table = pd.DataFrame(lines, columns=["subject", "n", "mean", "sd", "low", "high"])
    within = _within_subject_sd(groups, noise)
    icc = icc11(groups)
    return Repeatability(
        subjects=len(groups),
        excluded_subjects=len(once),
        values=int(table["n"].sum()),
        mean=float(np.concatenate(groups).mean()) if groups else math.nan,
        ddof=ddof,
        mean_sd=float(table["sd"].mean()),
        min_sd=float(table["sd"].min()),
        max_sd=float(table["sd"].max()),
        **within.named("within_subject_sd"),
        **Interval(*(Z * math.sqrt(2) * sd for sd in within)).named("repeatability_coefficient"),
        **icc.named("icc11"),
        per_subject=table,
        notes=(
            *told("value", rows, {"left out: missing or not finite": known & ~finite, "left out: no subject": ~known}),
            *_notes(len(groups), once, icc, spelled_alike(by_subject)),
        ),
    )


def _sd(values: Floats, ddof: int, noise: float) -> float:
    return float(values.std(ddof=ddof)) if np.ptp(values) > noise else 0.0


def _within_subject_sd(groups: Sequence[Floats], noise: float) -> Interval:
    """Pooled SD of groups of repeated values; the interval by the chi-square distribution."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return Interval()
    varying = [group for group in groups if np.ptp(group) > noise]
    within = math.sqrt(sum((len(group) - 1) * group.var(ddof=1) for group in varying) / freedom)
    low, high = (within * math.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in (1 - LOW_TAIL, LOW_TAIL))
    return Interval(within, low, high)


def _notes(subjects: int, once: Sequence[Hashable], icc: Interval, alike: Sequence[Hashable]) -> Iterator[str]:
    """Why subjects were left out and numbers are NaN."""
    if once:
        yield f"{counted(len(once), 'subject')} left out: fewer than two values ({listed(once)})"
    if alike:
        yield _told_apart(alike)
    if subjects == 0:
        yield "no subject has two values: no spread can be given"
    if subjects < 3:
        yield f"{counted(subjects, 'subject')}: ICC(1,1) needs at least 3"
    elif math.isnan(icc.value):
        yield "all values are equal: no ICC(1,1) can be given"
    elif math.isnan(icc.low):
        yield "no subject's values differ: ICC(1,1) has no interval"


def _told_apart(alike: Sequence[Hashable]) -> str:
    return f"counted apart though spelled alike: {listed(map(repr, alike))}"


def direction_effect(frame: pd.DataFrame) -> pd.DataFrame:
    """Does the scanning direction shift the volume? Mixed model: direction fixed, subject random, by REML.

    `frame` has a row a scan: volume_ml, scan_direction, subject. The result has a row a direction: direction, n, mean,
    difference (from the first direction by name), low, high, p, p_all, note. `p_all` is the Wald test that all
    directions agree; 0 means less than a float can hold.

    Scans without a direction, a subject or a volume above 0 are left out; `note` counts and names them. It says why, too,
    where differences are NaN: with one direction, fewer than 3 subjects, no subject seen from two directions, no spread
    beside the directions', or a fit that fails.

    Raises ValueError where a column lacks, a volume is no number, or a case (where there is such a column) is there twice.
    """
    lacking = [name for name in ("volume_ml", "scan_direction", "subject") if name not in frame]
    if lacking:
        raise ValueError(f"the scans lack the columns {lacking}; there are {', '.join(map(str, frame))}")
    if "case" in frame and frame["case"].duplicated().any():
        twice = frame.loc[frame["case"].duplicated(), "case"].unique()
        raise ValueError(f"{counted(len(twice), 'case')} twice ({listed(twice)}): give the scans of one variant")

    data, notes = _known_scans(frame)
    summary = data.groupby("direction", sort=True)["value"].agg(n="size", mean="mean").reset_index()
    summary[["difference", "low", "high", "p", "p_all"]] = math.nan
    if obstacle := _no_model(data):
        return summary.assign(note="; ".join([*notes, obstacle]))
    try:
        summary, caution = _modelled(data, summary)
    except (np.linalg.LinAlgError, ValueError) as error:
        caution = f"the model could not be fitted: {error}"
    return summary.assign(note="; ".join(filter(None, [*notes, caution])))


def _known_scans(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The scans that can be compared (value, direction, subject), and what is to be said of the others."""
    value = pd.Series(as_numbers(frame["volume_ml"], "volume_ml"))
    direction, subject = (names_of(frame[name], name) for name in ("scan_direction", "subject"))
    named = direction.notna() & subject.notna()
    measured = np.isfinite(value) & (value > 0)
    fates = {
        "left out: no direction": direction.isna(),
        "left out: no subject": direction.notna() & subject.isna(),
        "left out: no volume above 0": named & ~measured,
    }
    notes = told("scan", frame.index, fates)
    data = pd.DataFrame({"value": value, "direction": direction, "subject": subject})
    data = data[named & measured].reset_index(drop=True)
    for column in ("direction", "subject"):
        if alike := spelled_alike(data[column]):
            notes.append(_told_apart(alike))
    return data.assign(direction=data["direction"].astype(str), value=data["value"].astype(float)), notes


def _no_model(data: pd.DataFrame) -> str:
    """Why these scans do not tell what the direction does; empty where they do."""
    directions, subjects = data["direction"].nunique(), data["subject"].nunique()
    if directions < 2 or subjects < 3:
        return f"{directions} directions, {subjects} subjects: at least 2 and 3 are needed"
    if data.groupby("subject")["direction"].nunique().max() < 2:
        return "no subject was scanned from two directions: subjects and directions cannot be told apart"

    value = data["value"].to_numpy()
    design = pd.get_dummies(data[["subject", "direction"]].astype(str)).to_numpy(float)
    solution, *_ = np.linalg.lstsq(design, value, rcond=None)
    if not has_spread(value - design @ solution, float(value.max())):
        return "the volumes have no spread beside that of subjects and directions: there is nothing to judge by"
    return ""


def _modelled(data: pd.DataFrame, summary: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The summary with the model's numbers, and a caution."""
    import statsmodels.formula.api as smf  # here, so that `repeatability` does not wait for it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = smf.mixedlm("value ~ C(direction)", data, groups=data["subject"]).fit(reml=True)
        terms = [name for name in fit.fe_params.index if name.startswith("C(direction)")]
        effect = fit.fe_params[terms].to_numpy()
        covariance = fit.cov_params().loc[terms, terms].to_numpy()
        ends, p = fit.conf_int(alpha=1 - CONFIDENCE).loc[terms].to_numpy(), fit.pvalues[terms].to_numpy()
    wald = float(effect @ np.linalg.solve(covariance, effect))
    if not (math.isfinite(wald) and wald >= 0 and np.isfinite(ends).all()):
        return summary, "the model gives no intervals: the scans are too few or too alike"

    found = summary.copy()
    found["difference"] = [0.0, *effect]
    found.loc[1:, ["low", "high"]] = ends
    found.loc[1:, "p"] = p
    found["p_all"] = float(stats.chi2.sf(wald, len(terms)))
    return found, "" if fit.converged else "the fit did not converge: take the intervals with caution"


def concordance(first: ArrayLike, second: ArrayLike) -> float:
    """Lin's concordance correlation: 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2), ddof 0.

    NaN for fewer than 3 pairs, and where a method has no spread. Raises ValueError where the two differ in length, and for
    gaps.
    """
    rows_of(first=first, second=second)
    x, y = _complete(one_each(first, "first")), _complete(one_each(second, "second"))
    if not (has_spread(x) and has_spread(y)):
        return math.nan
    total = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * np.mean((x - x.mean()) * (y - y.mean())) / total)


def icc21(table: ArrayLike) -> Interval:
    """ICC(2,1) for (targets, judges); formulas of Shrout and Fleiss (1979).

    NaN below 3 targets or 2 judges, and without spread. No interval where judges differ by a constant only, nor where the
    formulas' one would not hold the estimate: few targets on which judges disagree altogether.

    Raises ValueError for a table that is not two-dimensional, and for gaps.
    """
    x = _complete(as_numbers(table, "the table"))
    if x.ndim != 2:
        raise ValueError(f"the table has shape {x.shape}: expected (targets, judges)")
    n, k = x.shape
    if n < 3 or k < 2:
        return Interval()
    # mean squares between targets, between judges, and of the error
    rows, columns, grand = x.mean(axis=1), x.mean(axis=0), x.mean()
    bms = k * ((rows - grand) ** 2).sum() / (n - 1)
    jms = n * ((columns - grand) ** 2).sum() / (k - 1)
    ems = ((x - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    nothing = rounding(x) ** 2
    denominator = bms + (k - 1) * ems + k * (jms - ems) / n
    if denominator <= nothing or bms <= nothing:
        return Interval()
    icc = float((bms - ems) / denominator)
    if ems <= nothing:
        return Interval(icc)

    f = jms / ems
    a, b = k * icc * f, n * (1 + (k - 1) * icc) - k * icc
    freedom = (k - 1) * (n - 1) * (a + b) ** 2 / ((n - 1) * k**2 * icc**2 * f**2 + b**2)
    f_low, f_high = stats.f.ppf(HIGH_TAIL, n - 1, freedom), stats.f.ppf(HIGH_TAIL, freedom, n - 1)
    common = k * jms + (k * n - k - n) * ems
    with np.errstate(invalid="ignore"):  # an infinite quantile, where the degrees of freedom come near 0
        low = n * (bms - f_low * ems) / (f_low * common + n * bms)
        high = n * (f_high * bms - ems) / (common + n * f_high * bms)
    return Interval(icc, float(low), float(high)) if low <= icc <= high else Interval(icc)


def icc11(groups: Sequence[ArrayLike]) -> Interval:
    """ICC(1,1) for groups of repeated values, by one-way analysis of variance.

    Groups may differ in size: k is then the analysis's mean size, and the interval is approximate. It is exact for
    equal sizes. NaN for fewer than 3 groups, a group of one, or no spread; without spread within groups there is no
    interval. Raises ValueError for gaps.
    """
    data = [_complete(one_each(group, "a group")) for group in groups]
    n, sizes = len(data), np.array([len(group) for group in data])
    if n < 3 or (sizes < 2).any():
        return Interval()
    total = int(sizes.sum())
    k = (total - (sizes**2).sum() / total) / (n - 1)
    pooled = np.concatenate(data)
    grand = pooled.mean()
    between = sum(size * (group.mean() - grand) ** 2 for size, group in zip(sizes, data, strict=True)) / (n - 1)
    within = sum(((group - group.mean()) ** 2).sum() for group in data) / (total - n)
    nothing = rounding(pooled) ** 2
    if between + within <= nothing:
        return Interval()
    icc = float((between - within) / (between + (k - 1) * within))
    if within <= nothing:
        return Interval(icc)

    f = between / within
    f_low = f / stats.f.ppf(HIGH_TAIL, n - 1, total - n)
    f_high = f * stats.f.ppf(HIGH_TAIL, total - n, n - 1)
    return Interval(icc, float((f_low - 1) / (f_low + k - 1)), float((f_high - 1) / (f_high + k - 1)))


def _complete(values: Floats) -> Floats:
    """The values; ValueError where one is missing or not finite."""
    gaps = int((~np.isfinite(values)).sum())
    if gaps:
        raise ValueError(f"{gaps} of {values.size} values are missing or not finite: leave their cases out first")
    return values
