"""Growth charts against printed check values."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fhlib.measures import growth


@pytest.mark.parametrize(
    ("week", "measure", "mean", "sd"),
    [
        (20, "hc", 172.5, 7.4),
        (20, "bpd", 48.4, 2.3),
        (20, "ofd", 60.7, 2.8),
        (26, "hc", 240.5, None),
        (26, "bpd", 67.6, None),
        (26, "ofd", 84.9, None),
        (31, "hc", 286.6, None),
        (31, "bpd", 81.4, None),
        (31, "ofd", 100.8, None),
    ],
)
def test_check_values(week, measure, mean, sd):
    got_mean, got_sd = growth.reference(measure, week)
    assert got_mean == pytest.approx(mean, abs=0.051)
    if sd is not None:
        assert got_sd == pytest.approx(sd, abs=0.051)


def test_equations_written_out_match_the_data():
    week = np.array([14.0, 21.5, 33.0, 40.0])
    log = np.log(week)
    mean, sd = growth.reference("hc", week)
    np.testing.assert_allclose(mean, -28.2849 + 1.69267 * week**2 - 0.397485 * week**2 * log)
    np.testing.assert_allclose(
        sd, 1.98735 + 0.0136772 * week**3 - 0.00726264 * week**3 * log + 0.000976253 * week**3 * log**2
    )
    mean, sd = growth.reference("bpd", week)
    np.testing.assert_allclose(mean, 5.60878 + 0.158369 * week**2 - 0.00256379 * week**3)
    np.testing.assert_allclose(
        sd, np.exp(0.101242 + 0.00150557 * week**3 - 0.000771535 * week**3 * log + 0.0000999638 * week**3 * log**2)
    )
    mean, sd = growth.reference("ofd", week)
    np.testing.assert_allclose(mean, -12.4097 + 0.626342 * week**2 - 0.148075 * week**2 * log)
    np.testing.assert_allclose(
        sd, np.exp(-0.880034 + 0.0631165 * week**2 - 0.0317136 * week**2 * log + 0.00408302 * week**2 * log**2)
    )
    mean, sd = growth.reference("tcd", week)
    np.testing.assert_allclose(mean, -13.10907 + 20.8941 * np.sqrt(week / 10) + 0.5035914 * (week / 10) ** 3)
    np.testing.assert_allclose(sd, 0.4719837 + 0.0500382 * (week / 10) ** 3)
    icv, sd = growth.reference("icv", 25.0)
    assert icv == pytest.approx(-171.48036 + 4.8079 * 25 + 0.29521 * 625)
    assert np.isnan(sd)


def test_intracranial_volume_agrees_with_the_ellipsoid_through_bpd_and_ofd():
    for week in (24, 28, 31):
        bpd, ofd = growth.reference("bpd", week)[0], growth.reference("ofd", week)[0]
        ratio = growth.reference("icv", week)[0] / (np.pi / 6 * bpd**2 * ofd / 1000)
        assert ratio == pytest.approx(0.75, abs=0.02)


def test_zscore_and_centile():
    mean, sd = growth.reference("hc", 26)
    np.testing.assert_allclose(growth.zscore("hc", [mean, mean + 1.5 * sd], 26), [0, 1.5], atol=1e-12)
    np.testing.assert_allclose(
        growth.centile("hc", [mean, mean + 1.2816 * sd, mean - 1.8808 * sd], 26), [50, 90, 3], atol=0.01
    )


def test_outside_validity_is_refused_with_the_reason():
    for week in (13.9, 40.1, np.nan):
        with pytest.raises(ValueError, match="valid from 14 to 40 weeks"):
            growth.centile("hc", 100.0, week)
    with pytest.raises(ValueError, match="22 to 34"):
        growth.reference("icv", [25, 20])
    with pytest.raises(ValueError, match="mean only"):
        growth.zscore("icv", 100.0, 25)
    with pytest.raises(ValueError, match="expected one of hc, bpd"):
        growth.reference("femur", 25)
    assert growth.valid_weeks("icv") == (22, 34)


def test_table_states_unit_and_source_of_each_term():
    table = pd.read_csv(growth.GROWTH_TABLE)
    assert set(table["measure"]) == set(growth.MEASURES)
    assert table["source"].notna().all() and table["unit"].isin(["mm", "mL"]).all()


def test_volume_chart_recovers_the_curve_it_was_drawn_from():
    rng = np.random.default_rng(3)
    weeks = rng.uniform(20, 31, 400)
    volume = np.exp(1.5 + 0.2 * weeks - 0.0015 * weeks**2 + rng.normal(0, 0.1, 400))
    chart = growth.fit_volume_chart(weeks, volume, resamples=100)
    assert chart.log_sd == pytest.approx(0.1, abs=0.01)
    table = chart.table
    for centile, deviation in ((50, 0), (90, 1.2816)):
        rows = table[table["centile"] == centile]
        true = np.exp(1.5 + 0.2 * rows["ga_weeks"] - 0.0015 * rows["ga_weeks"] ** 2 + 0.1 * deviation)
        assert len(rows) == 25 and rows["volume_ml"].to_numpy() == pytest.approx(true.to_numpy(), rel=0.04)
    assert ((table["ci_low"] <= table["volume_ml"]) & (table["volume_ml"] <= table["ci_high"])).mean() > 0.95
    with pytest.raises(ValueError, match="at least 10"):
        growth.fit_volume_chart([20, 25], [100, 200])
    with pytest.raises(ValueError, match="positive"):
        growth.fit_volume_chart(np.arange(20, 31), np.zeros(11))


WEEKS = np.linspace(20, 31, 12)
VOLUMES = np.exp(0.2 * WEEKS + np.tile([0.1, -0.1, 0.05], 4))


@pytest.mark.parametrize(
    ("weeks", "volumes", "said"),
    [
        ([25.0] * 12, VOLUMES, "to 12 subjects: they have 1 distinct age .*at least 3 are needed"),
        ([25.0, 30.0] * 6, VOLUMES, "2 distinct ages"),
        ([25.0, 25.01, 25.02] * 4, VOLUMES, "1 distinct age"),  # of one day
        ([25.0] * 10 + [28.0, 30.0], VOLUMES, "of 500 bootstrap samples have 3 ages"),
        ([math.nan, None, *WEEKS[2:]], VOLUMES, r"2 with age missing or not finite \(0, 1\)"),
        (WEEKS * 7, VOLUMES, r"12 with age outside 4 to 45 weeks \(0, 1, 2, 3, 4 and 7 more\)"),
        (WEEKS, [0, -5, *VOLUMES[2:]], r"2 with volume not positive \(0, 1\)"),
        (WEEKS, [math.inf, *VOLUMES[1:]], r"1 with volume missing or not finite \(0\)"),
        (WEEKS, np.ma.array(VOLUMES, mask=[1, *[0] * 11]), r"1 with volume missing or not finite \(0\)"),
        (WEEKS, [200.0] * 12, "all 12 volumes lie on one curve"),
        (WEEKS, np.exp(0.2 * WEEKS), "lie on one curve"),
        (WEEKS[:9], VOLUMES[:9], "to 9 subjects: at least 10 are needed"),
        (WEEKS, VOLUMES[:11], "12 ages and 11 volumes"),
        (pd.Series(WEEKS), pd.Series(VOLUMES)[::-1], "different indexes"),
        (pd.Series(WEEKS, list("abcdefghijka")), VOLUMES, r"names subjects twice \(a\)"),
    ],
)
def test_a_chart_that_cannot_be_fitted_is_refused_with_counts(weeks, volumes, said):
    with pytest.raises(ValueError, match=said):
        growth.fit_volume_chart(weeks, volumes)


def test_the_order_of_subjects_is_no_matter_to_a_chart():
    chart, again = (
        growth.fit_volume_chart(WEEKS[order], VOLUMES[order], 100) for order in (slice(None), slice(None, None, -1))
    )
    pd.testing.assert_frame_equal(chart.table, again.table)
    assert chart.table["ga_weeks"].agg(["min", "max"]).tolist() == [20, 31]  # nothing beyond the cohort


@pytest.mark.parametrize("length", [0, -5, math.inf, [240, -1]])
def test_impossible_lengths_have_no_z_score(length):
    with pytest.raises(ValueError, match="expected a length above 0"):
        growth.zscore("hc", length, 26)


def test_values_and_ages_belong_together():
    mean, _ = growth.reference("hc", 26)
    np.testing.assert_array_equal(
        np.isnan(growth.zscore("hc", np.ma.array([200.0, mean], mask=[1, 0]), 26)), [True, False]
    )
    with pytest.raises(ValueError, match=r"\(3,\) and ga_weeks \(2, 1\)|3 hc and 2 ga_weeks"):
        growth.zscore("hc", [200.0, 210, 220], [[20.0], [21.0]])
    with pytest.raises(ValueError, match="different indexes"):
        growth.zscore("hc", pd.Series([200.0, 210]), pd.Series([20.0, 21.0], index=[1, 0]))
    with pytest.raises(ValueError, match=r"50 weeks .*\(2 of 4 ages are outside\)"):
        growth.reference("hc", [20, 50, 21, 60])
    with pytest.raises(ValueError, match=r"holds '26\+3'"):
        growth.centile("hc", 240, "26+3")
