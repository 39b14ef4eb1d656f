"""The manifest, its validation report, and splits without leaks between subjects."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhlib.cohorts.checks import check_cohort
from fhlib.cohorts.manifest import CohortError, describe_findings, load_cohort, write_manifest
from fhlib.cohorts.splits import assign_splits
from fhlib.images.formats import write_volume
from fhlib.images.volume import Volume

OBLIQUE = (-0.8660254037844386, 0.5, 0.0, 0.5, 0.8660254037844386, 0.0, 0.0, 0.0, 1.0)


def scan(seed, **change):
    values = np.random.default_rng(seed).integers(0, 255, (9, 13, 17)).astype(np.float32)
    return Volume(**({"array": values, "spacing_mm": (4, 2, 3), "origin": (5, -6, 7), "direction": OBLIQUE} | change))


def head(**change):
    """A box of 5 x 7 x 9 voxels of 4 x 2 x 3 mm: 7.56 mL."""
    mask = np.zeros((9, 13, 17), bool)
    mask[2:7, 3:10, 4:13] = True
    return scan(0, **({"array": mask} | change))


def make(folder, count=3, **columns):
    """A sound cohort of `count` subjects; keyword lists replace columns."""
    for i in range(count):
        write_volume(scan(i), folder / "images" / f"c{i}.nrrd")
        write_volume(head(), folder / "labels" / f"c{i}.nrrd")
    table = {
        "case": [f"c{i}" for i in range(count)],
        "subject": [f"s{i}" for i in range(count)],
        "image": [f"images/c{i}.nrrd" for i in range(count)],
        "label": [f"labels/c{i}.nrrd" for i in range(count)],
    }
    pd.DataFrame(table | columns).to_csv(folder / "cohort.csv", index=False)
    return folder


def checks(folder):
    """(case, check, severity) of every finding."""
    findings = check_cohort(folder, show_progress=False)
    assert list(findings.columns) == ["case", "check", "severity", "message"]
    return [tuple(row[:3]) for row in findings.itertuples(index=False)]


def test_a_sound_cohort_is_read_and_has_no_findings(tmp_path):
    cohort = load_cohort(make(tmp_path, ga_weeks=["20.5", "", "26"], has_head=["", "1", "True"], x_note=["a", "", "b"]))
    assert (cohort.name, len(cohort), cohort.spatial_dims) == (tmp_path.name, 3, 3)
    assert checks(tmp_path) == []
    assert describe_findings(check_cohort(cohort)) == "no findings"
    assert cohort.table["has_head"].tolist() == ["true"] * 3
    assert cohort.table.dtypes.map(pd.api.types.is_string_dtype).all()
    np.testing.assert_array_equal(cohort.numbers("ga_weeks"), [20.5, np.nan, 26])
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
        (scan(2), None, "duplicate image", "error", r"voxels are those of case c1"),
        (scan(5, spacing_mm=(1, 1, 1)), head(spacing_mm=(1, 1, 1)), "spacing", "warning", "without a spacing"),
        (scan(5, spacing_mm=(400, 2, 3)), None, "spacing", "error", "400 x 2 x 3 mm are implausible"),
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
    spoil(tmp_path, label=head(array=head().array.astype(np.uint8) * 255))
    assert checks(tmp_path) == [] and load_cohort(tmp_path).read_label("c1").array.sum() == 315
    spoil(tmp_path, label=with_values(head(), other=7))
    with pytest.raises(CohortError, match=r"more than one value besides 0 \(1.0 to 7.0\)"):
        load_cohort(tmp_path).read_label("c1")


# splits


def table(subjects, splits=None, label=None, has_head=None):
    n = len(subjects)
    frame = {"case": [f"c{i}" for i in range(n)], "subject": subjects, "split": splits or [""] * n}
    return pd.DataFrame(frame | {"label": label or ["l"] * n, "has_head": has_head or ["true"] * n})


def members(frame, split):
    return set(frame.loc[frame["split"] == split, "subject"])


def test_splits_by_hand():
    # 50 subjects with 2 scans each: 10 test; of the other 40, 8 val
    frame = table([f"s{i // 2}" for i in range(100)])
    split = assign_splits(frame, seed=1)
    assert split["split"].value_counts().to_dict() == {"train": 64, "test": 20, "val": 16}
    assert split.groupby("subject")["split"].nunique().max() == 1
    assert frame["split"].eq("").all()  # the table given is left as it is
    shuffled = assign_splits(frame.sample(frac=1, random_state=3), seed=1)
    pd.testing.assert_frame_equal(shuffled.sort_index(), split)
    assert members(assign_splits(frame, seed=2), "test") != members(split, "test")
    # whether there is a val split does not change who is tested
    assert members(assign_splits(frame, seed=1, val_fraction=0), "test") == members(split, "test")


def test_given_splits_stay():
    frame = table(list("aabcdefghij"), ["train", "", "test", "repro"] + ["train"] * 7)
    split = assign_splits(frame, seed=0)
    assert members(split, "test") == {"b"} and members(split, "repro") == {"c"}
    # the other 8 subjects train, and 2 of them (20 %, rounded) become the validation split
    assert len(members(split, "val")) == 2 and len(members(split, "train")) == 6
    assert (
        assign_splits(frame, 0, val_fraction=0)["split"].tolist() == ["train", "train", "test", "repro"] + ["train"] * 7
    )
    with pytest.raises(CohortError, match="subject a is in test and train"):
        assign_splits(table(["a", "a"], ["train", "test"]), 0)


def test_unlabelled_subjects_are_only_predicted():
    subjects = [f"s{i}" for i in range(10)] + ["s0"]
    split = assign_splits(table(subjects, label=["l"] * 10 + [""]), seed=5)
    assert set(split.loc[split["subject"] == "s0", "split"]) == {"test"}
    assert len(members(split, "test")) == 3  # s0, and 20 % of the other 9
    without = assign_splits(table(subjects, label=["l"] * 10 + [""], has_head=["true"] * 10 + ["false"]), seed=5)
    assert len(members(without, "test")) == 2


def test_fractions_are_checked():
    with pytest.raises(ValueError, match="fractions"):
        assign_splits(table(["a"]), 0, test_fraction=1.0)
    for count, expected in ((1, {"train": 1}), (2, {"test": 1, "train": 1}), (3, {"test": 1, "train": 1, "val": 1})):
        assert assign_splits(table([f"s{i}" for i in range(count)]), 0)["split"].value_counts().to_dict() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40),
    st.dictionaries(st.integers(0, 12), st.sampled_from(["train", "val", "test", "repro"])),
    st.integers(0, 2**32),
)
def test_no_subject_is_ever_divided(rows, given_splits, seed):
    subjects = [f"s{number}" for number, _ in rows]
    splits = [given_splits.get(number, "") if named else "" for number, named in rows]
    frame = table(subjects, splits)
    split = assign_splits(frame, seed)
    assert (split["split"] != "").all()
    assert split.groupby("subject")["split"].nunique().max() == 1
    kept = frame["split"].isin(["val", "test", "repro"])
    assert (split.loc[kept, "split"] == frame.loc[kept, "split"]).all()
    moved = split.loc[frame["split"] == "train", "split"]
    assert set(moved) <= ({"train"} if "val" in splits else {"train", "val"})
