"""Tables and charts of scores, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.figures.charts import scores as charts
from tests.figures.made import smallest_letters


def scores() -> pd.DataFrame:
    return pd.DataFrame({"variant": ["USegNet-DS"] * 3, "status": ["found", "found", "missed"], "dsc": [0.9, 0.8, 0.0],
                         "conf": [7 / 9, 0.5, -np.inf],
                         "jacc": [9 / 11, 2 / 3, 0], "adb_mm": [1.0, 2.0, np.nan], "hdb_mm": [4.0, 6.0, np.nan]})  # fmt: skip


def test_table_beside_paper_by_hand() -> None:
    paper = pd.DataFrame({"variant": ["USegNet", "USegNet-DS"], "dsc_percent": [94.83, 94.95], "conf_percent": [89.06, 89.33],
                          "jacc_percent": [90.2, 90.42],
                          "adb_mm": [0.6186, 0.6225], "hdb_mm": [5.4, 5.409]})  # fmt: skip
    table = charts.table_beside_paper(scores(), paper).set_index("variant")
    row = table.loc["USegNet-DS"]
    assert row["n"] == 3 and row["missed"] == 1
    assert row["DSC [%], here"].startswith("56.67") and row["DSC [%], paper"] == "94.95"  # the missed case counts as 0
    assert row["Adb [mm], here"] == "1.500 ± 0.707" and row["Hdb [mm], here"].startswith("5.000")
    assert row["Conformity [%], here"].startswith("63.89")  # (77.78 + 50) / 2, found cases only
    assert table.loc["USegNet", "DSC [%], here"] == "" and table.loc["USegNet", "Adb [mm], paper"] == "0.619"


def test_boxes_of_scores_and_bars_of_times() -> None:
    boxes = charts.score_boxes(scores())
    assert boxes.axes[0].get_yticklabels()[0].get_text() == "USegNet-DS\nn = 2, 1 missed"
    bars = charts.timing_bars(pd.DataFrame({"name": ["slow", "fast"], "seconds": [2.0, 1.0]}))
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == ["fast", "slow"]


def test_forest_of_differences_has_the_papers_beside() -> None:
    compared = pd.DataFrame(
        {
            "variant": ["B", "C"],
            "baseline": "A",
            "difference": [0.01, -0.02],
            "low": [0.005, -0.03],
            "high": [0.02, 0.01],
        }
    )
    printed = pd.DataFrame({"variant": ["A", "B"], "dsc_percent": [90.0, 91.5]})
    figure = charts.difference_forest(compared, printed)
    (axis,) = figure.axes
    cross = next(line for line in axis.lines if line.get_marker() == "x")
    assert cross.get_xdata()[0] == pytest.approx(1.5) and figure.get_supxlabel().endswith("difference from A")
    ends = [sorted(x for x, _ in segment) for segment in axis.collections[0].get_segments()]
    assert ends[0] == pytest.approx([0.5, 2.0]) and ends[1] == pytest.approx([-3.0, 1.0])


def test_a_forest_with_far_rows_has_a_broken_axis() -> None:
    """Two rows lie 14 and 6 points below the others, which differ by less than 1: they get a part of their own."""
    rows = [("a", -0.14, 0.02), ("b", -0.06, 0.01), ("c", 0.006, 0.003), ("d", 0.004, 0.003), ("e", 0.0, 0.004)]
    rows += [("f", 0.008, 0.003), ("g", 0.005, 0.002)]
    compared = pd.DataFrame(
        [{"variant": v, "baseline": "z", "n": 50, "difference": m, "low": m - w, "high": m + w} for v, m, w in rows]
    )
    printed = pd.DataFrame({"variant": ["z", "a"], "dsc_percent": [95.0, 94.0]})
    figure = charts.difference_forest(compared, printed)
    left, right = (axis.get_xlim() for axis in figure.axes)
    assert left[0] < -16 and -5 < left[1] < -4 and left[1] < right[0] < -1 and 1.1 < right[1] < 2
    assert "n = 50 cases" in figure.get_supxlabel() and "axis broken" in figure.get_supxlabel()
    assert smallest_letters(figure) >= 7
    near = charts.difference_forest(compared.iloc[2:], printed)
    assert len(near.axes) == 1 and "broken" not in near.get_supxlabel()
