"""The validation report of a cohort's files."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.manifest import CohortError, load_cohort
from fhlib.images.formats import write_volume
from fhlib.images.kretz import write_kretz
from fhlib.images.volume import Volume, from_sitk, to_sitk
from tests.cohorts.made import checks, head, make, scan


def spoil(folder, image=None, label=None):
    if image is not None:
        write_volume(image, folder / "images" / "c1.nrrd")
    if label is not None:
        write_volume(label, folder / "labels" / "c1.nrrd")


def with_values(volume, **values):
    array = volume.array.astype(np.float32)
    for value in values.values():
        array[4, 5, 6] = value
    return volume.with_array(array)


@pytest.mark.parametrize(
    ("image", "label", "check", "severity", "message"),
    [
        (None, head(origin=(5, -6, 8)), "geometry", "error", "origin is 5 x -6 x 8, the image's 5 x -6 x 7"),
        (None, head(spacing_mm=(4, 2, 2)), "geometry", "error", "spacing is 4 x 2 x 2, the image's 4 x 2 x 3"),
        (None, head(direction=()), "geometry", "error", "direction is 1 x 0"),
        (None, head(array=head().array[:8]), "geometry", "error", "size is 8 x 13 x 17, the image's 9 x 13 x 17"),
        (None, with_values(head(), other=2), "label not binary", "error", r"2 values besides 0 \(1.0, 2.0\)"),
        (None, head(array=np.zeros((9, 13, 17), np.uint8)), "empty label", "error", "where a head is expected"),
        (None, head(array=np.roll(head().array, 2, 0)), "head at the border", "warning", "touches the edge"),
        (with_values(scan(5), hole=np.nan), None, "intensities", "error", "1 voxels are not finite"),
        (scan(5, array=np.full((9, 13, 17), 3.0)), None, "intensities", "error", r"every voxel is 3\.0"),
        (head(), None, "intensities", "error", "as a mask does"),
        (scan(2), None, "duplicate image", "error", r"voxels are those of case c1"),
        (scan(5, spacing_mm=(1, 1, 1)), head(spacing_mm=(1, 1, 1)), "spacing", "warning", "without a spacing"),
        (scan(5, spacing_mm=(400, 2, 3)), None, "unreadable file", "error", "states voxels of 400 x 2 x 3 mm"),
        (scan(5, spacing_mm=(0.4, 0.2, 0.3)), head(spacing_mm=(0.4, 0.2, 0.3)), "head size", "warning", "2.44 mm"),
    ],
)
def test_files_that_are_wrong(tmp_path, image, label, check, severity, message):
    spoil(make(tmp_path), image, label)
    findings = check_cohort(tmp_path, show_progress=False)
    found = findings[findings["check"] == check]
    assert found["case"].tolist() == (["c2"] if check == "duplicate image" else ["c1"])
    assert found["severity"].tolist() == [severity]
    assert found["message"].str.contains(message).all()
    if severity == "error":
        with pytest.raises(CohortError, match=message):
            check_cohort(tmp_path, show_progress=False, raise_errors=True)


def test_missing_unreadable_and_mixed_files_are_all_listed(tmp_path):
    make(tmp_path, count=4)
    (tmp_path / "images" / "c0.nrrd").unlink()
    (tmp_path / "labels" / "c1.nrrd").write_text("nonsense")
    flat = Volume(scan(7).array[0], (1.5, 1), (0, 0))
    write_volume(flat, tmp_path / "images" / "c3.nrrd")
    write_volume(flat.with_array(head().array[4]), tmp_path / "labels" / "c3.nrrd")
    assert checks(tmp_path) == [
        ("c0", "missing file", "error"),
        ("c1", "unreadable file", "error"),
        ("c3", "dimensions", "error"),
    ]
    with pytest.raises(CohortError) as caught:
        check_cohort(tmp_path, raise_errors=True)
    assert len(caught.value.findings) == 3
    text = str(caught.value)
    assert "3 error(s)" in text and "c0: missing file: image: there is no images/c0.nrrd" in text
    assert str(tmp_path) not in text


def test_labels_that_may_be_absent(tmp_path):
    make(tmp_path, label=["", "", "labels/c2.nrrd"], has_head=["no", "", ""], split=["train", "repro", "test"])
    cohort = load_cohort(tmp_path)
    assert checks(tmp_path) == [("c1", "missing label", "warning")]
    empty = cohort.read_label("c0")  # no head: the empty mask is the reference
    assert not empty.array.any() and empty.same_geometry(cohort.read_image("c0"))
    with pytest.raises(CohortError, match="no label is given"):
        cohort.read_label("c1")


def test_a_label_where_no_head_should_be(tmp_path):
    make(tmp_path, has_head=["false", "", ""])
    assert checks(tmp_path) == [("c0", "unexpected head", "error")]


def test_skull_labels(tmp_path):
    folder = make(tmp_path, label_skull=[f"labels/c{i}.nrrd" for i in range(3)])
    assert load_cohort(folder).outlines_skull and checks(folder) == []
    write_volume(head(origin=(0, 0, 0)), folder / "skull.nrrd")
    make(tmp_path, label_skull=["skull.nrrd", "", ""])
    assert not load_cohort(folder).outlines_skull
    assert checks(folder) == [("c0", "geometry", "error")]
    assert load_cohort(folder).read_label("c0", "label_skull").origin == (0, 0, 0)


def test_a_label_of_255_is_binary_and_of_two_structures_is_not(tmp_path):
    make(tmp_path)
    spoil(tmp_path, label=head(array=head(1).array.astype(np.uint8) * 255))
    assert checks(tmp_path) == [] and load_cohort(tmp_path).read_label("c1").array.sum() == 315
    spoil(tmp_path, label=with_values(head(), other=7))
    with pytest.raises(CohortError, match=r"more than one value besides 0 \(1.0 to 7.0\)"):
        load_cohort(tmp_path).read_label("c1")


def test_a_slice_that_is_stored_as_a_volume_is_found(tmp_path):
    folder = make(tmp_path)
    for axis, case in ((0, "c0"), (2, "c1")):
        for kind, volume in (("images", scan(axis)), ("labels", head())):
            slice_ = np.take(volume.array, [5], axis)
            write_volume(Volume(slice_, volume.spacing_mm), folder / kind / f"{case}.nrrd")
    found = {(case, check, severity) for case, check, severity in checks(folder) if check == "thin volume"}
    assert found == {("c0", "thin volume", "warning"), ("c1", "thin volume", "warning")}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lambda mask: mask * np.linspace(0.1, 1, mask.size).reshape(mask.shape), "a probability, a smoothed mask"),
        (lambda mask: np.where(mask, 0.5, 0) + 0.25 * np.roll(mask, 1, 0), "save 1 where it is at least half"),
        (lambda mask: (np.linspace(1, 255, mask.size).reshape(mask.shape) * mask).astype(np.uint8), "a smoothed mask"),
        (lambda mask: mask + np.uint8(1), r"2 values besides 0 \(1, 2\): save one structure"),
    ],
)
def test_probabilities_and_smoothed_masks_are_refused(tmp_path, values, words):
    make(tmp_path)
    spoil(tmp_path, label=head(array=values(head().array)))
    findings = check_cohort(tmp_path, show_progress=False)
    assert findings[["case", "check", "severity"]].values.tolist() == [["c1", "label not binary", "error"]]
    assert findings["message"].str.contains(words).all()
    with pytest.raises(CohortError, match="more than one value besides 0"):
        load_cohort(tmp_path).read_label("c1")


def test_one_value_other_than_1_is_taken_and_said(tmp_path):
    make(tmp_path)
    spoil(tmp_path, label=head(array=head(1).array * np.uint8(2)))
    findings = check_cohort(tmp_path, show_progress=False)
    assert findings[["check", "severity"]].values.tolist() == [["label value", "warning"]]
    assert "besides 0 is 2, and it is taken for the head" in findings["message"].iloc[0]
    assert load_cohort(tmp_path).read_label("c1").array.sum() == 315


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("again.nii.gz", lambda volume: volume),
        ("again.mha", lambda volume: volume.with_array((volume.array * 257).astype(np.uint16))),
        ("again.nrrd", lambda volume: volume.with_array((volume.array / 254).astype(np.float64))),
        ("again.nrrd", lambda volume: volume.with_array(np.rint(volume.array * 0.8 + 20).astype(np.uint8))),
        # the same voxels, axes in another order, as a tool that turns all to one orientation writes them
        ("again.nii.gz", lambda volume: from_sitk(sitk.DICOMOrient(to_sitk(volume), "RAS"))),
        ("again.nrrd", lambda volume: from_sitk(sitk.DICOMOrient(to_sitk(volume), "SPL"))),
    ],
)
def test_a_scan_that_stands_twice_is_found_in_any_type_of_file(tmp_path, name, change):
    make(tmp_path, image=["images/c0.nrrd", "images/c1.nrrd", name], label=["labels/c0.nrrd", "labels/c1.nrrd", ""])
    write_volume(change(scan(1)), tmp_path / name)
    found = check_cohort(tmp_path, show_progress=False)
    twice = found[found["check"] == "duplicate image"]
    assert twice[["case", "severity"]].values.tolist() == [["c2", "error"]]
    assert "those of case c1" in twice["message"].iloc[0] and "subjects s1 and s2" in twice["message"].iloc[0]


def test_a_scan_that_differs_in_one_voxel_is_another(tmp_path, monkeypatch):
    make(tmp_path)
    monkeypatch.setattr("fhlib.cohorts.checks.LOOKS", 5)  # at first sight both are one
    other = scan(2).array.copy()
    other[4, 5, 6] = 255 - other[4, 5, 6]
    spoil(tmp_path, image=scan(2).with_array(other))
    assert checks(tmp_path) == []


def test_what_a_reader_took_for_granted_is_a_finding(tmp_path):
    make(tmp_path, image=["images/c0.nrrd", "images/c1.nrrd", "k.vol"], label=["labels/c0.nrrd", "labels/c1.nrrd", ""])
    samples = np.random.default_rng(0).integers(1, 255, (2, 11, 11, 40)).astype(np.uint8)
    write_kretz(tmp_path / "k.vol", samples, 0.7, np.linspace(-0.5, 0.5, 11), np.linspace(-0.5, 0.5, 11), 40.0, 0.0)
    assert ("c2", "reading", "warning") in checks(tmp_path)
    findings = check_cohort(tmp_path, show_progress=False)
    assert "k.vol holds 2 frames in time; the first is read" in findings["message"].str.cat(sep="\n")


def measured(folder, **columns):
    """What is said of references beside a label of 7.56 mL, whose sphere has pi 24.35 = 76.5 mm around it."""
    make(folder, **columns)
    findings = check_cohort(folder, show_progress=False)
    found = findings[findings["check"] == "reference"]
    return [tuple(row) for row in found[["case", "severity"]].itertuples(index=False)], found["message"].str.cat(
        sep="\n"
    )


def test_references_in_another_unit_are_found_by_the_label(tmp_path):
    # litres and cm3; cm and mm; 1.6 x 7.56 is 12.1 and 3 x 7.56 is 22.7; 1.35 x 76.5 is 103 and 2.5 x 76.5 is 191
    found, text = measured(tmp_path / "a", reference_volume_ml=["0.00756", "7.56", "12.0"])
    assert found == [("c0", "error")] and "reference_volume_ml is 0.00756, and the label has about 7.56" in text
    found, text = measured(tmp_path / "b", reference_hc_mm=["20", "76.5", "100"])
    assert found == [("c0", "error")] and "reference_hc_mm is 20, and the label has about 76.5" in text
    found, _ = measured(
        tmp_path / "c", reference_volume_ml=["12.2", "22.5", "22.8"], reference_hc_mm=["105", "190", "193"]
    )
    assert [severity for _, severity in found] == ["error"] * 2 + ["warning"] * 4
    assert {case for case, severity in found if severity == "error"} == {"c2"}


def test_so_small_a_reference_without_a_label_may_be_in_another_unit(tmp_path):
    columns = {
        "label": ["labels/c0.nrrd", "", ""],
        "reference_hc_mm": ["76", "24.5", "245"],
        "reference_volume_ml": ["", "0.278", ""],
    }
    found, text = measured(tmp_path, **columns)
    assert found == [("c1", "warning")] * 2 and "24.5: is it in cm?" in text and "0.278: is it in litres?" in text


def test_the_label_of_another_case_is_no_label_of_this_one(tmp_path):
    make(tmp_path, label=["labels/c0.nrrd", "labels/c0.nrrd", "labels/c2.nrrd"])
    assert checks(tmp_path) == [("c1", "duplicate label", "error")]
    # another file with the same voxels; and two frames of one examination may have one outline, as in HC18
    make(tmp_path, subject=["s0", "s0", "s2"])
    write_volume(head(), tmp_path / "labels" / "c1.nrrd")
    assert checks(tmp_path) == [("c1", "duplicate label", "warning")]


def test_a_mask_is_no_scan(tmp_path):
    make(tmp_path, image=["images/c0.nrrd", "labels/c1.nrrd", "images/c2.nrrd"])
    assert checks(tmp_path) == [("c1", "intensities", "error")]


def test_a_label_of_several_structures_may_be_no_scan(tmp_path):
    make(tmp_path)
    spoil(tmp_path, image=with_values(head(1), other=7))
    assert checks(tmp_path) == [("c1", "intensities", "warning")]
