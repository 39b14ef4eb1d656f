"""Predictions of a cohort: resumed to the same table."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fhlib.models.weights import model_digest
from fhlib.presets import Prediction
from fhlib.segmentation import predictions
from fhlib.segmentation.predictions import predict_cases, read_prediction
from fhlib.segmentation.segmentor import load_segmentor


def test_interrupted_prediction_continues_to_the_same_table(cohort, cascade_folder, tmp_path):
    segmentor, digest = load_segmentor(cascade_folder, Prediction(threshold=0.4)), model_digest(cascade_folder)
    tests = cohort.table[cohort.table["split"] == "test"].to_dict("records")
    whole = predict_cases(segmentor, tests, cohort.folder, tmp_path / "whole", digest)
    predict_cases(segmentor, tests[:1], cohort.folder, tmp_path / "parts", digest)
    kept = (tmp_path / "parts" / "c4_mask.nrrd").stat().st_mtime_ns
    parts = predict_cases(segmentor, tests, cohort.folder, tmp_path / "parts", digest)
    pd.testing.assert_frame_equal(whole, parts)
    assert (tmp_path / "parts" / "c4_mask.nrrd").stat().st_mtime_ns == kept
    mask, probability = read_prediction(tmp_path / "whole", whole.iloc[0])
    result = segmentor.segment(cohort.read_image("c4"))
    assert np.array_equal(mask.array, result.mask.array > 0)
    assert np.abs(probability.array - result.probability.array).max() <= 0.5 / 255 + 1e-6
    again = predict_cases(segmentor, tests, cohort.folder, tmp_path / "parts", "another model")
    pd.testing.assert_frame_equal(whole, again)
    assert (tmp_path / "parts" / "c4_mask.nrrd").stat().st_mtime_ns != kept


@pytest.mark.parametrize(("variant", "further"), [("USegNet", []), ("Swin-UNETR", ["fhlib.networks.competitors"])])
def test_the_code_of_a_competitor_counts_for_its_predictions(variant, further, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(predictions, "code_digest", lambda *modules: counted.extend(modules))
    segmentor = SimpleNamespace(parameters=SimpleNamespace(variant=variant), prediction=Prediction())
    predict_cases(segmentor, [], tmp_path, tmp_path / "out", "digest")
    assert counted == ["fhlib.segmentation.predictions", *further]


def test_a_spacing_that_the_row_gives_is_used_and_makes_the_prediction_anew(cohort, cascade_folder, tmp_path):
    segmentor, digest = load_segmentor(cascade_folder), model_digest(cascade_folder)
    row = cohort.row("c4").to_dict()
    first = predict_cases(segmentor, [row], cohort.folder, tmp_path, digest)
    row["spacing_mm"] = "2.5,1.5,1"  # the file states 2 x 1.5 x 1 mm
    again = predict_cases(segmentor, [row], cohort.folder, tmp_path, digest)
    assert read_prediction(tmp_path, first.iloc[0])[0].spacing_mm == (2.5, 1.5, 1)
    assert read_prediction(tmp_path, again.iloc[0])[1].spacing_mm == (2.5, 1.5, 1)
