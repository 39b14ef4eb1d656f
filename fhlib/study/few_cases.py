"""14: what a few corrected scans add to shipped weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.planes import planes
from fhlib.files import own_or_shipped, write_csv, write_json
from fhlib.images.volume import Volume
from fhlib.models.weights import model_digest, weights_files
from fhlib.segmentation.predictions import predict_cases, read_prediction
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.accuracy import compare_scores, score_case
from fhlib.study.run import Study, StudyError, open_cohort, test_cases
from fhlib.study.train import cases_of_level, parameters_of, require_known
from fhlib.training.contexts import copy_levels
from fhlib.training.prepared import PreparedCases
from fhlib.training.trainer import fit
from fhlib.variants import VARIANTS, levels_of

VERDICT = "verdict.json"
FEWEST_TO_TELL = 6
"""Held-out scans: with fewer no signed-rank test, of whatever differences, reaches p = 0.05."""
KEEP = "keep the shipped weights"
SHOWN = {
    "dsc": ("DSC", 100, "points"),
    "adb_mm": ("average distance", 1, "mm"),
    "hdb_mm": ("largest distance", 1, "mm"),
}
"""Measures in words, with the factor and unit that they are shown in."""
MOST_CASES = 12
"""So many held-out scans are listed one by one."""


@dataclass(frozen=True)
class Verdict:
    """Whether learning on helped, in one sentence; `helped` is None where nothing can be said."""

    helped: bool | None
    sentence: str


def learn_from_few(study: Study, variant: str, counts: Sequence[int] = (0, 1, 3, 5)) -> pd.DataFrame:
    """Scores of the test cases after training on the first so many training cases; writes tables/learning_curve.csv.

    A row a case and count. A count of 0 stands for the segmentor that training starts from (`start_from`), as it is.
    The segmentors and their masks lie in `learning_curve/<count>/` of the run. Test-time flips and calibration of the
    first one are left aside, so that all are looked at alike.

    Args:
        study: a run that has prepared its cases.
        variant: its name; all its levels learn on.
        counts: of training cases. An empty one stands for 0, where training starts from weights, and all: the latter is then the
            segmentor that the run has trained.

    Raises:
        StudyError: there are fewer cases, or a count is 0 and training starts from nothing.
    """
    require_known(variant)
    cases = PreparedCases(study.prepared)
    start_from = study.preset.training_for(cases.spatial_dims).start_from
    names = cases.cases("train")
    trained = _trained(study, variant) if not counts else None
    counts = list(counts) or [*([0] if start_from else []), len(names)]
    _require_possible(counts, len(names), start_from)
    cohort, table = open_cohort(study)
    tests = test_cases(table).to_dict("records")

    rows: list[dict[str, Any]] = []
    for count in counts:
        folder = _folder(study, count)
        some = cases.without(names[count:])
        model = trained if count and trained else None
        model = model or (_fit_levels(study, variant, some, folder) if count else own_or_shipped("weights", start_from))
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


def _folder(study: Study, count: int) -> Path:
    return study.folder / "learning_curve" / str(count)


def _trained(study: Study, variant: str) -> Path | None:
    """The run's own segmentor, where all its levels are there."""
    folder = study.model_folder(variant)
    return folder if len(weights_files(folder)) == VARIANTS[variant].levels else None


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


def summary(curve: pd.DataFrame) -> pd.DataFrame:
    """A row a number of training cases, the shipped weights first, as text: their means over the same held-out scans.

    `curve` is of `learn_from_few`. Distances are means over the scans in which a head was found.
    """
    rows = []
    for count, group in curve.groupby("training_cases"):
        finite = group.replace([math.inf, -math.inf], math.nan)
        error = 100 * finite["relative_volume_error"].mean()
        rows.append(
            {
                "weights": _named(int(count)),
                "held-out scans": str(len(group)),
                "missed": str(int((group["status"] == "missed").sum())),
                "DSC [%]": _shown(100 * group["dsc"].mean(), ".1f"),
                "average distance [mm]": _shown(finite["adb_mm"].mean(), ".2f"),
                "largest distance [mm]": _shown(finite["hdb_mm"].mean(), ".1f"),
                "volume error [%]": _shown(error, "+.1f"),
            }
        )
    return pd.DataFrame(rows)


def case_by_case(curve: pd.DataFrame) -> pd.DataFrame:
    """DSC in % of each held-out scan by weights; empty where there are too many to read."""
    wide = (100 * curve.pivot(index="case", columns="training_cases", values="dsc")).round(1)
    if len(wide) > MOST_CASES:
        return pd.DataFrame()
    return wide.rename(columns=lambda count: _named(int(count))).rename_axis(columns=None).reset_index()


def gains(study: Study, curve: pd.DataFrame) -> pd.DataFrame:
    """Each number of training cases against the smallest, paired over the test cases; writes tables/few_cases.csv.

    `curve` is of `learn_from_few`.
    """
    named = curve.assign(variant=curve["training_cases"].map("{} cases".format))
    compared = compare_scores(named, f"{curve['training_cases'].min()} cases")
    write_csv(compared, study.tables / "few_cases.csv")
    return compared


def gains_in_words(compared: pd.DataFrame) -> pd.DataFrame:
    """`gains` to read: what cannot be told of so few scans is said so."""
    rows = []
    for row in compared.to_dict("records"):
        name, factor, unit = SHOWN[row["measure"]]
        numbers = [factor * row[key] for key in ("difference", "low", "high")]
        known = all(map(math.isfinite, numbers[1:]))
        interval = f" ({numbers[1]:+.1f} to {numbers[2]:+.1f})" if known else ""
        change = f"{numbers[0]:+.1f} {unit}{interval}" if math.isfinite(numbers[0]) else "not measured"
        rows.append(
            {
                "measure": name,
                "trained on": row["variant"],
                "held-out scans": row["n"],
                "change (95 % interval)": change,
                "p (Holm)": f"{row['p_holm']:.3f}" if math.isfinite(row["p_holm"]) else "not tested",
                "note": row["note"],
            }
        )
    return pd.DataFrame(rows)


def judge(study: Study, curve: pd.DataFrame, compared: pd.DataFrame) -> Verdict:
    """Whether the largest number of training cases helped; writes tables/verdict.json.

    Args:
        study: the run.
        curve: of `learn_from_few`.
        compared: of `gains`.
    """
    found = verdict(curve, compared)
    write_json({"helped": found.helped, "sentence": found.sentence}, study.tables / VERDICT)
    return found


def verdict(curve: pd.DataFrame, compared: pd.DataFrame) -> Verdict:
    """Whether the largest number of training cases helped, by the mean DSC of the same held-out scans.

    It helped, or did harm, where the 95 % interval of the difference leaves out 0 and there are `FEWEST_TO_TELL` scans.
    """
    most = int(curve["training_cases"].max())
    rows = compared[(compared["measure"] == "dsc") & (compared["variant"] == f"{most} cases")]
    if curve["training_cases"].min() > 0 or rows.empty:
        return Verdict(None, "No verdict: the shipped weights are not among the rows.")
    row = rows.iloc[0]
    n, change, low, high = int(row["n"]), 100 * row["difference"], 100 * row["low"], 100 * row["high"]
    if not n:
        return Verdict(None, f"No verdict: no scan is held out with a known outline. Until there are some, {KEEP}.")

    interval = f", 95 % interval {low:+.1f} to {high:+.1f}" if math.isfinite(low) else ""
    learning = f"Learning on from {_scans(most)}"
    measured = f"DSC {change:+.1f} points on {_scans(n, 'held-out ')}{interval}"
    if n < FEWEST_TO_TELL or not interval:
        few = f"{FEWEST_TO_TELL} held-out scans of 3 subjects are the least that can tell more"
        if change <= 0:
            return Verdict(False, f"{learning} did not help ({measured}; {few}): {KEEP}.")
        return Verdict(
            None, f"{learning} cannot be told to help ({measured}; {few}): {KEEP}, or look at every outline."
        )
    if low > 0:
        return Verdict(True, f"{learning} helped ({measured}): use the tuned weights on scans like these.")
    if high < 0:
        return Verdict(False, f"{learning} did harm ({measured}): {KEEP}.")
    return Verdict(False, f"{learning} did not help beyond chance ({measured}): {KEEP}.")


def outlines(study: Study, curve: pd.DataFrame, most: int = 3) -> dict[str, Figure]:
    """Held-out scans with the true outline, the shipped weights' and the tuned ones', those that changed most first.

    Args:
        study: the run.
        curve: of `learn_from_few`.
        most: so many scans.
    """
    counts = sorted(curve["training_cases"].unique())
    wide = curve.pivot(index="case", columns="training_cases", values="dsc")
    change = wide[counts[-1]] - wide[counts[0]]
    cohort, _ = open_cohort(study)
    figures = {}
    for case in change.abs().sort_values(ascending=False, kind="stable").index[:most]:
        drawn: dict[str, Volume] = {"reference": cohort.read_label(case)}
        for count in dict.fromkeys((counts[0], counts[-1])):
            drawn[_named(int(count))] = _mask(study, int(count), case)
        shown = {name: mask for name, mask in drawn.items() if (mask.array > 0).any()}
        title = f"{case}: DSC {100 * wide.loc[case, counts[0]]:.1f} -> {100 * wide.loc[case, counts[-1]]:.1f} %"
        figures[f"14_{case}"] = planes(cohort.read_image(case), shown, title=title)
    return figures


def _mask(study: Study, count: int, case: str) -> Volume:
    folder = _folder(study, count) / "predictions"
    rows = pd.read_csv(folder / "predictions.csv", dtype={"case": str}, keep_default_na=False)
    return read_prediction(folder, rows[rows["case"] == case].iloc[0].to_dict())[0]


def few_cases_findings(curve: pd.DataFrame) -> list[str]:
    """What 14 found, in sentences; `curve` is of `learn_from_few`."""
    means = 100 * curve.groupby("training_cases")["dsc"].mean()
    steps = ", ".join(f"{mean:.1f} % {_named(int(count))}" for count, mean in means.items())
    return [f"Mean DSC of {_scans(curve['case'].nunique(), 'held-out ')}: {steps}."]


def _named(count: int) -> str:
    """Weights by what they learnt from."""
    return f"tuned on {_scans(count)}" if count else "shipped, as they are"


def _scans(count: int, kind: str = "") -> str:
    return f"{count} {kind}scan{'' if count == 1 else 's'}"


def _shown(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "not measured"


def _require_possible(counts: Sequence[int], available: int, start_from: str) -> None:
    most = max(counts)
    if most > available:
        raise StudyError(f"{most} training cases are asked for, the cohort has {available}: ask for fewer")
    if 0 in counts and not start_from:
        raise StudyError("with 0 training cases there is nothing to score: leave it out, or set training.start_from")
