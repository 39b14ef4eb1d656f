"""04: segment the test and reproducibility cases."""

from __future__ import annotations

import pandas as pd

from fhlib.models.weights import model_digest
from fhlib.segmentation.predictions import predict_cases
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.run import Study, open_cohort

PREDICTED = ("test", "repro")


def predict(study: Study, variant: str) -> pd.DataFrame:
    """Segment the test and reproducibility cases with a trained variant; returns a row a case."""
    cohort, table = open_cohort(study)
    folder = study.model_folder(variant)
    segmentor = load_segmentor(folder, study.preset.prediction)
    cases = table[table["split"].isin(PREDICTED)].to_dict("records")
    return predict_cases(segmentor, cases, cohort.folder, study.prediction_folder(variant), model_digest(folder))
