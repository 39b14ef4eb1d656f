"""Bland-Altman analysis against published worked examples and independent tools."""

from __future__ import annotations

import math

import numpy as np
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
