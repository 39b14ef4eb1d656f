"""The steps of the study, one call a notebook: each reads what earlier steps wrote and writes its own files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fhlib import metrics
from fhlib.agreement import Agreement, Repeatability, bland_altman, repeatability
from fhlib.biometry import biometry
from fhlib.calibration import calibrate, coverage, flag_rates
from fhlib.cohort import Cohort, assign_splits, load_cohort
from fhlib.device import choose_execution, process_group
from fhlib.files import DATA, progress, write_csv
from fhlib.files import WEIGHTS as WEIGHTS_FOLDER
from fhlib.growth import valid_weeks, zscore
from fhlib.importers import import_cohort
from fhlib.inference import (
    MEASURED_BESIDE,
    SegmentorParameters,
    export_segmentor,
    load_segmentor,
    model_digest,
    predict_cases,
    read_prediction,
)
from fhlib.networks.build import build_network
from fhlib.phantom.scan import simulate_scan
from fhlib.phantom.simulate import simulate_cohort
from fhlib.prepare import PreparedCases, prepare_cohort
from fhlib.presets import suggestion
from fhlib.study import Study, StudyError
from fhlib.training import Watch, copy_levels, fingerprint_of, fit, tune
from fhlib.variants import VARIANTS
from fhlib.volume import Volume, read_volume, write_volume

PREDICTED = ("test", "repro")
MEASURED = (
    ("volume_ml", "reference_volume_ml", "head volume", "mL"),
    ("hc_mm", "reference_hc_mm", "head circumference", "mm"),
    ("area_mm2", "reference_area_mm2", "head area", "mm2"),
)
"""What is compared with the reference, in order of preference: columns, name, unit. A circumference needs a skull outline."""


def make_cohort(study: Study) -> Cohort:
    """Simulate, import or open the run's cohort, and write its manifest with every split assigned to tables/cohort.csv."""
    preset = study.preset
    if study.source is None:
        spec = preset.simulated_cohort
        cohort = simulate_cohort(study.cohort_folder, spec, val_fraction=preset.val_fraction)
    else:
        cohort = import_cohort(study.source, study.cohort_folder)
    cohort = _outlining(cohort, preset.target)
    table = assign_splits(cohort.table, preset.split_seed, preset.test_fraction, preset.val_fraction)
    if not len(test_cases(table)):
        raise StudyError("no test case has a reference: give a label to some, or leave the column `split` empty")
    write_csv(table, study.tables / "cohort.csv")
    return cohort


def open_cohort(study: Study) -> tuple[Cohort, pd.DataFrame]:
    """The run's cohort and its manifest with splits. Raises StudyError where 01_cohort has not been run."""
    table = study.tables / "cohort.csv"
    if not table.exists() or not (study.cohort_folder / "cohort.csv").exists():
        raise StudyError(f"run {study.name!r} has no cohort yet: run 01_cohort first")
    cohort = _outlining(load_cohort(study.cohort_folder), study.preset.target)
    return cohort, pd.read_csv(table, dtype=str, keep_default_na=False)


def _outlining(cohort: Cohort, target: str) -> Cohort:
    """The cohort with the wanted outline as its label."""
    if target == "head":
        return cohort
    lacking = cohort.table[(cohort.table["label"] != "") & (cohort.table["label_skull"] == "")]
    if len(lacking):
        raise StudyError(
            f"the preset's target is the skull and {len(lacking)} cases have no label_skull, such as {lacking['case'].iloc[0]}: "
            "add it to cohort.csv, or choose a preset whose target is the head"
        )
    return replace(cohort, table=cohort.table.assign(label=cohort.table["label_skull"]))


def test_cases(table: pd.DataFrame) -> pd.DataFrame:
    """Test rows that can be scored: with a label, or without a head (then the reference is the empty mask)."""
    return table[(table["split"] == "test") & ((table["label"] != "") | (table["has_head"] == "false"))]


test_cases.__test__ = False  # type: ignore[attr-defined]


def prepare(study: Study) -> PreparedCases:
    """Write the network-resolution copies of the training and validation cases."""
    cohort, table = open_cohort(study)
    preset = study.preset
    originals = cohort.spatial_dims == 3 and preset.reads_slices
    return prepare_cohort(cohort, table, preset.preparation, study.prepared, originals)


def train(study: Study, variant: str, level: int, watch: Watch | None = None) -> pd.DataFrame:
    """Train one variant at its own context level, the last of them; returns its history. The levels before are its base's.

    Where the preset says so, learning rate and warm-up are tuned first (tables/tuning-<variant>-level<k>.csv).
    """
    _require_known(variant)
    base = VARIANTS[variant].base
    if level != VARIANTS[variant].levels:
        remedy = f"the levels before are those of {base}: train that" if base else "it has no other"
        raise StudyError(f"{variant} is trained at level {VARIANTS[variant].levels}, not {level}; {remedy}")
    cases = PreparedCases(study.prepared)
    previous = study.model_folder(base) if base else None
    folder = study.model_folder(variant) / f"level{level}"
    parameters = _parameters(study, variant, level, cases)
    if study.preset.tuning:
        tuned = tune(cases, parameters, study.preset.tuning, folder / "tuning", previous)
        write_csv(tuned, study.tables / f"tuning-{variant}-level{level}.csv")
        chosen = tuned[["learning_rate", "warm_up"]].iloc[0].to_dict()
        parameters = replace(parameters, training=parameters.training.model_copy(update=chosen))
    shared = folder / "tuning" / "contexts" if study.preset.tuning else None
    history = fit(cases, _marked(parameters, cases, previous), folder, previous, watch, shared)
    if shared:
        shutil.rmtree(shared, ignore_errors=True)
    if previous is not None and process_group().is_main_process:
        copy_levels(previous, folder.parent)
    return history


def _require_known(variant: str) -> None:
    if variant not in VARIANTS:
        raise StudyError(f"{variant!r} cannot be trained{suggestion(variant, VARIANTS)}; known: {', '.join(VARIANTS)}")


def _parameters(study: Study, variant: str, level: int, cases: PreparedCases) -> SegmentorParameters:
    """What the preset says for one segmentor on this machine; its fingerprint is still to come."""
    dims = cases.spatial_dims
    training = study.preset.training_for(dims)
    with process_group().main_process_first():  # of several processes one measures, the others read its choice
        execution = choose_execution(
            study.folder / "execution.json",
            lambda: build_network("USegNet-DS-HAS", training.width, dims),
            cases.typical_shape,
            training.batch_size,
        )
    outline = "skull" if open_cohort(study)[0].outlines_skull else "skin"
    processes = process_group().num_processes
    return SegmentorParameters(
        variant, level, dims, study.preset.preparation, training, execution, "", outline, processes
    )


def _marked(parameters: SegmentorParameters, cases: PreparedCases, previous: Path | None) -> SegmentorParameters:
    p = parameters
    return replace(p, fingerprint=fingerprint_of(p.variant, p.level, cases, p.training, p.execution, previous))


def learn_from_few(study: Study, variant: str, counts: Sequence[int] = (0, 1, 3, 5)) -> pd.DataFrame:
    """Scores of the test cases after training on the first so many training cases, a row a case and count; writes
    tables/learning_curve.csv. A count of 0 stands for the segmentor that training starts from (`start_from`), as it is.

    The segmentors and their masks lie in `learning_curve/<count>/` of the run. Test-time flips and calibration of the first one are
    left aside, so that all are looked at alike. Raises StudyError for more cases than there are, a count of 0 where training starts from
    nothing, and a variant of several levels.
    """
    _require_known(variant)
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
    parameters = _parameters(study, variant, 1, cases)
    rows: list[dict[str, Any]] = []
    for count in counts:
        folder = study.folder / "learning_curve" / str(count)
        model = folder if count else WEIGHTS_FOLDER / training.start_from
        if count:
            some = cases.without(names[count:])
            fit(some, _marked(parameters, some, None), folder / "level1")
        segmentor = load_segmentor(model, study.preset.prediction, parameters.execution)
        segmentor.calibration = None
        found = predict_cases(segmentor, tests, cohort.folder, folder / "predictions", model_digest(model))
        for case, row in zip(tests, found.to_dict("records"), strict=True):
            scores = _score_case(cohort, case, folder / "predictions", row)
            rows.append({"training_cases": count, "case": case["case"], "subject": case["subject"], **scores})
    curve = pd.DataFrame(rows)
    write_csv(curve, study.tables / "learning_curve.csv")
    return curve


def predict(study: Study, variant: str) -> pd.DataFrame:
    """Segment the test and reproducibility cases with a trained variant; returns a row a case."""
    cohort, table = open_cohort(study)
    folder = study.model_folder(variant)
    segmentor = load_segmentor(folder, study.preset.prediction)
    cases = table[table["split"].isin(PREDICTED)].to_dict("records")
    return predict_cases(segmentor, cases, cohort.folder, study.prediction_folder(variant), model_digest(folder))


def predictions(study: Study, variant: str) -> pd.DataFrame:
    """What `predict` wrote. Raises StudyError where it has not run."""
    path = study.prediction_folder(variant) / "predictions.csv"
    if not path.exists():
        raise StudyError(f"{variant} has no predictions in run {study.name!r}: run 04_predict with it first")
    return pd.read_csv(path, dtype={"case": str, "subject": str}, keep_default_na=False, na_values={"volume_ml": [""]})


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
            row = _score_case(cohort, case, folder, found.get(case["case"]))
            rows.append({"variant": variant, "case": case["case"], "subject": case["subject"], "split": "test", **row})
    scores = pd.DataFrame(rows)
    write_csv(scores, study.tables / "scores.csv")
    return scores


def _score_case(
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


def export_weights(study: Study, variant: str, destination: Path) -> None:
    """Copy a trained variant to a folder that ships, calibrate it on the validation scans and measure it on scans that were held out.

    Held out are the test scans, or of a simulated cohort `HELD_OUT` new subjects. Writes beside the weights calibration.json, and
    coverage.csv and flags.csv (`fhlib.calibration`); in 2D, and with too few validation scans, weights only. Raises as `load_segmentor`
    does.
    """
    cohort, table = open_cohort(study)
    export_segmentor(study.model_folder(variant), destination)
    validation = table[table["split"] == "val"]
    if cohort.spatial_dims == 2 or len(validation) < FEWEST_TO_CALIBRATE:
        return
    segmentor = load_segmentor(destination, study.preset.prediction)
    segmentor.calibration = calibrate(segmentor, _Scans(cohort, validation["case"].tolist()))
    segmentor.calibration.save(destination)
    if study.cohort_kind == "simulated":
        spec = study.preset.simulated_cohort
        changes = {"seed": spec.seed + 1, "train_subjects": 1, "test_subjects": HELD_OUT, "reproducibility_subjects": 0}
        folder = study.cohort_folder.with_name(f"{study.cohort_name}-held-out")
        cohort = _outlining(
            simulate_cohort(folder, spec.model_copy(update=changes), val_fraction=0.0), study.preset.target
        )
        table = cohort.table
    tests = test_cases(table)
    write_csv(coverage(segmentor, _Scans(cohort, tests["case"].tolist())), destination / MEASURED_BESIDE[0])
    whole = tests.loc[tests["has_head"] != "false", "case"].tolist()[:DAMAGED]
    write_csv(flag_rates(segmentor, _Scans(cohort, whole)), destination / MEASURED_BESIDE[1])


FEWEST_TO_CALIBRATE, HELD_OUT, DAMAGED = 25, 180, 25


class _Scans(Sequence[tuple[Volume, Volume]]):
    """Scans and labels of some cases, read when they are asked for."""

    def __init__(self, cohort: Cohort, cases: Sequence[str]) -> None:
        self.cohort, self.cases = cohort, cases

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, place: Any) -> Any:
        return self.cohort.read_image(self.cases[place]), self.cohort.read_label(self.cases[place])


def unseen_example(study: Study) -> list[Path]:
    """A scan outside the study, so that there is something to segment: a simulated subject of its own, or in 2D a test image.

    (A 2D cohort has no simulated counterpart; its test images were not trained on.)
    """
    cohort, table = open_cohort(study)
    if cohort.spatial_dims == 2:
        return [cohort.path(table.loc[table["split"] == "test", "case"].iloc[0])]
    spacing = min(study.preset.simulated_cohort.spacing_mm, 2.0)
    path = study.folder / "unseen" / f"simulated-{UNSEEN_SEED}.nrrd"
    write_volume(simulate_scan(UNSEEN_SEED, spacing_mm=spacing).image, path)
    return [path]


UNSEEN_SEED = 990001
"""No cohort reaches this subject's number."""
REFERENCE = DATA / "reference"


def printed_table(number: int) -> pd.DataFrame:
    """Table 1 or 2 as the paper prints it: percent and mm."""
    return pd.read_csv(REFERENCE / f"table{number}.csv")
