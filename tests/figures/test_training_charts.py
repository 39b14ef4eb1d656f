"""Courses of trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.figures.charts.training import learning_curves, validation_course
from tests.figures.made import smallest_letters


def test_the_course_of_validation_puts_seeds_in_one_row_and_changes_in_their_own() -> None:
    rows = [
        {
            "run": run,
            "variant": variant,
            "level": 1,
            "seed": 0,
            "changed": changed,
            "step": step,
            "val_dsc": 0.9 + step / 1000 + add,
        }
        for run, variant, changed, add in [
            ("a", "USegNet-DS", "", 0.0),
            ("a", "USegNet-DS-HAS", "", 0.01),
            ("b", "USegNet-DS", "", 0.02),
            ("c", "USegNet-DS-HAS", "steps=20, width=4", 0.03),
            ("c", "USegNet", "", 0.015),
        ]
        for step in (10, 20)
    ]
    course, ends = validation_course(pd.DataFrame(rows)).axes
    assert [label.get_text() for label in ends.get_yticklabels()] == [
        "USegNet-DS",
        "USegNet-DS-HAS",
        "USegNet-DS-HAS\nsteps=20\nwidth=4",
        "USegNet",
    ]
    points = [(float(line.get_xdata()[0]), int(line.get_ydata()[0]), line.get_marker()) for line in ends.lines]
    assert points == [  # an end more than a point below the best stands at the edge
        *((pytest.approx(94), 0, "<"), (pytest.approx(94), 1, "<"), (pytest.approx(94), 0, "o")),
        *((pytest.approx(95), 2, "o"), (pytest.approx(94), 3, "<")),
    ]
    assert [note.get_text() for note in ends.texts] == ["92.0", "93.0", "93.5"]
    assert [line.get_linestyle() for line in course.lines] == ["-", "-", "-", "--", "-"]
    assert smallest_letters(course.figure) >= 7
    assert course.lines[0].get_color() == course.lines[2].get_color() != course.lines[1].get_color()


def test_learning_curves_show_validation_where_there_is_one() -> None:
    history = pd.DataFrame({"step": range(10), "loss": np.linspace(2, 1, 10), "main_loss": np.linspace(1, 0.5, 10),
                            "val_dsc": [np.nan] * 9 + [0.9], "learning_rate": 1e-3})  # fmt: skip
    curves = learning_curves({"level 1": history, "level 2": history})
    assert [axis.get_ylabel() for axis in curves.axes] == [
        "loss (cross-entropy, log scale)",
        "validation DSC [%]",
        "learning rate",
    ]
    assert curves.axes[1].lines[0].get_ydata()[-1] == pytest.approx(90)
    assert smallest_letters(curves) >= 7
