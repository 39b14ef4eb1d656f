"""Paired comparison of variants and of trainings: by hand and against pingouin."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from fhlib.measures.comparison import by_head_size, compare_trainings, compare_variants, rank_stability


def test_compare_variants():
    rng = np.random.default_rng(4)
    base = rng.normal(0.94, 0.02, 20)
    frames = {"base": base, "better": base + rng.normal(0.01, 0.005, 20), "same": base + rng.normal(0, 0.005, 20)}
    scores = pd.DataFrame(
        [
            {"variant": v, "case": i, "subject": i, "dsc": x}
            for v, values in frames.items()
            for i, x in enumerate(values)
        ]
    )
    scores.loc[(scores["variant"] == "same") & (scores["case"] == 3), "dsc"] = np.nan
    table = compare_variants(scores, "dsc", "base", resamples=2000).set_index("variant")
    better = pingouin.wilcoxon(frames["better"], base)
    assert table.loc["better", "p"] == pytest.approx(better["p_val"].iloc[0])
    assert table.loc["better", "effect_size"] == pytest.approx(better["RBC"].iloc[0])
    difference = frames["better"] - base
    assert table.loc["better", "difference"] == pytest.approx(difference.mean())
    assert table.loc["better", "dz"] == pytest.approx(difference.mean() / difference.std(ddof=1))
    shift = math.sqrt(20) * table.loc["better", "detectable"] / difference.std(ddof=1)
    critical = stats.t.ppf(0.975, 19)
    power = stats.nct.sf(critical, 19, shift) + stats.nct.cdf(-critical, 19, shift)
    assert power == pytest.approx(0.8, abs=1e-6)
    half = 1.96 * difference.std() / math.sqrt(20)
    assert table.loc["better", "low"] == pytest.approx(difference.mean() - half, rel=0.1)
    assert table.loc["better", "p_holm"] == pytest.approx(2 * table.loc["better", "p"])
    assert (table.loc["same", "n"], table.loc["same", "unpaired"]) == (19, 1)
    pd.testing.assert_frame_equal(table, compare_variants(scores, "dsc", "base", resamples=2000).set_index("variant"))
    with pytest.raises(ValueError, match="'other' has no scores"):
        compare_variants(scores, "dsc", "other")
    with pytest.raises(ValueError, match="lack the columns"):
        compare_variants(scores, "jacc", "base")
    two = compare_variants(scores[scores["case"] < 2], "dsc", "base")
    assert two["low"].isna().all() and two["note"].str.contains("at least 3").all()


def test_trainings_are_compared_over_the_seeds_that_both_have():
    # base and full have seeds 0 and 1, half has 0 only; by hand: full - base is 0.1 at seed 0 and 0.3 at seed 1
    rows = []
    for case in range(6):
        noise = 0.01 * case
        for variant, seed, dsc in (
            ("base", 0, 0.5),
            ("base", 1, 0.4),
            ("full", 0, 0.6),
            ("full", 1, 0.7),
            ("half", 0, 0.8),
        ):
            rows.append((variant, f"c{case}", f"s{case}", seed, dsc + noise * (variant == "full")))
    scores = pd.DataFrame(rows, columns=["variant", "case", "subject", "seed", "dsc"])
    table = compare_trainings(scores, "dsc", "base").set_index("variant")
    assert table["seeds"].to_dict() == {"full": 2, "half": 1}
    assert table.loc["full", "difference"] == pytest.approx(0.2 + 0.025)
    assert table.loc["half", "difference"] == pytest.approx(0.3)  # of seed 0 only: 0.8 - 0.5
    assert table.loc["full", "between_trainings"] == pytest.approx(math.sqrt(0.02))
    assert math.isnan(table.loc["half", "between_trainings"])
    assert table["p_holm"].tolist() == pytest.approx([min(1, 2 * p) for p in table["p"]])
    alone = compare_trainings(scores[scores["variant"] == "base"], "dsc", "base")
    assert alone.empty and {"difference", "trainings_low", "seeds"} <= set(alone)
    # Student's interval of 0.125 and 0.325 (the noise adds 0.025): t(1) is 12.706, the standard error 0.1
    assert table.loc["full", ["trainings_low", "trainings_high"]].tolist() == pytest.approx(
        [0.225 - 1.2706, 0.225 + 1.2706], abs=1e-4
    )


def test_a_missed_case_is_left_out_of_both_networks():
    rows = [(v, c, s, x) for v in "ab" for s in (0, 1) for c, x in enumerate((1.0, 1.0, 1.0, 10.0))]
    scores = pd.DataFrame(rows, columns=["variant", "case", "seed", "hdb_mm"])
    scores.loc[(scores["variant"] == "b") & (scores["seed"] == 1) & (scores["case"] == 3), "hdb_mm"] = math.nan
    row = compare_trainings(scores, "hdb_mm", "a").iloc[0]
    assert (row["difference"], row["between_trainings"], row["unpaired"]) == (0, 0, 0)
    scores.loc[(scores["variant"] == "b") & (scores["case"] == 3), "hdb_mm"] = math.nan
    assert compare_trainings(scores, "hdb_mm", "a").iloc[0][["n", "unpaired"]].tolist() == [3, 1]


def test_rank_stability():
    scores = pd.DataFrame(
        [{"variant": v, "case": i, "dsc": 0.9 + 0.01 * i + d} for v, d in (("a", 0), ("b", 0.02)) for i in range(6)]
    )
    table = rank_stability(scores, "dsc", higher_is_better=True, resamples=200).set_index("variant")
    assert table["rank"].to_dict() == {"a": 2, "b": 1} and table.loc["b", "first"] == 1


def test_rank_stability_over_trainings():
    # b leads by 0.02 in two trainings and trails by 0.01 in the third: first on average, second once
    gains = {0: 0.02, 1: 0.02, 2: -0.01}
    scores = pd.DataFrame(
        [
            {"variant": v, "case": i, "seed": seed, "dsc": 0.9 + 0.01 * i + (gain if v == "b" else 0)}
            for seed, gain in gains.items()
            for v in "ab"
            for i in range(6)
        ]
    )
    table = rank_stability(scores, "dsc", higher_is_better=True, resamples=200).set_index("variant")
    assert table["rank"].to_dict() == {"a": 2, "b": 1} and (table["n"] == 6).all() and (table["seeds"] == 3).all()
    assert table.loc["b", ["rank_seed_low", "rank_seed_high"]].tolist() == [1, 2]
    assert table.loc["b", "mean"] - table.loc["a", "mean"] == pytest.approx(0.01)


def test_scores_by_head_size():
    scores = pd.DataFrame(
        {
            "variant": "A",
            "status": ["found", "found", "missed"],
            "dsc": [0.9, 0.8, 0.0],
            "hc_mm": [92.0, 181.0, np.nan],
            "reference_hc_mm": [90.0, 180.0, 170.0],
        }
    )
    table = by_head_size(scores).set_index("hc_band_mm")
    assert list(table.index) == ["0-100", "150-200", "all"]
    assert table.loc["150-200", ["n", "missed", "dsc_mean", "hc_mae_mm"]].tolist() == [2, 1, 0.4, 1.0]
    assert table.loc["all", "dsc_mean"] == pytest.approx(1.7 / 3) and table.loc["all", "hc_bias_mm"] == 1.5


def scores_of(**measured):
    """A row for each variant and case, every case of its own subject."""
    rows = [(v, f"c{i}", f"s{i}", x) for v, values in measured.items() for i, x in enumerate(values)]
    return pd.DataFrame(rows, columns=["variant", "case", "subject", "dsc"])


def compared(scores):
    return compare_variants(scores, "dsc", "base", resamples=300)


BASE = np.arange(12) / 100 + 0.8
NEW = BASE + (np.arange(12) ** 2 - 10.5 * np.arange(12)) / 1000


@pytest.mark.parametrize("missing", [None, math.nan, "", " "])
def test_cases_without_a_subject_leave_the_estimate_too(missing):
    scores = scores_of(base=BASE, new=[*NEW[:10], 50.0, 50.0])
    scores["subject"] = scores["subject"].astype(object).where(~scores["case"].isin(["c10", "c11"]), missing)
    row = compared(scores).iloc[0]
    # the sum of i^2 - 10.5 i for 0 to 9: 285 - 472.5
    assert row["difference"] == pytest.approx(-187.5 / 10 / 1000) and row["low"] < row["difference"] < row["high"]
    assert (row["n"], row["unpaired"], row["note"]) == (10, 0, "2 pairs left out: no subject (c10, c11)")
    alone = compared(scores_of(base=BASE[:10], new=NEW[:10])).iloc[0]
    assert row[["low", "high", "p", "dz"]].tolist() == alone[["low", "high", "p", "dz"]].tolist()


def test_a_subject_that_any_row_of_a_case_tells_is_known():
    scores = scores_of(base=BASE, new=NEW)
    scores.loc[3, "subject"] = None
    assert compared(scores).loc[0, ["n", "note"]].tolist() == [12, ""]
    scores.loc[3, "subject"] = "s4"
    with pytest.raises(ValueError, match=r"1 case of two subjects \(c3\)"):
        compared(scores)
    two = compared(scores_of(base=BASE, new=NEW).assign(subject=["a", "b"] * 12)).iloc[0]
    assert math.isnan(two["low"]) and "2 subjects: an interval needs at least 3" in two["note"]


def test_rounding_breaks_no_ties():
    # differences in tenths: 1, 1, 1, -1, -1, 1; in floats 0.1 and 0.09999999999999998 are among them
    base, new = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.2, 0.3, 0.4, 0.3, 0.4, 0.7]
    assert len(np.unique(np.abs(np.subtract(new, base)))) > 1
    row = compared(scores_of(base=base, new=new)).iloc[0]
    assert row["effect_size"] == pytest.approx((4 - 2) / 6)
    assert row["p"] == pytest.approx(stats.wilcoxon([1, 1, 1, -1, -1, 1]).pvalue)


def test_differences_that_are_rounding_are_zero():
    # three are 0, but 0.1 + 0.2 is 0.30000000000000004; the others are 0.01, 0.02 and 0.03
    sums = [0.1 + 0.2] * 3
    row = compared(scores_of(base=[0.3] * 6, new=[*sums, 0.31, 0.32, 0.33])).iloc[0]
    assert row["effect_size"] == 1 and row["p"] == pytest.approx(stats.wilcoxon([1, 2, 3]).pvalue)
    none = compared(scores_of(base=[0.3] * 6, new=sums * 2)).iloc[0]
    assert (none["effect_size"], none["detectable"]) == (0, 0) and math.isnan(none["p"]) and math.isnan(none["dz"])
    assert none["note"] == "0 of 6 differences are not 0: a test needs at least 3; all differences are equal: no dz"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: pd.concat([t, t.iloc[:1]]), r"variant, case more than once \(base c0\)"),
        (lambda t: t.assign(case=[None, *t["case"][1:]]), r"1 row of the scores without a case \(0\)"),
        (lambda t: t.assign(variant=[*t["variant"][:-1], ""]), r"1 row of the scores without a variant \(23\)"),
        (lambda t: t.assign(dsc="good"), "dsc holds 'good': expected numbers"),
        (lambda t: t.drop(columns="case"), r"lack the columns \['case'\]"),
    ],
)
def test_scores_that_do_not_pair_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        compared(change(scores_of(base=BASE, new=NEW)))


def test_the_order_of_rows_is_no_matter():
    scores = scores_of(base=BASE, new=NEW)
    mixed = scores.sample(frac=1, random_state=1).set_axis([0] * 24)
    pd.testing.assert_frame_equal(compared(scores), compared(mixed))


def test_trainings_leave_out_cases_without_a_subject_and_need_seeds():
    pooled = pd.concat([scores_of(base=BASE, new=[*NEW[:10], 50, 50 + seed]).assign(seed=seed) for seed in (0, 1)])
    pooled["subject"] = pooled["subject"].where(~pooled["case"].isin(["c10", "c11"]), None)
    row = compare_trainings(pooled, "dsc", "base").iloc[0]
    assert row["difference"] == pytest.approx(-0.01875) and row["between_trainings"] == pytest.approx(0, abs=1e-15)
    assert row["trainings_low"] == pytest.approx(-0.01875) and "2 pairs left out: no subject" in row["note"]
    with pytest.raises(ValueError, match=r"lack the columns \['seed'\]"):
        compare_trainings(scores_of(base=BASE, new=NEW), "dsc", "base")
    with pytest.raises(ValueError, match="24 rows of the scores without a seed"):
        compare_trainings(scores_of(base=BASE, new=NEW).assign(seed=None), "dsc", "base")


def test_equal_means_share_a_rank():
    # both are 0.2 on average; in floats (0.1 + 0.2 + 0.3) / 3 is 0.20000000000000004
    table = rank_stability(scores_of(a=[0.1, 0.2, 0.3], b=[0.3, 0.2, 0.1]), "dsc", higher_is_better=True)
    assert table["rank"].tolist() == [1, 1]


def test_a_case_that_one_training_lacks_is_ranked_for_none():
    trainings = [scores_of(a=[0.9, 0.8, 0.7], b=[0.8, 0.7, 0.1]).assign(seed=seed) for seed in (0, 1)]
    scores = pd.concat(trainings, ignore_index=True)
    scores.loc[(scores["variant"] == "b") & (scores["case"] == "c2") & (scores["seed"] == 1), "dsc"] = math.nan
    table = rank_stability(scores, "dsc", higher_is_better=True).set_index("variant")
    assert table["n"].tolist() == [2, 2] and table.loc["b", "mean"] == pytest.approx(0.75)


def test_heads_outside_the_bands_are_counted():
    scores = pd.DataFrame(
        {
            "variant": "A",
            "case": list("abcd"),
            "status": "found",
            "dsc": 0.9,
            "hc_mm": [92.0, 430.0, 100.0, 181.0],
            "reference_hc_mm": [90.0, 420.0, -5.0, math.nan],
        }
    )
    table = by_head_size(scores).set_index("hc_band_mm")
    assert table["n"].to_dict() == {"0-100": 1, "no band": 3, "all": 4}
    assert table.loc["all", "hc_bias_mm"] == (2 + 10) / 2  # a negative circumference is nothing to differ from
    with pytest.raises(ValueError, match="lack the columns"):
        by_head_size(scores.drop(columns="reference_hc_mm"))
    with pytest.raises(ValueError, match="more than once"):
        by_head_size(pd.concat([scores, scores]))
