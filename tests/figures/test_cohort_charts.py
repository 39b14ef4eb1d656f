"""Growth, and distributions of two cohorts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.figures.charts.cohort import compare_distributions, growth_curve


def test_distributions_of_two_tables_put_together() -> None:
    part = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [3.0, 4.0, 5.0]})
    both = pd.concat([part.assign(set="real"), part.assign(set="simulated")])
    figure = compare_distributions(both, {"a": "length [mm]", "b": "grey level"}, by="set")
    assert len(figure.axes) == 2 and figure.axes[0].get_xlabel() == "length [mm]"
    named = figure.axes[0].get_legend().get_texts()
    assert [text.get_text() for text in named] == ["real (n = 3)", "simulated (n = 3)"]


def test_growth_is_drawn_beside_the_standard() -> None:
    frame = pd.DataFrame(
        {"ga_weeks": [20.0, 26, 31, np.nan], "hc_mm": [172.5, 240.5, 286.6, 200], "volume_ml": [120, 240, 400, 1]}
    )
    growth = growth_curve(frame)
    assert [axis.get_ylabel() for axis in growth.axes] == ["head circumference [mm]", "volume of the whole head [mL]"]
    mean = growth.axes[0].lines[0]
    assert np.interp(26, mean.get_xdata(), mean.get_ydata()) == pytest.approx(
        240.5, abs=0.2
    )  # INTERGROWTH-21st at 26 weeks
    assert growth.axes[0].get_title() == "n = 3 of 4"
    with pytest.raises(ValueError, match="needs ga_weeks"):
        growth_curve(frame[["hc_mm"]])
