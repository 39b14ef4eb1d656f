"""Whether learning from few cases helped, in words, of tables whose differences are known."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from fhlib.study.accuracy import accuracy_findings, compare_scores
from fhlib.study.few_cases import case_by_case, few_cases_findings, gains_in_words, summary, verdict


def curve_of(changes, counts=(0, 3), subjects=None):
    """Held-out scans with a DSC of 0.8 with the shipped weights, and changed by so much with the tuned ones."""
    rows = []
    for count in counts:
        for number, change in enumerate(changes):
            dsc = 0.8 + 0.001 * number + (change if count == counts[-1] and count else 0)
            rows.append(
                {
                    "training_cases": count,
                    "case": f"c{number}",
                    "subject": f"s{number}" if subjects is None else subjects,
                    "status": "found",
                    "dsc": dsc,
                    "adb_mm": 2.0,
                    "hdb_mm": 9.0 - 10 * change,
                    "relative_volume_error": -0.05,
                }
            )
    return pd.DataFrame(rows)


def judged(curve):
    named = curve.assign(variant=curve["training_cases"].map("{} cases".format))
    compared = compare_scores(named, f"{curve['training_cases'].min()} cases")
    return verdict(curve, compared), compared


@pytest.mark.parametrize(
    ("changes", "helped", "words"),
    [
        ([0.02, 0.03, 0.04, 0.02, 0.03, 0.04], True, "helped (DSC +3.0 points on 6 held-out scans, 95 % interval +"),
        ([-0.02, -0.03, -0.04, -0.02, -0.03, -0.04], False, "did harm (DSC -3.0 points on 6 held-out scans, 95 %"),
        ([0.02, -0.02, 0.03, -0.03, 0.01, -0.01], False, "did not help beyond chance (DSC +0.0 points"),
        ([0.05], None, "cannot be told to help (DSC +5.0 points on 1 held-out scan;"),
        ([0.05, 0.05], None, "cannot be told to help (DSC +5.0 points on 2 held-out scans;"),
        ([-0.01, 0.0], False, "did not help (DSC -0.5 points on 2 held-out scans;"),
    ],
)
def test_a_verdict_in_words(changes, helped, words):
    found, compared = judged(curve_of(changes))
    assert found.helped is helped and words in found.sentence
    assert ("keep the shipped weights" in found.sentence) == (helped is not True)
    shown = gains_in_words(compared).to_string() + summary(curve_of(changes)).to_string() + found.sentence
    assert not re.search(r"\bnan\b", shown, re.IGNORECASE)


def test_six_scans_of_one_subject_tell_nothing():
    found, _ = judged(curve_of([0.02, 0.03, 0.04, 0.02, 0.03, 0.04], subjects="one"))
    assert found.helped is None and "of 3 subjects are the least" in found.sentence


def test_without_shipped_weights_there_is_no_verdict():
    found, _ = judged(curve_of([0.02, 0.03], counts=(1, 3)))
    assert found.helped is None and found.sentence.startswith("No verdict")


def test_the_shipped_weights_are_the_first_row_and_nothing_is_nan():
    curve = curve_of([0.02])
    curve.loc[curve["training_cases"] == 3, ["adb_mm", "hdb_mm"]] = [np.nan, math.inf]
    shown = summary(curve)
    assert shown["weights"].tolist() == ["shipped, as they are", "tuned on 3 scans"]
    assert shown["DSC [%]"].tolist() == ["80.0", "82.0"] and shown["volume error [%]"].tolist() == ["-5.0", "-5.0"]
    assert shown["largest distance [mm]"].tolist() == ["8.8", "not measured"]
    assert case_by_case(curve).iloc[0].tolist() == ["c0", 80.0, 82.0]
    assert case_by_case(curve_of([0.0] * 13)).empty
    (said,) = few_cases_findings(curve)
    assert said == "Mean DSC of 1 held-out scan: 80.0 % shipped, as they are, 82.0 % tuned on 3 scans."


def test_one_variant_is_not_the_best():
    summary_of_one = pd.DataFrame({"variant": ["A"], "dsc_mean": [0.9], "n": [2], "missed": [0]})
    assert "largest" not in " ".join(accuracy_findings(summary_of_one))
    two = pd.concat([summary_of_one, summary_of_one.assign(variant="B", dsc_mean=0.8)])
    assert accuracy_findings(two)[-1].startswith("A has the largest; whether another training would rank alike")
