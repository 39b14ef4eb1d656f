"""Segmentations of 3D Slicer as labels: names, layers, crops, and the masks that `segment` writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from hypothesis import given, settings
from hypothesis import strategies as st

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.importers import import_cohort
from fhlib.cohorts.manifest import load_cohort
from fhlib.cohorts.segments import read_label
from fhlib.files import write_json
from fhlib.fingerprints import file_digest
from fhlib.images.exchange import write_dicom_seg, write_segmentation
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import to_sitk
from fhlib.phantom.scan import simulate_scan
from fhlib.segmentation.own_volumes import segment_files
from tests.cohorts.made import pair
from tests.images.made import dicom_series
from tests.segmentation.fixed import Fixed


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
    skull = tmp_path / "in" / "a_skull.nii.gz"
    write_json({"written": {skull.name: [file_digest(skull)]}}, tmp_path / "in" / "a.fhlib.json")
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


def retouch(path, old, new):
    """Change the header of a file in place."""
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))


def by_slicerio(path, volume, masks, names, first=(0, 0, 0), last=None):
    """Overlapping segments as slicerio writes them, cropped to the indices from `first` up to `last`."""
    whole = to_sitk(volume)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(whole.GetDirection(), (3, 3)) * whole.GetSpacing()
    matrix[:3, 3] = volume.position(first)
    box = tuple(slice(start, end) for start, end in zip(first, last or volume.shape))
    voxels = np.stack([np.asarray(mask, np.uint8)[box].T for mask in masks])
    segments = [{"id": f"Segment_{n + 1}", "name": name, "labelValue": 1, "layer": n} for n, name in enumerate(names)]
    content = {"voxels": voxels if len(masks) > 1 else voxels[0], "ijkToLPS": matrix, "segments": segments}
    slicerio.write_segmentation(str(path), content)


@settings(max_examples=25, deadline=None)
@given(low=st.tuples(*[st.integers(0, 4)] * 3), high=st.tuples(*[st.integers(5, 9)] * 3), skull_first=st.booleans())
def test_slicerio_and_fhlib_read_the_same(tmp_path_factory, low, high, skull_first):
    image, _ = pair()
    path = tmp_path_factory.mktemp("s") / "a.seg.nrrd"
    masks = {"head": np.zeros(image.shape, bool), "Skull": np.zeros(image.shape, bool)}
    masks["head"][tuple(map(slice, low, high))] = True
    masks["Skull"][tuple(np.array(low))] = True
    names = sorted(masks, reverse=not skull_first)
    by_slicerio(path, image, [masks[name] for name in names], names, low, high)
    for structure, name in (("head", "head"), ("skull", "Skull")):
        read = read_label(path, image, structure)
        np.testing.assert_array_equal(read.array, masks[name])
        assert read.same_geometry(image, 1e-6)
    write_segmentation(image.with_array(masks["head"]), path)
    theirs = slicerio.read_segmentation(str(path))
    np.testing.assert_array_equal(slicerio.segment_mask(theirs, "Fetal head").T, masks["head"])
    np.testing.assert_allclose(theirs["ijkToLPS"][:3, 3], image.origin, atol=1e-9)


@pytest.mark.parametrize(
    ("head_name", "skull_name"),
    [
        ("HEAD", "Skulls"),
        ("Kopf", "Schädel"),
        ("tête", "crâne"),
        ("Köpfe", "Schaedel"),
        ("cabeza", "cráneo"),
        ("FetalHead_v2", "skullMask-1"),
        ("Whole head with face", "skull without brain"),
        ("fetal head", "Segment_2"),
    ],
)
def test_names_in_the_languages_of_users(scan, tmp_path, head_name, skull_name):
    image, head, skull = scan
    slicer(tmp_path / "a.seg.nrrd", image, [skull, head], (skull_name, head_name))
    np.testing.assert_array_equal(read_label(tmp_path / "a.seg.nrrd", image).array, head)


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (("forehead", "Stirn"), "'forehead', 'Stirn'"),
        (("head and skull", "Segment_2"), "'head and skull', 'Segment_2'"),
        (("Segment_1", "Segment_2"), "'Segment_1', 'Segment_2'"),
        (("head", "head"), "'head', 'head'"),
        (("Placenta",), "'Placenta'"),
        (("not head",), "'not head'"),
        (("Background",), "'Background'"),
        (("shadow of the head", "Skull"), "'shadow of the head', 'Skull'"),
    ],
)
def test_names_that_tell_another_structure_or_none_are_listed(scan, tmp_path, names, listed):
    image, head, skull = scan
    slicer(tmp_path / "a.seg.nrrd", image, [head, skull][: len(names)], names)
    with pytest.raises(ValueError, match=f"holds {listed}: expected one segment whose name tells the head"):
        read_label(tmp_path / "a.seg.nrrd", image)


def test_a_name_that_tells_nothing_gives_way_to_the_terminology(scan, tmp_path):
    image, head, skull = scan
    path = tmp_path / "a.seg.nrrd"
    slicer(path, image, [skull, head], ("Segment_1", "Segment_2"))
    term = b"x~SCT^123037004^Anatomical Structure~SCT^%s~^^~~^^~^^|"
    for number, code in enumerate((b"89546000^Skull", b"69536005^Head")):
        name = b"Segment%d_Name:=" % number
        retouch(
            path,
            name,
            b"Segment%d_Tags:=Segmentation.Status:inprogress|TerminologyEntry:" % number + term % code + b"\n" + name,
        )
    np.testing.assert_array_equal(read_label(path, image).array, head)
    np.testing.assert_array_equal(read_label(path, image, "skull").array, skull)


def test_a_name_in_latin_1(scan, tmp_path):
    image, head, skull = scan
    slicer(tmp_path / "a.seg.nrrd", image, [head, skull], ("Kopf", "Sch?del"))
    retouch(tmp_path / "a.seg.nrrd", b"Sch?del", "Schädel".encode("latin-1"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.seg.nrrd", image, "skull").array, skull)


def test_files_of_older_versions_name_no_layers_and_values(scan, tmp_path):
    image, head, skull = scan
    path = tmp_path / "a.seg.nrrd"
    slicer(path, image, [skull, head], ("skull", "head"))
    for number in (0, 1):
        retouch(path, b"Segment%d_LabelValue:=1\n" % number, b"")
        retouch(path, b"Segment%d_Layer:=%d\n" % (number, number), b"")
    np.testing.assert_array_equal(read_label(path, image).array, head)
    np.testing.assert_array_equal(read_label(path, image, "skull").array, skull)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"Segment0_LabelValue:=3", b"Segment0_LabelValue:=0", "segment 'head' the value '0'"),
        (b"Segment0_LabelValue:=3", b"Segment0_LabelValue:=x", "segment 'head' the value 'x'"),
        (b"Segment0_LabelValue:=3", b"Segment0_LabelValue:=7", "the same value"),
        (b"Segment0_LabelValue:=3", b"Segment0_LabelValue:=4", r"value\(s\) 3 beside those of its segments \(4, 7\)"),
        (b"Segment0_Layer:=0", b"Segment0_Layer:=1", r"has 1 layer\(s\) .*'head' is in layer 1"),
    ],
)
def test_a_header_that_does_not_fit_the_voxels_is_refused(scan, tmp_path, old, new, words):
    image, head, skull = scan
    path = tmp_path / "a.seg.nrrd"
    slicer(path, image, [np.where(skull, 7, 3 * head)], ("head", "skull"), (3, 7))
    assert read_label(path, image).array.sum() == 315 - 105
    retouch(path, old, new)
    with pytest.raises(ValueError, match=words):
        read_label(path, image)


@pytest.mark.parametrize("axes", [(False, False, True), (True, False, False), (True, True, True)])
def test_turned_axes_are_turned_back(scan, tmp_path, axes):
    image, head, _ = scan
    turned = sitk.Flip(to_sitk(image.with_array(head)), axes)
    turned = sitk.PermuteAxes(turned, [1, 2, 0])
    turned.SetMetaData("Segment0_ID", "head")
    sitk.WriteImage(turned, str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.seg.nrrd", image).array, head)


def test_voxels_beside_those_of_the_scan_are_refused_with_the_offset(scan, tmp_path):
    image, head, _ = scan
    path = tmp_path / "a.seg.nrrd"
    by_slicerio(path, image, [head], ["head"], (1, 2, 3))
    near = type(image)(image.array, image.spacing_mm, image.position((0.05, -0.05, 0)), image.direction)
    np.testing.assert_array_equal(read_label(path, near).array, head)  # a twentieth of a voxel is rounding
    beside = type(image)(image.array, image.spacing_mm, image.position((0.5, 0, 0.25)), image.direction)
    with pytest.raises(ValueError, match=r"lie 0\.5 x .* x 0\.25 of a voxel \(z, y, x\) beside those of its scan"):
        read_label(path, beside)
    thick = type(image)(image.array, (8, 2, 3), image.origin, image.direction)
    with pytest.raises(ValueError, match=r"voxels of 4 x 2 x 3 mm .* its scan has voxels of 8 x 2 x 3 mm"):
        read_label(path, thick)


def test_voxels_beyond_the_scan_are_refused_with_their_count(scan, tmp_path):
    image, head, _ = scan
    by_slicerio(tmp_path / "a.seg.nrrd", image, [head], ["head"])
    cut = type(image)(image.array[3:], image.spacing_mm, image.position((3, 0, 0)), image.direction)
    with pytest.raises(ValueError, match="reaches beyond its scan: 63 of its 315 voxels lie outside"):
        read_label(tmp_path / "a.seg.nrrd", cut)


def test_an_empty_segmentation_is_an_empty_label(scan, tmp_path):
    image, head, _ = scan
    write_volume(image, tmp_path / "a.nrrd")
    by_slicerio(tmp_path / "a.seg.nrrd", image, [head * 0], ["head"], last=(1, 1, 1))
    (tmp_path / "cohort.csv").write_text("case,subject,image,label,has_head\na,a,a.nrrd,a.seg.nrrd,\n")
    assert check_cohort(tmp_path, show_progress=False)["check"].tolist() == ["empty label"]
    (tmp_path / "cohort.csv").write_text("case,subject,image,label,has_head\na,a,a.nrrd,a.seg.nrrd,no\n")
    assert check_cohort(tmp_path, show_progress=False).empty


def test_a_segmentation_under_another_name_is_one_still(scan, tmp_path):
    image, head, skull = scan
    write_volume(image, tmp_path / "a.nrrd")
    slicer(tmp_path / "a_Label.nrrd", image, [skull, head], ("skull", "head"), first=(1, 1, 1), size=(7, 10, 13))
    cohort = import_cohort(tmp_path, tmp_path / "out")
    np.testing.assert_array_equal(cohort.read_label("a").array, head)
    np.testing.assert_array_equal(cohort.read_label("a", "label_skull").array, skull)
    (tmp_path / "cohort.csv").write_text("case,subject,image,label\na,a,a.nrrd,a_Label.nrrd\n")
    np.testing.assert_array_equal(load_cohort(tmp_path).read_label("a").array, head)


def test_one_file_in_both_columns_that_holds_two_outlines(scan, tmp_path):
    image, head, skull = scan
    write_volume(image, tmp_path / "a.nrrd")
    slicer(tmp_path / "a.seg.nrrd", image, [skull, head], ("skull", "head"))
    (tmp_path / "cohort.csv").write_text("case,subject,image,label,label_skull\na,a,a.nrrd,a.seg.nrrd,a.seg.nrrd\n")
    findings = check_cohort(tmp_path, show_progress=False)
    assert findings[["check", "severity"]].values.tolist() == [["two outlines", "error"]]


def test_dicom_seg_is_a_label(scan, tmp_path):
    image, head, _ = scan
    hole = head.copy()
    hole[4] = False  # DICOM SEG leaves out empty slices
    dicom_series(image, tmp_path / "a")
    read = read_volume(tmp_path / "a")
    for mask in (head, hole):
        write_dicom_seg(read.with_array(mask), tmp_path / "a", tmp_path / "a_mask.dcm")
        np.testing.assert_array_equal(read_label(tmp_path / "a_mask.dcm", read).array, mask)
    with pytest.raises(ValueError, match=r"holds 'Fetal head': expected one segment whose name tells the skull"):
        read_label(tmp_path / "a_mask.dcm", read, "skull")
    (tmp_path / "cohort.csv").write_text("case,subject,image,label\na,a,a,a_mask.dcm\n")
    assert check_cohort(tmp_path, show_progress=False)["check"].tolist() == ["missing slices"]
    np.testing.assert_array_equal(load_cohort(tmp_path).read_label("a").array, hole)


def test_what_segment_wrote_and_a_person_corrected_comes_back_voxel_for_voxel(tmp_path):
    scan = simulate_scan(7, 26, "from the side", spacing_mm=4.0)
    work = tmp_path / "work"
    write_volume(scan.image, work / "p1.nrrd")
    found, _ = segment_files(Fixed(60, "skin"), [work / "p1.nrrd"], work)
    assert found["status"].tolist() == ["found"]
    # a person makes it the truth in 3D Slicer, which keeps the slices around it alone
    path = work / "p1_mask.seg.nrrd"
    content = slicerio.read_segmentation(str(path))
    truth = scan.label.array.T > 0
    assert not np.array_equal(slicerio.segment_mask(content, "Fetal head"), truth)
    first, last = np.argwhere(truth).min(0), np.argwhere(truth).max(0)
    content["voxels"] = truth[tuple(map(slice, first, last + 1))].astype(np.uint8)
    content["ijkToLPS"][:3, 3] = (content["ijkToLPS"] @ [*first, 1])[:3]
    content["referenceImageExtentOffset"] = first.tolist()
    slicerio.write_segmentation(str(path), content)
    cohort = import_cohort(work, tmp_path / "cohort")
    assert cohort.table[["case", "label", "label_skull"]].values.tolist() == [["p1", "labels/p1.nrrd", ""]]
    label = cohort.read_label("p1")
    np.testing.assert_array_equal(label.array, scan.label.array > 0)
    assert label.same_geometry(scan.image) and check_cohort(cohort, show_progress=False).empty
