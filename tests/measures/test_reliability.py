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


def test_an_icc_lies_within_its_interval_or_has_none():
    # where few judges' values disagree altogether the printed formulas give an interval beside the estimate, or infinities
    rng = np.random.default_rng(5)
    found = [icc21(rng.normal(size=(int(rng.integers(3, 5)), 2))) for _ in range(400)]
    with_interval = [icc for icc in found if not math.isnan(icc.low)]
    assert 300 < len(with_interval) < 400 and all(icc.low <= icc.value <= icc.high for icc in with_interval)


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA, "", " "])
def test_values_without_a_subject_are_counted_and_named(missing):
    values = pd.Series([250.0, 252, 300, 301, 199, 240], index=list("pqrstu"))
    found = repeatability(values, ["a", "a", "b", "b", missing, missing])
    assert (found.subjects, found.excluded_subjects, found.values) == (2, 0, 4)
    assert found.within_subject_sd == pytest.approx(math.sqrt((2 + 0.5) / 2))
    assert found.notes[0] == "2 values left out: no subject (t, u)"
    assert repeatability(values, ["a", "a", "b", "b", "NA", "NA"]).subjects == 3  # a name like any other


def test_who_is_left_out_is_said():
    found = repeatability([1, 2, 3, math.inf, 5], ["a", "a", "b", "b", "c"])
    assert found.notes[:2] == (
        "1 value left out: missing or not finite (3)",
        "2 subjects left out: fewer than two values (b, c)",
    )
    alike = repeatability([1, 2, 3, 4], ["A1", "a1 ", 7, "7"])
    assert alike.subjects == 0 and "spelled alike: 7, '7', 'A1', 'a1 '" in alike.asdict()["notes"]


def test_equal_values_are_not_told_apart_by_rounding():
    tenths = repeatability([0.1] * 6, list("aabbcc"))  # six times 0.1 has a mean of 0.0999...
    assert tenths.within_subject_sd == 0 and math.isnan(tenths.icc11) and "all values are equal" in tenths.notes[0]
    within = repeatability([0.1 + 0.2, 0.3, 0.5, 0.5, 0.7, 0.7], list("aabbcc"))
    assert (within.within_subject_sd, within.max_sd, within.icc11) == (0, 0, 1) and math.isnan(within.icc11_low)
    assert math.isnan(icc21(np.full((6, 2), 0.1)).value) and math.isnan(concordance([0.1] * 6, [0.1] * 6))
    assert icc21([[0.1 + 0.2, 0.3], [0.5, 0.5], [0.7, 0.7]]) == pytest.approx((1, math.nan, math.nan), nan_ok=True)
    assert math.isnan(concordance([1.0, 2, 3], [2.0, 2, 2]))


def test_gaps_and_lengths_are_refused():
    for gap in (
        lambda: concordance([1, 2, math.nan, 4], [1, 2, 3, 4]),
        lambda: icc21([[1, 2], [2, math.nan], [3, 4]]),
        lambda: icc11([[1, 2], [2, math.inf], [3, 4]]),
    ):
        with pytest.raises(ValueError, match="missing or not finite"):
            gap()
    with pytest.raises(ValueError, match="3 first and 1 second"):
        concordance([1, 2, 3], [1])
    with pytest.raises(ValueError, match=r"expected \(targets, judges\)"):
        icc21([1, 2, 3])


@pytest.fixture
def scans():
    volume = np.random.default_rng(0).normal(250, 5, 12)
    return pd.DataFrame(
        {"volume_ml": volume, "scan_direction": ["top", "side", "front"] * 4, "subject": np.repeat(list("abcd"), 3)}
    )


@pytest.mark.parametrize("column", ["scan_direction", "subject"])
@pytest.mark.parametrize("missing", [None, math.nan, "", "  "])
def test_a_scan_without_direction_or_subject_is_left_out(scans, column, missing):
    lacking = scans.astype(object).set_axis([f"s{number}" for number in range(12)])
    lacking.loc["s4", column] = missing
    found, without = direction_effect(lacking), direction_effect(scans.drop(4))
    pd.testing.assert_frame_equal(found.drop(columns="note"), without.drop(columns="note"))
    what = "direction" if column == "scan_direction" else "subject"
    assert found["note"].eq(f"1 scan left out: no {what} (s4)").all()


@pytest.mark.parametrize("volume", [math.nan, math.inf, 0, -250])
def test_a_scan_without_a_volume_is_left_out(scans, volume):
    found = direction_effect(scans.assign(volume_ml=[*scans["volume_ml"][:11], volume]))
    assert found.set_index("direction")["n"].to_dict() == {"front": 3, "side": 4, "top": 4}
    assert found["note"].eq("1 scan left out: no volume above 0 (11)").all()


def test_direction_effect_is_that_of_statsmodels_on_the_scans_it_can_use(scans):
    import statsmodels.formula.api as smf

    fit = smf.mixedlm("volume_ml ~ C(scan_direction)", scans.drop(4), groups=scans.drop(4)["subject"]).fit()
    found = direction_effect(scans.assign(scan_direction=scans["scan_direction"].where(scans.index != 4))[::-1])
    np.testing.assert_allclose(found["difference"], [0, *fit.fe_params[1:]], atol=1e-6)
    np.testing.assert_allclose(found["p"][1:], fit.pvalues[1:3], rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"volume_ml": 250.0}, "no spread"),
        ({"volume_ml": [0.1, 0.1 + 0.2, 0.7] * 4}, "no spread"),
        (
            {"scan_direction": list("abcd") * 3, "subject": list("abcd") * 3},
            "no subject was scanned from two directions",
        ),
        ({"scan_direction": ""}, "0 directions, 0 subjects"),
    ],
)
def test_directions_that_cannot_be_told_have_no_p(scans, change, said):
    found = direction_effect(scans.assign(**change))
    assert found["p_all"].isna().all() and found["note"].str.contains(said).all()


def test_spellings_of_a_direction_and_scans_given_twice_are_told(scans):
    spelled = direction_effect(scans.assign(scan_direction=["Top ", *scans["scan_direction"][1:]]))
    assert spelled["note"].str.contains("spelled alike: 'Top ', 'top'").all()
    twice = pd.concat([scans.assign(case=range(12))] * 2)
    with pytest.raises(ValueError, match=r"12 cases twice \(0, 1, 2, 3, 4 and 7 more\): give the scans of one variant"):
        direction_effect(twice)
    with pytest.raises(ValueError, match=r"lack the columns \['subject'\]"):
        direction_effect(scans.drop(columns="subject"))
