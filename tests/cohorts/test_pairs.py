"""Scans brought as pairs of files."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.importers import import_cohort
from fhlib.files import write_json
from fhlib.fingerprints import file_digest
from fhlib.images.formats import write_volume
from tests.cohorts.made import pair
from tests.images.made import right_handed, write_series


def test_pairs(tmp_path):
    source = tmp_path / "pairs"
    for i, (name, label) in enumerate((("a.nii.gz", "a_Label.nii.gz"), ("B 2.nrrd", "b 2_LABEL.mha"), ("c.mha", ""))):
        image, mask = pair(i)
        write_volume(image, source / name)
        if label:
            write_volume(mask, source / label)
    (source / "notes.txt").write_text("nothing")
    cohort = import_cohort(source, tmp_path / "out")
    assert cohort.table["case"].tolist() == cohort.table["subject"].tolist() == ["B-2", "a", "c"]
    for i, case in enumerate(["a", "B-2"]):
        image, mask = pair(i)
        back = cohort.read_image(case)
        np.testing.assert_array_equal(back.array, image.array)
        assert back.array.dtype == np.uint8 and back.same_geometry(image, 1e-4)
        np.testing.assert_array_equal(cohort.read_label(case).array, mask.array)
    findings = check_cohort(cohort, show_progress=False)
    assert findings[["case", "check", "severity"]].values.tolist() == [["c", "missing label", "warning"]]
    assert not cohort.outlines_skull


def test_pairs_of_dicom_folders_take_their_names_not_their_tags(tmp_path):
    source, volume = tmp_path / "scans", right_handed()
    source.mkdir()
    write_series(volume, source / "case7", patient="Jane^Planted")
    mask = np.zeros(volume.shape, bool)
    mask[1:4, 2:5, 3:8] = True
    write_volume(volume.with_array(mask), source / "case7_label.nrrd")
    cohort = import_cohort(source, tmp_path / "out")
    assert cohort.table[["case", "subject"]].values.tolist() == [["case7", "case7"]]
    np.testing.assert_array_equal(cohort.read_image("case7").array, volume.array)
    assert cohort.read_image("case7").same_geometry(volume, 1e-4)
    for path in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        assert b"Planted" not in path.read_bytes() and str(tmp_path).encode() not in path.read_bytes()


def test_pairs_that_do_not_match(tmp_path):
    image, mask = pair()
    write_volume(image, tmp_path / "one" / "a.nrrd")
    write_volume(mask, tmp_path / "one" / "b_Label.nrrd")
    with pytest.raises(ValueError, match=r"no image for b_Label\.nrrd"):
        import_cohort(tmp_path / "one", tmp_path / "out")
    for name in ("a.nrrd", "a.mha"):
        write_volume(image, tmp_path / "two" / name)
    write_volume(mask, tmp_path / "two" / "a_Label.nrrd")
    with pytest.raises(ValueError, match=r"a\.mha and a\.nrrd are two images of one name"):
        import_cohort(tmp_path / "two", tmp_path / "out")


def test_a_skull_that_a_person_has_changed_is_the_skulls_label_and_one_as_it_was_written_is_none(tmp_path):
    image, mask = pair()
    skull = ndimage.binary_erosion(mask.array > 0)
    for name in ("a", "b"):
        write_volume(image, tmp_path / "scans" / f"{name}.nrrd")
        write_volume(mask, tmp_path / "scans" / f"{name}_mask.nii.gz")
        written = tmp_path / "scans" / f"{name}_skull.nii.gz"
        write_volume(image.with_array(skull), written)
        record = {"written": {written.name: [file_digest(written)]}}
        write_json(record, tmp_path / "scans" / f"{name}.fhlib.json")
    corrected = ndimage.binary_erosion(skull)
    write_volume(image.with_array(corrected), tmp_path / "scans" / "b_skull.nii.gz")

    cohort = import_cohort(tmp_path / "scans", tmp_path / "out")
    assert cohort.table["label_skull"].ne("").tolist() == [False, True]
    np.testing.assert_array_equal(cohort.read_label("b", "label_skull").array, corrected)
    np.testing.assert_array_equal(cohort.read_label("b").array, mask.array > 0)


@pytest.mark.parametrize("content", ["", "[1]", '{"written": 3}', '{"written": {"a_mask.nii.gz": null}}'])
def test_a_damaged_record_is_none(tmp_path, content):
    image, mask = pair()
    write_volume(image, tmp_path / "scans" / "a.nrrd")
    write_volume(mask, tmp_path / "scans" / "a_mask.nii.gz")
    (tmp_path / "scans" / "a.fhlib.json").write_text(content)
    assert import_cohort(tmp_path / "scans", tmp_path / "out").read_label("a").array.sum() == (mask.array > 0).sum()


def test_a_folder_without_a_label_is_passed_over_and_said(tmp_path):
    image, mask = pair()
    write_volume(image, tmp_path / "in" / "a.nrrd")
    write_volume(mask, tmp_path / "in" / "a_Label.nrrd")
    (tmp_path / "in" / "P2").mkdir()
    with pytest.warns(UserWarning, match="passed over, as folders without a label: P2"):
        assert import_cohort(tmp_path / "in", tmp_path / "out").table["case"].tolist() == ["a"]
