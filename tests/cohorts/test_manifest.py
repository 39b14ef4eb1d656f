"""The manifest: read, written, and refused with the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.manifest import CohortError, describe_findings, load_cohort, write_manifest
from fhlib.images.formats import write_volume
from tests.cohorts.made import checks, make, scan


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
        ("", "not a comma-separated table"),
        ("case;subject;image;label\na;b;c;d\n", "column 'case' is missing"),
        ("case,subject,image\na,b,c\n", "column 'label' is missing"),
        ("case,subject,image,label\n", "no rows"),
    ):
        (tmp_path / "cohort.csv").write_text(text)
        with pytest.raises(CohortError, match=message):
            load_cohort(tmp_path)
    (tmp_path / "cohort.csv").write_bytes("case,subject,image,label\nä,b,c,d\n".encode("latin-1"))
    with pytest.raises(CohortError, match="UTF-8"):
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
