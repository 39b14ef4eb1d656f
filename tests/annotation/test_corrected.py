"""Corrected scans are a cohort that fine-tuning reads, and what nobody drew in stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from fhlib.annotation.corrected import Corrected, carried_over, coarse_steps
from fhlib.cohorts.importers import import_cohort
from fhlib.images.formats import read_volume
from fhlib.images.volume import Volume

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def scan(value: int = 9) -> Volume:
    array = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7) + np.uint8(value)
    return Volume(array, (0.5, 0.75, 1.25), (3.0, -4.0, 5.0), OBLIQUE)


def head() -> np.ndarray:
    mask = np.zeros((5, 6, 7), bool)
    mask[1:4, 2:5, 1:6] = True
    return mask


def test_a_saved_label_has_the_scans_geometry(tmp_path):
    path = Corrected(tmp_path).save("a", scan(), head())
    label = read_volume(path)
    assert label.same_geometry(scan()) and np.array_equal(label.array > 0, head())
    assert label.array.sum() == 45


def test_the_folder_is_a_cohort_of_two_subjects(tmp_path):
    corrected = Corrected(tmp_path / "corrected")
    for name in ("a", "b"):
        corrected.save(name, scan(), head())
    cohort = import_cohort(corrected.folder, tmp_path / "cohort")
    assert corrected.names == sorted(cohort.table["case"]) == ["a", "b"]
    assert cohort.read_label("a").same_geometry(scan())


def test_another_scan_of_the_same_name_is_kept(tmp_path):
    corrected = Corrected(tmp_path)
    first, second = corrected.save("a", scan(), head()), corrected.save("a", scan(40), ~head())
    assert (first.name, second.name) == ("a_Label.nrrd", "a~2_Label.nrrd")
    assert corrected.save("a", scan(40), head()) == second  # corrected once more
    for image, path in ((scan(), first), (scan(40), second)):
        saved = corrected.saved("a", image)
        assert saved is not None and np.array_equal(saved.array > 0, head())
        assert np.array_equal(read_volume(tmp_path / path.name.replace("_Label", "")).array, image.array)
    assert corrected.saved("a", scan(80)) is None and corrected.names == ["a", "a~2"]
    assert len(set(import_cohort(tmp_path, tmp_path / "cohort").table["subject"])) == 2


def test_learning_on_takes_two_scans(tmp_path):
    corrected = Corrected(tmp_path)
    corrected.save("a", scan(), head())
    with pytest.raises(ValueError, match=r"1 scan\(s\) are corrected, and learning on takes 2"):
        corrected.learning_on("mine")
    corrected.save("b", scan(), head())
    assert corrected.learning_on("mine")[1:] == [
        *("-m", "fhlib", "study", "--preset", "fine-tune", "--cohort", str(tmp_path), "--run", "mine"),
    ]


@pytest.mark.parametrize(
    ("mask", "said"),
    [(np.zeros((5, 6, 7), bool), "nothing is drawn in a"), (np.ones((5, 6, 8), bool), "must be the same")],
)
def test_what_teaches_nothing_is_not_written(tmp_path, mask, said):
    with pytest.raises(ValueError, match=said):
        Corrected(tmp_path).save("a", scan(), mask)
    assert not list(tmp_path.iterdir())


def test_a_change_on_a_coarse_grid_stands_for_its_block_alone():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 1, 1] = True  # between the voxels that are shown: lost on the coarse grid, and kept
    steps = (2, 3, 2)
    shown = mask[::2, ::3, ::2]
    drawn = shown.copy()
    drawn[2, 1, 3] = True  # the block of z = 4, y = 3 to 5, x = 6
    fine = carried_over(drawn, shown, mask, steps)
    expected = mask.copy()
    expected[4, 3:6, 6] = True
    assert np.array_equal(fine, expected) and not shown.any()


def test_no_axis_is_shown_with_more_voxels_than_asked_for():
    assert coarse_steps((440, 258, 388), 192) == (3, 2, 3)
    assert coarse_steps((192, 80, 100), 192) == (1, 1, 1)
