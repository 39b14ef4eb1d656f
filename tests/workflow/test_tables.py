"""Tables of notebooks made readable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from fhlib.workflow.tables import in_words, tidy


def cells(html: str) -> list[list[str]]:
    rows = BeautifulSoup(html, "html.parser").find_all("tr")
    return [[cell.get_text(strip=True) for cell in row.find_all(["th", "td"])] for row in rows]


def test_row_numbers_nothing_and_raw_digits_go():
    frame = pd.DataFrame(
        {
            "variant": ["A", "B", "C"],
            "dsc_mean": [91.23456789, 8.5, np.nan],
            "n": [20.0, 3.0, np.nan],
            "p": [3e-9, 0.04321, np.nan],
            "empty": [np.nan] * 3,
            "has_head": [True, False, True],
        },
        index=[4, 7, 9],
    )
    assert cells(tidy(frame.to_html())) == [
        ["variant", "DSC, mean", "n", "p", "has head"],
        ["A", "91.23", "20", "< 0.001", "yes"],
        ["B", "8.50", "3", "0.043", "no"],
        ["C", "", "", "", "yes"],
    ]


def test_a_named_index_stays_in_one_line_of_headings():
    frame = pd.DataFrame({0: [0.5], 1: [0.25]}, index=pd.Index(["USegNet"], name="variant"))
    frame.columns.name = "seed"
    assert cells(tidy(frame.to_html())) == [["variant", "seed 0", "seed 1"], ["USegNet", "0.5000", "0.2500"]]


def test_numbers_that_count_stay_and_small_ones_are_not_nothing():
    frame = pd.DataFrame({"case": ["007", "008"], "share": [123.4, 0.00012], "gap": [np.inf, 1.25]})
    assert cells(tidy(frame.to_html(index=False)))[1:] == [["007", "123.4", "infinite"], ["008", "0.00012", "1.250"]]


def test_measures_down_the_side_are_named_and_empty_ones_left_out():
    frame = pd.DataFrame({"A": ["1", ""], "B": ["2", ""]}, index=["mean_absolute_error", "icc21"])
    assert cells(tidy(frame.to_html())) == [["", "A", "B"], ["mean absolute error", "1", "2"]]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adb_mm", "Adb [mm]"),
        ("volume_ml", "volume [mL]"),
        ("hdb_mm_mean", "Hdb [mm], mean"),
        ("USegNet-DS", "USegNet-DS"),
        ("p_holm", "p (Holm)"),
    ],
)
def test_names_as_one_would_say_them(name, words):
    assert in_words(name) == words


def test_what_is_no_table_stays_as_it_is():
    assert tidy("<p>NaN 1.23456789</p>") == "<p>NaN 1.23456789</p>"
