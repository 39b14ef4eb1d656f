"""Bland-Altman analysis against published worked examples and independent tools."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from fhlib.measures.agreement import bland_altman
from fhlib.measures.reliability import repeatability
from tests.measures.peak_flow import MINI_1, WRIGHT_1


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
    assert (found.n, found.excluded) == (4, 1)
    assert found.notes == ("1 pair left out: a value is missing or not finite (2)",)
    with pytest.raises(ValueError, match="expected one of each"):
        bland_altman([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="2 values and 1 subjects: expected one of each"):
        repeatability([1, 2], ["a"])
    assert repeatability([1, 2, np.nan], ["a", "a", "b"]).excluded_subjects == 1


def test_a_constant_offset_is_not_judged_by_rounding():
    reference = np.array([0.31, 0.47, 0.62, 0.75, 0.83])
    found = bland_altman(reference + 0.1, reference)
    assert np.ptp(reference + 0.1 - reference) > 0  # rounding makes the differences unequal
    assert (found.sd, found.within_limits, found.slope) == (0, 1, 0) and math.isnan(found.slope_p)
    assert found.bias == pytest.approx(0.1) and found.loa_low == found.loa_high == found.bias
    assert "all differences are equal" in found.notes[0]


@pytest.mark.parametrize("constant", [0.1, 250.0])
def test_no_correlation_without_spread(constant):
    measured = np.array([230.0, 250, 270, 290, 240, 260])
    one = bland_altman(measured, np.full(6, constant))
    assert math.isnan(one.pearson) and math.isnan(one.ccc) and "no spread" in one.asdict()["notes"]
    both = bland_altman(np.full(6, constant), np.full(6, constant))  # six times 0.1 has a mean of 0.0999...
    assert math.isnan(both.icc21) and math.isnan(both.ccc) and math.isnan(both.pearson)
    assert "no ICC(2,1)" in both.asdict()["notes"]


def test_relative_errors_need_a_reference_above_zero():
    # 1 / 101 and 5 / 205 by hand; 0 and -5 mL have none, where -8 / 5 would have lessened the mean
    for wrong in (0.0, -5.0, 1e-310):
        found = bland_altman([3.0, 100, 200], pd.Series([wrong, 101, 205], index=["x", "y", "z"]))
        assert found.mean_absolute_relative_error == pytest.approx((1 / 101 + 5 / 205) / 2)
        assert found.notes[0] == "1 pair without a relative error: the reference is 0 or less (x)" and found.n == 3
    assert math.isnan(bland_altman([1.0, 2, 4], [0.0, 0, 0]).mean_absolute_relative_error)


def test_masked_values_are_left_out_as_missing_ones_are():
    expert = np.array([210.0, 230, 250, 270, 290])
    masked = bland_altman(np.ma.masked_greater(expert + [1, 2, 3, 4, 5], 280), expert)
    plain = bland_altman(expert[:4] + [1, 2, 3, 4], expert[:4])
    assert (masked.n, masked.excluded, masked.bias, masked.sd) == (4, 1, plain.bias, plain.sd)


def test_series_in_another_order_are_not_paired_by_place():
    expert = pd.Series([210.0, 230, 250, 270], index=list("abcd"))
    with pytest.raises(ValueError, match="measured and reference are pandas Series with different indexes"):
        bland_altman(expert + 1, expert[::-1])
    assert bland_altman((expert + 1)[::-1].reindex(expert.index), expert).bias == 1
