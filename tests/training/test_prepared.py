"""Prepared cases on a small made cohort: oblique, anisotropic, not cubic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fhlib.presets import Preparation
from fhlib.training.prepared import prepare_cohort
from tests.small_cohort import PREPARATION


def test_prepared_arrays_are_at_the_networks_resolution_and_in_zero_one(cases, cohort):
    # 52 x 60 x 52 mm at 4 mm
    assert cases.typical_shape == (13, 15, 13)
    image, label = np.asarray(cases.image("c0")), np.asarray(cases.label("c0"))
    assert (image.min(), image.max()) == (0, 1) and image.dtype == np.float32
    assert set(np.unique(label)) == {0, 1} and label.shape == image.shape
    assert cases.cases("train") == ["c0", "c1", "c2"] and cases.cases("test") == []


def test_preparing_again_writes_nothing_and_a_changed_image_is_redone(cohort, tmp_path):
    first = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    second = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == times
    assert second.fingerprint == first.fingerprint
    coarser = prepare_cohort(cohort, cohort.table, Preparation(spacing_mm=5.0), tmp_path)
    assert coarser.fingerprint != first.fingerprint and coarser.typical_shape == (10, 12, 10)


def test_a_spacing_that_the_row_gives_is_used_and_makes_the_copy_anew(cohort, tmp_path):
    first = prepare_cohort(cohort, cohort.table, PREPARATION, tmp_path).fingerprint
    coarse = replace(cohort, table=cohort.table.assign(spacing_mm="4,3,2"))  # files state 2 x 1.5 x 1 mm
    second = prepare_cohort(coarse, coarse.table, PREPARATION, tmp_path)
    assert second.fingerprint != first
    assert second.typical_shape == (26, 30, 26)  # 104 x 120 x 104 mm at 4 mm


def test_ids_that_look_like_numbers_or_nothing_stay_as_they_are(cohort, tmp_path):
    ids = ["NA", "007", "1e3", "None", "nan", "True"]
    odd = replace(cohort, table=cohort.table.assign(case=ids, subject=ids))
    index = prepare_cohort(odd, odd.table, PREPARATION, tmp_path).index
    assert index["case"].tolist() == index["subject"].tolist() == ids[:4]
