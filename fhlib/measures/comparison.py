"""Paired comparison of variants over the same cases, with the resampling and corrections that it needs (Tables 1 and
2).

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
    *("variant", "baseline", "measure", "n", "unpaired", "mean", "baseline_mean", "difference", "low", "high", "p"),
    *("p_holm", "effect_size", "dz", "detectable", "note"),
)


def compare_variants(
    scores: pd.DataFrame, measure: str, baseline: str, resamples: int = 5000, seed: int = 0
) -> pd.DataFrame:
    """Paired comparison of every variant with a baseline over the same cases (columns variant, case, `measure`;
    optional subject).

    One row a variant: variant, baseline, measure, n (pairs), unpaired (cases without a finite value in both), mean,
    baseline_mean, difference (variant - baseline), low, high (95 % `bootstrap_interval` over subjects, seeded), p
    (Wilcoxon signed rank, two-sided), p_holm (Holm over the rows), effect_size (matched-pairs rank-biserial
    correlation, -1 to 1), dz (mean / SD of the differences), detectable (the smallest true mean difference that n pairs with this SD
    find with a power of 80 % at two-sided 5 %, by the paired t test), note. Raises ValueError if a column or the baseline is
    missing.
    """
    lacking = {"variant", "case", measure} - set(scores.columns)
    if lacking:
        raise ValueError(f"scores lack the columns {sorted(lacking)}; there are {sorted(scores.columns)}")
    wide = scores.pivot(index="case", columns="variant", values=measure).astype(float)
    if baseline not in wide:
        raise ValueError(f"baseline {baseline!r} has no scores; there are {', '.join(wide.columns)}")
    subject = scores.drop_duplicates("case").set_index("case").get("subject", pd.Series(wide.index, wide.index))
    order = [name for name in dict.fromkeys(scores["variant"]) if name != baseline]
    rows = []
    for variant in order:
        pairs = wide[[variant, baseline]]
        finite = pairs[np.isfinite(pairs).all(axis=1)]
        difference = (finite[variant] - finite[baseline]).to_numpy()
        n = len(difference)
        low, high = bootstrap_interval(difference, np.mean, subject.reindex(finite.index), resamples, seed)
        spread = difference.std(ddof=1) if n > 2 else math.nan
        p, effect = _signed_rank(difference)
        rows.append(
            {
                "variant": variant,
                "baseline": baseline,
                "measure": measure,
                "n": n,
                "unpaired": len(pairs) - n,
                "mean": finite[variant].mean(),
                "baseline_mean": finite[baseline].mean(),
                "difference": difference.mean() if n else math.nan,
                "low": low,
                "high": high,
                "p": p,
                "p_holm": math.nan,
                "effect_size": effect,
                "dz": difference.mean() / spread if n > 2 and spread > 0 else math.nan,
                "detectable": spread * TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8) if n > 2 else math.nan,
                "note": "" if n > 2 else f"{n} pairs: at least 3 are needed",
            }
        )
    table = pd.DataFrame(rows, columns=list(COMPARED))
    return table.assign(p_holm=holm(table["p"]))


def compare_trainings(scores: pd.DataFrame, measure: str, baseline: str) -> pd.DataFrame:
    """`compare_variants` over several trainings (column seed): each variant against the baseline's trainings of the same seeds.

    A case counts with its mean over the seeds in which both have a finite value. Adds seeds (how many), between_trainings (SD of the
    mean paired difference from seed to seed) and trainings_low, trainings_high (Student's 95 % interval of the difference over the seeds:
    what other trainings may give, where `low` and `high` are about other cases); NaN for one seed. Holm's correction goes over all rows.
    """
    rows = []
    of_baseline = scores[scores["variant"] == baseline]
    for variant in (name for name in dict.fromkeys(scores["variant"]) if name != baseline):
        pair = pd.concat([of_baseline, scores[scores["variant"] == variant]])
        common = pair.groupby("seed")["variant"].nunique()
        pair = pair[pair["seed"].isin(common.index[common == 2])]
        if pair.empty:
            continue
        both = pair.pivot(index=["seed", "case"], columns="variant", values=measure).astype(float)
        finite = np.isfinite(both).all(axis=1)
        met = both[finite].groupby("case").mean().reindex([*dict.fromkeys(pair["case"])])
        pooled = met.reset_index().melt("case", [variant, baseline], "variant", measure)
        if "subject" in pair:
            pooled["subject"] = pooled["case"].map(pair.drop_duplicates("case").set_index("case")["subject"])
        row = compare_variants(pooled, measure, baseline)
        difference = (both[variant] - both[baseline])[finite].groupby("seed").mean()
        half = difference.sem() * stats.t.ppf(0.975, max(len(difference) - 1, 1))
        rows.append(
            row.assign(
                seeds=len(difference),
                between_trainings=difference.std(),
                trainings_low=difference.mean() - half,
                trainings_high=difference.mean() + half,
            )
        )
    if not rows:
        return pd.DataFrame(
            columns=[*COMPARED, "seeds", "between_trainings", "trainings_low", "trainings_high"], dtype=float
        )
    table = pd.concat(rows, ignore_index=True)
    return table.assign(p_holm=holm(table["p"]))


def rank_stability(
    scores: pd.DataFrame, measure: str, higher_is_better: bool, resamples: int = 5000, seed: int = 0
) -> pd.DataFrame:
    """How firm the order of the variants is: mean, rank, and over bootstrap samples of cases the ranks' 95 % range
    and the share of rank 1.

    Only cases with a finite value for every variant count (column n). Where scores have a column `seed` (several trainings of each
    variant), a case's value is its mean over them, and `seeds`, `rank_seed_low` and `rank_seed_high` tell how the rank moves from
    training to training.
    """
    if "seed" in scores:
        each = [
            rank_stability(part.drop(columns="seed"), measure, higher_is_better, 1, seed)
            for _, part in scores.groupby("seed")
        ]
        ranks_by_seed = (
            pd.concat(each).groupby("variant")["rank"].agg(seeds="size", rank_seed_low="min", rank_seed_high="max")
        )
        pooled = scores.groupby(["variant", "case"], sort=False, as_index=False)[measure].mean()
        return rank_stability(pooled, measure, higher_is_better, resamples, seed).join(ranks_by_seed, on="variant")
    wide = scores.pivot(index="case", columns="variant", values=measure).astype(float)
    wide = wide[list(dict.fromkeys(scores["variant"]))]
    finite = wide[np.isfinite(wide).all(axis=1)]
    if finite.empty:
        raise ValueError(f"no case has a finite {measure!r} for every variant")
    values = finite.to_numpy() * (-1 if higher_is_better else 1)
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
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


def _signed_rank(difference: Floats) -> tuple[float, float]:
    """Wilcoxon signed-rank p and matched-pairs rank-biserial correlation, zero differences left out of both."""
    moved = difference[difference != 0]
    if len(moved) < 3:
        return math.nan, math.nan if len(difference) < 3 or len(moved) else 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float(stats.wilcoxon(moved).pvalue), float((ranks * np.sign(moved)).sum() / ranks.sum())


HC_BANDS_MM = (0, 100, 150, 200, 250, 400)


def by_head_size(scores: pd.DataFrame) -> pd.DataFrame:
    """DSC and the error of HC by variant and band of the reference HC (mm), then over all: variant, hc_band_mm, n, missed, dsc_mean,
    dsc_sd, dsc_median, hc_mae_mm, hc_bias_mm. Missed heads count with DSC 0 and have no HC. Raises KeyError without `reference_hc_mm`.
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
