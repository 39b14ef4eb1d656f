"""Agreement, repeatability and paired comparison against published worked examples and independent tools."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from fhlib.measures.agreement import bland_altman
from fhlib.measures.comparison import compare_trainings, compare_variants, rank_stability
from fhlib.measures.intervals import bootstrap_interval, holm
from fhlib.measures.metrics import MEASURES
from fhlib.measures.reliability import concordance, direction_effect, icc11, icc21, repeatability
from fhlib.study import cohort as steps

# Bland and Altman, Lancet 1986: peak expiratory flow rate (l/min) of 17 subjects, each meter twice
WRIGHT_1 = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427])
WRIGHT_2 = np.array([490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421])
MINI_1 = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451])
MINI_2 = np.array([525, 415, 508, 444, 500, 625, 460, 390, 642, 432, 420, 605, 227, 467, 268, 370, 443])
# Shrout and Fleiss, Psychological Bulletin 1979: 6 targets rated by 4 judges
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_bland_altman_1986_printed_digits():
    found = bland_altman(WRIGHT_1, MINI_1)
    assert (found.n, round(found.bias, 1), round(found.sd, 1)) == (17, -2.1, 38.8)
    assert round(found.pearson, 2) == 0.94
    # the paper's limits are bias +/- 2 SD of rounded numbers: -79.7 and 75.5
    assert round(round(found.bias, 1) - 2 * round(found.sd, 1), 1) == -79.7
    assert round(round(found.bias, 1) + 2 * round(found.sd, 1), 1) == 75.5
    assert (round(found.bias_low, 1), round(found.bias_high, 1)) == (-22.0, 17.8)
    # its intervals of the limits, -114.3 to -45.1 and 40.9 to 110.1, are half as wide as this, from rounded numbers
    assert found.loa_approximate_half_width == pytest.approx((114.3 - 45.1) / 2, abs=0.1)
    assert found.loa_low == pytest.approx(found.bias - 1.96 * found.sd)
    assert found.within_limits == pytest.approx(16 / 17)


def test_bland_altman_1999_blood_pressure_limits():
    # 85 subjects, mean difference -16.29, SD 19.61 mmHg as printed; limits printed as -54.7 and 22.1
    sample = stats.zscore(np.random.default_rng(0).normal(size=85), ddof=1) * 19.61 - 16.29
    found = bland_altman(120 + sample, np.full(85, 120.0))
    assert (round(found.loa_low, 1), round(found.loa_high, 1)) == (-54.7, 22.1)
    assert (round(found.bias_low, 1), round(found.bias_high, 1)) == (-20.5, -12.1)
    # intervals of the limits printed as -61.9 to -47.5 and 14.9 to 29.3, with 1.96 in place of t(84)
    half = found.loa_approximate_half_width * 1.96 / stats.t.ppf(0.975, 84)
    assert (round(found.loa_low - half, 1), round(found.loa_high + half, 1)) == (-61.9, 29.4)
    assert (found.loa_low + half, found.loa_high - half) == pytest.approx((-47.5, 14.9), abs=0.06)
    assert math.isnan(found.pearson) and "no spread" in found.asdict()["notes"]


def test_exact_limits_hold_their_coverage():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        found = bland_altman(rng.normal(3, 2, 8), np.zeros(8))
        hits += found.loa_high_low <= 3 + 1.96 * 2 <= found.loa_high_high
    assert hits / 400 == pytest.approx(0.95, abs=0.03)
    assert found.loa_high_low < found.loa_high < found.loa_high_high
    assert found.loa_low_low < found.loa_low < found.loa_low_high


def test_shrout_fleiss_1979_printed_digits():
    assert [round(icc11(list(RATINGS))[0], 2), round(icc21(RATINGS)[0], 2)] == [0.17, 0.29]


def test_icc_and_intervals_against_pingouin():
    frame = (
        pd.DataFrame(RATINGS).melt(ignore_index=False, var_name="judge", value_name="score").reset_index(names="target")
    )
    table = pingouin.intraclass_corr(frame, "target", "judge", "score")
    for row, ours in ((0, icc11(list(RATINGS))), (1, icc21(RATINGS))):
        assert ours[0] == pytest.approx(table["ICC"].iloc[row])
        np.testing.assert_allclose(ours[1:], table["CI95"].iloc[row], atol=0.00501)  # it rounds to two digits


def test_repeated_peak_flow():
    # differences of repeats have SD 21.6 (Wright) and 28.2 l/min (mini) about zero, which is sqrt(2) s_w
    names = list(range(17)) * 2
    for first, second, printed in ((WRIGHT_1, WRIGHT_2, 21.6), (MINI_1, MINI_2, 28.2)):
        found = repeatability(np.concatenate([first, second]), names)
        assert round(math.sqrt(2) * found.within_subject_sd, 1) == printed
        assert found.repeatability_coefficient == pytest.approx(1.96 * math.sqrt(2) * found.within_subject_sd)
        assert found.mean_sd == pytest.approx(np.mean(np.abs(first - second)) / math.sqrt(2))


def test_repeatability_by_hand():
    found = repeatability([1, 3, 5, 10, 10, 13, 7, 7, 7, 99], ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"])
    assert (found.subjects, found.excluded_subjects, found.values) == (3, 1, 9)
    assert found.per_subject["sd"].tolist() == pytest.approx([2, math.sqrt(3), 0])
    assert (found.mean_sd, found.min_sd, found.max_sd) == pytest.approx(((2 + math.sqrt(3)) / 3, 0, 2))
    assert found.within_subject_sd == pytest.approx(math.sqrt(7 / 3))
    assert found.within_subject_sd_low == pytest.approx(math.sqrt(14 / stats.chi2.ppf(0.975, 6)))
    zero = repeatability([1, 3, 5, 10, 10, 13], ["a"] * 3 + ["b"] * 3, ddof=0)
    assert zero.max_sd == pytest.approx(math.sqrt(8 / 3)) and zero.ddof == 0
    assert math.isnan(zero.icc11) and "at least 3" in zero.asdict()["notes"]


def test_agreement_measures_against_independent_tools():
    rng = np.random.default_rng(5)
    expert = rng.normal(240, 70, 50)
    measured = 0.95 * expert + 10 + rng.normal(0, 9, 50)
    found = bland_altman(measured, expert)
    assert found.pearson == pytest.approx(np.corrcoef(measured, expert)[0, 1])
    interval = pingouin.compute_esci(found.pearson, 50, 50, eftype="r", decimals=8)
    np.testing.assert_allclose([found.pearson_low, found.pearson_high], interval, atol=1e-6)
    fit = pingouin.linear_regression((measured + expert) / 2, measured - expert)
    row = fit[fit["names"] != "Intercept"].iloc[0]
    np.testing.assert_allclose([found.slope, found.slope_p], [row["coef"], row["pval"]])
    np.testing.assert_allclose([found.slope_low, found.slope_high], row.filter(like="CI").to_numpy(float))
    sx, sy = measured.std(), expert.std()
    lin = 2 * found.pearson * sx * sy / (sx**2 + sy**2 + found.bias**2)
    assert found.ccc == pytest.approx(lin)
    assert found.mean_absolute_relative_error == pytest.approx(np.mean(np.abs(measured - expert) / expert))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_pairs_give_nan_with_a_reason(n):
    found = bland_altman([10.0, 12.0][:n], [11.0, 11.0][:n])
    assert found.n == n and math.isnan(found.sd) and math.isnan(found.icc21) and math.isnan(found.loa_low_low)
    assert "at least 3" in found.asdict()["notes"]
    assert math.isnan(found.bias) if n == 0 else found.bias == [None, -1, 0][n]
    few = repeatability([10.0, 12.0][:n], ["a", "a"][:n])
    assert math.isnan(few.icc11) and few.notes
    assert few.within_subject_sd == pytest.approx(math.sqrt(2)) if n == 2 else math.isnan(few.within_subject_sd)


def test_missing_values_are_counted_not_hidden():
    found = bland_altman([1, 2, np.nan, 4, 5], [1, 2, 3, 4, 6])
    assert (found.n, found.excluded) == (4, 1) and "1 pairs left out" in found.notes[0]
    with pytest.raises(ValueError, match="expected one of each"):
        bland_altman([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="one name for every value"):
        repeatability([1, 2], ["a"])
    assert repeatability([1, 2, np.nan], ["a", "a", "b"]).excluded_subjects == 1


def test_direction_effect_finds_a_planted_shift():
    rng = np.random.default_rng(2)
    rows = [
        {"subject": s, "scan_direction": d, "volume_ml": size + shift + rng.normal(0, 3)}
        for s, size in enumerate(rng.normal(240, 60, 40))
        for d, shift in (("front", 0), ("side", 0), ("top", -12))
    ]
    frame = pd.DataFrame(rows)
    table = direction_effect(frame).set_index("direction")
    means = frame.groupby("scan_direction")["volume_ml"].mean()
    # in a balanced design the fixed effects are the differences of means
    assert table.loc["top", "difference"] == pytest.approx(means["top"] - means["front"], abs=1e-3)
    assert table.loc["top", "low"] < -12 < table.loc["top", "high"] < -9
    assert table.loc["side", "p"] > 0.01 and table["p_all"].iloc[0] < 1e-10
    anova = pingouin.rm_anova(frame, dv="volume_ml", within="scan_direction", subject="subject")
    wald = stats.chi2.isf(direction_effect(frame[frame["scan_direction"] != "top"])["p_all"].iloc[0], 1)
    pair = pingouin.rm_anova(frame[frame["scan_direction"] != "top"], "volume_ml", "scan_direction", "subject")
    assert wald == pytest.approx(pair["F"].iloc[0], rel=1e-3) and anova["F"].iloc[0] > 50


def test_direction_effect_without_enough_data_says_why():
    frame = pd.DataFrame({"subject": ["a", "a"], "scan_direction": ["x", "y"], "volume_ml": [1.0, 2.0]})
    table = direction_effect(frame)
    assert table["difference"].isna().all() and table["note"].str.contains("at least 2 and 3").all()


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


def test_holm_against_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(holm(p)[[0, 1, 3, 4]], multipletests(p[[0, 1, 3, 4]], method="holm")[1])
    assert math.isnan(holm(p)[2])


def test_bootstrap_draws_whole_clusters():
    values, clusters = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 40), np.repeat(list("abcde"), 40)
    wide = bootstrap_interval(values, clusters=clusters, resamples=500)
    narrow = bootstrap_interval(values, resamples=500)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert wide == bootstrap_interval(values, clusters=clusters, resamples=500)
    assert all(math.isnan(x) for x in bootstrap_interval([1.0, 2.0]))


def test_bootstrap_interval_of_a_mean_is_as_wide_as_students():
    values = np.random.default_rng(0).normal(size=12)
    low, high = bootstrap_interval(values, resamples=20000)
    student = stats.t.interval(0.95, 11, values.mean(), values.std(ddof=1) / math.sqrt(12))
    assert (low, high) == pytest.approx(student, abs=0.06 * np.ptp(student))


def test_concordance_is_one_only_on_the_line_of_identity():
    x = np.arange(5.0)
    assert concordance(x, x) == 1
    assert concordance(x, x + 1) == pytest.approx(2 * 2 / (2 + 2 + 1))


def test_scans_without_a_head_enter_neither_agreement_nor_repeatability(tmp_path, monkeypatch):
    study = SimpleNamespace(tables=tmp_path, preset=SimpleNamespace(variants=("V",)), model_folder=tmp_path.joinpath)
    scores = pd.DataFrame(
        {
            "variant": "V",
            "case": list("abcdef"),
            "subject": list("abcdef"),
            "ga_weeks": 25.0,
            "status": ["found", "found", "found", "missed", "no head", "found"],
            "volume_ml": [101.0, 199.0, 301.0, 0.0, 0.0, 40.0],
            "reference_volume_ml": [
                100.0,
                200.0,
                300.0,
                150.0,
                0.0,
                0.0,
            ],  # the last is a head seen where there is none
        }
    )
    scores.to_csv(tmp_path / "scores.csv", index=False)
    points, found = steps.agree(study)
    assert (found["V"].n, found["V"].excluded) == (3, 1) and found["V"].bias == pytest.approx(1 / 3)
    assert set(points["case"]) == set("abcd")

    table = pd.DataFrame(
        {"case": list("pqrs"), "scan_direction": "from the side", "has_head": ["true", "true", "true", "false"]}
    )
    scans = pd.DataFrame(
        {
            "case": list("pqrs"),
            "subject": list("xxyy"),
            "split": "repro",
            "status": "found",
            "volume_ml": [1.0, 3, 5, 9],
        }
    )
    monkeypatch.setattr(steps, "open_cohort", lambda study: (None, table))
    monkeypatch.setattr(steps, "predictions", lambda study, variant: scans)
    points, repeated = steps.reproduce(study)
    assert set(points["case"]) == set("pqr") and repeated["V"].subjects == 1
    assert repeated["V"].mean_sd == pytest.approx(math.sqrt(2))
    summary = steps.summarise(
        study, scores.assign(**dict.fromkeys(MEASURES, 1.0)).assign(conf=[1.0, -math.inf, 0.5, np.nan, 1, 1])
    )
    assert summary.loc[0, ["n", "missed", "conf_n", "dsc_n"]].tolist() == [6, 1, 4, 6]
