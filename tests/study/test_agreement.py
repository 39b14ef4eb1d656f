"""Agreement and repeatability of a run: which scans enter them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fhlib.measures.metrics import MEASURES
from fhlib.study import cohort as steps


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
