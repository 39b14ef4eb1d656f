"""The figure of the simulated anatomy."""

from __future__ import annotations

import pandas as pd

from fhlib.benchmarks.anatomy import anatomy_figure
from tests.figures.made import smallest_letters


def test_the_figure_can_be_read_in_print_and_no_legend_lies_on_points() -> None:
    ages = {"ga_weeks": [20, 30], "published": [1.0, 2.0], "published_sd": [0.1, None]}
    means = {"simulated_default": [1.1, 2.1], "simulated_drawn": [0.9, 1.9]}
    one = pd.DataFrame(ages | means).assign(measure="orbit", unit="mm", source="A source with a rather long name 1999")
    figure = anatomy_figure(pd.concat([one, one.assign(measure="mandible")]))
    assert smallest_letters(figure) >= 7
    panel = figure.axes[0]
    assert panel.get_ylabel() == "orbit [mm]" and [line.get_ydata().tolist() for line in panel.lines] == [
        [1.0, 2.0],
        [1.1, 2.1],
        [0.9, 1.9],
    ]
    assert panel.get_legend().get_window_extent().y0 > panel.get_window_extent().y1
