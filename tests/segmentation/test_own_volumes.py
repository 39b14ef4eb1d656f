"""Volumes of one's own: files that other programs open, measures by hand, and what goes wrong."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from fhlib.images.exchange import write_dicom_seg
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import Volume, to_sitk
from fhlib.measures.growth import centile
from fhlib.segmentation import own_volumes as segment
from fhlib.segmentation.own_volumes import segment_files, volumes_in
from fhlib.segmentation.quality import MEANINGS
from tests.images import made_dicom
from tests.images.made import dicom_series, ellipsoid
from tests.segmentation.fixed import Fixed


@pytest.fixture
def scan(tmp_path):
    """A head of 40 x 50 x 45 mm radii around a skull of 34 x 42.5 x 33.8 mm, its file."""
    head, skull = ellipsoid((40, 50, 45)), ellipsoid((34, 42.5, 33.8))
    volume = head.with_array((60 * head.array + 90 * skull.array).astype(np.uint8))
    path = tmp_path / "in" / "scan one.nrrd"
    write_volume(volume, path)
    return path


def test_measures_of_head_and_skull(scan, tmp_path):
    rows, results = segment_files(
        Fixed(50, "skin", ("low confidence",)), [scan], tmp_path / "out", Fixed(140, "skull"), 26.0
    )
    row = rows.iloc[0]
    head_ml, hc = 4 / 3 * math.pi * 40 * 50 * 45 / 1000, 240.5
    assert row["volume_ml"] == pytest.approx(head_ml, rel=0.01) and row["status"] == "found"
    assert (row["volume_low_ml"], row["volume_high_ml"]) == pytest.approx(
        (0.9 * row["volume_ml"], 1.1 * row["volume_ml"])
    )
    # the section across the shortest perpendicular axis has the semi-axes 42.5 and 34 mm: BPD 68, OFD 85, HC 241 mm
    assert (row["bpd_mm"], row["ofd_mm"]) == pytest.approx((68, 85), abs=1.0)
    assert row["hc_mm"] == pytest.approx(hc, abs=2.0)
    assert row["ga_weeks"] == 26 and row["hc_centile"] == pytest.approx(float(centile("hc", row["hc_mm"], 26.0)))
    assert row["flags"] == "low confidence" and "skin_hc_mm" not in rows
    files = {path.name.removeprefix("scan one") for path in (tmp_path / "out").iterdir()}
    masks = {f"_{kind}.{suffix}" for kind in ("mask", "skull") for suffix in ("nii.gz", "seg.nrrd")}
    assert files == masks | {"_probability.nrrd", ".html", ".fhlib.json", "segment.csv", ".fhlib-lock"}
    assert read_volume(tmp_path / "out" / "scan one_mask.nii.gz").same_geometry(results["scan one"].volume)
    page = (tmp_path / "out" / "scan one.html").read_text(encoding="utf-8")
    assert "Not a medical device" in page and "HC centile at 26+0 weeks" in page and MEANINGS["low confidence"] in page
    assert "http" not in page.replace("http-equiv", "") and f"{row['volume_ml']:.0f} mL (95 % interval" in page


def test_a_skin_outline_has_no_centile_and_another_name(scan, tmp_path):
    rows, _ = segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", ga_weeks=26.0)
    assert rows["hc_centile"].isna().all() and rows["hc_mm"].isna().all() and rows["skin_hc_mm"].iloc[0] > 270
    assert "not for growth charts" in (tmp_path / "out" / "scan one.html").read_text(encoding="utf-8")


def test_what_cannot_be_read_has_a_row_and_stops_nothing(scan, tmp_path):
    folder = scan.parent
    (folder / "a.vol").write_bytes(b"KRETZFILE 1.0 and so on")
    (folder / "b.nrrd").write_bytes(b"NRRD000")
    rows, results = segment_files(Fixed(50, "skin"), volumes_in(folder), tmp_path / "out")
    assert rows["status"].tolist() == ["failed", "failed", "found"] and list(results) == ["scan one"]
    assert (
        "does not begin with 'KRETZFILE 1.0'" in rows["note"].iloc[0] and "cannot read b.nrrd" in rows["note"].iloc[1]
    )
    empty, _ = segment_files(Fixed(250, "skin", ("no head",)), [scan], tmp_path / "empty", Fixed(250, "skull"), 26.0)
    assert (
        empty["status"].tolist() == ["nothing found"]
        and empty["volume_ml"].tolist() == [0]
        and empty["hc_mm"].isna().all()
    )


def test_what_cannot_be_drawn_or_has_no_skull_is_told_and_stops_nothing(scan, tmp_path, monkeypatch):
    write_volume(read_volume(scan), tmp_path / "in" / "a.nrrd")
    write_volume(read_volume(scan), tmp_path / "in" / "z.nrrd")
    (tmp_path / "in" / ".hidden").mkdir()
    (tmp_path / "in" / "results").mkdir()
    (tmp_path / "in" / "results" / "table.csv").write_text("no volume")
    draw = segment.case_page

    def spoil(name, *arguments):
        if name == "a":
            raise ZeroDivisionError("nothing to draw")
        return draw(name, *arguments)

    monkeypatch.setattr(segment, "case_page", spoil)
    skull = Fixed(140, "skull")

    def refuse(volume):
        raise ValueError("this one is for images")

    monkeypatch.setattr(skull, "segment", refuse)
    rows, results = segment_files(Fixed(50, "skin"), volumes_in(tmp_path / "in"), tmp_path / "out", skull, keep=1)
    assert rows["case"].tolist() == ["a", "scan one", "z"] and (rows["status"] == "found").all()
    assert rows["volume_ml"].notna().all() and list(results) == ["scan one"]
    assert (
        rows["note"].iloc[0].endswith("; no page: nothing to draw")
        and rows["note"].str.startswith("no skull: this one is for images").all()
    )
    assert (tmp_path / "out" / "a_mask.nii.gz").exists() and (tmp_path / "out" / "z.html").exists()


def test_a_skulls_segmentor_is_taken_at_its_word(scan, tmp_path):
    rows, _ = segment_files(Fixed(140, "skull"), [scan], tmp_path / "out")
    page = (tmp_path / "out" / "scan one.html").read_text(encoding="utf-8")
    assert "Volume of the skull" in page and "whole head" not in page and rows["hc_mm"].notna().all()
    image = sitk.ReadImage(str(tmp_path / "out" / "scan one_mask.seg.nrrd"))
    assert image.GetMetaData("Segment0_ID") == "skull"


def test_dicom_seg_refers_to_its_series_slice_by_slice(tmp_path):
    truth = ellipsoid((20, 30, 25), shape=(24, 40, 36))
    dicom_series(truth.with_array(truth.array * 200), tmp_path / "series")
    write_volume(truth, tmp_path / "one.nrrd")
    assert volumes_in(tmp_path) == [tmp_path / "one.nrrd", tmp_path / "series"]
    rows, results = segment_files(Fixed(50, "skin"), volumes_in(tmp_path / "series"), tmp_path / "out")
    assert rows["note"].tolist() == [""]
    seg = pydicom.dcmread(tmp_path / "out" / "series_mask.dcm")
    assert seg.SegmentSequence[0].SegmentLabel == "Fetal head" and seg.Modality == "SEG"
    found = results["series"].head.mask.array
    frames = {}
    for frame, content in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        frames[tuple(float(x) for x in content.PlanePositionSequence[0].ImagePositionPatient)] = frame
    image = to_sitk(results["series"].volume)
    for k in range(len(found)):
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        near = [frame for place, frame in frames.items() if np.allclose(place, position, atol=1e-3)]
        assert np.array_equal(near[0] if near else np.zeros_like(found[k]), found[k])
    page = re.sub(
        r"base64,[^\"]+", "", (tmp_path / "out" / "series.html").read_text(encoding="utf-8")
    )  # but the picture
    assert "DOE" not in page + rows.to_csv()
    with pytest.raises(ValueError, match=r"24 slices with positions and the mask 23"):
        write_dicom_seg(
            Volume(found[:23], truth.spacing_mm),
            tmp_path / "series",
            tmp_path / "no.dcm",
        )


def test_files_of_several_frames_are_volumes_by_themselves(tmp_path):
    image = sitk.GetImageFromArray(np.arange(9 * 8 * 6, dtype=np.uint16).reshape(9, 8, 6))
    for name in ("a.dcm", "b.dcm"):
        image.SetMetaData("0020|000e", "1.2.3.4")
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / name))
        writer.Execute(image)
    assert volumes_in(tmp_path) == [tmp_path / "a.dcm", tmp_path / "b.dcm"]
    assert len(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(tmp_path))) == 1


def test_each_series_of_an_export_has_a_row_and_its_own_dicom_seg(tmp_path):
    scan = made_dicom.oblique_ellipsoid()
    shared = tmp_path / "PAT1" / "STU1"
    made_dicom.slices(scan, shared, suffix=".a")
    made_dicom.slices(scan, shared, suffix=".b")
    made_dicom.save(made_dicom.grouped(scan), tmp_path / "PAT2" / "1.2.840.113")
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(tmp_path), tmp_path / "out")
    assert rows["case"].tolist() == ["STU1-IM000", "STU1-IM000~2", "1.2.840.113"]
    assert rows["volume_ml"].to_numpy() == pytest.approx(made_dicom.VOLUME_ML, rel=0.005)
    taken = "the name STU1-IM000 is another scan's: this one is STU1/IM000.b"
    assert rows["note"].tolist() == ["", taken, ""] and "PLANTED" not in rows.to_csv()
    seg = pydicom.dcmread(tmp_path / "out" / "STU1-IM000~2_mask.dcm")
    source = pydicom.dcmread(shared / "IM000.b")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_what_states_no_size_fails_alone_and_takes_one_from_the_caller(tmp_path):
    scan = made_dicom.oblique_ellipsoid()
    made_dicom.save(made_dicom.dataset(made_dicom.US_FRAMES, scan.array), tmp_path / "in" / "IM1")
    write_volume(scan, tmp_path / "in" / "a.nrrd")
    (tmp_path / "in" / "photo.gif").write_bytes(b"no volume")
    (tmp_path / "in" / "broken.dcm").write_bytes(b"nonsense" * 40)
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(tmp_path / "in"), tmp_path / "out")
    assert rows["case"].tolist() == ["IM1", "a", "broken"]
    assert rows["status"].tolist() == ["failed", "found", "failed"]
    assert "--spacing-mm 0.5" in rows["note"].iloc[0] and "cannot read broken.dcm" in rows["note"].iloc[2]
    rows, _ = segment_files(Fixed(50, "skin"), [tmp_path / "in" / "IM1"], tmp_path / "out", spacing_mm=(1.3, 0.8, 0.7))
    assert rows["volume_ml"].iloc[0] == pytest.approx(made_dicom.VOLUME_ML, rel=0.005)


def test_a_spacing_that_replaces_a_files_own_is_told(scan, tmp_path):
    # the file states 2.0 x 1.5 x 1.8 mm
    options = {"skull": Fixed(140, "skull")}
    rows, _ = segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", **options, spacing_mm=(1.0,))
    assert rows["note"].tolist() == ["spacing 1 x 1 x 1 mm as given, in place of the file's 2 x 1.5 x 1.8 mm"]
    rows, _ = segment_files(Fixed(50, "skin"), [scan], tmp_path / "out", **options, spacing_mm=(2.0, 1.5, 1.8))
    assert rows["note"].tolist() == [""]
    disc = Volume((read_volume(scan).array[25]).astype(np.uint8), (1.5, 1.8))
    write_volume(disc, tmp_path / "a.png")
    rows, _ = segment_files(Fixed(50, "skin"), [tmp_path / "a.png"], tmp_path / "out", spacing_mm=(1.5, 1.8))
    assert rows["note"].tolist() == [""]


def test_single_images_go_through_too(tmp_path):
    disc = Volume((ellipsoid((20, 30, 25)).array[25] * 200).astype(np.uint8), (1.5, 1.8))
    write_volume(disc, tmp_path / "image.nrrd")
    rows, _ = segment_files(Fixed(50, "skull"), [tmp_path / "image.nrrd"], tmp_path / "out", ga_weeks=20.0)
    # semi-axes 30 and 25 mm
    assert rows["ofd_mm"].iloc[0] == pytest.approx(60, abs=1.5) and rows["bpd_mm"].iloc[0] == pytest.approx(50, abs=1.5)
    assert pd.isna(rows["volume_ml"].iloc[0]) and 0 < rows["hc_centile"].iloc[0] < 100
    assert (tmp_path / "out" / "image_mask.nrrd").exists()
