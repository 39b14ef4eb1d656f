"""Copy a trained variant to a folder that ships, calibrated and measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file, save_file

from fhlib.cohorts.manifest import Cohort
from fhlib.cohorts.simulated import simulate_cohort
from fhlib.files import atomic_path, write_csv
from fhlib.images.volume import Volume
from fhlib.segmentation.calibration import calibrate, coverage, flag_rates
from fhlib.segmentation.quality import CALIBRATION, Calibration
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.run import Study, open_cohort, outlining, test_cases

COVERAGE_TABLE, FLAGS_TABLE = "coverage.csv", "flags.csv"
FEWEST_TO_CALIBRATE, HELD_OUT, DAMAGED = 25, 180, 25


def export_segmentor(folder: Path | str, destination: Path | str) -> None:
    """Copy a variant's folder to one that ships: weights in half precision, parameters, calibration.

    `load_segmentor` reads both. Raises as it does, before anything is written.
    """
    load_segmentor(folder)
    for name in (CALIBRATION, COVERAGE_TABLE, FLAGS_TABLE):  # of other weights
        (Path(destination) / name).unlink(missing_ok=True)
    for level in Path(destination).glob("level*"):
        shutil.rmtree(level)
    for path in Path(folder).glob("level*/weights.safetensors"):
        target = Path(destination) / path.parent.name / path.name
        half = {name: tensor.half() for name, tensor in load_file(path).items()}
        with atomic_path(target.with_name("parameters.json")) as temporary:
            shutil.copyfile(path.with_name("parameters.json"), temporary)
        with atomic_path(target) as temporary:
            save_file(half, temporary)
    if calibration := Calibration.load(Path(folder)):
        calibration.save(Path(destination))


def export_weights(study: Study, variant: str, destination: Path) -> None:
    """Copy a trained variant to a folder that ships, calibrate it on the validation scans and measure it on others.

    Measured are the test scans, or of a simulated cohort `HELD_OUT` new subjects. Beside the weights it writes
    calibration.json, coverage.csv and flags.csv (`segmentation.calibration`). In 2D, and with too few validation scans,
    it writes weights only.

    Args:
        study: the run.
        variant: that it has trained.
        destination: the folder; what it holds of other weights is removed.
    """
    cohort, table = open_cohort(study)
    export_segmentor(study.model_folder(variant), destination)
    validation = table[table["split"] == "val"]
    if cohort.spatial_dims == 2 or len(validation) < FEWEST_TO_CALIBRATE:
        return
    segmentor = load_segmentor(destination, study.preset.prediction)
    segmentor.calibration = calibrate(segmentor, _Scans(cohort, validation))
    segmentor.calibration.save(destination)

    if study.cohort_kind == "simulated":
        cohort = _held_out(study)
        table = cohort.table
    tests = test_cases(table)
    write_csv(coverage(segmentor, _Scans(cohort, tests)), destination / COVERAGE_TABLE)
    whole = tests[tests["has_head"] != "false"].head(DAMAGED)
    write_csv(flag_rates(segmentor, _Scans(cohort, whole)), destination / FLAGS_TABLE)


def _held_out(study: Study) -> Cohort:
    """Simulated subjects that no split of the run holds."""
    spec = study.preset.simulated_cohort
    changes = {"seed": spec.seed + 1, "train_subjects": 1, "test_subjects": HELD_OUT, "reproducibility_subjects": 0}
    folder = study.cohort_folder.with_name(f"{study.cohort_name}-held-out")
    cohort = simulate_cohort(folder, spec.model_copy(update=changes), val_fraction=0.0)
    return outlining(cohort, study.preset.target)


class _Scans:
    """Scans and labels of some cases, read when they are asked for; the length is for the progress bar."""

    def __init__(self, cohort: Cohort, rows: pd.DataFrame) -> None:
        self.cohort, self.cases = cohort, rows["case"].tolist()

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[tuple[Volume, Volume]]:
        return ((self.cohort.read_image(case), self.cohort.read_label(case)) for case in self.cases)
