"""Copy a trained variant to a folder that ships, calibrated and measured."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from fhlib.cohorts.manifest import Cohort
from fhlib.cohorts.simulated import simulate_cohort
from fhlib.files import atomic_path, write_csv
from fhlib.images.volume import Volume
from fhlib.segmentation.calibration import calibrate, coverage, flag_rates
from fhlib.segmentation.quality import CALIBRATION, Calibration
from fhlib.segmentation.segmentor import load_segmentor
from fhlib.study.run import Study, open_cohort, outlining, test_cases

MEASURED_BESIDE = ("coverage.csv", "flags.csv")


def export_segmentor(folder: Path | str, destination: Path | str) -> None:
    """Copy a variant's folder to one that ships: weights in half precision, parameters, calibration; `load_segmentor` reads both.

    Raises as `load_segmentor` does, before anything is written.
    """
    load_segmentor(folder)
    for name in (CALIBRATION, *MEASURED_BESIDE):  # of other weights
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
    """Copy a trained variant to a folder that ships, calibrate it on the validation scans and measure it on scans that were held out.

    Held out are the test scans, or of a simulated cohort `HELD_OUT` new subjects. Writes beside the weights calibration.json, and
    coverage.csv and flags.csv (`segmentation.calibration`); in 2D, and with too few validation scans, weights only. Raises as
    `load_segmentor`
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
        cohort = outlining(
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
