"""Agreement and repeatability of a run: which scans enter them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from fhlib.study import agreement
from fhlib.study.agreement import agree, reproduce


def test_scans_without_a_head_enter_no_agreement(tmp_path):
    study = SimpleNamespace(tables=tmp_path)
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
    study = SimpleNamespace(tables=tmp_path, preset=SimpleNamespace(variants=("V",)))
    heads = ["true", "true", "true", "false"]
    table = pd.DataFrame({"case": list("pqrs"), "scan_direction": "from the side", "has_head": heads})
    scans = table[["case"]].assign(subject=list("xxyy"), split="repro", status="found", volume_ml=[1.0, 3, 5, 9])
    monkeypatch.setattr(agreement, "open_cohort", lambda study: (None, table))
    monkeypatch.setattr(agreement, "predictions", lambda study, variant: scans)
    points, repeated = reproduce(study)
    assert set(points["case"]) == set("pqr") and repeated["V"].subjects == 1
    assert repeated["V"].mean_sd == pytest.approx(math.sqrt(2))
