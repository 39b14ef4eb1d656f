"""Agreement and repeatability of a run: which scans enter them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from fhlib.study import agreement
from fhlib.study.agreement import (
    agree,
    agreement_figure,
    agreement_findings,
    cohort_volume_chart,
    reproduce,
    subjects_with_volume,
)


def test_scans_without_a_head_enter_no_agreement(tmp_path):
    study = SimpleNamespace(tables=tmp_path, table=lambda name: tmp_path / f"{name}.csv")
    scores = pd.DataFrame(
        {
            "variant": "V",
            "case": list("abcdef"),
            "subject": list("abcdef"),
            "ga_weeks": 25.0,
            "status": ["found", "found", "found", "missed", "no head", "found"],
            "volume_ml": [101.0, 199.0, 301.0, 0.0, 0.0, 40.0],
            # the last is a head seen where there is none
            "reference_volume_ml": [100.0, 200.0, 300.0, 150.0, 0.0, 0.0],
        }
    )
    scores.to_csv(tmp_path / "scores.csv", index=False)
    points, found = agree(study)
    assert (found["V"].n, found["V"].excluded) == (3, 1) and found["V"].bias == pytest.approx(1 / 3)
    assert set(points["case"]) == set("abcd")


def test_scans_without_a_head_enter_no_repeatability(tmp_path, monkeypatch):
    study = SimpleNamespace(
        tables=tmp_path, table=lambda name: tmp_path / f"{name}.csv", preset=SimpleNamespace(variants=("V",))
    )
    heads = ["true", "true", "true", "false"]
    table = pd.DataFrame({"case": list("pqrs"), "scan_direction": "from the side", "has_head": heads})
    scans = table[["case"]].assign(subject=list("xxyy"), split="repro", status="found", volume_ml=[1.0, 3, 5, 9])
    monkeypatch.setattr(agreement, "open_cohort", lambda study: (None, table))
    monkeypatch.setattr(agreement, "predictions", lambda study, variant: scans)
    points, repeated = reproduce(study)
    assert set(points["case"]) == set("pqr") and repeated["V"].subjects == 1
    assert repeated["V"].mean_sd == pytest.approx(math.sqrt(2))


def test_a_case_that_is_left_out_is_named_in_the_table_and_the_finding(tmp_path):
    study = SimpleNamespace(tables=tmp_path, table=lambda name: tmp_path / f"{name}.csv")
    scores = pd.DataFrame({"variant": "V", "case": list("pqrs"), "subject": "x", "ga_weeks": 25.0, "status": "found"})
    scores = scores.assign(volume_ml=[101.0, 198.0, 303.0, 400.0], reference_volume_ml=[100.0, 200.0, 300.0, math.nan])
    scores.to_csv(tmp_path / "scores.csv", index=False)
    points, found = agree(study)
    said = "1 pair left out: a value is missing or not finite (s)"
    assert pd.read_csv(tmp_path / "agreement.csv")["notes"].str.contains(said, regex=False).all()
    assert any(said in sentence for sentence in agreement_findings(points, found, "V"))


def test_a_subject_counts_with_its_first_scan_that_has_age_and_volume(monkeypatch):
    table = pd.DataFrame(
        {
            "subject": ["a", "a", "b", "b", "c"],
            "ga_weeks": ["", "21", "22", "22", "23"],
            "reference_volume_ml": ["90", "91", "0", "110", ""],
        }
    )
    monkeypatch.setattr(agreement, "open_cohort", lambda study: (None, table))
    assert subjects_with_volume(None)["volume_ml"].to_dict() == {"a": 91, "b": 110}


def test_a_cohort_of_one_age_has_no_chart_but_the_reason():
    subjects = pd.DataFrame({"ga_weeks": 25.0, "volume_ml": range(200, 212)})
    assert "1 distinct age (to the day), and at least 3 are needed" in cohort_volume_chart(subjects)
    assert cohort_volume_chart(subjects[:9]) is None


def test_the_figure_is_of_the_network_that_it_names():
    points = pd.DataFrame(
        {"variant": ["V"] * 3 + ["W"] * 4, "quantity": "head volume [mL]", "reference": [1.0, 2, 4, 1, 2, 4, 8]}
    )
    points = points.assign(measured=points["reference"] + 0.5, difference=0.5)
    figure = agreement_figure(points, "V")
    assert figure.get_suptitle() == "V" and figure.axes[0].get_title().startswith("n = 3")
