"""Splits without leaks between subjects."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhlib.cohorts.manifest import CohortError
from fhlib.cohorts.splits import assign_splits, subjects_alike


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


@pytest.mark.parametrize(
    ("subjects", "alike"),
    [
        (["007", "7", "8"], ["007, 7"]),
        (["1", "1.0"], ["1, 1.0"]),  # a spreadsheet's
        (["A-2", "A_2", "A2"], ["A-2, A2, A_2"]),
        (["P03", "P3", "p4"], ["P03, P3"]),
        (
            ["P01_visit1", "P01_visit2", "P02_visit1", "P02_visit2"],
            ["P01_visit1, P01_visit2", "P02_visit1, P02_visit2"],
        ),
        (["anna-ses-01", "anna-ses-02"], ["anna-ses-01, anna-ses-02"]),
        (["P01", "P01_week22"], ["P01, P01_week22"]),
        (["P01_1", "P01_2", "P02_1"], ["P01_1, P01_2"]),
        (["P01a", "P01b"], ["P01a, P01b"]),
        (["001_us1", "001_us2"], ["001_us1, 001_us2"]),
        (["S1", "s1"], []),  # an error of the manifest
        (["s1", "s2", "s10", "s100"], []),
        (["case_1", "case_2"], []),
        (["1-12", "11-2"], []),
        (["1.2", "12"], []),
        ([f"site1_{number:03d}" for number in range(20)], []),
        ([f"s{number:04d}" for number in range(200)], []),
    ],
)
def test_names_that_may_be_one_woman_are_named(subjects, alike):
    messages = [message for _, _, _, message in subjects_alike(subjects)]
    assert [re.split(" differ| may", message)[0] for message in messages] == alike
