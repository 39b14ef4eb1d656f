"""Paired comparison of variants over the same cases, and how firm their order is (Tables 1 and 2).

Every standard deviation divides by n - 1; intervals are 95 %. Where a number cannot be had it is NaN and `note` says
why.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

from fhlib.images.volume import Floats
from fhlib.measures.intervals import bootstrap_interval, holm

COMPARED = (
    "variant", "baseline", "measure", "n", "unpaired", "mean", "baseline_mean", "difference", "low", "high", "p",
    "p_holm", "effect_size", "dz", "detectable", "note",
)  # fmt: skip
TRAININGS = ("seeds", "between_trainings", "trainings_low", "trainings_high")
HC_BANDS_MM = (0, 100, 150, 200, 250, 400)
SEED = 0  # of all bootstrap draws


def compare_variants(scores: pd.DataFrame, measure: str, baseline: str, resamples: int = 5000) -> pd.DataFrame:
    """Paired comparison of every variant with a baseline over the same cases.

    One row a variant, with the columns COMPARED:

    - variant, baseline, measure;
    - n (pairs) and unpaired (cases without a finite value in both);
    - mean, baseline_mean and difference (variant - baseline);
    - low, high: 95 % `bootstrap_interval` of the difference over subjects;
    - p (Wilcoxon signed rank, two-sided) and p_holm (Holm over the rows);
    - effect_size: matched-pairs rank-biserial correlation, -1 to 1;
    - dz: mean / SD of the differences;
    - detectable: the smallest true mean difference that n pairs with this SD would find. By the paired t test, with a
      power of 80 % at two-sided 5 %;
    - note.

    Raises ValueError if a column or the baseline is missing.

    Args:
        scores: columns variant, case and the measure; where there is a column subject, the bootstrap draws subjects.
        measure: the column to compare.
        baseline: the variant that the others are compared with.
        resamples: how many bootstrap samples.
    """
    lacking = {"variant", "case", measure} - set(scores.columns)
    if lacking:
        raise ValueError(f"scores lack the columns {sorted(lacking)}; there are {sorted(scores.columns)}")
    wide = scores.pivot(index="case", columns="variant", values=measure).astype(float)
    if baseline not in wide:
        raise ValueError(f"baseline {baseline!r} has no scores; there are {', '.join(wide.columns)}")
    subject = scores.drop_duplicates("case").set_index("case").get("subject", pd.Series(wide.index, wide.index))
    rows = []
    for variant in _others(scores, baseline):
        names = {"variant": variant, "baseline": baseline, "measure": measure}
        rows.append({**names, **_paired(wide[variant], wide[baseline], subject, resamples)})
    table = pd.DataFrame(rows, columns=list(COMPARED))
    return table.assign(p_holm=holm(table["p"]))


def _paired(values: pd.Series, against: pd.Series, subject: pd.Series, resamples: int) -> dict[str, float | str]:
    """The numbers of one row of `compare_variants`; all three series have the cases as their index."""
    finite = np.isfinite(values) & np.isfinite(against)
    values, against = values[finite], against[finite]
    difference = (values - against).to_numpy()
    n = len(difference)
    mean = difference.mean() if n else math.nan
    low, high = bootstrap_interval(difference, np.mean, subject.reindex(values.index), resamples, SEED)
    p, effect_size = _signed_rank(difference)
    dz = detectable = math.nan
    if n >= 3:
        spread = difference.std(ddof=1)
        detectable = spread * TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
        dz = mean / spread if spread > 0 else math.nan
    return {
        "n": n,
        "unpaired": len(finite) - n,
        "mean": values.mean(),
        "baseline_mean": against.mean(),
        "difference": mean,
        "low": low,
        "high": high,
        "p": p,
        "effect_size": effect_size,
        "dz": dz,
        "detectable": detectable,
        "note": "" if n >= 3 else f"{n} pairs: at least 3 are needed",
    }


def compare_trainings(scores: pd.DataFrame, measure: str, baseline: str) -> pd.DataFrame:
    """`compare_variants` over several trainings: each variant against the baseline's trainings of the same seeds.

    A case counts with its mean over the seeds in which both have a finite value. Variants that share no seed with the
    baseline have no row. Holm's correction goes over all rows. Added columns, of which one seed leaves all but the first
    NaN:

    - seeds: how many;
    - between_trainings: SD of the mean paired difference from seed to seed;
    - trainings_low, trainings_high: Student's 95 % interval of the difference over the seeds. It tells what other
      trainings may give, where `low` and `high` are about other cases.

    Args:
        scores: as in `compare_variants`, with a column seed.
        measure: the column to compare.
        baseline: the variant that the others are compared with.
    """
    tables = []
    for variant in _others(scores, baseline):
        pair = scores[scores["variant"].isin([variant, baseline])]
        shared = pair.groupby("seed")["variant"].transform("nunique") == 2
        if shared.any():
            tables.append(_paired_trainings(pair[shared], measure, variant, baseline))
    if not tables:
        return pd.DataFrame(columns=[*COMPARED, *TRAININGS], dtype=float)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_holm=holm(table["p"]))


def _paired_trainings(pair: pd.DataFrame, measure: str, variant: str, baseline: str) -> pd.DataFrame:
    """The row of one variant; `pair` holds its scores and the baseline's for the seeds that both have."""
    both = pair.pivot(index=["seed", "case"], columns="variant", values=measure).astype(float)
    finite = np.isfinite(both).all(axis=1)
    # a case that no seed has for both keeps its place, so that it counts as unpaired
    means = both[finite].groupby("case").mean().reindex(pair["case"].unique())
    pooled = means.reset_index().melt("case", [variant, baseline], "variant", measure)
    if "subject" in pair:
        pooled["subject"] = pooled["case"].map(pair.drop_duplicates("case").set_index("case")["subject"])

    difference = (both[variant] - both[baseline])[finite].groupby("seed").mean()
    half_width = difference.sem() * stats.t.ppf(0.975, max(len(difference) - 1, 1))
    return compare_variants(pooled, measure, baseline).assign(
        seeds=len(difference),
        between_trainings=difference.std(),
        trainings_low=difference.mean() - half_width,
        trainings_high=difference.mean() + half_width,
    )


def rank_stability(scores: pd.DataFrame, measure: str, higher_is_better: bool, resamples: int = 5000) -> pd.DataFrame:
    """How firm the order of the variants is: variant, n, mean, rank, rank_low, rank_high, first.

    Over bootstrap samples of cases, `rank_low` and `rank_high` span the rank's 95 % range and `first` is the share of
    rank 1. Only cases with a finite value for every variant count (n); without one, ValueError is raised.

    With several trainings of each variant a case's value is its mean over them. `seeds`, `rank_seed_low` and
    `rank_seed_high` then tell how the rank moves from training to training.

    Args:
        scores: columns variant, case and the measure; several trainings have a column seed.
        measure: the column to rank by.
        higher_is_better: false for distances and errors.
        resamples: how many bootstrap samples.
    """
    if "seed" not in scores:
        return _ranks(scores, measure, higher_is_better, resamples)
    pooled = scores.groupby(["variant", "case"], sort=False, as_index=False)[measure].mean()
    alone = pd.concat([_ranks(part, measure, higher_is_better, 1) for _, part in scores.groupby("seed")])
    moves = alone.groupby("variant")["rank"].agg(seeds="size", rank_seed_low="min", rank_seed_high="max")
    return _ranks(pooled, measure, higher_is_better, resamples).join(moves, on="variant")


def _ranks(scores: pd.DataFrame, measure: str, higher_is_better: bool, resamples: int) -> pd.DataFrame:
    """Mean and rank of each variant with the bootstrap's range, for one value a variant and case."""
    wide = scores.pivot(index="case", columns="variant", values=measure).astype(float)
    wide = wide[list(dict.fromkeys(scores["variant"]))]
    finite = wide[np.isfinite(wide).all(axis=1)]
    if finite.empty:
        raise ValueError(f"no case has a finite {measure!r} for every variant")
    values = finite.to_numpy() * (-1 if higher_is_better else 1)
    draws = np.random.default_rng(SEED).integers(len(values), size=(resamples, len(values)))
    ranks = stats.rankdata(values[draws].mean(axis=1), axis=1, method="min")
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "variant": finite.columns,
            "n": len(finite),
            "mean": finite.to_numpy().mean(axis=0),
            "rank": stats.rankdata(values.mean(axis=0), method="min").astype(int),
            "rank_low": low,
            "rank_high": high,
            "first": (ranks == 1).mean(axis=0),
        }
    )


def by_head_size(scores: pd.DataFrame) -> pd.DataFrame:
    """DSC and the error of HC by variant and band of the reference HC, then over all bands.

    Columns: variant, hc_band_mm, n, missed, dsc_mean, dsc_sd, dsc_median, hc_mae_mm, hc_bias_mm. Missed heads count
    with DSC 0 and have no HC. Raises KeyError without `reference_hc_mm`.
    """
    frame = scores.assign(error=scores["hc_mm"] - scores["reference_hc_mm"])
    labels = [f"{low}-{high}" for low, high in pairwise(HC_BANDS_MM)]
    bands = pd.cut(frame["reference_hc_mm"], HC_BANDS_MM, right=False, labels=labels)
    rows = []
    for variant, group in frame.groupby("variant", sort=False):
        for name, part in [*group.groupby(bands, observed=True), ("all", group)]:
            rows.append(
                {
                    "variant": variant,
                    "hc_band_mm": name,
                    "n": len(part),
                    "missed": int((part["status"] == "missed").sum()),
                    "dsc_mean": part["dsc"].mean(),
                    "dsc_sd": part["dsc"].std(),
                    "dsc_median": part["dsc"].median(),
                    "hc_mae_mm": part["error"].abs().mean(),
                    "hc_bias_mm": part["error"].mean(),
                }
            )
    return pd.DataFrame(rows)


def _others(scores: pd.DataFrame, baseline: str) -> list[str]:
    """The variants but for the baseline, in their order."""
    return [name for name in dict.fromkeys(scores["variant"]) if name != baseline]


def _signed_rank(difference: Floats) -> tuple[float, float]:
    """Wilcoxon signed-rank p and matched-pairs rank-biserial correlation, zero differences left out of both.

    Where all of 3 or more differences are zero the correlation is 0.
    """
    moved = difference[difference != 0]
    if len(difference) >= 3 and not len(moved):
        return math.nan, 0.0
    if len(moved) < 3:
        return math.nan, math.nan
    ranks = stats.rankdata(np.abs(moved))
    return float(stats.wilcoxon(moved).pvalue), float((ranks * np.sign(moved)).sum() / ranks.sum())
