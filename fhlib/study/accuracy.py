"""05: compare every test case with its label (section 3.2, Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib.cohorts.manifest import Cohort
from fhlib.figures.surfaces import Surface, surface_distance
from fhlib.files import progress, read_csv, write_csv
from fhlib.measures import metrics
from fhlib.measures.biometry import biometry
from fhlib.measures.comparison import compare_variants
from fhlib.models.parameters import SegmentorParameters
from fhlib.segmentation.predictions import read_prediction
from fhlib.study.predict import predicted_volumes
from fhlib.study.run import Study, StudyError, open_cohort, predictions, test_cases

COMPARED_MEASURES = ("dsc", "adb_mm", "hdb_mm")
LENGTHS = ("bpd_mm", "ofd_mm", "hc_mm")
"""Ends of the names of lengths: those to the skin begin with `skin_`."""
RANKS = {"worst": 0.0, "1st quartile": 0.25, "middle": 0.5, "3rd quartile": 0.75, "best": 1.0}


def score(study: Study) -> pd.DataFrame:
    """Compare every test case of every variant with its label, at the image's own resolution; writes tables/scores.csv.

    Every test case of the manifest that has a reference has a row for each variant. Where a head was not found the status
    is `missed`; such a case is never dropped. A scan without a head in which none was found has status `no head`.
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
    write_csv(scores, study.table("scores"))
    return scores


def read_scores(study: Study) -> pd.DataFrame:
    """What `score` wrote."""
    return read_csv(study.table("scores"))


def score_case(
    cohort: Cohort, case: Mapping[str, Any], folder: Path, prediction: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Status, scores, lengths and what is known of one case.

    Args:
        cohort: that holds the label.
        case: its row of the manifest.
        folder: of the predictions.
        prediction: its row there; None where there is none.

    Raises:
        StudyError: a scan without a head has no prediction.
    """
    label = cohort.read_label(case["case"])
    reference = label.array > 0
    known = {name: case.get(name, "") for name in ("ga_weeks", "reference_hc_mm")}
    if reference.any() and (prediction is None or prediction["status"] == "missed"):
        return {"status": "missed", **metrics.missed_scores(reference, label.spacing_mm).asdict(), **known}
    if prediction is None:
        raise StudyError(f"{case['case']} has no prediction: run 04_predict again")

    mask, _ = read_prediction(folder, prediction)
    scores = metrics.evaluate(mask.array, reference, label.spacing_mm).asdict()
    if not mask.array.any():
        return {"status": "no head", **scores, **known}
    sizes = biometry(mask, cohort.outline).asdict()
    lengths = {name: value for name, value in sizes.items() if name.endswith(LENGTHS)}
    return {"status": "found", **scores, **lengths, **known}


def summarise(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and SD (ddof 1) of each measure over the cases that have it, a row a variant; writes tables/summary.csv.

    `n` counts all cases, `missed` those without a prediction: these enter DSC and Jaccard with 0. `<measure>_n` counts
    the cases that entered. Minus infinity (Conformity at DSC 0) and distances that do not exist cannot enter.
    `contexts` says how a cascade's training contexts came about.
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
    write_csv(summary, study.table("summary"))
    return summary


def compare_scores(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """`compare_variants` for each measure of COMPARED_MEASURES, one table below the other."""
    return pd.concat([compare_variants(scores, measure, baseline) for measure in COMPARED_MEASURES])


def ranked_cases(scores: pd.DataFrame, variant: str) -> list[str]:
    """Test cases that overlap with what a variant found in them, from the worst DSC to the best."""
    found = (scores["variant"] == variant) & (scores["status"] == "found") & (scores["dsc"] > 0)
    return scores[found].sort_values("dsc")["case"].tolist()


def surfaces_of_variants(study: Study, case: str) -> dict[str, Surface]:
    """The surface that each variant found in one case, with its distance to the true one (Fig. 4)."""
    found = {variant: _surface(study, variant, case) for variant in study.preset.variants}
    return {variant: surface for variant, surface in found.items() if surface is not None}


def surfaces_of_ranks(study: Study, variant: str, ranked: Sequence[str]) -> dict[str, Surface]:
    """The surfaces of a variant from its worst case to its best, with their distance to the true ones (Fig. 5).

    Args:
        study: the run.
        variant: that has predicted.
        ranked: of `ranked_cases`.
    """
    found = {}
    for name, share in RANKS.items():
        case = ranked[round(share * (len(ranked) - 1))]
        surface = _surface(study, variant, case)
        assert surface is not None  # a ranked case has a mask
        found[f"{name}: {case}"] = surface
    return found


def accuracy_findings(summary: pd.DataFrame) -> list[str]:
    """What 05 found, in sentences; `summary` is of `summarise`."""
    means = summary.set_index("variant")["dsc_mean"]
    cases, missed = summary["n"].max(), summary["missed"].sum()
    reached = ", ".join(f"**{100 * mean:.2f} %** ({name})" for name, mean in means.items())
    said = [f"On {cases} test cases the mean DSC is {reached}; {missed} predictions were missed."]
    if len(means) == 1:
        return said
    return [*said, f"{means.idxmax()} has the largest; whether another training would rank alike, 13_ablation tells."]


def _surface(study: Study, variant: str, case: str) -> Surface | None:
    mask, _ = predicted_volumes(study, variant, case)
    label = open_cohort(study)[0].read_label(case)
    return surface_distance(mask, label, label.spacing_mm) if mask.array.any() else None
