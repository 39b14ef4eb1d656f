"""The manifest: read, written, and refused with the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.manifest import CohortError, describe_findings, load_cohort, write_manifest
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume
from tests.cohorts.made import checks, head, make, scan


def test_a_sound_cohort_is_read_and_has_no_findings(tmp_path):
    cohort = load_cohort(make(tmp_path, ga_weeks=["20.5", "", "26"], has_head=["", "1", "True"], x_note=["a", "", "b"]))
    assert (cohort.name, len(cohort.table), cohort.spatial_dims) == (tmp_path.name, 3, 3)
    assert checks(tmp_path) == []
    assert describe_findings(check_cohort(cohort)) == "no findings"
    assert cohort.table["has_head"].tolist() == ["true"] * 3
    assert cohort.table.dtypes.map(pd.api.types.is_string_dtype).all()
    assert cohort.table["ga_weeks"].tolist() == ["20.5", "", "26"]  # as written, to be written again
    assert cohort.row("c1")["split"] == "" and cohort.row("c2")["x_note"] == "b"
    np.testing.assert_array_equal(cohort.read_image("c1").array, scan(1).array)
    label = cohort.read_label("c1")
    assert label.array.dtype == bool and label.array.sum() == 5 * 7 * 9
    assert label.same_geometry(cohort.read_image("c1"))
    assert not cohort.outlines_skull
    with pytest.raises(KeyError, match=r"no case 'c11'.*did you mean 'c1'"):
        cohort.row("c11")


def test_a_manifest_written_is_the_one_read(tmp_path):
    table = load_cohort(make(tmp_path, ga_weeks=[20.25, 31, ""], x_site=["b", "", "a"])).table
    again = write_manifest(table, tmp_path)
    pd.testing.assert_frame_equal(again.table, table)
    header = (tmp_path / "cohort.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "case,subject,image,label,ga_weeks,has_head,x_site"
    with pytest.raises(CohortError, match="did you mean 'ga_weeks'"):
        write_manifest(table.rename(columns={"ga_weeks": "ga_week"}), tmp_path)
    assert (tmp_path / "cohort.csv").read_text(encoding="utf-8").splitlines()[0] == header


@pytest.mark.parametrize(
    ("columns", "case", "check", "message"),
    [
        ({"ga_week": ["1", "2", "3"]}, "", "unknown column", "'ga_week'.*did you mean 'ga_weeks'"),
        ({"zebra": ["1", "2", "3"]}, "", "unknown column", "'zebra'.*begin its name with x_"),
        ({"case": ["c0", "c1", "C1"]}, "C1", "duplicate case", "more than one row"),
        ({"case": ["c0", "c1", "a/b"]}, "a/b", "value", "case is 'a/b': expected a pseudonym"),
        ({"subject": ["s0", "", "s2"]}, "c1", "value", "subject is '': expected a pseudonym"),
        ({"subject": ["s0", "Jane Roe", "s2"]}, "c1", "value", "subject is 'Jane Roe'"),
        ({"split": ["train", "test", "tests"]}, "c2", "value", "split is 'tests': expected train, val, test, repro"),
        ({"ga_weeks": ["20", "210", "x"]}, "c1", "value", "ga_weeks is '210': expected a number of 4 to 45 weeks"),
        ({"has_head": ["yes", "no", "maybe"]}, "c2", "value", "has_head is 'maybe'"),
        ({"split": ["train", "validation", ""]}, "c1", "value", "split is 'validation'.*did you mean 'val'"),
        ({"split": ["Train", "", ""]}, "c0", "value", "split is 'Train'.*did you mean 'train'"),
        ({"reference_volume_ml": ["-3", "", ""]}, "c0", "value", "reference_volume_ml is '-3': expected"),
        ({"reference_volume_ml": ["0", "", ""]}, "c0", "value", "reference_volume_ml is 0 where a head is expected"),
        ({"subject": ["S1", "s1", "s2"]}, "", "subject spelling", "S1 and s1 differ in case alone"),
        ({"spacing_mm": ["1,5", "", ""]}, "c0", "value", "spacing_mm is '1,5'.*give mm as 0.5"),
        ({"spacing_mm": ["0", "", ""]}, "c0", "value", "spacing_mm is '0'"),
        ({"spacing_mm": ["1,2,3,4", "", ""]}, "c0", "value", "spacing_mm is '1,2,3,4'"),
        ({"image": ["images/c0.nrrd", ".", ""]}, "c1", "path", "is the cohort's folder itself"),
        ({"image": ["images/c0.nrrd", "images/../..", ""]}, "c1", "path", "leads outside"),
        ({"image": ["images/c0.nrrd", "file:///x.nrrd", ""]}, "c1", "path", "absolute path"),
        ({"image": ["images/c0.nrrd", "\\\\server\\x.nrrd", ""]}, "c1", "path", "absolute path"),
        ({"image": ["images/c0.nrrd", "x" * 300, ""]}, "c1", "path", "is no name of a file"),
        ({"image": ["images/c0.nrrd", "../x.nrrd", ""]}, "c1", "path", "'../x.nrrd' leads outside"),
        ({"image": ["images/c0.nrrd", "/etc/x.nrrd", ""]}, "c1", "path", "absolute path"),
        ({"image": ["images/c0.nrrd", "C:\\x.nrrd", ""]}, "c1", "path", "absolute path"),
        ({"subject": ["s", "s", "t"], "split": ["train", "test", ""]}, "", "subject in two splits", "test and train"),
        ({"label": ["", "labels/c1.nrrd", ""], "split": ["train", "", ""]}, "c0", "missing label", "needs a label"),
    ],
)
def test_a_manifest_that_breaks_the_schema(tmp_path, columns, case, check, message):
    make(tmp_path, **columns)
    with pytest.raises(CohortError, match=message) as caught:
        load_cohort(tmp_path)
    found = caught.value.findings
    assert ((found["case"] == case) & (found["check"] == check) & (found["severity"] == "error")).any()
    assert (case, check, "error") in checks(tmp_path)  # reported with the files' findings too


def test_manifests_that_are_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no cohort\.csv"):
        load_cohort(tmp_path)
    for text, message in (
        ("", "cohort.csv is empty"),
        ("case/subject/image/label\na/b/c/d\n", "column 'case' is missing"),
        ("case,subject,image\na,b,c\n", "column 'label' is missing"),
        ("case,subject,image,label\n", "no rows"),
    ):
        (tmp_path / "cohort.csv").write_text(text)
        with pytest.raises(CohortError, match=message):
            load_cohort(tmp_path)
    (tmp_path / "cohort.csv").write_bytes("case,subject,image,label\nä,b,c,d\n".encode("latin-1"))
    with pytest.raises(CohortError, match="case is 'ä': expected a pseudonym"):
        load_cohort(tmp_path)


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path):
    make(tmp_path)
    text = (tmp_path / "cohort.csv").read_text(encoding="utf-8").replace(",", " , ")
    (tmp_path / "cohort.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert load_cohort(tmp_path).table["case"].tolist() == ["c0", "c1", "c2"]


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    outside = tmp_path / "outside"
    write_volume(scan(9), outside / "secret.nrrd")
    folder = make(tmp_path / "cohort")
    (folder / "images" / "c1.nrrd").unlink()
    (folder / "images" / "c1.nrrd").symlink_to(outside / "secret.nrrd")
    assert ("c1", "path", "error") in checks(folder)
    with pytest.raises(CohortError, match="leads outside"):
        load_cohort(folder)
    with pytest.raises(CohortError, match="leads outside"):
        load_cohort(folder, strict=False).read_image("c1")


def test_links_in_a_circle_are_refused(tmp_path):
    make(tmp_path, image=["images/c0.nrrd", "loop.nrrd", "images/c2.nrrd"])
    (tmp_path / "loop.nrrd").symlink_to(tmp_path / "other.nrrd")
    (tmp_path / "other.nrrd").symlink_to(tmp_path / "loop.nrrd")
    with pytest.raises(CohortError, match=r"'loop.nrrd' is (a link that leads to itself|no name of a file)"):
        load_cohort(tmp_path)


def test_ages_that_may_be_months_are_said(tmp_path):
    make(tmp_path, ga_weeks=["5.5", "12", ""])
    assert checks(tmp_path) == [("c0", "age", "warning")]


def test_a_row_gives_the_spacing_that_its_files_do_not_state(tmp_path):
    rows = ("a,a,a.png,la.png,0.25", 'b,b,b.png,lb.png,"0.5,0.25"', "c,c,c.png,lc.png,0.5x0.25")
    table = "\n".join(["case,subject,image,label,spacing_mm", *rows])
    for number, case in enumerate("abc"):
        write_volume(Volume(scan(number).array[0].astype(np.uint8), (1, 1)), tmp_path / f"{case}.png")
        write_volume(Volume(head(number).array[4], (1, 1)), tmp_path / f"l{case}.png")
    (tmp_path / "cohort.csv").write_text(table)
    cohort = load_cohort(tmp_path)
    for case, spacing in (("a", (0.25, 0.25)), ("b", (0.5, 0.25)), ("c", (0.5, 0.25))):
        assert cohort.read_image(case).spacing_mm == spacing
        assert cohort.read_label(case).spacing_mm == spacing and cohort.read_label(case).array.sum() == 7 * 9
    assert {check for _, check, _ in checks(tmp_path)} == {"head size"}  # 63 pixels of 0.25 mm: no warning of the 1 mm
    again = write_manifest(cohort.table, tmp_path)
    assert again.read_image("b").spacing_mm == (0.5, 0.25)


def test_a_spacing_that_contradicts_the_file_is_said(tmp_path):
    make(tmp_path, spacing_mm=["4,2,3", "4,2,2", ""], x_spacing_mm=["", "", "0.5"])
    assert load_cohort(tmp_path).read_image("c1").spacing_mm == (4, 2, 2)  # as --spacing-mm, it replaces the file's
    found = check_cohort(tmp_path, show_progress=False)
    assert found[["case", "check", "severity"]].values.tolist() == [["c2", "spacing", "warning"]] + 2 * [
        ["c1", "spacing", "warning"]
    ]
    assert "image states voxels of 4 x 2 x 3 mm, and spacing_mm replaces them by 4 x 2 x 2" in found["message"].iloc[1]


def test_a_spacing_that_does_not_fit_the_image_is_an_error(tmp_path):
    make(tmp_path, spacing_mm=["4.0,2.0", "", ""])
    assert ("c0", "unreadable file", "error") in checks(tmp_path)


@pytest.mark.parametrize(
    ("decimals", "found"), [("1234561234", True), ("1234571234", False), ("5555555555", False), ("123456123", False)]
)
def test_ages_that_may_be_weeks_and_days_are_said(tmp_path, decimals, found):
    make(tmp_path, count=len(decimals), ga_weeks=[f"26.{decimal}" for decimal in decimals])
    messages = check_cohort(tmp_path, show_progress=False)["message"].str.cat(sep=" ")
    assert ("are they weeks and days, as 26.3 for 26+3?" in messages) == found
