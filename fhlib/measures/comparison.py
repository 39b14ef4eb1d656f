"""Paired comparison of variants over the same cases, and how firm their order is (Tables 1 and 2).

Every standard deviation divides by n - 1; intervals are 95 %. Where a number cannot be had it is NaN and `note` says
why. Values that differ by rounding only (`fhlib.measures.inputs.ROUNDING`) are equal, in tests of ranks too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

from fhlib.images.volume import Floats
from fhlib.measures.inputs import as_numbers, counted, listed, names_of, rounding, settled, told
from fhlib.measures.intervals import bootstrap_interval, holm, require_resamples

COMPARED = (
    "variant", "baseline", "measure", "n", "unpaired", "mean", "baseline_mean", "difference", "low", "high", "p",
    "p_holm", "effect_size", "dz", "detectable", "note",
)  # fmt: skip
TRAININGS = ("seeds", "between_trainings", "trainings_low", "trainings_high")
HC_BANDS_MM = (0, 100, 150, 200, 250, 400)
NO_BAND = "no band"
SEED = 0  # of all bootstrap draws


def compare_variants(scores: pd.DataFrame, measure: str, baseline: str, resamples: int = 5000) -> pd.DataFrame:
    """Paired comparison of every variant with a baseline over the same cases.

    One row a variant, with the columns COMPARED:

    - variant, baseline, measure;
    - n (pairs) and unpaired (cases without a finite value in both). Pairs without a subject are in neither: `note` counts
      and names them;
    - mean, baseline_mean and difference (variant - baseline);
    - low, high: 95 % `bootstrap_interval` of the difference over subjects;
    - p (Wilcoxon signed rank, two-sided) and p_holm (Holm over the rows). It takes cases as independent;
    - effect_size: matched-pairs rank-biserial correlation, -1 to 1;
    - dz: mean / SD of the differences;
    - detectable: the smallest true mean difference that n pairs with this SD would find. By the paired t test, with a
      power of 80 % at two-sided 5 %;
    - note.

    Raises ValueError if a column or the baseline is missing, a row has no variant or no case, a case is there twice or has
    two subjects, or the measure is no number.

    Args:
        scores: columns variant, case and the measure; where there is a column subject, the bootstrap draws subjects, and
            cases without one are left out of everything.
        measure: the column to compare.
        baseline: the variant that the others are compared with.
        resamples: how many bootstrap samples.
    """
    require_resamples(resamples)
    scores = _checked(scores, measure, ["variant", "case"])
    wide = scores.pivot(index="case", columns="variant", values=measure)
    if baseline not in wide:
        raise ValueError(f"baseline {baseline!r} has no scores; there are {', '.join(map(str, wide.columns))}")
    subject = _subjects(scores).reindex(wide.index)
    rows = []
    for variant in _others(scores, baseline):
        names = {"variant": variant, "baseline": baseline, "measure": measure}
        rows.append({**names, **_paired(wide[variant], wide[baseline], subject, resamples)})
    table = pd.DataFrame(rows, columns=list(COMPARED))
    return table.assign(p_holm=holm(table["p"]))


def _checked(scores: pd.DataFrame, measure: str, key: Sequence[str]) -> pd.DataFrame:
    """The scores with the measure as numbers; ValueError where they are not one row for each `key`."""
    _require_columns(scores, [*key, measure])
    for name in key:
        empty = names_of(scores[name], name).isna().to_numpy()
        if empty.any():
            raise ValueError(
                f"{counted(int(empty.sum()), 'row')} of the scores without a {name} ({listed(scores.index[empty])})"
            )
    twice = scores.loc[scores.duplicated(list(key)), list(key)]
    if len(twice):
        which = listed(" ".join(map(str, row)) for row in twice.itertuples(index=False))
        raise ValueError(f"scores have {', '.join(key)} more than once ({which}): keep one row of each")
    return scores.assign(**{measure: as_numbers(scores[measure], measure)})


def _require_columns(scores: pd.DataFrame, names: Sequence[str]) -> None:
    lacking = sorted(set(names) - set(scores.columns))
    if lacking:
        raise ValueError(f"scores lack the columns {lacking}; there are {sorted(map(str, scores.columns))}")


def _subjects(scores: pd.DataFrame) -> pd.Series:
    """The subject of each case, None where no row tells it; the case itself where there is no such column."""
    cases = scores["case"].unique()
    if "subject" not in scores:
        return pd.Series(cases, cases, dtype=object)
    known = pd.DataFrame(
        {"case": scores["case"].to_numpy(), "subject": names_of(scores["subject"], "subject")}
    ).dropna()
    known = known.drop_duplicates()
    twice = known.loc[known["case"].duplicated(), "case"]
    if len(twice):
        raise ValueError(f"{counted(len(twice), 'case')} of two subjects ({listed(twice)}): a case is of one")
    subject = known.set_index("case")["subject"].reindex(cases)
    return subject.astype(object).where(subject.notna(), None)


def _paired(values: pd.Series, against: pd.Series, subject: pd.Series, resamples: int) -> dict[str, float | str]:
    """The numbers of one row of `compare_variants`; all three series have the cases as their index."""
    finite = np.isfinite(values) & np.isfinite(against)
    known = subject.notna()
    notes = told("pair", finite.index, {"left out: no subject": finite & ~known})
    used = finite & known
    values, against, subject = values[used], against[used], subject[used]
    difference = (values - against).to_numpy()
    noise = max(rounding(values.to_numpy()), rounding(against.to_numpy()))

    n = len(difference)
    mean = difference.mean() if n else math.nan
    low, high = bootstrap_interval(difference, np.mean, subject, resamples, SEED)
    p, effect_size = _signed_rank(difference, noise)
    dz = detectable = math.nan
    if n >= 3:
        spread = difference.std(ddof=1) if np.ptp(difference) > noise else 0.0
        detectable = spread * TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
        dz = mean / spread if spread > 0 else math.nan
    return {
        "n": n,
        "unpaired": int((~finite).sum()),
        "mean": values.mean(),
        "baseline_mean": against.mean(),
        "difference": mean,
        "low": low,
        "high": high,
        "p": p,
        "effect_size": effect_size,
        "dz": dz,
        "detectable": detectable,
        "note": "; ".join([*notes, *_obstacles(difference, noise, subject.nunique())]),
    }


def _obstacles(difference: Floats, noise: float, subjects: int) -> list[str]:
    """Why numbers of a row are NaN."""
    n = len(difference)
    if n < 3:
        return [f"{n} pairs: at least 3 are needed"]
    said = []
    if subjects < 3:
        said.append(f"{counted(subjects, 'subject')}: an interval needs at least 3")
    moved = int((np.abs(difference) > noise).sum())
    if moved < 3:
        said.append(f"{moved} of {n} differences are not 0: a test needs at least 3")
    if np.ptp(difference) <= noise:
        said.append("all differences are equal: no dz")
    return said


def compare_trainings(scores: pd.DataFrame, measure: str, baseline: str) -> pd.DataFrame:
    """`compare_variants` over several trainings: each variant against the baseline's trainings of the same seeds.

    A case counts with its mean over the seeds in which both have a finite value. Variants that share no seed with the
    baseline have no row. Holm's correction goes over all rows. Added columns, of which one seed leaves all but the first
    NaN:

    - seeds: how many;
    - between_trainings: SD of the mean paired difference from seed to seed;
    - trainings_low, trainings_high: Student's 95 % interval of the difference over the seeds. It tells what other
      trainings may give, where `low` and `high` are about other cases.

    Raises ValueError as `compare_variants`, and for rows without a seed.

    Args:
        scores: as in `compare_variants`, with a column seed.
        measure: the column to compare.
        baseline: the variant that the others are compared with.
    """
    scores = _checked(scores, measure, ["variant", "case", "seed"])
    if baseline not in set(scores["variant"]):
        raise ValueError(
            f"baseline {baseline!r} has no scores; there are {', '.join(map(str, scores['variant'].unique()))}"
        )
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
    both = pair.pivot(index=["seed", "case"], columns="variant", values=measure)
    subject = _subjects(pair)
    finite = np.isfinite(both).all(axis=1)
    # a case that no seed has for both keeps its place, so that it counts as unpaired
    means = both[finite].groupby("case").mean().reindex(pair["case"].unique())
    pooled = means.reset_index().melt("case", [variant, baseline], "variant", measure)
    pooled["subject"] = pooled["case"].map(subject)

    known = both.index.get_level_values("case").map(subject).notna()
    difference = (both[variant] - both[baseline])[finite & known].groupby("seed").mean()
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
    rank 1; equal means share a rank. Only cases with a finite value for every variant count (n).

    With several trainings of each variant a case's value is its mean over them; it counts where all of them are finite.
    `seeds`, `rank_seed_low` and `rank_seed_high` then tell how the rank moves from training to training.

    Raises ValueError where no case counts, a column lacks, or a case is there twice.

    Args:
        scores: columns variant, case and the measure; several trainings have a column seed.
        measure: the column to rank by.
        higher_is_better: false for distances and errors.
        resamples: how many bootstrap samples.
    """
    require_resamples(resamples)
    if "seed" not in scores:
        return _ranks(_checked(scores, measure, ["variant", "case"]), measure, higher_is_better, resamples)
    scores = _checked(scores, measure, ["variant", "case", "seed"])
    finite = scores.assign(**{measure: scores[measure].where(np.isfinite(scores[measure]))})
    of_case = finite.groupby(["variant", "case"], sort=False, as_index=False)[measure]
    pooled = of_case.agg(lambda values: values.mean(skipna=False))
    alone = pd.concat([_ranks(part, measure, higher_is_better, 1) for _, part in scores.groupby("seed")])
    moves = alone.groupby("variant")["rank"].agg(seeds="size", rank_seed_low="min", rank_seed_high="max")
    return _ranks(pooled, measure, higher_is_better, resamples).join(moves, on="variant")


def _ranks(scores: pd.DataFrame, measure: str, higher_is_better: bool, resamples: int) -> pd.DataFrame:
    """Mean and rank of each variant with the bootstrap's range, for one value a variant and case."""
    wide = scores.pivot(index="case", columns="variant", values=measure)
    wide = wide[list(dict.fromkeys(scores["variant"]))]
    finite = wide[np.isfinite(wide).all(axis=1)]
    if finite.empty:
        raise ValueError(f"no case has a finite {measure!r} for every variant")
    values = finite.to_numpy() * (-1 if higher_is_better else 1)
    draws = np.random.default_rng(SEED).integers(len(values), size=(resamples, len(values)))
    noise = rounding(values)
    ranks = stats.rankdata(settled(values[draws].mean(axis=1), noise), axis=1, method="min")
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "variant": finite.columns,
            "n": len(finite),
            "mean": finite.to_numpy().mean(axis=0),
            "rank": stats.rankdata(settled(values.mean(axis=0), noise), method="min").astype(int),
            "rank_low": low,
            "rank_high": high,
            "first": (ranks == 1).mean(axis=0),
        }
    )


def by_head_size(scores: pd.DataFrame) -> pd.DataFrame:
    """DSC and the error of HC by variant and band of the reference HC, then over all bands.

    Columns: variant, hc_band_mm, n, missed, dsc_mean, dsc_sd, dsc_median, hc_mae_mm, hc_bias_mm. Missed heads count
    with DSC 0 and have no HC. Band `no band` holds the cases without a reference HC of 0 to 400 mm. A reference of 0 or less
    has no error.

    Raises ValueError where a column lacks or is no number, or a case is there twice.
    """
    _require_columns(scores, ["variant", "status", "dsc", "hc_mm", "reference_hc_mm"])
    if "case" in scores:
        _checked(scores, "dsc", [name for name in ("variant", "case", "seed") if name in scores])
    frame = scores.reset_index(drop=True)
    frame = frame.assign(**{name: as_numbers(frame[name], name) for name in ("dsc", "hc_mm", "reference_hc_mm")})
    reference = frame["reference_hc_mm"]
    frame["error"] = (frame["hc_mm"] - reference).where(reference > 0)
    labels = [f"{low}-{high}" for low, high in pairwise(HC_BANDS_MM)]
    bands = pd.cut(reference.where(reference > 0), HC_BANDS_MM, right=False, labels=labels)
    bands = bands.cat.add_categories(NO_BAND).fillna(NO_BAND)
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


def _signed_rank(difference: Floats, noise: float) -> tuple[float, float]:
    """Wilcoxon signed-rank p and matched-pairs rank-biserial correlation, zero differences left out of both.

    Differences up to `noise` are zero, and sizes that differ by no more are ties. Where all of 3 or more differences are
    zero the correlation is 0.
    """
    moved = difference[np.abs(difference) > noise]
    if len(difference) >= 3 and not len(moved):
        return math.nan, 0.0
    if len(moved) < 3:
        return math.nan, math.nan
    moved = np.sign(moved) * settled(np.abs(moved), noise)
    ranks = stats.rankdata(np.abs(moved))
    return float(stats.wilcoxon(moved).pvalue), float((ranks * np.sign(moved)).sum() / ranks.sum())
