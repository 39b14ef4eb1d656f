"""14: what a few corrected scans add to shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fhlib.files import WEIGHTS_FOLDER, write_csv
from fhlib.models.weights import model_digest
from fhlib.segmentation.predictions import predict_cases
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.accuracy import score_case
from fhlib.study.run import Study, StudyError, open_cohort, test_cases
from fhlib.study.train import parameters_of, require_known
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import fit
from fhlib.variants import VARIANTS


def learn_from_few(study: Study, variant: str, counts: Sequence[int] = (0, 1, 3, 5)) -> pd.DataFrame:
    """Scores of the test cases after training on the first so many training cases, a row a case and count; writes
    tables/learning_curve.csv. A count of 0 stands for the segmentor that training starts from (`start_from`), as it is.

    The segmentors and their masks lie in `learning_curve/<count>/` of the run. Test-time flips and calibration of the first one are
    left aside, so that all are looked at alike. Raises StudyError for more cases than there are, a count of 0 where training starts from
    nothing, and a variant of several levels.
    """
    require_known(variant)
    cases = PreparedCases(study.prepared)
    names, training = cases.cases("train"), study.preset.training_for(cases.spatial_dims)
    if VARIANTS[variant].levels > 1:
        raise StudyError(f"{variant} has {VARIANTS[variant].levels} levels, a learning curve is of one: choose another")
    if max(counts) > len(names):
        raise StudyError(f"{max(counts)} training cases are asked for, the cohort has {len(names)}: ask for fewer")
    if 0 in counts and not training.start_from:
        raise StudyError("with 0 training cases there is nothing to score: leave it out, or set training.start_from")
    cohort, table = open_cohort(study)
    tests = test_cases(table).to_dict("records")
    parameters = parameters_of(study, variant, 1, cases)
    rows: list[dict[str, Any]] = []
    for count in counts:
        folder = study.folder / "learning_curve" / str(count)
        model = folder if count else WEIGHTS_FOLDER / training.start_from
        if count:
            some = cases.without(names[count:])
            fit(some, parameters, folder / "level1")
        segmentor = load_segmentor(model, study.preset.prediction, parameters.execution)
        segmentor.calibration = None
        found = predict_cases(segmentor, tests, cohort.folder, folder / "predictions", model_digest(model))
        for case, row in zip(tests, found.to_dict("records"), strict=True):
            scores = score_case(cohort, case, folder / "predictions", row)
            rows.append({"training_cases": count, "case": case["case"], "subject": case["subject"], **scores})
    curve = pd.DataFrame(rows)
    write_csv(curve, study.tables / "learning_curve.csv")
    return curve
