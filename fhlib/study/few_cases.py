"""14: what a few corrected scans add to shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fhlib.files import own_or_shipped, write_csv
from fhlib.models.weights import model_digest
from fhlib.segmentation.predictions import predict_cases
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.accuracy import compare_scores, score_case
from fhlib.study.run import Study, StudyError, open_cohort, test_cases
from fhlib.study.train import parameters_of, require_known
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import fit
from fhlib.variants import VARIANTS


def learn_from_few(study: Study, variant: str, counts: Sequence[int] = (0, 1, 3, 5)) -> pd.DataFrame:
    """Scores of the test cases after training on the first so many training cases; writes tables/learning_curve.csv.

    A row a case and count. A count of 0 stands for the segmentor that training starts from (`start_from`), as it is.
    The segmentors and their masks lie in `learning_curve/<count>/` of the run. Test-time flips and calibration of the
    first one are left aside, so that all are looked at alike.

    Args:
        study: a run that has prepared its cases.
        variant: one of a single level.
        counts: of training cases.

    Raises:
        StudyError: there are fewer cases, a count is 0 and training starts from nothing, or the variant has several levels.
    """
    require_known(variant)
    cases = PreparedCases(study.prepared)
    start_from = study.preset.training_for(cases.spatial_dims).start_from
    names = cases.cases("train")
    _require_possible(variant, counts, len(names), start_from)
    cohort, table = open_cohort(study)
    tests = test_cases(table).to_dict("records")
    parameters = parameters_of(study, variant, 1, cases)

    rows: list[dict[str, Any]] = []
    for count in counts:
        folder = study.folder / "learning_curve" / str(count)
        model = folder if count else own_or_shipped("weights", start_from)
        if count:
            fit(cases.without(names[count:]), parameters, folder / "level1")
        segmentor = load_segmentor(model, study.preset.prediction, parameters.execution)
        segmentor.calibration = None
        found = predict_cases(segmentor, tests, cohort.folder, folder / "predictions", model_digest(model))
        for case, row in zip(tests, found.to_dict("records"), strict=True):
            scores = score_case(cohort, case, folder / "predictions", row)
            rows.append({"training_cases": count, "case": case["case"], "subject": case["subject"], **scores})
    curve = pd.DataFrame(rows)
    write_csv(curve, study.tables / "learning_curve.csv")
    return curve


def gains(study: Study, curve: pd.DataFrame) -> pd.DataFrame:
    """Each number of training cases against the smallest, paired over the test cases; writes tables/few_cases.csv.

    `curve` is of `learn_from_few`.
    """
    named = curve.assign(variant=curve["training_cases"].map("{} cases".format))
    compared = compare_scores(named, f"{curve['training_cases'].min()} cases")
    write_csv(compared, study.tables / "few_cases.csv")
    return compared


def few_cases_findings(curve: pd.DataFrame) -> list[str]:
    """What 14 found, in sentences; `curve` is of `learn_from_few`."""
    means = 100 * curve.groupby("training_cases")["dsc"].mean()
    steps = ", ".join(f"{mean:.1f} % with {count}" for count, mean in means.items())
    return [
        f"Mean DSC of {curve['case'].nunique()} test cases by number of training cases: {steps}.",
        f"From {means.index[0]} to {means.index[-1]} cases it changes by {means.iloc[-1] - means.iloc[0]:+.1f} points.",
    ]


def _require_possible(variant: str, counts: Sequence[int], available: int, start_from: str) -> None:
    levels, most = VARIANTS[variant].levels, max(counts)
    if levels > 1:
        raise StudyError(f"{variant} has {levels} levels, a learning curve is of one: choose another")
    if most > available:
        raise StudyError(f"{most} training cases are asked for, the cohort has {available}: ask for fewer")
    if 0 in counts and not start_from:
        raise StudyError("with 0 training cases there is nothing to score: leave it out, or set training.start_from")
