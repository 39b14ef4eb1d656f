"""Volumes, names and folders that nobody wishes for: nothing is lost, and no number stands without a word."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pydicom
import pytest

from fhlib.__main__ import main
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.kretz import write_kretz
from fhlib.images.volume import Volume
from fhlib.segmentation import page
from fhlib.segmentation.outputs import reason_of
from fhlib.segmentation.own_volumes import segment_files, volumes_in
from fhlib.segmentation.sources import is_marked, not_searched, passed_over
from tests.images import made_dicom
from tests.images.made import dicom_series, ellipsoid
from tests.segmentation.fixed import Fixed

SPACING_MM = (2.0, 1.5, 1.8)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pages without pictures: drawing is what takes long."""
    monkeypatch.setattr(page, "_pictures", lambda view: iter(()))


@pytest.fixture
def folder(tmp_path):
    """A folder with one scan `a`: a head of 16 x 24 x 20 mm radii with a skull in it."""
    write_volume(scan(), tmp_path / "in" / "a.nrrd")
    return tmp_path / "in"


def scan(shape=(24, 40, 36)):
    head, skull = ellipsoid((16, 24, 20), shape=shape), ellipsoid((12, 20, 16), shape=shape)
    return head.with_array((60 * head.array + 90 * skull.array).astype(np.uint8))


def start(sources, out, weeks=None, **options):
    rows, _ = segment_files(Fixed(50, "skin"), sources, out, Fixed(140, "skull"), weeks, keep=0, weights="w", **options)
    return rows


def files_of(out, name):
    return sorted(path.name.removeprefix(name) for path in out.iterdir() if path.name.startswith(name))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_odd_names_have_results_of_their_own(folder, tmp_path):
    odd = (
        "a.mha",
        "A.nii.gz",
        "b c,d.nrrd",
        "q'u\"o.nrrd",
        "new\nline.nrrd",
        "=cmd|' !A0.nrrd",
        "-1.nrrd",
        "é" * 110 + ".nrrd",
    )
    for name in odd:
        if name.endswith(".nrrd"):
            shutil.copyfile(folder / "a.nrrd", folder / name)
        else:
            write_volume(scan(), folder / name)
    rows = start(volumes_in(folder), tmp_path / "out")
    assert len(rows) == 9 and set(rows["status"]) == {"found"}
    names = rows["case"].tolist()
    assert {"b c,d", "q'u\"o", "new_line", "_=cmd|' !A0", "_-1"} < set(names)
    assert len({name.lower() for name in names}) == 9 and all(len(name.encode()) < 200 for name in names)
    for name in names:
        assert (tmp_path / "out" / f"{name}_mask.nii.gz").exists() and (tmp_path / "out" / f"{name}.html").exists()
    told = rows.set_index("case")["note"]
    assert sorted(note for note in told if note) == [
        "the name a is another scan's: this one is in/a.mha",
        "the name a is another scan's: this one is in/a.nrrd",
    ]
    again = start(volumes_in(folder), tmp_path / "out")
    pd.testing.assert_frame_equal(rows, again)


def test_a_scan_of_the_same_name_from_another_folder_takes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    start(volumes_in(folder), out)
    first = (out / "a_mask.nii.gz").read_bytes()
    write_volume(scan((26, 44, 38)), tmp_path / "b" / "a.nrrd")
    rows = start(volumes_in(tmp_path / "b"), out)
    assert rows["case"].tolist() == ["a~2"]
    assert rows["note"].tolist() == ["the name a is another scan's: this one is b/a.nrrd"]
    assert (out / "a_mask.nii.gz").read_bytes() == first
    assert read_volume(out / "a~2_mask.nii.gz").shape == (26, 44, 38)
    assert pd.read_csv(out / "segment.csv")["case"].tolist() == ["a~2", "a"]
    # the same scan at another place is the same, and a changed one at the same place is done again
    assert start(volumes_in(folder.rename(tmp_path / "moved")), out)["case"].tolist() == ["a"]
    write_volume(scan((28, 44, 38)), tmp_path / "b" / "a.nrrd")
    assert start(volumes_in(tmp_path / "b"), out)["case"].tolist() == ["a~2"]
    assert read_volume(out / "a~2_mask.nii.gz").shape == (28, 44, 38)


def test_renamed_results_are_never_inputs(folder, tmp_path, shipped, capsys):
    start(volumes_in(folder), folder)
    (folder / "a_mask.nii.gz").rename(folder / "final.nii.gz")
    (folder / "a_probability.nrrd").rename(folder / "case7.nrrd")
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(folder / "a_skull.nii.gz", tmp_path / "elsewhere" / "scan.nii.gz")
    assert volumes_in(folder) == [folder / "a.nrrd"]
    with pytest.raises(FileNotFoundError, match="no volume in 'elsewhere'"):
        volumes_in(tmp_path / "elsewhere")
    for result in (folder / "case7.nrrd", folder / "a_mask.seg.nrrd", tmp_path / "elsewhere" / "scan.nii.gz"):
        assert main(["segment", str(result), str(tmp_path / "out")]) == 2
        assert f"{result.name} is a mask or a probability, no scan" in capsys.readouterr().err
    (folder / "broken.nii.gz").write_bytes(b"\x1f\x8bno gzip")
    assert not is_marked(folder / "broken.nii.gz") and not is_marked(folder / "a.nrrd")


def test_a_link_that_leads_nowhere_is_a_volume_that_failed(folder, tmp_path, shipped):
    (folder / "gone.nrrd").symlink_to(folder / "nothing.nrrd")
    assert main(["segment", str(folder), str(tmp_path / "out")]) == 1
    rows = pd.read_csv(tmp_path / "out" / "segment.csv").set_index("case")
    assert rows["status"].to_dict() == {"a": "found", "gone": "failed"}
    assert rows.loc["gone", "note"] == "No such file or directory: gone.nrrd"


def test_a_volume_that_was_complete_and_fails_now_is_a_failure(folder, tmp_path, shipped):
    arguments = ["segment", str(folder), str(tmp_path / "out")]
    assert main(arguments) == 0
    (folder / "a.nrrd").unlink()
    (folder / "a.nrrd").symlink_to(folder / "nothing.nrrd")
    assert main(arguments) == 1
    assert (tmp_path / "out" / "a_mask.nii.gz").exists()


def box(place, shape=(24, 40, 36)):
    array = np.zeros(shape, np.uint8)
    array[place] = 200
    return array


def oblique_sheet():
    array = np.zeros((24, 40, 36), np.uint8)
    for row in range(24):
        array[row, row] = 200
    return array


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (box((5, 6, 7)), "the mask spans fewer than 3 voxels along an axis"),
        (box((5, slice(2, 30), slice(2, 30))), "the mask spans fewer than 3 voxels along an axis"),
        (box((slice(5, 7), slice(2, 30), slice(2, 30))), "the mask spans fewer than 3 voxels along an axis"),
        (box((5, 6, slice(2, 30))), "the mask spans fewer than 3 voxels along an axis"),
        (box((0, slice(2, 30), slice(2, 30)), (1, 40, 36)), "the mask spans fewer than 3 voxels along an axis"),
        (oblique_sheet(), "the mask is too small for an ellipse"),
        (np.full((24, 40, 36), 200, np.uint8), "the mask fills the whole image"),
    ],
)
def test_degenerate_masks_have_no_sizes_and_a_note(tmp_path, array, why):
    write_volume(Volume(array, SPACING_MM), tmp_path / "in" / "a.nrrd")
    row = start(volumes_in(tmp_path / "in"), tmp_path / "out", 26.0).iloc[0]
    assert row["status"] == "found" and row["note"] == f"no BPD, OFD and HC: {why}"
    assert "hc_mm" not in row or np.isnan(row["hc_mm"])
    assert np.isnan(float(row["hc_centile"])) and row["volume_ml"] == pytest.approx((array > 0).sum() * 0.0054)


def test_a_volume_of_one_slice_has_its_page(tmp_path, monkeypatch):
    monkeypatch.undo()
    write_volume(Volume(box((0, slice(2, 30), slice(2, 30)), (1, 40, 36)), SPACING_MM), tmp_path / "in" / "a.nrrd")
    row = start(volumes_in(tmp_path / "in"), tmp_path / "out").iloc[0]
    assert "no page" not in row["note"] and (tmp_path / "out" / "a.html").exists()


@pytest.mark.parametrize(
    "record", ['{"written": []}', '{"written": {"a_mask.nii.gz": 5}}', '{"written": {"../x": ["a"]}}', "["]
)
def test_a_damaged_record_costs_no_mask(folder, tmp_path, record):
    out = tmp_path / "out"
    start(volumes_in(folder), out)
    mask = read_volume(out / "a_mask.nii.gz")
    write_volume(mask.with_array(np.roll(mask.array, 1, axis=0)), out / "a_mask.nii.gz")
    ours = (out / "a_mask.nii.gz").read_bytes()
    (out / "a.fhlib.json").write_text(record)
    row = start(volumes_in(folder), out).iloc[0]
    assert row["status"] == "found" and (out / "a_mask.nii.gz").read_bytes() == ours
    assert (out / "a~new_mask.nii.gz").exists() and "is kept" in row["note"]


def test_what_stands_in_a_files_place_is_kept_or_told(folder, tmp_path, shipped, capsys):
    out = tmp_path / "out"
    (out / "a_mask.nii.gz").mkdir(parents=True)
    assert start(volumes_in(folder), out)["status"].tolist() == ["found"]
    assert (out / "a~new_mask.nii.gz").is_file()
    (tmp_path / "other" / "segment.csv").mkdir(parents=True)
    assert main(["segment", str(folder), str(tmp_path / "other")]) == 2
    assert "segment.csv is a folder" in capsys.readouterr().err
    assert shipped["head"].seen == []


def test_a_note_that_begins_as_a_formula_is_none(tmp_path):
    disc = (ellipsoid((20, 30, 25)).array[25] * 200).astype(np.uint8)
    write_volume(Volume(disc, (1.5, 1.8)), tmp_path / "in" / "=a.png")
    row = start(volumes_in(tmp_path / "in"), tmp_path / "out").iloc[0]
    assert row["status"] == "failed"
    # the note begins with the file's name, which a spreadsheet would compute
    assert pd.read_csv(tmp_path / "out" / "segment.csv")["note"].iloc[0].startswith("'=a.png is a picture")


def test_no_centile_has_a_reason(folder, tmp_path):
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(folder), tmp_path / "1", ga_weeks=26.0)
    assert rows["hc_centile_note"].tolist() == ["growth charts are of the skull, and this is the skin"]
    flagged = Fixed(140, "skull", ("implausible spacing",))
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(folder), tmp_path / "2", flagged, 26.0)
    assert rows["hc_centile_note"].tolist() == ["there is no HC"] and rows["hc_centile"].isna().all()
    rows, _ = segment_files(Fixed(140, "skull"), volumes_in(folder), tmp_path / "3")
    assert rows["note"].tolist() == ["volume_ml is of the skull"]
    assert rows["hc_centile_note"].tolist() == ["no gestational age is given"]


def test_the_second_weights_must_outline_the_skull(folder, tmp_path):
    with pytest.raises(ValueError, match="the second weights outline the skin"):
        segment_files(Fixed(50, "skin"), volumes_in(folder), tmp_path / "out", Fixed(50, "skin"))
    assert not (tmp_path / "out").exists()


def test_volumes_in_folders_below_are_told(folder, tmp_path, shipped, capsys):
    write_volume(scan(), folder / "visit 2" / "b.nrrd")
    start([folder / "visit 2" / "b.nrrd"], folder / "results")
    write_kretz(
        folder / "visit 2" / "k.vol",
        np.full((5, 7, 20), 9, np.uint8),
        1.0,
        *[np.linspace(-0.5, 0.5, n) for n in (5, 7)],
        40.0,
        0.0,
    )
    # a Kretz file is looked for there
    assert folder / "visit 2" / "k.vol" in volumes_in(folder) and not_searched(folder) == ["visit 2/b.nrrd"]
    (folder / "visit 2" / "k.vol").unlink()
    assert main(["segment", str(folder), str(tmp_path / "out"), "--json"]) == 0
    said = capsys.readouterr()
    assert "folders below (give such a folder by itself): visit 2/b.nrrd" in said.err and [
        row["case"] for row in json.loads(said.out)
    ] == ["a"]


def test_ctrl_c_says_how_to_go_on(folder, tmp_path, shipped, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(shipped["head"], "segment", stop)
    assert main(["segment", str(folder), str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.endswith("stopped: the same command continues where it was\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "not enough memory",
        ),
        (OSError(28, "No space left on device", "/home/jane/out/a.nrrd"), "No space left on device: a.nrrd"),
        (AttributeError("'NoneType' object has no attribute 'get'"), "'NoneType' object"),
    ],
)
def test_reasons_are_in_words(error, words):
    assert reason_of(error).startswith(words) and "jane" not in reason_of(error)


def test_what_dicom_lets_be_empty_is_no_obstacle(tmp_path):
    lacking = ("PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")
    rows = start([series_without(tmp_path / "series", *lacking)], tmp_path / "out")
    assert rows["note"].tolist() == [""]
    seg = pydicom.dcmread(tmp_path / "out" / "series_skull.dcm")
    assert [seg[name].value or "" for name in lacking] == [""] * 4


@pytest.mark.parametrize("lacking", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_lacking_attribute_is_named_and_costs_the_dicom_seg_only(tmp_path, lacking):
    rows = start([series_without(tmp_path / "series", lacking)], tmp_path / "out")
    assert rows["status"].tolist() == ["found"] and rows["hc_mm"].notna().all()
    for structure in ("head", "skull"):
        assert f"no DICOM SEG of the {structure}: the series lacks the attribute {lacking}" in rows["note"].iloc[0]
    kinds = [f"_{label}.{suffix}" for label in ("mask", "skull") for suffix in ("nii.gz", "seg.nrrd")]
    assert files_of(tmp_path / "out", "series") == sorted([*kinds, "_probability.nrrd", ".html", ".fhlib.json"])


def series_without(folder, *lacking):
    head = ellipsoid((16, 24, 20), shape=(24, 40, 36))
    dicom_series(head.with_array(head.array * 200), folder)
    for path in folder.iterdir():
        content = pydicom.dcmread(path)
        for name in lacking:
            if name in content:
                delattr(content, name)
        content.save_as(path)
    return folder


def test_what_a_reader_took_for_granted_stands_in_the_note(tmp_path):
    # the first of two times is read, and slices without a position may be mirrored
    angles = np.linspace(-0.5, 0.5, 11)
    samples = np.full((2, 11, 11, 40), 90, np.uint8)
    (tmp_path / "in").mkdir()
    write_kretz(tmp_path / "in" / "k.vol", samples, 1.0, angles, angles, 40.0, 0.0)
    no_place = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "SpacingBetweenSlices": 1.5}
    made_dicom.slices(Volume(scan().array, (1.5, 0.8, 0.7)), tmp_path / "in" / "s", **no_place)
    rows = start(volumes_in(tmp_path / "in"), tmp_path / "out").set_index("case")
    assert "k.vol holds 2 frames in time; the first is read" in rows.loc["k", "note"]
    assert "the slices in s/ state no position: they are stacked by InstanceNumber" in rows.loc["s", "note"]


def test_a_label_under_a_name_of_its_own_is_no_scan(folder, tmp_path):
    # 3D Slicer exports labelmaps as a-label.nrrd; a file with any name is told by its voxels
    label = scan().with_array((scan().array > 50).astype(np.uint8))
    for name in ("a-label", "a_seg", "a.mask", "outlined"):
        write_volume(label, folder / f"{name}.nrrd")
    rows = start(volumes_in(folder), tmp_path / "out").set_index("case")
    assert rows["status"].to_dict() == {"a": "found", "outlined": "failed"}
    assert passed_over(folder) == ["a-label.nrrd", "a.mask.nrrd", "a_seg.nrrd"]
    assert "0 and 1 alone, as a mask or a label does" in rows.loc["outlined", "note"]
