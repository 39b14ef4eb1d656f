"""Results of `segment`: what is kept, what is never overwritten, what is never an input, and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from fhlib.__main__ import main
from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.importers import import_cohort
from fhlib.images.exchange import write_segmentation
from fhlib.images.formats import read_volume, write_volume
from fhlib.images.volume import to_sitk
from fhlib.measures.growth import centile
from fhlib.models.card import Card
from fhlib.segmentation import outputs
from fhlib.segmentation.own_volumes import segment_files, volumes_in, weights_digest
from fhlib.segmentation.quality import MEANINGS
from fhlib.segmentation.rows import NO_HEAD, centile_in_words
from fhlib.segmentation.sources import named, results_in, source_digest
from tests.images.made import dicom_series, ellipsoid
from tests.segmentation.fixed import Fixed

MASKS = ("_mask.nii.gz", "_mask.seg.nrrd")


@pytest.fixture
def scans(tmp_path):
    """A folder with the heads a and b, of 16 x 24 x 20 mm radii, each with a skull."""
    head, skull = ellipsoid((16, 24, 20), shape=(24, 40, 36)), ellipsoid((12, 20, 16), shape=(24, 40, 36))
    for number, name in enumerate("ab"):
        grey = (60 + number) * head.array + 90 * skull.array
        write_volume(head.with_array(grey.astype(np.uint8)), tmp_path / "in" / f"{name}.nrrd")
    return tmp_path / "in"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_exit_codes_tell_whether_all_is_written(scans, tmp_path, shipped, capsys):
    out = tmp_path / "out"
    assert main(["segment", str(scans), str(out)]) == 0
    (scans / "c.nrrd").write_bytes(b"NRRD")
    assert main(["segment", str(scans), str(out)]) == 1
    assert pd.read_csv(out / "segment.csv")["status"].tolist() == ["found", "found", "failed"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for volumes, results, words in (
        (tmp_path / "empty", out, "there is no volume in 'empty'"),
        (tmp_path / "nowhere", out, "there is no 'nowhere'"),
        (scans, tmp_path / "file", "name a folder that can be written to"),
    ):
        assert main(["segment", str(volumes), str(results)]) == 2
        assert words in capsys.readouterr().err
    for age in ("-3", "nan", "0"):
        assert main(["segment", str(scans), str(out), "--ga-weeks", age]) == 2
    assert len(shipped["head"].seen) == 2


def test_what_is_passed_over_is_said(scans, tmp_path, shipped, capsys):
    assert main(["segment", str(scans), str(scans)]) == 0
    assert "no scans but results or labels" not in capsys.readouterr().err
    assert main(["segment", str(scans), str(scans)]) == 0
    assert (
        "no scans but results or labels: a_mask.nii.gz, a_mask.seg.nrrd, a_probability.nrrd" in capsys.readouterr().err
    )


def test_a_corrected_mask_beside_its_scan_becomes_a_label(scans, tmp_path):
    segment_files(Fixed(50, "skin"), volumes_in(scans), scans)
    mask = read_volume(scans / "b_mask.nii.gz")
    better = mask.with_array(np.roll(mask.array, 1, axis=0))
    write_segmentation(better, scans / "b_mask.seg.nrrd")
    cohort = import_cohort(scans, tmp_path / "cohort")
    assert cohort.table["case"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(cohort.read_label("a").array, mask.array > 0)
    np.testing.assert_array_equal(cohort.read_label("b").array, better.array > 0)
    # a label that nobody has looked at would agree with the network that drew it
    findings = check_cohort(cohort, show_progress=False)
    assert findings.loc[findings["check"] == "uncorrected label", "case"].tolist() == ["a"]


def test_a_mask_that_nobody_changed_is_no_rival_of_the_corrected_one_after_another_start(scans, tmp_path):
    segment_files(Fixed(50, "skin"), volumes_in(scans), scans, weights="w")
    mask = read_volume(scans / "b_mask.nii.gz")
    better = mask.with_array(np.roll(mask.array, 1, axis=0))
    write_volume(better, scans / "b_mask.nii.gz")
    segment_files(Fixed(40, "skin"), volumes_in(scans), scans, weights="other")
    assert (scans / "b~new_mask.nii.gz").is_file()
    cohort = import_cohort(scans, tmp_path / "cohort")
    np.testing.assert_array_equal(cohort.read_label("b").array, better.array > 0)


def test_a_mask_that_nobody_has_changed_is_no_truth(scans, tmp_path):
    """After a start with other weights, too, which leaves the first mask beside the corrected one."""
    segment_files(Fixed(50, "skin"), volumes_in(scans), scans, weights="first")
    mask = read_volume(scans / "b_mask.nii.gz")
    better = mask.with_array(np.roll(mask.array, 1, axis=0))
    write_segmentation(better, scans / "b_mask.seg.nrrd")
    for weights in ("second", "third"):
        rows, _ = segment_files(Fixed(140, "skin"), volumes_in(scans), scans, weights=weights)
        assert rows["note"].tolist() == [
            "",
            "b_mask.seg.nrrd was changed by hand and is kept: the new files are b~new_mask...",
        ]
    cohort = import_cohort(scans, tmp_path / "cohort")
    np.testing.assert_array_equal(cohort.read_label("b").array, better.array > 0)
    findings = check_cohort(cohort, show_progress=False)
    assert findings.loc[findings["check"] == "uncorrected label", ["case", "severity"]].values.tolist() == [
        ["a", "warning"]
    ]


def test_results_without_their_scans_are_no_cohort(scans, tmp_path):
    segment_files(Fixed(50, "skin"), volumes_in(scans), tmp_path / "out", Fixed(140, "skull"))
    with pytest.raises(
        ValueError, match=r"there is no image for a_mask\.nii\.gz, b_mask\.nii\.gz: .* need an X beside"
    ):
        import_cohort(tmp_path / "out", tmp_path / "cohort")


def test_the_second_of_two_starts_into_one_folder_waits(scans, tmp_path, capsys):
    out, done = tmp_path / "out", []
    out.mkdir()

    def second():
        done.append(segment_files(Fixed(50, "skin"), volumes_in(scans), out, weights="w")[0])

    with outputs.only_writer(out):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive() and not done and not (out / "segment.csv").exists()
    thread.join(timeout=30)
    assert "another process writes to out/: waiting for it" in capsys.readouterr().err
    assert done[0]["status"].tolist() == ["found", "found"]


def test_a_spacing_that_is_given_is_not_missing(scans, tmp_path):
    doubtful = Fixed(50, "skin", ("low confidence", "spacing missing?"))
    rows, _ = segment_files(doubtful, [scans / "a.nrrd"], tmp_path / "1")
    assert rows["flags"].tolist() == ["low confidence; spacing missing?"]
    rows, _ = segment_files(doubtful, [scans / "a.nrrd"], tmp_path / "2", spacing_mm=(1.0,))
    assert rows["flags"].tolist() == ["low confidence"]


def test_the_table_on_the_screen_has_notes_below_it(scans, tmp_path, shipped, capsys):
    (scans / "c.nrrd").write_text("nothing")
    assert main(["segment", str(scans), str(tmp_path / "out"), "--ga-weeks", "18+0"]) == 1
    *table, note, first, second, count, place = capsys.readouterr().out.strip().splitlines()
    assert "note" not in table[0] and "below 1" in table[1] and max(map(len, table)) < 160
    assert [line[:26] for line in (first, second)] == [f"{name}: HC's centile is below 1" for name in "ab"]
    assert count == "2 of 3 segmented, 1 failed: see the notes above"
    assert note.startswith("c: cannot read c.nrrd") and place == f"pages, masks and segment.csv: {tmp_path / 'out'}"


def test_weights_without_calibration_are_told(scans, tmp_path, shipped, capsys):
    shipped["head"].calibration = None
    assert main(["segment", str(scans / "a.nrrd"), str(tmp_path / "out")]) == 0
    assert "the weights head are not calibrated: there are no intervals, and fewer flags" in capsys.readouterr().err


def test_rows_are_printed_as_json(scans, tmp_path, shipped, capsys):
    assert main(["segment", str(scans / "a.nrrd"), str(tmp_path / "out"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    table = pd.read_csv(tmp_path / "out" / "segment.csv").iloc[0]
    assert (row["case"], row["status"], row["hc_centile"]) == ("a", "found", None)
    assert row["hc_mm"] == pytest.approx(table["hc_mm"])


def test_a_second_start_computes_only_what_is_new(scans, tmp_path):
    head, skull, out = Fixed(50, "skin"), Fixed(140, "skull"), tmp_path / "out"

    def start(weights="w", weeks=26.0):
        return segment_files(head, volumes_in(scans), out, skull, weeks, weights=weights)

    first, results = start()
    before = contents(out)
    assert len(head.seen) == 2 and list(results) == ["a", "b"]
    second, results = start()
    assert len(head.seen) == 2 and results == {} and contents(out) == before
    pd.testing.assert_frame_equal(first, second)
    (out / "b_skull.seg.nrrd").unlink()
    start()
    assert len(head.seen) == 3 and contents(out) == before
    shutil.copyfile(scans / "b.nrrd", scans / "a.nrrd")
    start()
    assert len(head.seen) == 4
    start(weights="others")
    assert len(head.seen) == 6
    start(weights="others", weeks=27.0)
    assert len(head.seen) == 8
    segment_files(head, volumes_in(scans), out, skull, 27.0)
    assert len(head.seen) == 10  # without the weights' digest nothing is known of what lies there
    for calls in (12, 12):
        segment_files(head, volumes_in(scans), out, skull, 27.0, weights="others", spacing_mm=(1.0,))
        assert len(head.seen) == calls


def test_the_table_grows_with_each_volume(scans, tmp_path, monkeypatch):
    head, sizes = Fixed(50, "skin"), []
    segment = head.segment

    def look(volume, **options):
        sizes.append(len(pd.read_csv(tmp_path / "out" / "segment.csv")))
        if len(sizes) == 2:
            raise KeyboardInterrupt
        return segment(volume, **options)

    monkeypatch.setattr(head, "segment", look)
    with pytest.raises(KeyboardInterrupt):
        segment_files(head, volumes_in(scans), tmp_path / "out", weights="w")
    assert sizes == [0, 1]
    assert outputs.unfinished(tmp_path / "out", ["a", "b"]) == ["b"]
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(scans), tmp_path / "out", weights="w")
    assert rows["status"].tolist() == ["found", "found"]


@pytest.mark.parametrize("corrected", MASKS)
def test_a_corrected_mask_is_never_overwritten(scans, tmp_path, corrected):
    out, sources = tmp_path / "out", [scans / "a.nrrd"]
    segment_files(Fixed(50, "skin"), sources, out, weights="first")
    mask = read_volume(out / f"a{MASKS[0]}")
    better = mask.with_array(np.roll(mask.array, 1, axis=0))
    if corrected == MASKS[1]:
        write_segmentation(better, out / f"a{corrected}")
    else:
        write_volume(better, out / f"a{corrected}")
    ours = (out / f"a{corrected}").read_bytes()

    rows, _ = segment_files(Fixed(50, "skin"), sources, out, weights="first")
    assert f"a{corrected} was changed since and is kept" in rows["note"].iloc[0]
    size = better.array.sum() * better.voxel_volume_ml
    assert f"a{corrected} has {size:.1f} mL" in rows["note"].iloc[0]
    for weights in ("second", "third"):
        rows, _ = segment_files(Fixed(140, "skin"), sources, out, weights=weights)
        assert "the new files are a~new_mask..." in rows["note"].iloc[0]
        assert (out / f"a{corrected}").read_bytes() == ours
        assert read_volume(out / "a~new_mask.nii.gz").array.sum() < mask.array.sum()
    assert not list(out.glob("a~new2*")) and "a~new_mask" in (out / "a.html").read_text(encoding="utf-8")
    write_volume(better, out / "a~new_mask.nii.gz")
    segment_files(Fixed(50, "skin"), sources, out, weights="fourth")
    assert (out / "a~new2_mask.seg.nrrd").exists() and (out / f"a{corrected}").read_bytes() == ours


def test_a_mask_without_a_record_is_kept_unless_it_is_the_same(scans, tmp_path):
    out, sources = tmp_path / "out", [scans / "a.nrrd"]
    segment_files(Fixed(50, "skin"), sources, out)
    (out / "a.fhlib.json").unlink()
    rows, _ = segment_files(Fixed(50, "skin"), sources, out)
    assert rows["note"].tolist() == [""] and not list(out.glob("*~new*"))
    (out / "a.fhlib.json").write_text("no json")
    segment_files(Fixed(140, "skin"), sources, out)
    assert (out / "a~new_mask.nii.gz").exists()


@pytest.mark.slow
def test_results_are_never_inputs(scans, tmp_path):
    series = ellipsoid((16, 24, 20), shape=(24, 40, 36))
    dicom_series(series.with_array(series.array * 200), scans / "series")
    sources = volumes_in(scans)
    assert [path.name for path in sources] == ["a.nrrd", "b.nrrd", "series"]
    (scans / "._a.nrrd").write_bytes(b"\0\5\x16\7")
    write_volume(series, scans / "a_Label.nrrd")
    for folder in (scans, scans / "results", scans / "series"):
        for _ in range(2):
            rows, _ = segment_files(Fixed(50, "skin"), volumes_in(scans), folder, Fixed(140, "skull"), weights="w")
            assert rows["case"].tolist() == ["a", "b", "series"] and set(rows["status"]) == {"found"}
            assert volumes_in(scans) == sources
    assert (scans / "series" / "series_mask.dcm").exists() and volumes_in(scans / "series") == [scans / "series"]
    with pytest.raises(FileNotFoundError, match="no volume in 'results'"):
        volumes_in(scans / "results")
    assert "a.nrrd" not in results_in(scans)


def test_results_may_lie_in_the_folder_of_a_single_slice_file(tmp_path):
    head = ellipsoid((16, 24, 20), shape=(24, 40, 36))
    folder = tmp_path / "one"
    folder.mkdir()
    dicom_series(head.with_array(head.array * 200), tmp_path / "many")
    shutil.copyfile(sorted((tmp_path / "many").iterdir())[12], folder / "IM0001")
    for _ in range(2):
        assert volumes_in(folder) == [folder / "IM0001"]
        rows, _ = segment_files(Fixed(50, "skin"), volumes_in(folder), folder)
        assert rows["status"].tolist() == ["found"] and list(folder.glob("IM0001_mask.*"))


def test_probability_is_stored_in_255_steps(scans, tmp_path):
    segment_files(Fixed(50, "skin"), [scans / "a.nrrd"], tmp_path / "out")
    stored = read_volume(tmp_path / "out" / "a_probability.nrrd").array
    assert stored.dtype == np.uint8 and np.unique(stored).tolist() == [26, 178]  # 0.1 and 0.7 of 255, rounded


@pytest.mark.parametrize("flags", [(("no head",), ()), ((), ("no head",))])
def test_no_head_and_found_never_stand_together(scans, tmp_path, flags):
    head, skull = Fixed(50, "skin", flags[0]), Fixed(140, "skull", flags[1])
    rows, _ = segment_files(head, [scans / "a.nrrd"], tmp_path / "out", skull, 26.0)
    row, page = rows.iloc[0], (tmp_path / "out" / "a.html").read_text(encoding="utf-8")
    assert row["status"] == "uncertain" and row["volume_ml"] > 0
    assert row[["bpd_mm", "ofd_mm", "hc_mm", "hc_centile"]].isna().all()
    assert "uncertain: " in page and "withheld: the result is uncertain" in page and "whole head" not in page


def test_a_skull_without_a_head_has_no_sizes(scans, tmp_path):
    rows, _ = segment_files(Fixed(250, "skin"), [scans / "a.nrrd"], tmp_path / "out", Fixed(140, "skull"), 26.0)
    assert rows["status"].tolist() == ["nothing found"] and rows["hc_mm"].isna().all()


@pytest.mark.parametrize(
    ("weeks", "words"),
    [
        (12.0, "12 weeks is outside the chart's 14 to 40 weeks"),
        (26.0, "how far this HC errs is not known"),
    ],
)
def test_an_age_outside_of_the_chart_is_told(scans, tmp_path, weeks, words):
    rows, _ = segment_files(Fixed(50, "skin"), [scans / "a.nrrd"], tmp_path / "out", Fixed(140, "skull"), weeks)
    assert rows["hc_centile_note"].tolist() == [words] and rows["hc_centile"].notna().iloc[0] == (weeks == 26)


@pytest.mark.parametrize(
    ("weeks", "words"), [(260.0, "260 days are 37.1 weeks"), (46.0, "up to 45$"), (-1.0, "is none")]
)
def test_an_age_that_no_pregnancy_has_is_refused_before_anything_is_written(scans, tmp_path, weeks, words):
    with pytest.raises(ValueError, match=words):
        segment_files(Fixed(50, "skin"), [scans / "a.nrrd"], tmp_path / "out", None, weeks)
    assert not (tmp_path / "out").exists()


def test_an_hc_comes_with_its_error_and_its_centile_with_what_that_makes_of_it(scans, tmp_path):
    """Weights whose HC was measured 12 mm too small to 6 mm too large: the true one is 6 mm below to 12 mm above."""
    cards = {"head": Card("head", "1" * 16), "skull": Card("skull", "2" * 16, hc_error_mm=(-12.0, 6.0))}
    scan, skull = [scans / "a.nrrd"], Fixed(140, "skull")
    rows, _ = segment_files(Fixed(50, "skin"), scan, tmp_path / "out", skull, 14.0, cards=cards)
    row = rows.iloc[0]
    assert (row["hc_low_mm"], row["hc_high_mm"]) == pytest.approx((row["hc_mm"] - 6, row["hc_mm"] + 12))
    # INTERGROWTH-21st at 14+0: mean 97.9 mm, SD 4.4; the ends are 2.5 SD and 1.6 SD and more away
    ends = [centile("hc", row[name], 14.0) for name in ("hc_low_mm", "hc_high_mm")]
    assert row["hc_centile_note"] == f"{' to '.join(map(centile_in_words, ends))} by the error of HC"
    assert row["hc_centile_note"] in (tmp_path / "out" / "a.html").read_text(encoding="utf-8")


def test_a_table_beside_the_scans_gives_each_its_age(scans, tmp_path):
    (scans / "ages.csv").write_text("filename;ga_weeks;remark\na.nrrd;18+0;x\nb;\n", encoding="utf-8")

    def start(default=None):
        skull = Fixed(140, "skull")
        rows, _ = segment_files(Fixed(50, "skin"), volumes_in(scans), tmp_path / "out", skull, default, weights="w")
        return rows["ga_weeks"].tolist()

    first, second = start()
    assert first == 18 and np.isnan(second)
    assert start(30.0) == [18.0, 30.0]
    (scans / "ages.csv").write_text("filename,ga_weeks\na,18+0\nb,19+7\n", encoding="utf-8")
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(scans), tmp_path / "out")
    assert rows["status"].tolist() == ["failed", "failed"]
    assert rows["note"][0] == "ages.csv, b: '19+7' is no age: give weeks as 26.5, or weeks and days as 26+3"
    (scans / "ages.csv").write_text("filename,ga_weeks\na,182\n", encoding="utf-8")
    rows, _ = segment_files(Fixed(50, "skin"), [scans / "a.nrrd"], tmp_path / "out")
    assert "182 days are 26.0 weeks" in rows["note"][0]


def test_a_table_of_another_origin_is_never_replaced(scans, tmp_path, shipped, capsys):
    theirs = tmp_path / "out" / "segment.csv"
    theirs.parent.mkdir()
    theirs.write_text("patient,fetal_weight\n1,900\n")
    assert main(["segment", str(scans), str(theirs.parent)]) == 2
    assert "segment.csv is a table of another origin" in capsys.readouterr().err
    assert contents(theirs.parent) == {"segment.csv": b"patient,fetal_weight\n1,900\n"}


@pytest.mark.parametrize("lacking", ["SliceThickness", "PatientID", "FrameOfReferenceUID"])
def test_a_failed_dicom_seg_takes_nothing_with_it(tmp_path, lacking):
    head = ellipsoid((16, 24, 20), shape=(24, 40, 36))
    dicom_series(head.with_array(head.array * 200), tmp_path / "series")
    for path in (tmp_path / "series").iterdir():
        content = pydicom.dcmread(path)
        if lacking in content:
            delattr(content, lacking)
        content.save_as(path)
    rows, _ = segment_files(Fixed(50, "skin"), [tmp_path / "series"], tmp_path / "out", Fixed(140, "skull"))
    row = rows.iloc[0]
    assert row["status"] == "found" and row["hc_mm"] > 0
    for name in ("mask", "skull"):
        assert (tmp_path / "out" / f"series_{name}.seg.nrrd").exists()
        if not (tmp_path / "out" / f"series_{name}.dcm").exists():
            assert lacking in row["note"].replace(" ", "").replace("FrameofReference", "FrameOfReference")


@pytest.mark.parametrize("error", [MemoryError(), StopIteration("odd"), KeyError("tag")])
def test_one_volume_never_ends_the_folder(scans, tmp_path, monkeypatch, error):
    head = Fixed(50, "skin")
    segment = head.segment

    def spoil(volume, **options):
        if not head.seen:
            head.seen.append(())
            raise error
        return segment(volume, **options)

    monkeypatch.setattr(head, "segment", spoil)
    rows, _ = segment_files(head, volumes_in(scans), tmp_path / "out")
    assert rows["status"].tolist() == ["failed", "found"] and rows["note"].iloc[0]
    assert outputs.unfinished(tmp_path / "out", rows["case"]) == ["a"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_has_a_row(scans, tmp_path):
    odd = os.fsdecode(os.fsencode(scans) + b"/caf\xe9.nrrd")
    shutil.copyfile(scans / "a.nrrd", odd)
    rows, _ = segment_files(Fixed(50, "skin"), volumes_in(scans), tmp_path / "out")
    assert dict(zip(rows["case"], rows["status"])) == {"a": "found", "b": "found", "caf_": "failed"}
    assert "rename the file" in rows["note"].iloc[2]


def test_found_is_never_said_without_a_mask_on_disk(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "write_segmentation", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    rows, results = segment_files(Fixed(50, "skin"), [scans / "a.nrrd"], tmp_path / "out")
    assert rows["status"].tolist() == ["failed"] and rows["note"].tolist() == ["No space left"] and not results
    assert not list((tmp_path / "out").glob("*_mask*")) and not list((tmp_path / "out").glob(".partial-*"))


def test_disk_space_is_asked_for_first(scans, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    head = Fixed(50, "skin")
    with pytest.raises(OSError, match="name a folder for the results"):
        segment_files(head, volumes_in(scans), tmp_path / "out")
    assert head.seen == []


def test_names_are_told_apart(tmp_path):
    paths = [tmp_path / name for name in ("a.nrrd", "A.NRRD", "a~2.nrrd", "a.nii.gz")]
    assert [name for name, _ in named(paths, tmp_path)] == ["a", "A~2", "a~2~2", "a~3"]


def test_voxels_beside_a_header_count(scans):
    sitk.WriteImage(to_sitk(read_volume(scans / "a.nrrd")), str(scans / "c.mhd"))
    first = source_digest(scans / "c.mhd")
    (scans / "c.raw").write_bytes(b"2")
    assert source_digest(scans / "c.mhd") != first


def test_weights_have_one_digest():
    assert weights_digest("head") == weights_digest("head") != weights_digest("head", "skull")
    assert NO_HEAD in MEANINGS
