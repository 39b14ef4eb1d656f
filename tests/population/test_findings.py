"""What the notebooks say of measurements, drawn or of one's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.population.drawn.errors import segmentor_error
from fhlib.population.findings import against_truth, detection_findings, measurements, refusal, wide_detection


@pytest.fixture
def own(tmp_path):
    """Sixty subjects measured once, intervals from 10 % below to 21 % above."""
    weeks = np.linspace(14, 40, 60)
    volume = 20 * (weeks / 14) ** 3 * np.exp(0.15 * np.sin(5 * np.arange(60)))
    table = pd.DataFrame({"subject": [f"a{k}" for k in range(60)], "ga_weeks": weeks, "volume_ml": volume})
    path = tmp_path / "mine.csv"
    table.assign(low_ml=0.9 * volume, high_ml=1.21 * volume).to_csv(path, index=False)
    return path


def test_intervals_of_ones_own_are_the_error_and_their_bias_is_said(own):
    """sqrt(0.9 x 1.21) = 1.0436: ln is 4.3 %."""
    data = measurements(str(own))
    assert data.said.startswith("60 measurements of 60 subjects; their intervals") and "+4.3 %" in data.said
    assert data.has_error and data.error is None and data.truth is None
    assert data.chart().error_sd == pytest.approx(np.log(1.21 / 0.9) / 3.919928, rel=1e-5)
    assert data.raw_chart()[0].error_sd == 0
    figure, errors = against_truth(data, data.raw_chart()[0], data.chart())
    assert figure is None and errors.empty
    assert refusal(data).startswith("> no chart can be made of 60 measurements")


def test_named_weights_give_bias_and_error_of_their_calibration(own):
    data = measurements(str(own), weights="head")
    assert data.error == segmentor_error("head") and "error_sd" not in data.table
    assert "on simulated scans" in data.said
    assert data.ready()["volume_ml"].to_numpy() == pytest.approx(data.error.calibrated(data.table["volume_ml"]))


def test_without_intervals_it_is_said_that_nothing_is_taken_out(own):
    pd.read_csv(own)[["subject", "ga_weeks", "volume_ml"]].to_csv(own, index=False)
    data = measurements(str(own))
    assert not data.has_error and "as wide as the measurements" in data.said and data.chart().error_sd == 0


def test_detection_in_words_and_in_a_wide_table():
    rows = [
        {"condition": "fluid", "error": error, "measure": measure, "visits": 3, "sensitivity": found, "low": 0.4, "high": 0.8}
        for error, measure, found in [
            ("none", "HC in 2D", 0.6), ("none", "volume", 0.7), ("the segmentor's", "HC in 2D", 0.6), ("the segmentor's", "volume", 0.5),
        ]
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    assert wide_detection(table)["volume"].tolist() == ["70 (40 to 80)", "50 (40 to 80)"]
    lost = pd.DataFrame({"condition": ["fluid", "microcephaly"], "gain_lost_at_percent": [4.3, np.nan]})
    first, last = detection_findings(table, lost, segmentor_error("head"))
    assert first == "Fluid: three visits find 60 % by HC, 50 % by the segmentor's volume, 70 % by volume without error."
    assert last.startswith(
        "Volume finds more than HC, beyond chance, only below an error of 4.3 % (fluid); the segmentor's is "
    )
    assert "at any error" in detection_findings(table, lost.iloc[1:], segmentor_error("head"))[-1]
