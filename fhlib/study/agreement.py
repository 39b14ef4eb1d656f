"""06 and 07: agreement with the reference, and between scans of one subject (section 3.2, Fig. 8 and 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.charts.agreement import correlation_and_agreement, volume_chart
from fhlib.files import write_csv
from fhlib.measures.agreement import Agreement, bland_altman
from fhlib.measures.biometry import biometry
from fhlib.measures.growth import FEWEST_SUBJECTS, fit_volume_chart, valid_weeks, zscore
from fhlib.measures.reliability import Repeatability, repeatability
from fhlib.study.accuracy import LENGTHS, read_scores
from fhlib.study.run import Study, StudyError, open_cohort, predictions

MEASURED = (
    ("volume_ml", "reference_volume_ml", "head volume", "mL"),
    ("hc_mm", "reference_hc_mm", "head circumference", "mm"),
    ("area_mm2", "reference_area_mm2", "head area", "mm2"),
)
"""What is compared with the reference, in order of preference: columns, name, unit. A circumference is of the skull."""
LIMITS = (
    *("n", "excluded", "bias", "bias_low", "bias_high", "sd", "loa_low", "loa_low_low", "loa_low_high", "loa_high"),
    *(
        "loa_high_low",
        "loa_high_high",
        "pearson",
        "ccc",
        "icc21",
        "mean_absolute_error",
        "mean_absolute_relative_error",
    ),
)
SLOPE = ("slope", "slope_low", "slope_high", "slope_p", "within_limits", "notes")
REPEATED = (
    *("subjects", "excluded_subjects", "values", "mean_sd", "min_sd", "max_sd", "within_subject_sd"),
    *("repeatability_coefficient", "icc11", "icc11_low", "icc11_high", "notes"),
)
FEWEST_TO_COMPARE = 3


def measured_quantity(scores: pd.DataFrame) -> tuple[str, str, str, str]:
    """The first of MEASURED that the scores hold for both sides."""
    for columns in MEASURED:
        if set(columns[:2]) <= set(scores.columns) and scores[columns[1]].notna().any():
            return columns
    raise StudyError("no test case has a reference to compare with: give some a label in cohort.csv")


def agree(study: Study) -> tuple[pd.DataFrame, dict[str, Agreement]]:
    """Agreement with the reference for every variant; writes tables/agreement.csv and agreement_points.csv.

    Returns the points (variant, case, measured, reference, difference) and the agreement of each variant. Scans without a
    head have nothing to agree on and are left out.
    """
    scores = read_scores(study)
    measured, reference, quantity, unit = measured_quantity(scores)
    scores = scores[~(scores[reference] <= 0)].copy()
    scores.loc[scores["status"] != "found", measured] = float("nan")
    columns = {measured: "measured", reference: "reference"}
    points = scores[["variant", "case", "subject", "ga_weeks", measured, reference]].rename(columns=columns)
    points["difference"] = points["measured"] - points["reference"]
    points.insert(2, "quantity", f"{quantity} [{unit}]")

    found, rows = {}, []
    for variant, group in points.groupby("variant", sort=False):
        by_case = group.set_index("case")  # so that notes name cases
        result = found[str(variant)] = bland_altman(by_case["measured"], by_case["reference"])
        rows.append({"variant": variant, "quantity": quantity, "unit": unit, **result.asdict()})
    write_csv(points, study.tables / "agreement_points.csv")
    write_csv(pd.DataFrame(rows), study.tables / "agreement.csv")
    return points, found


def side_by_side(results: Mapping[str, Agreement | Repeatability], rows: Sequence[str]) -> pd.DataFrame:
    """A column a variant, and the named numbers as rows."""
    return pd.DataFrame({variant: result.asdict() for variant, result in results.items()}).reindex(list(rows))


def agreement_figure(points: pd.DataFrame, variant: str) -> Figure | None:
    """Correlation and Bland-Altman plot of the variant it names (Fig. 8); None with fewer than 3 cases that have both values."""
    chosen = points[points["variant"] == variant]
    if chosen["difference"].notna().sum() < FEWEST_TO_COMPARE:
        return None
    quantity, unit = _quantity_and_unit(points)
    return correlation_and_agreement(chosen["measured"], chosen["reference"], unit, quantity, title=variant)


def mean_lengths(study: Study) -> pd.DataFrame:
    """Mean BPD, OFD and HC of each variant's masks, named `skin_...` where the outline is the skin."""
    scores = read_scores(study)
    lengths = [name for name in scores.columns if name.endswith(LENGTHS)]
    return scores.groupby("variant", sort=False)[lengths].mean()


def against_charts(study: Study) -> pd.DataFrame:
    """Reference skulls of the test cases as z-scores (INTERGROWTH-21st): case, measure, ga_weeks, value_mm, z.

    Measures are BPD, OFD and HC. Cases without a skull outline or an age within the charts have no row.
    """
    cohort, table = open_cohort(study)
    low, high = valid_weeks("hc")
    rows = []
    for case in table[table["split"] == "test"].to_dict("records"):
        age = pd.to_numeric(case.get("ga_weeks", ""), errors="coerce")
        if not case.get("label_skull", "") or case.get("has_head") == "false" or not low <= age <= high:
            continue
        found = biometry(cohort.read_label(case["case"], "label_skull"), "skull").asdict()
        for measure in ("bpd", "ofd", "hc"):
            value = found[f"{measure}_mm"]
            z = float(zscore(measure, value, age))
            rows.append({"case": case["case"], "measure": measure, "ga_weeks": age, "value_mm": value, "z": z})
    return pd.DataFrame(rows, columns=["case", "measure", "ga_weeks", "value_mm", "z"])


def subjects_with_volume(study: Study) -> pd.DataFrame:
    """ga_weeks and volume_ml of the cohort's subjects of whom both are known, a row a subject."""
    _, table = open_cohort(study)
    columns = {"ga_weeks": "ga_weeks", "reference_volume_ml": "volume_ml"}
    scans = table.rename(columns=columns)[["subject", *columns.values()]].set_index("subject")
    scans = scans.apply(pd.to_numeric, errors="coerce").dropna().query("volume_ml > 0")
    return scans[~scans.index.duplicated()]


def cohort_volume_chart(subjects: pd.DataFrame) -> Figure | str | None:
    """A chart of the whole head's volume, estimated from the cohort; None with fewer than 10 subjects.

    Where their ages or volumes allow no chart, the reason in words.
    """
    if len(subjects) < FEWEST_SUBJECTS:
        return None
    try:
        chart = fit_volume_chart(subjects["ga_weeks"], subjects["volume_ml"])
    except ValueError as reason:
        return f"Not applicable: {reason}."
    return volume_chart(chart, subjects)


def agreement_findings(points: pd.DataFrame, agreement: Mapping[str, Agreement], variant: str) -> list[str]:
    """What 06 found about a variant, in sentences.

    Args:
        points: of `agree`.
        agreement: of `agree`.
        variant: one of them.
    """
    found = agreement[variant]
    quantity, unit = _quantity_and_unit(points)
    if not math.isfinite(found.pearson):
        few = f"{quantity.capitalize()} by {variant} on {found.n} cases: too few for a correlation and limits of agreement."
        return [few, *_remarks(found)]
    said = [
        f"{quantity.capitalize()} by {variant} on {found.n} cases: r = **{found.pearson:.3f}**, "
        f"bias **{found.bias:.1f} {unit}** (95 % CI {found.bias_low:.1f} to {found.bias_high:.1f}), "
        f"limits of agreement {found.loa_low:.1f} to {found.loa_high:.1f} {unit}, "
        f"mean absolute error **{found.mean_absolute_error:.2f} {unit}** "
        f"({100 * found.mean_absolute_relative_error:.1f} %)."
    ]
    if found.slope_low > 0 or found.slope_high < 0:
        said.append(
            f"The difference changes with size by {100 * found.slope:.0f} % of it (interval without 0), "
            "so constant limits understate the error at the ends."
        )
    return [*said, *_remarks(found), "The paper prints r = 0.990 and -1.6 ± 19.5 mL on real volumes."]


def reproduce(study: Study) -> tuple[pd.DataFrame, dict[str, Repeatability]]:
    """Volumes of subjects scanned several times; writes tables/repeatability.csv and repeatability_points.csv.

    Both are empty where the cohort has no reproducibility split or is 2D. A missed scan has no volume: it is left out and
    counted. A scan without a head is none of these.
    """
    _, table = open_cohort(study)
    headless = set(table.loc[table["has_head"] == "false", "case"]) if "has_head" in table else set()
    directions = table.set_index("case").get("scan_direction", pd.Series(dtype=str))
    frames = []
    for variant in study.preset.variants:
        frame = predictions(study, variant)
        frame = frame[(frame["split"] == "repro") & ~frame["case"].isin(headless)]
        frame = frame.assign(variant=variant, scan_direction=frame["case"].map(directions))
        frame.loc[frame["status"] == "missed", "volume_ml"] = float("nan")
        frames.append(frame[["variant", "subject", "case", "scan_direction", "volume_ml"]])
    points = pd.concat(frames)
    if not points["volume_ml"].notna().any():
        points = points.iloc[:0]

    found, rows = {}, []
    of_all = {"quantity": "head volume", "unit": "mL"}
    for variant, group in points.groupby("variant", sort=False):
        by_case = group.set_index("case")
        result = found[str(variant)] = repeatability(by_case["volume_ml"], by_case["subject"])
        rows.append({"variant": variant, **of_all, **result.asdict()})
    write_csv(points, study.tables / "repeatability_points.csv")
    write_csv(pd.DataFrame(rows, columns=None if rows else ["variant", *of_all]), study.tables / "repeatability.csv")
    return points, found


def repeated_points(points: pd.DataFrame, repeated: Mapping[str, Repeatability], variant: str) -> pd.DataFrame:
    """A variant's points; none where no subject has several volumes.

    Args:
        points: of `reproduce`.
        repeated: of `reproduce`.
        variant: one of the run's.
    """
    applicable = variant in repeated and repeated[variant].subjects > 0
    return points[points["variant"] == variant] if applicable else points.iloc[:0]


def reproducibility_findings(repeated: Mapping[str, Repeatability], variant: str) -> list[str]:
    """What 07 found about a variant, in sentences; `repeated` is of `reproduce`."""
    found = repeated.get(variant)
    if found is None or not found.subjects:
        return ["Not applicable to this cohort; nothing was measured."]
    return [
        f"{variant}, {found.subjects} subjects, {found.values} scans: mean SD **{found.mean_sd:.2f} mL** "
        f"({found.min_sd:.2f} to {found.max_sd:.2f}; printed: 11.524, 1.960 to 49.869 on real scans), "
        f"repeatability coefficient **{found.repeatability_coefficient:.1f} mL**, ICC(1,1) {found.icc11:.3f}.",
        *_remarks(found),
    ]


def _remarks(found: Agreement | Repeatability) -> list[str]:
    """What was left out or cannot be given, as a sentence; none where nothing was."""
    return [f"Note: {'; '.join(found.notes)}."] if found.notes else []


def _quantity_and_unit(points: pd.DataFrame) -> tuple[str, str]:
    """`head volume [mL]` in its two parts."""
    quantity, _, unit = points["quantity"].iloc[0].partition(" [")
    return quantity, unit.rstrip("]")
