"""Segmentations of 3D Slicer as labels: names, layers, crops, and the masks that `segment` writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import load_cohort
from fhlib.cohorts.segments import read_label
from fhlib.fingerprints import file_digest
from fhlib.images.exchange import write_segmentation
from fhlib.images.formats import write_volume
from fhlib.images.volume import to_sitk
from tests.cohorts.made import pair


def slicer(path, volume, layers, names, values=None, first=(0, 0, 0), size=None):
    """A .seg.nrrd as 3D Slicer writes it: cropped, with a layer for each segment that overlaps another.

    Args:
        path: of the file.
        volume: the scan, which has the geometry.
        layers: an array each; one gives an image of one component.
        names: of the segments, in the order of the layers; with `values` all of them lie in the first.
        values: label values, by default 1 for each.
        first: index of the first voxel that is kept (d, h, w).
        size: of what is kept.
    """
    size = size or tuple(np.array(volume.shape) - first)
    box = tuple(slice(start, start + extent) for start, extent in zip(first, size))
    cut = [np.asarray(layer)[box].astype(np.uint8) for layer in layers]
    image = sitk.GetImageFromArray(cut[0] if len(cut) == 1 else np.stack(cut, -1), isVector=len(cut) > 1)
    whole = to_sitk(volume)
    image.SetSpacing(whole.GetSpacing())
    image.SetDirection(whole.GetDirection())
    image.SetOrigin(whole.TransformIndexToPhysicalPoint([int(start) for start in first[::-1]]))
    for number, name in enumerate(names):
        image.SetMetaData(f"Segment{number}_ID", f"Segment_{number + 1}")
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(values[number] if values else 1))
        image.SetMetaData(f"Segment{number}_Layer", "0" if values else str(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    path.write_bytes(path.read_bytes().replace(b"kinds: vector domain", b"kinds: list domain"))


@pytest.fixture
def scan():
    """An image, its head of 5 x 7 x 9 voxels, and a skull of 3 x 5 x 7 within."""
    image, head = pair()
    skull = np.zeros(image.shape, bool)
    skull[3:6, 4:9, 5:12] = True
    return image, head.array, skull


@pytest.mark.parametrize("names", [("Head", "skull"), ("skull, filled", "whole HEAD")])
def test_overlapping_segments_are_found_by_name(scan, tmp_path, names):
    image, head, skull = scan
    layers = [head, skull] if "head" in names[0].lower() else [skull, head]
    slicer(tmp_path / "a.seg.nrrd", image, layers, names)
    found = read_label(tmp_path / "a.seg.nrrd", image)
    np.testing.assert_array_equal(found.array, head)
    assert found.same_geometry(image, 1e-6) and found.array.sum() == 315
    np.testing.assert_array_equal(read_label(tmp_path / "a.seg.nrrd", image, "skull").array, skull)


def test_segments_of_one_layer_are_told_by_their_values(scan, tmp_path):
    image, head, skull = scan
    slicer(tmp_path / "a.seg.nrrd", image, [np.where(head, 3, 0) + 4 * skull], ("rim of the head", "skull"), (3, 7))
    assert read_label(tmp_path / "a.seg.nrrd", image).array.sum() == 315 - 105
    assert read_label(tmp_path / "a.seg.nrrd", image, "skull").array.sum() == 105


def test_a_crop_is_pasted_by_its_geometry(scan, tmp_path):
    image, head, _ = scan
    slicer(tmp_path / "a.seg.nrrd", image, [head], ("Segment_1",), first=(2, 3, 4), size=(5, 7, 9))
    assert sitk.ReadImage(str(tmp_path / "a.seg.nrrd")).GetSize() == (9, 7, 5)
    np.testing.assert_array_equal(read_label(tmp_path / "a.seg.nrrd", image).array, head)
    other = image.with_array(image.array)
    object.__setattr__(other, "origin", image.position((0, 0, 40)))
    with pytest.raises(ValueError, match="lies outside of its scan"):
        read_label(tmp_path / "a.seg.nrrd", other)
    finer = type(image)(image.array, (2, 1, 1.5), image.origin, image.direction)
    with pytest.raises(ValueError, match="choose the scan as the segmentation's source geometry"):
        read_label(tmp_path / "a.seg.nrrd", finer)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "b"), r"holds 'a', 'b': expected one segment whose name tells the head"),
        (("head left", "head right"), r"holds 'head left', 'head right'"),
        ((), r"holds 2 layers without a name"),
        (("skull", "brain"), r"holds 'skull', 'brain'"),
    ],
)
def test_what_is_not_told_by_name_is_an_error_that_lists_it(scan, tmp_path, names, words):
    image, head, skull = scan
    slicer(tmp_path / "a.seg.nrrd", image, [head, skull], names)
    with pytest.raises(ValueError, match=words):
        read_label(tmp_path / "a.seg.nrrd", image)
    write_volume(image, tmp_path / "a.nrrd")
    (tmp_path / "cohort.csv").write_text("case,subject,image,label\na,a,a.nrrd,a.seg.nrrd\n")
    findings = check_cohort(tmp_path, show_progress=False)
    assert findings["check"].tolist() == ["unreadable file"] and "a.seg.nrrd holds" in findings["message"].iloc[0]


def test_a_manifest_may_name_segmentations(scan, tmp_path):
    image, head, skull = scan
    write_volume(image, tmp_path / "a.nrrd")
    slicer(tmp_path / "a.seg.nrrd", image, [head, skull], ("head", "skull"), first=(1, 1, 1), size=(7, 10, 13))
    (tmp_path / "cohort.csv").write_text("case,subject,image,label\na,a,a.nrrd,a.seg.nrrd\n")
    assert check_cohort(tmp_path, show_progress=False).empty
    np.testing.assert_array_equal(load_cohort(tmp_path).read_label("a").array, head)


@pytest.mark.parametrize("name", ["a_Label.seg.nrrd", "a_mask.seg.nrrd", "a_mask.nii.gz", "A_LABEL.nrrd"])
def test_what_slicer_and_segment_write_are_labels(scan, tmp_path, name):
    image, head, _ = scan
    write_volume(image, tmp_path / "in" / "a.nrrd")
    write = write_segmentation if name.endswith(".seg.nrrd") else write_volume
    write(image.with_array(head), tmp_path / "in" / name)
    for other in ("a_probability.nrrd", "a_skull.nii.gz", "a~new_mask.nii.gz"):
        write_volume(image, tmp_path / "in" / other)
    cohort = import_cohort(tmp_path / "in", tmp_path / "out")
    assert cohort.table[["case", "label", "label_skull"]].values.tolist() == [["a", "labels/a.nrrd", ""]]
    np.testing.assert_array_equal(cohort.read_label("a").array, head)


def test_head_and_skull_of_one_file_become_two_labels(scan, tmp_path):
    image, head, skull = scan
    for name in "ab":
        write_volume(image, tmp_path / "in" / f"{name}.nrrd")
    slicer(tmp_path / "in" / "a_Label.seg.nrrd", image, [skull, head], ("skull", "head"))
    write_segmentation(image.with_array(skull), tmp_path / "in" / "b_mask.seg.nrrd", "skull")
    cohort = import_cohort(tmp_path / "in", tmp_path / "out")
    assert cohort.table["label_skull"].tolist() == ["labels/a_skull.nrrd", "labels/b.nrrd"]
    np.testing.assert_array_equal(cohort.read_label("a").array, head)
    for case in "ab":
        np.testing.assert_array_equal(cohort.read_label(case, "label_skull").array, skull)


def test_of_two_masks_the_one_changed_by_hand_is_the_label(scan, tmp_path):
    image, head, skull = scan
    write_volume(image, tmp_path / "a.nrrd")
    write_volume(image.with_array(head), tmp_path / "a_mask.nii.gz")
    write_segmentation(image.with_array(head), tmp_path / "a_mask.seg.nrrd")
    names = ("a_mask.nii.gz", "a_mask.seg.nrrd")
    record = {"written": {name: [file_digest(tmp_path / name)] for name in names}}
    assert import_cohort(tmp_path, tmp_path / "1").read_label("a").array.sum() == 315  # the same voxels, no record
    write_segmentation(image.with_array(skull), tmp_path / "a_mask.seg.nrrd")
    with pytest.raises(ValueError, match=r"a_mask\.nii\.gz and a_mask\.seg\.nrrd are labels of one scan: keep"):
        import_cohort(tmp_path, tmp_path / "2")
    (tmp_path / "a.fhlib.json").write_text(json.dumps(record))
    assert import_cohort(tmp_path, tmp_path / "3").read_label("a").array.sum() == 105
    write_volume(image.with_array(head), tmp_path / "a_Label.nrrd")
    assert import_cohort(tmp_path, tmp_path / "4").read_label("a").array.sum() == 315
