"""05: compare every test case with its label (section 3.2, Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.cohorts.manifest import Cohort
from fhlib.files import progress, write_csv
from fhlib.measures import metrics
from fhlib.measures.biometry import biometry
from fhlib.models.parameters import SegmentorParameters
from fhlib.segmentation.predictions import read_prediction
from fhlib.study.run import Study, StudyError, open_cohort, predictions, test_cases


def score(study: Study) -> pd.DataFrame:
    """Compare every test case of every variant with its label, at the image's own resolution; writes tables/scores.csv.

    Every test case of the manifest that has a reference has a row for each variant. Where a head was not found the status is
    `missed`, never dropped; a scan without a head in which none was found has status `no head`.
    """
    cohort, table = open_cohort(study)
    tests = test_cases(table).to_dict("records")
    rows = []
    for variant in study.preset.variants:
        folder = study.prediction_folder(variant)
        found = predictions(study, variant).set_index("case").to_dict("index")
        for case in progress(tests, f"score {variant}"):
            row = score_case(cohort, case, folder, found.get(case["case"]))
            rows.append({"variant": variant, "case": case["case"], "subject": case["subject"], "split": "test", **row})
    scores = pd.DataFrame(rows)
    write_csv(scores, study.tables / "scores.csv")
    return scores


def score_case(
    cohort: Cohort, case: Mapping[str, Any], folder: Path, prediction: Mapping[str, Any] | None
) -> dict[str, Any]:
    label = cohort.read_label(case["case"])
    reference = label.array > 0
    measured: dict[str, Any] = {
        "ga_weeks": case.get("ga_weeks", ""),
        "reference_hc_mm": case.get("reference_hc_mm", ""),
    }
    if reference.any() and (prediction is None or prediction["status"] == "missed"):
        return {"status": "missed", **metrics.missed_scores(reference, label.spacing_mm).asdict(), **measured}
    if prediction is None:
        raise StudyError(f"{case['case']} has no prediction: run 04_predict again")
    mask, _ = read_prediction(folder, prediction)
    if not mask.array.any():
        return {"status": "no head", **metrics.evaluate(mask.array, reference, label.spacing_mm).asdict(), **measured}
    scores = metrics.evaluate(mask.array, reference, label.spacing_mm).asdict()
    sizes = biometry(mask, "skull" if cohort.outlines_skull else "skin").asdict()
    lengths = {name: value for name, value in sizes.items() if name.endswith(("bpd_mm", "ofd_mm", "hc_mm"))}
    return {"status": "found", **scores, **lengths, **measured}


def summarise(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and SD (ddof 1) of each measure over the cases that have it, a row a variant; writes tables/summary.csv.

    `n` counts all cases, `missed` those without a prediction: these enter DSC and Jaccard with 0. `<measure>_n` counts the cases that
    entered: minus infinity (Conformity at DSC 0) and distances that do not exist cannot. `contexts`: how a cascade's training contexts
    came about.
    """
    rows = []
    for variant, group in scores.groupby("variant", sort=False):
        row: dict[str, Any] = {"variant": variant, "n": len(group), "missed": int((group["status"] == "missed").sum())}
        levels = sorted(study.model_folder(str(variant)).glob("level*/parameters.json"))
        row["contexts"] = SegmentorParameters.load(levels[-1]).training.contexts if len(levels) > 1 else ""
        for measure in metrics.MEASURES:
            values = pd.to_numeric(group[measure], errors="coerce")
            values = values[values.abs() != float("inf")].dropna()
            if len(values):
                row[f"{measure}_mean"], row[f"{measure}_sd"] = values.mean(), values.std()
                row[f"{measure}_n"] = len(values)
        rows.append(row)
    summary = pd.DataFrame(rows)
    write_csv(summary, study.tables / "summary.csv")
    return summary
