"""04: segment the test and reproducibility cases."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.planes import planes
from fhlib.images.volume import Volume
from fhlib.models.weights import model_digest
from fhlib.segmentation.predictions import predict_cases, read_prediction
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.run import Study, open_cohort, predictions

PREDICTED = ("test", "repro")


def predict(study: Study, variant: str) -> pd.DataFrame:
    """Segment the test and reproducibility cases with a trained variant; returns a row a case."""
    cohort, table = open_cohort(study)
    folder = study.model_folder(variant)
    segmentor = load_segmentor(folder, study.preset.prediction)
    cases = table[table["split"].isin(PREDICTED)].to_dict("records")
    return predict_cases(segmentor, cases, cohort.folder, study.prediction_folder(variant), model_digest(folder))


def predicted_volumes(study: Study, variant: str, case: str) -> tuple[Volume, Volume]:
    """Mask and probability that a variant found for a case.

    Args:
        study: the run.
        variant: that has predicted.
        case: of the test or reproducibility split.
    """
    row = predictions(study, variant).set_index("case").loc[case]
    return read_prediction(study.prediction_folder(variant), row)


def flag_counts(found: pd.DataFrame) -> pd.DataFrame:
    """How many scans carry each flag, the most frequent first; empty where none was flagged."""
    flags = found["flags"].str.split("; ").explode()
    return flags[flags.notna() & (flags != "")].value_counts().rename("scans").to_frame()


def outlines_found(study: Study, variant: str, found: pd.DataFrame) -> dict[str, Figure]:
    """The first case and the first flagged one, with found and true contour, by name of the figure.

    Args:
        study: the run.
        variant: that has predicted.
        found: of `predict`.
    """
    cohort, table = open_cohort(study)
    labels = table.set_index("case")["label"]
    figures = {}
    shown = pd.concat([found.head(1), found[found["flags"] != ""].head(1)]).drop_duplicates("case")
    for _, row in shown.iterrows():
        case = row["case"]
        contours = {}
        if labels[case]:
            contours["reference"] = cohort.read_label(case)
        if row["status"] == "found":
            contours[variant] = predicted_volumes(study, variant, case)[0]
        title = f"{case}: {row['flags'] or 'no flag'}"
        figures[f"04_{variant}_{case}"] = planes(cohort.read_image(case), contours, title=title)
    return figures


def prediction_findings(found: pd.DataFrame, variant: str) -> list[str]:
    """What 04 found, in sentences; `found` is of `predict`."""
    missed, flagged = (found["status"] == "missed").sum(), (found["flags"] != "").sum()
    said = [f"{variant} segmented {len(found)} scans; {missed} without any head, {flagged} flagged."]
    volumes = found["volume_ml"].dropna()
    if len(volumes):
        said.append(f"Volumes from {volumes.min():.0f} to {volumes.max():.0f} mL.")
    return said
