"""Copy a trained variant to a folder that ships, calibrated and measured."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from fhlib.cohorts.manifest import Cohort
from fhlib.cohorts.simulated import simulate_cohort
from fhlib.files import write_csv, write_json
from fhlib.images.volume import Volume
from fhlib.measures.ellipse import ellipse_of
from fhlib.models.card import ABOUT
from fhlib.models.parameters import PARAMETERS_FILE, SegmentorParameters
from fhlib.models.weights import model_digest, save_level, weights_files
from fhlib.phantom.scan import ANY
from fhlib.segmentation.calibration import calibrate, coverage, flag_rates, robustness
from fhlib.segmentation.head_circumference import calibrate_hc, hc_coverage
from fhlib.segmentation.quality import CALIBRATION, Calibration
from fhlib.segmentation.segmentor import Segmentor, load_segmentor
from fhlib.study.run import Study, open_cohort, outlining, test_cases

COVERAGE_TABLE, FLAGS_TABLE, FORMS_TABLE = "coverage.csv", "flags.csv", "robustness.csv"
FEWEST_TO_CALIBRATE, HELD_OUT, DAMAGED, CHANGED = 25, 180, 25, 50


def export_segmentor(folder: Path | str, destination: Path | str) -> None:
    """Copy a variant's folder to one that ships: weights in half precision, parameters, calibration.

    `load_segmentor` reads both. What the destination holds of other weights is removed once the new ones are written. Raises as
    `load_segmentor` does, and ValueError for weights that half precision cannot hold, before anything is changed.
    """
    folder, destination = Path(folder), Path(destination)
    load_segmentor(folder)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=destination) as place:
        staged = Path(place)
        for path in weights_files(folder):
            half = {name: tensor.half() for name, tensor in load_file(path).items()}
            parameters = SegmentorParameters.load(path.with_name(PARAMETERS_FILE))
            save_level(half, parameters, staged / path.parent.name)
        if calibration := Calibration.load(folder):
            replace(calibration, weights_digest=model_digest(staged)).save(staged)
        _put_in_place(staged, destination)


def _put_in_place(staged: Path, destination: Path) -> None:
    """Replace weights and what was measured of them."""
    for name in (CALIBRATION, ABOUT, COVERAGE_TABLE, FLAGS_TABLE, FORMS_TABLE):
        (destination / name).unlink(missing_ok=True)
    for level in destination.glob("level*"):
        shutil.rmtree(level)
    for entry in staged.iterdir():
        entry.replace(destination / entry.name)


def export_weights(study: Study, variant: str, destination: Path) -> None:
    """Copy a trained variant to a folder that ships, calibrate it on the validation scans and measure it on others.

    Measured are the test scans, or of a simulated cohort `HELD_OUT` new subjects. Beside the weights it writes about.json,
    calibration.json, coverage.csv, flags.csv and robustness.csv (`segmentation.calibration`). Of single images of the skull it writes
    calibration.json and coverage.csv, which are of HC (`segmentation.head_circumference`). In other 2D cohorts, and with too few
    validation scans,
    it writes weights only.

    Args:
        study: the run.
        variant: that it has trained.
        destination: the folder; what it holds of other weights is removed.
    """
    cohort, table = open_cohort(study)
    export_segmentor(study.model_folder(variant), destination)
    write_json(about(study, cohort, table), destination / ABOUT)
    validation = table[table["split"] == "val"]
    if len(validation) < FEWEST_TO_CALIBRATE or (cohort.spatial_dims == 2 and cohort.outline != "skull"):
        return
    segmentor = load_segmentor(destination, study.preset.prediction)
    if cohort.spatial_dims == 2:
        measure_hc(segmentor, destination, cohort, validation, test_cases(table))
        return
    measured = calibrate(segmentor, _Scans(cohort, validation))
    segmentor.calibration = replace(measured, weights_digest=model_digest(destination))
    segmentor.calibration.save(destination)

    if study.cohort_kind == "simulated":
        cohort = _held_out(study)
        table = cohort.table
    tests = test_cases(table)
    whole = tests[tests["has_head"] != "false"]
    two_outlines = cohort.outline == "skin" and (whole["label_skull"] != "").all()
    skulls = (cohort.read_label(case, "label_skull") for case in tests["case"]) if two_outlines else None
    write_csv(coverage(segmentor, _Scans(cohort, tests), skulls), destination / COVERAGE_TABLE)
    write_csv(flag_rates(segmentor, _Scans(cohort, whole.head(DAMAGED))), destination / FLAGS_TABLE)
    write_csv(robustness(segmentor, _Scans(cohort, whole.head(CHANGED))), destination / FORMS_TABLE)


def about(study: Study, cohort: Cohort, table: pd.DataFrame) -> dict[str, str]:
    """What a run's weights have learnt from and are measured on, in words, as pages of cases show it (`fhlib.models.card`)."""
    training = study.preset.training_for(cohort.spatial_dims)
    began = f", from the weights {training.start_from} on" if training.start_from else ""
    count = int((table["split"] == "train").sum())
    if study.cohort_kind != "simulated":
        tests = len(test_cases(table))
        measured = f"{tests} held-out scans of that cohort"
        real = f"Measured on {measured} alone." if cohort.spatial_dims == 3 else ""
        return {"trained_on": f"{count} scans of cohort {cohort.name}{began}", "measured_on": measured, "real": real}
    weeks = study.preset.simulated_cohort.ga_weeks
    ages = f" of {weeks[0]:g} to {weeks[1]:g} weeks" if weeks else ""
    return {
        "trained_on": f"{count} simulated scans{ages}{began}",
        "measured_on": f"{HELD_OUT} simulated scans of other subjects",
    }


def measure_hc(
    segmentor: Segmentor, destination: Path, cohort: Cohort, validation: pd.DataFrame, tests: pd.DataFrame
) -> None:
    """Calibrate a segmentor of single images on some cases and measure it on others; writes calibration.json and coverage.csv.

    Args:
        segmentor: of the weights in `destination`.
        destination: their folder.
        cohort: of images with their skull.
        validation: rows of its manifest to calibrate on.
        tests: rows to measure on.
    """
    measured = calibrate_hc(segmentor, _Circumferences(cohort, validation))
    segmentor.calibration = replace(measured, weights_digest=model_digest(destination))
    segmentor.calibration.save(destination)
    table = hc_coverage(segmentor, _Circumferences(cohort, tests))
    table.insert(0, "case", tests["case"].tolist())
    write_csv(table, destination / COVERAGE_TABLE)


def _held_out(study: Study) -> Cohort:
    """Simulated subjects that no split of the run holds; of drawn machines alone, where those are among its sites."""
    spec = study.preset.simulated_cohort
    changes: dict[str, Any] = {
        "seed": spec.seed + 1,
        "train_subjects": 1,
        "test_subjects": HELD_OUT,
        "reproducibility_subjects": 0,
    }
    changes |= {"sites": (ANY,)} if ANY in spec.sites else {}
    folder = study.cohort_folder.with_name(f"{study.cohort_name}-held-out")
    cohort = simulate_cohort(folder, spec.model_copy(update=changes), val_fraction=0.0)
    return outlining(cohort, study.preset.target)


class _Circumferences:
    """As `_Scans`, each with the HC that the manifest states, else that of its label."""

    def __init__(self, cohort: Cohort, rows: pd.DataFrame) -> None:
        self.scans, self.stated = _Scans(cohort, rows), pd.to_numeric(rows["reference_hc_mm"]).tolist()

    def __len__(self) -> int:
        return len(self.scans)

    def __iter__(self) -> Iterator[tuple[Volume, Volume, float]]:
        for (image, label), hc_mm in zip(self.scans, self.stated, strict=True):
            yield image, label, hc_mm if math.isfinite(hc_mm) else ellipse_of(label).hc_mm


class _Scans:
    """Scans and labels of some cases, read when they are asked for; the length is for the progress bar."""

    def __init__(self, cohort: Cohort, rows: pd.DataFrame) -> None:
        self.cohort, self.cases = cohort, rows["case"].tolist()

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[tuple[Volume, Volume]]:
        return ((self.cohort.read_image(case), self.cohort.read_label(case)) for case in self.cases)
