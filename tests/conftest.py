"""Fixtures that tests of several packages share: a small cohort, prepared and trained on."""

from __future__ import annotations

import pandas as pd
import pytest

from fhlib.cohorts.manifest import load_cohort
from fhlib.images.formats import write_volume
from fhlib.training.contexts import copy_levels
from fhlib.training.prepared import prepare_cohort
from fhlib.training.trainer import fit
from tests.small_cohort import PREPARATION, SPLITS, parameters, scan


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Cases c0 to c5 of six subjects: three to train on, one to validate, two to test."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = []
    for number, split in enumerate(SPLITS):
        image, label = scan(number)
        write_volume(image, folder / f"{number}.nrrd")
        write_volume(label, folder / f"{number}_label.nrrd")
        names = {"image": f"{number}.nrrd", "label": f"{number}_label.nrrd"}
        rows.append({"case": f"c{number}", "subject": f"s{number}", **names, "split": split})
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    return load_cohort(folder)


@pytest.fixture(scope="session")
def cases(cohort, tmp_path_factory):
    """The cohort's training and validation cases at 4 mm."""
    return prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def cascade_folder(cases, tmp_path_factory):
    """Folder of a USegNet-DS-HAS-Ctx trained for seven steps a level; its base's lies beside it."""
    folder = tmp_path_factory.mktemp("models")
    base, whole = folder / "USegNet-DS-HAS", folder / "USegNet-DS-HAS-Ctx"
    fit(cases, parameters("USegNet-DS-HAS"), base / "level1")
    fit(cases, parameters("USegNet-DS-HAS-Ctx", level=2), whole / "level2", base)
    copy_levels(base, whole)
    return whole
