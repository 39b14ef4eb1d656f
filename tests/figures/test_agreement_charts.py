"""Numbers in the titles of agreement charts, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.figures.charts import agreement as agreement_charts
from fhlib.figures.style import PALETTE
from fhlib.measures.growth import fit_volume_chart
from fhlib.paper.audit import printed_ratios
from tests.figures.made import smallest_letters, texts


def test_bland_altman_numbers_by_hand() -> None:
    reference = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
    measured = reference + np.array([-2.0, 0.0, 2.0, 4.0, -4.0])  # bias 0, SD sqrt(40 / 4) = 3.162, 1.96 SD = 6.2
    figure = agreement_charts.correlation_and_agreement(np.append(measured, np.nan), np.append(reference, 250))
    assert "n = 5, 1 without a measurement, r = 1.000" in texts(figure)
    assert "0.0 ± 6.2 mL (1.96 SD), 5 of 5 inside" in texts(figure)
    with pytest.raises(ValueError, match="at least 3 pairs"):
        agreement_charts.correlation_and_agreement([1.0, np.nan, 2.0], [1.0, 2.0, 3.0])


def test_where_the_error_grows_with_size_limits_follow_it() -> None:
    """Differences 0.1 x mean -+ 1, in a pattern without slope of its own: residuals of 1, 1, -2 and so on by hand."""
    mean = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
    residual = np.array(
        [1.0, -2.0, 0.0, 2.0, -1.0]
    )  # sums to 0; with the centred means: -200 + 200 + 0 + 200 - 200 = 0
    difference = 0.1 * mean + residual
    figure = agreement_charts.correlation_and_agreement(mean + difference / 2, mean - difference / 2)
    title = texts(figure)
    assert "slope 0.10" in title and "the error changes with size" in title
    assert smallest_letters(figure) >= 7
    assert "limits ± 3.6 mL" in title  # 1.96 sqrt(10 / 3)
    axis = figure.axes[1]
    fit = next(line for line in axis.lines if line.get_color() == PALETTE[0])
    x, y = fit.get_data()
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(0.1) and y[0] == pytest.approx(0.1 * x[0])


def test_repeated_measurements_are_points_and_ranges_by_hand() -> None:
    points = pd.DataFrame(
        {
            "subject": list("aaabbbc"),
            "scan_direction": list("fstfsts"),
            "volume_ml": [100, 110, 120, 200, 200, 200, np.nan],
        }
    )
    figure = agreement_charts.repeated_measurements(points)
    title = texts(figure)
    assert "n = 2 subjects, 6 scans, 1 missed" in title
    assert "mean 5.0, min 0.0, max 10.0 mL" in title  # SDs 10 and 0, ddof 1
    assert smallest_letters(figure) >= 7
    ranges, *dots = figure.axes[0].collections
    assert [segment[:, 1].tolist() for segment in ranges.get_segments()] == [[100, 120], [200, 200]]
    assert sorted(y for part in dots for _, y in part.get_offsets()) == [100, 110, 120, 200, 200, 200]


def test_volume_chart_and_ratios_state_their_numbers() -> None:
    weeks = np.linspace(20, 30, 40)
    chart = fit_volume_chart(weeks, 5.0 * weeks + np.sin(np.arange(40)) * 4, resamples=100)
    assert "n = 40" in texts(
        agreement_charts.volume_chart(chart, pd.DataFrame({"ga_weeks": weeks, "volume_ml": 5 * weeks}))
    )
    ratios = printed_ratios()
    # Table 1, last row: 1 - 0.9605 = 3 t / (2 x 38.55 mm) gives t = 1.015 mm, printed 0.479
    assert ratios.set_index("variant").loc["USegNet-DS-HAS-Ctx", "ratio"] == pytest.approx(0.479 / 1.0151, rel=1e-3)
    experiment = pd.DataFrame(
        {
            "dsc": [0.95, 0.96],
            "spacing_mm": [0.38, 1.0],
            "symmetric": [1.0, 1.0],
            "filled": [0.5, 0.5],
            "eq7_mm3": [0.4, 0.1],
            "eq7_voxels": [0.1, 0.1],
        }
    )
    shown = texts(agreement_charts.ratio_chart(experiment, ratios))
    assert "9 printed rows" in shown and "filled: voxels of 0.38 mm, open: 1 mm" in shown
