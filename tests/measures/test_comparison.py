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
