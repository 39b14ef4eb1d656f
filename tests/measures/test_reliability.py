"""Repeatability, intraclass correlation, concordance and the effect of the direction, against printed digits and pingouin."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from fhlib.measures.reliability import concordance, direction_effect, icc11, icc21, repeatability
from tests.measures.peak_flow import MINI_1, MINI_2, WRIGHT_1, WRIGHT_2

# Shrout and Fleiss, Psychological Bulletin 1979: 6 targets rated by 4 judges
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


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


def test_concordance_is_one_only_on_the_line_of_identity():
    x = np.arange(5.0)
    assert concordance(x, x) == 1
    assert concordance(x, x + 1) == pytest.approx(2 * 2 / (2 + 2 + 1))
