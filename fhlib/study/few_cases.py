"""14: what a few corrected scans add to shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.files import own_or_shipped, write_csv
from fhlib.models.weights import model_digest
from fhlib.segmentation.predictions import predict_cases
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.accuracy import compare_scores, score_case
from fhlib.study.run import Study, StudyError, open_cohort, test_cases
from fhlib.study.train import cases_of_level, parameters_of, require_known
from fhlib.training.contexts import copy_levels
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import fit
from fhlib.variants import VARIANTS, levels_of


def learn_from_few(study: Study, variant: str, counts: Sequence[int] = (0, 1, 3, 5)) -> pd.DataFrame:
    """Scores of the test cases after training on the first so many training cases; writes tables/learning_curve.csv.

    A row a case and count. A count of 0 stands for the segmentor that training starts from (`start_from`), as it is.
    The segmentors and their masks lie in `learning_curve/<count>/` of the run. Test-time flips and calibration of the
    first one are left aside, so that all are looked at alike.

    Args:
        study: a run that has prepared its cases.
        variant: its name; all its levels learn on.
        counts: of training cases.

    Raises:
        StudyError: there are fewer cases, or a count is 0 and training starts from nothing.
    """
    require_known(variant)
    cases = PreparedCases(study.prepared)
    start_from = study.preset.training_for(cases.spatial_dims).start_from
    names = cases.cases("train")
    _require_possible(counts, len(names), start_from)
    cohort, table = open_cohort(study)
    tests = test_cases(table).to_dict("records")

    rows: list[dict[str, Any]] = []
    for count in counts:
        folder = study.folder / "learning_curve" / str(count)
        some = cases.without(names[count:])
        model = _fit_levels(study, variant, some, folder) if count else own_or_shipped("weights", start_from)
        execution = parameters_of(study, variant, VARIANTS[variant].levels, cases).execution
        segmentor = load_segmentor(model, study.preset.prediction, execution)
        segmentor.calibration = None
        found = predict_cases(segmentor, tests, cohort.folder, folder / "predictions", model_digest(model))
        for case, row in zip(tests, found.to_dict("records"), strict=True):
            scores = score_case(cohort, case, folder / "predictions", row)
            rows.append({"training_cases": count, "case": case["case"], "subject": case["subject"], **scores})
    curve = pd.DataFrame(rows)
    write_csv(curve, study.tables / "learning_curve.csv")
    return curve


def _fit_levels(study: Study, variant: str, cases: PreparedCases, folder: Path) -> Path:
    """Train all levels of a variant on some cases; returns its folder."""
    for name, level in levels_of(variant):
        base = VARIANTS[name].base
        previous = folder / base if base else None
        read = cases_of_level(study, name, previous, cases, folder / f"boxes-{base}")
        fit(read, parameters_of(study, name, level, read), folder / name / f"level{level}", previous)
        if previous is not None:
            copy_levels(previous, folder / name)
    return folder / variant


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


def _require_possible(counts: Sequence[int], available: int, start_from: str) -> None:
    most = max(counts)
    if most > available:
        raise StudyError(f"{most} training cases are asked for, the cohort has {available}: ask for fewer")
    if 0 in counts and not start_from:
        raise StudyError("with 0 training cases there is nothing to score: leave it out, or set training.start_from")
