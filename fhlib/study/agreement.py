"""06 and 07: agreement with the reference, and between scans of one subject (section 3.3, Fig. 8 and 9)."""

from __future__ import annotations

import pandas as pd

from fhlib.files import write_csv
from fhlib.images.formats import read_volume
from fhlib.measures.agreement import Agreement, bland_altman
from fhlib.measures.biometry import biometry
from fhlib.measures.growth import valid_weeks, zscore
from fhlib.measures.reliability import Repeatability, repeatability
from fhlib.study.run import Study, StudyError, open_cohort, predictions

MEASURED = (
    ("volume_ml", "reference_volume_ml", "head volume", "mL"),
    ("hc_mm", "reference_hc_mm", "head circumference", "mm"),
    ("area_mm2", "reference_area_mm2", "head area", "mm2"),
)
"""What is compared with the reference, in order of preference: columns, name, unit. A circumference needs a skull outline."""


def measured_quantity(scores: pd.DataFrame) -> tuple[str, str, str, str]:
    """The first of MEASURED that the scores hold for both sides."""
    for columns in MEASURED:
        if set(columns[:2]) <= set(scores.columns) and scores[columns[1]].notna().any():
            return columns
    raise StudyError("no test case has a reference to compare with: give some a label in cohort.csv")


def agree(study: Study) -> tuple[pd.DataFrame, dict[str, Agreement]]:
    """Agreement with the reference for every variant; writes tables/agreement.csv and agreement_points.csv.

    Returns the points (variant, case, measured, reference, difference) and the agreement of each variant. Scans without a head have
    nothing to agree on and are left out.
    """
    scores = pd.read_csv(study.tables / "scores.csv", dtype={"case": str, "subject": str})
    measured, reference, quantity, unit = measured_quantity(scores)
    scores = scores[~(scores[reference] <= 0)].copy()
    scores.loc[scores["status"] != "found", measured] = float("nan")
    columns = {measured: "measured", reference: "reference"}
    points = scores[["variant", "case", "subject", "ga_weeks", measured, reference]].rename(columns=columns)
    points["difference"] = points["measured"] - points["reference"]
    points.insert(2, "quantity", f"{quantity} [{unit}]")
    found = {
        str(variant): bland_altman(group["measured"], group["reference"])
        for variant, group in points.groupby("variant", sort=False)
    }
    rows = [{"variant": name, "quantity": quantity, "unit": unit, **result.asdict()} for name, result in found.items()]
    write_csv(points, study.tables / "agreement_points.csv")
    write_csv(pd.DataFrame(rows), study.tables / "agreement.csv")
    return points, found


def against_charts(study: Study) -> pd.DataFrame:
    """BPD, OFD and HC of the test cases' reference skulls as z-scores (INTERGROWTH-21st): case, measure, ga_weeks, value_mm, z.

    Cases without a skull outline or an age within the charts have no row.
    """
    cohort, table = open_cohort(study)
    rows = []
    for case in table[table["split"] == "test"].to_dict("records"):
        path, age = case.get("label_skull", ""), pd.to_numeric(case.get("ga_weeks", ""), errors="coerce")
        low, high = valid_weeks("hc")
        if not path or case.get("has_head") == "false" or not low <= age <= high:
            continue
        found = biometry(read_volume(cohort.folder / path), "skull").asdict()
        for measure in ("bpd", "ofd", "hc"):
            value = found[f"{measure}_mm"]
            z = float(zscore(measure, value, age))
            rows.append({"case": case["case"], "measure": measure, "ga_weeks": age, "value_mm": value, "z": z})
    return pd.DataFrame(rows, columns=["case", "measure", "ga_weeks", "value_mm", "z"])


def reproduce(study: Study) -> tuple[pd.DataFrame, dict[str, Repeatability]]:
    """Volumes of subjects scanned several times; writes tables/repeatability.csv and repeatability_points.csv.

    Both are empty where the cohort has no reproducibility split or is 2D. A missed scan has no volume and is left out and counted; a
    scan without a head is none of these.
    """
    _, table = open_cohort(study)
    headless = set(table.loc[table["has_head"] == "false", "case"]) if "has_head" in table else set()
    directions = table.set_index("case").get("scan_direction", pd.Series(dtype=str))
    points = []
    for variant in study.preset.variants:
        frame = predictions(study, variant)
        frame = frame[(frame["split"] == "repro") & ~frame["case"].isin(headless)]
        frame = frame.assign(variant=variant, scan_direction=frame["case"].map(directions))
        frame.loc[frame["status"] == "missed", "volume_ml"] = float("nan")
        points.append(frame[["variant", "subject", "case", "scan_direction", "volume_ml"]])
    all_points = pd.concat(points)
    if not all_points["volume_ml"].notna().any():
        all_points = all_points.iloc[:0]
    found = {
        str(variant): repeatability(group["volume_ml"], group["subject"])
        for variant, group in all_points.groupby("variant", sort=False)
    }
    names = ["variant", "quantity", "unit"]
    rows = [
        dict(zip(names, (name, "head volume", "mL"), strict=True)) | result.asdict() for name, result in found.items()
    ]
    write_csv(all_points, study.tables / "repeatability_points.csv")
    write_csv(pd.DataFrame(rows, columns=None if rows else names), study.tables / "repeatability.csv")
    return all_points, found
