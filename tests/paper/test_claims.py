"""The ledger of claims, and verdicts on known runs."""

from __future__ import annotations

import html
import math

import numpy as np
import pandas as pd
import pytest

from fhlib.paper.claims import VERDICTS, Obtained, evaluate_claims, judge, read_claims
from fhlib.paper.ledger import ledger_html, verdict_counts
from fhlib.paper.tables import printed_table
from fhlib.variants import TABLE1, TABLE2

FIVE = ("dsc", "conf", "jacc", "adb_mm", "hdb_mm")


@pytest.fixture
def tables(tmp_path):
    """A run of two variants on 20 test cases; `HAS-Ctx` is better by one DSC point in every case and reads 2 mL low."""
    rng = np.random.default_rng(0)
    base, truth = rng.normal(0.955, 0.01, 20), rng.normal(240, 60, 20)
    rows = []
    for variant, gain in (("USegNet-DS-HAS", 0.0), ("USegNet-DS-HAS-Ctx", 0.01)):
        dsc = base + gain
        for case in range(20):
            values = {"dsc": dsc[case], "conf": 3 - 2 / dsc[case], "jacc": dsc[case] / (2 - dsc[case])}
            values |= {"adb_mm": 20 * (1 - dsc[case]), "hdb_mm": 6 - 100 * gain, "status": "found", "split": "test"}
            volume = truth[case] - 2 + 8 * math.sin(case)
            values |= {"volume_ml": volume, "reference_volume_ml": truth[case]}
            values["absolute_relative_volume_error"] = abs(volume / truth[case] - 1)
            rows.append({"variant": variant, "case": f"{case:03d}", "subject": f"{case:03d}", **values})
    frame = pd.DataFrame(rows)
    training = frame.head(5).assign(split="train", dsc=0.1)
    pd.concat([frame, training]).to_csv(tmp_path / "scores.csv", index=False)
    repeats = [
        {"variant": "USegNet-DS-HAS-Ctx", "subject": s, "scan_direction": d, "volume_ml": 200 + 10 * s + (s + 1) * k}
        for s in range(10)
        for k, d in enumerate(("front", "side", "top"))
    ]
    pd.DataFrame(repeats).to_csv(tmp_path / "repeatability_points.csv", index=False)
    return tmp_path


def test_ledger_is_complete_and_consistent():
    ledger = read_claims()
    assert len(ledger) >= 40 and ledger["id"].is_unique
    assert (ledger[["id", "where", "statement", "kind", "quantity", "rule"]] != "").all().all()
    assert ledger.groupby("kind")["rule"].nunique().eq(1).all()  # one rule a kind
    named = {
        part for quantity in ledger["quantity"] if "untestable" not in quantity for part in quantity.split(":")[1:3]
    }
    variants = {name for name in named if "-" in name or name == "USegNet"}
    assert variants == set(TABLE1) | set(TABLE2)


def test_printed_values_agree_with_the_tables():
    ledger = read_claims()
    first, second = (printed_table(number).set_index("variant") for number in (1, 2))
    assert list(first.index) == list(TABLE1) and list(second.index) == list(TABLE2)
    table = pd.concat([second, first]).groupby(level=0).last()
    for claim in ledger.itertuples():
        kind, *parts = claim.quantity.split(":")
        if kind == "summary" and claim.kind == "level" and parts[1] in FIVE:
            column = parts[1] if parts[1].endswith("mm") else parts[1] + "_percent"
            assert claim.printed_value == pytest.approx(table.loc[parts[0], column])
        if kind == "difference" and claim.kind == "difference":
            column = parts[2] + "_percent"
            printed = table.loc[parts[0], column] - table.loc[parts[1], column]
            assert claim.printed_value == pytest.approx(printed, abs=0.051)


def test_values_intervals_and_verdicts_on_a_known_run(tables):
    result = evaluate_claims(read_claims(), tables).set_index("quantity")
    scores = pd.read_csv(tables / "scores.csv").query("split == 'test'")
    better = scores[scores["variant"] == "USegNet-DS-HAS-Ctx"]

    level = result.loc["summary:USegNet-DS-HAS-Ctx:dsc"]
    level = level[level["kind"] == "level"].iloc[0]
    assert level["value_here"] == pytest.approx(100 * better["dsc"].mean()) and level["n"] == 20
    half = 196 * better["dsc"].std(ddof=0) / math.sqrt(20)
    assert level["ci_low"] == pytest.approx(level["value_here"] - half, abs=0.1)
    assert level["verdict"] == "reproduced" if level["ci_low"] <= 96.05 <= level["ci_high"] else "better than printed"
    assert level["caveat"] == ""  # a level ranks no network

    gain = result.loc["difference:USegNet-DS-HAS-Ctx:USegNet-DS-HAS:dsc"]
    assert (gain["value_here"], gain["ci_low"], gain["ci_high"]) == pytest.approx((1, 1, 1))
    assert gain["verdict"] == "larger, same direction"  # 0.2 printed, 1.0 here
    assert gain["caveat"] == "one training each"
    assert result.loc["improvements:USegNet-DS-HAS-Ctx:USegNet-DS-HAS", "value_here"] == 5
    assert result.loc["summary:USegNet-DS-HAS-Ctx:adb_mm", "verdict"] == "not reproduced"

    error = 8 * np.sin(np.arange(20)) - 2
    assert result.loc["agreement:USegNet-DS-HAS-Ctx:bias", "value_here"] == pytest.approx(error.mean())
    assert result.loc["agreement:USegNet-DS-HAS-Ctx:half_width", "value_here"] == pytest.approx(
        1.96 * error.std(ddof=1)
    )
    # three values spaced by s + 1 have an SD of s + 1
    assert result.loc["repeatability:USegNet-DS-HAS-Ctx:mean_sd", "value_here"] == pytest.approx(5.5)
    extreme = result.loc["repeatability:USegNet-DS-HAS-Ctx:max_sd"]
    assert extreme["verdict"] == "not testable here" and "of 10 groups" in extreme["reason"]

    absent = result.loc["difference:USegNet-DS-SAM:USegNet-DS:dsc"]
    assert absent["verdict"] == "not testable here" and "USegNet-DS-SAM is not part of this run" in absent["reason"]
    assert set(result["verdict"]) <= set(VERDICTS)
    assert (result.loc[result["verdict"] == "not testable here", "reason"] != "").all()


def test_a_run_without_tables_makes_everything_untestable(tmp_path):
    result = evaluate_claims(read_claims(), tmp_path)
    assert set(result["verdict"]) == {"not testable here"}
    assert result["reason"].str.contains(r"scores\.csv|repeatability_points|machine|expert|same cases").all()


def test_missed_cases_lower_the_mean_and_are_named(tables):
    frame = pd.read_csv(tables / "scores.csv", dtype={"case": str})
    hit = (frame["case"] == "003") & (frame["variant"] == "USegNet-DS-HAS-Ctx") & (frame["split"] == "test")
    frame.loc[hit, ["status", "dsc", "jacc"]] = ["missed", 0.0, 0.0]
    frame.loc[hit, ["conf", "adb_mm", "hdb_mm"]] = np.nan
    frame.to_csv(tables / "scores.csv", index=False)
    result = evaluate_claims(read_claims(), tables).drop_duplicates("quantity").set_index("quantity")
    dsc, adb = (result.loc[f"summary:USegNet-DS-HAS-Ctx:{measure}"] for measure in ("dsc", "adb_mm"))
    assert dsc["n"] == 20 and adb["n"] == 19
    assert dsc["value_here"] < 93 and "1 predictions missed" in adb["reason"]


def test_scans_without_a_head_enter_no_claim(tables):
    before = evaluate_claims(read_claims(), tables)
    frame = pd.read_csv(tables / "scores.csv", dtype={"case": str})
    empty = frame[frame["split"] == "test"].assign(
        case=lambda rows: "e" + rows["case"], status="no head", dsc=1.0, conf=1.0, jacc=1.0, reference_volume_ml=0.0
    )
    empty = empty.assign(volume_ml=0.0, adb_mm=np.nan, hdb_mm=np.nan, absolute_relative_volume_error=np.nan)
    pd.concat([frame, empty]).to_csv(tables / "scores.csv", index=False)
    after = evaluate_claims(read_claims(), tables)
    pd.testing.assert_frame_equal(before.drop(columns="reason"), after.drop(columns="reason"))
    assert after["reason"].str.contains("20 scans without a head left out").any()


def test_missed_heads_are_named_in_the_agreement(tables):
    frame = pd.read_csv(tables / "scores.csv", dtype={"case": str})
    hit = frame["case"].isin(["001", "002"]) & (frame["split"] == "test")
    frame.loc[hit, "status"] = "missed"
    frame.to_csv(tables / "scores.csv", index=False)
    result = evaluate_claims(read_claims(), tables).set_index("quantity")
    bias = result.loc["agreement:USegNet-DS-HAS-Ctx:bias"]
    assert bias["n"] == 18 and "2 missed heads" in bias["reason"]


@pytest.mark.parametrize(
    ("kind", "printed", "direction", "found", "verdict"),
    [
        ("level", 96, "higher", Obtained(95, 94, 97), "reproduced"),
        ("level", 96, "higher", Obtained(97, 96.5, 98), "better than printed"),
        ("level", 0.48, "lower", Obtained(0.3, 0.2, 0.4), "better than printed"),
        ("level", 96, "higher", Obtained(90, 89, 91), "not reproduced"),
        ("level", -1.6, "", Obtained(3, 2, 4), "not reproduced"),
        ("difference", 0.9, "higher", Obtained(0.3, 0.1, 0.5), "same direction"),
        ("difference", 0.9, "higher", Obtained(-0.3, -0.5, -0.1), "not reproduced"),
        ("difference", -15, "lower", Obtained(-20, -25, -14), "reproduced"),
        ("difference", -15, "lower", Obtained(-20, -25, -18), "larger, same direction"),
        ("difference", 0.2, "higher", Obtained(1.0, 0.5, 1.5), "larger, same direction"),
        ("bound", 0, "higher", Obtained(0.2, 0.1, 0.3), "reproduced"),
        ("bound", 0, "higher", Obtained(0.2, -0.1, 0.5), "same direction"),
        ("bound", 0, "lower", Obtained(0.2, 0.1, 0.3), "not reproduced"),
        ("count", 5, "higher", Obtained(5), "reproduced"),
        ("count", 4, "higher", Obtained(5), "larger, same direction"),
        ("count", 5, "higher", Obtained(3), "same direction"),
        ("count", 5, "higher", Obtained(2), "not reproduced"),
        ("level", 1, "", Obtained(), "not testable here"),
        ("level", 96, "higher", Obtained(97, n=1), "not testable here"),
        ("difference", 0.9, "higher", Obtained(1.2, n=2), "not testable here"),
    ],
)
def test_verdict_rules(kind, printed, direction, found, verdict):
    assert judge(kind, printed, direction, found) == verdict


def test_unknown_quantities_are_refused(tables):
    ledger = read_claims().head(1)
    with pytest.raises(ValueError, match="is not known"):
        evaluate_claims(ledger.assign(quantity="sum:USegNet:dsc"), tables)
    with pytest.raises(ValueError, match="expected level"):
        judge("guess", 1, "", Obtained(1, 0, 2))


def test_several_trainings_are_pooled_and_their_spread_is_the_interval(tables):
    """A gain of 1 point in the run's own training and of 3 in another: 2, and Student's t(0.975) of one degree of freedom is 12.706."""
    own = pd.read_csv(tables / "scores.csv", dtype={"case": str})
    better = own["variant"] == "USegNet-DS-HAS-Ctx"
    own.assign(dsc=own["dsc"] + 0.02 * better).to_csv(tables / "scores_seed1.csv", index=False)
    result = evaluate_claims(read_claims(), tables)
    assert (result["caveat"] == "").all()
    gain = result.set_index("quantity").loc["difference:USegNet-DS-HAS-Ctx:USegNet-DS-HAS:dsc"]
    half_width = 12.706 * 1.0  # an SD of sqrt(2) points over two trainings
    assert gain["value_here"] == pytest.approx(2) and gain["n"] == 20 and "2 trainings" in gain["reason"]
    assert (gain["ci_low"], gain["ci_high"]) == pytest.approx((2 - half_width, 2 + half_width), rel=1e-4)
    assert gain["verdict"] == "reproduced"  # 0.2 lies in it, and so does no difference, as the reason says
    assert "includes no difference" in gain["reason"]


def test_trainings_of_one_network_alone_are_not_compared(tables):
    own = pd.read_csv(tables / "scores.csv", dtype={"case": str})
    own[own["variant"] == "USegNet-DS-HAS"].to_csv(tables / "scores_seed1.csv", index=False)
    gain = evaluate_claims(read_claims(), tables).set_index("quantity")
    gain = gain.loc["difference:USegNet-DS-HAS-Ctx:USegNet-DS-HAS:dsc"]
    assert (gain["value_here"], gain["ci_low"]) == pytest.approx((1, 1)) and gain["caveat"] == "one training each"


def test_the_page_folds_what_cannot_be_tested_and_greys_ranks(tables):
    claims = evaluate_claims(read_claims(), tables)
    page = ledger_html(claims)
    table, _, rest = page.partition("<details>")
    assert (
        "Auto-Context adds about 0.2 points of DSC" in table
        and table.count('class="grey"') == (claims["caveat"] != "").sum()
    )
    assert "0.2 points</td><td>1 points (1 to 1)</td><td>larger, same direction (one training each)" in table
    assert "SAM-1 adds about 0.5 points" not in table and "variant SAM-1 is not part of this run" in rest
    for rule in claims["rule"].unique():
        assert rule in html.unescape(rest)


def test_counts_leave_out_what_one_training_cannot_decide(tables):
    claims = evaluate_claims(read_claims(), tables)
    ranks = (claims["caveat"] != "").sum()
    said = verdict_counts(claims)
    assert said.startswith("52 claims: ") and f"{ranks} about which network is better" in said
    assert "larger, same direction" not in said  # all of these are ranks
