"""What is missing, what is equal but for rounding, and which rows belong together."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhlib.measures.inputs import as_numbers, counted, has_spread, listed, names_of, one_each, rows_of, settled

MISSING = [None, math.nan, pd.NA, pd.NaT, "", "  "]


@pytest.mark.parametrize("missing", MISSING)
def test_missing_cells_are_nan_and_no_names(missing):
    np.testing.assert_array_equal(as_numbers([1, missing, "2.5"], "volumes"), [1, math.nan, 2.5])
    assert names_of(["a", missing, 7], "subjects").tolist() == ["a", None, 7]


def test_masked_and_nullable_values_are_missing():
    masked = np.ma.array([3, 4, 5], mask=[0, 1, 0])
    np.testing.assert_array_equal(as_numbers(masked, "volumes"), [3, math.nan, 5])
    np.testing.assert_array_equal(as_numbers(pd.Series([3, pd.NA], dtype="Int64"), "volumes"), [3, math.nan])
    assert names_of(np.ma.array(["a", "b"], mask=[1, 0]), "subjects").tolist() == [None, "b"]
    assert names_of(["NA", "nan", "None"], "subjects").tolist() == [
        "NA",
        "nan",
        "None",
    ]  # names, as somebody wrote them


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["1,5", "2"], "volumes holds '1,5': expected numbers with a decimal point"),
        ([1 + 2j], "complex128"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        ([[1, 2], [3]], "different lengths"),
        ([1e200], "no measurement is that large"),
        ([[1, 2], [3, 4]], r"shape \(2, 2\)"),
        (5.0, r"shape \(\)"),
    ],
)
def test_what_is_no_column_of_numbers_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        one_each(values, "volumes")


def test_series_must_name_their_rows_alike():
    first, second = pd.Series([1, 2], index=["a", "b"]), pd.Series([1, 2], index=["b", "a"])
    with pytest.raises(ValueError, match="first and second are pandas Series with different indexes"):
        rows_of(first=first, second=second)
    assert rows_of(first=first, second=second.to_numpy()).tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="2 first and 3 second: expected one of each"):
        rows_of(first=first, second=[1, 2, 3])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.randoms())
def test_noise_far_below_the_tolerance_is_taken_back(whole, random):
    noisy = np.array([value / 8192 + random.uniform(-1, 1) * 1e-16 for value in whole])  # no multiple of 1e-12
    ranks = np.unique(settled(noisy, 1e-12), return_inverse=True)[1]
    np.testing.assert_array_equal(ranks, np.unique(whole, return_inverse=True)[1])


def test_settling_goes_along_the_last_axis():
    rows = np.array([[0.3, 0.1 + 0.2, 0.2], [2.0, 1.0, 2.0]])
    assert settled(rows, 1e-12).tolist() == [[0.3, 0.3, 0.2], [2.0, 1.0, 2.0]]


def test_spread_is_relative_to_size():
    assert not has_spread(np.array([0.3, 0.1 + 0.2, 0.3])) and has_spread(np.array([0.3, 0.3, 0.3 + 1e-9]))
    assert not has_spread(np.zeros(5)) and not has_spread(np.array([1.0, 2.0]))


def test_words():
    assert (counted(1, "pair"), counted(0, "pair")) == ("1 pair", "0 pairs")
    assert listed("abcde") == "a, b, c, d, e" and listed("abcdefg") == "a, b, c, d, e and 2 more"
