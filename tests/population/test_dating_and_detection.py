"""Age from a value, discriminants, sensitivity and conditional z-scores: by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fhlib.figures.charts.growth import reference_chart, useful_error, worm_plot
from fhlib.population.calculator import Calculator
from fhlib.population.charts import Chart, fit_chart
from fhlib.population.dating import age_by_value, dating_table
from fhlib.population.detection import area, conditional_z, discriminant, largest_useful_error, sensitivity, velocity_z
from fhlib.population.drawn.protocol import Protocol
from fhlib.population.drawn.visits import draw_population
from fhlib.population.models import ChartModel
from fhlib.population.study import summarise_centiles

# ln M = age in decades, S = 0.1
STEADY = Chart(
    ChartModel("steady", (1.0,)), np.array([0.0, 1.0, np.log(0.1)]), 1e-6 * np.eye(3), (14.0, 40.0), 60, 60, 0.0
)


def test_age_is_the_chart_read_backwards():
    """exp(2.5) is the median at 25 weeks; 1.96 SD of 0.1 are 1.96 weeks, of 0.1 with an error of 0.1 2.77."""
    age, low, high = age_by_value(STEADY, np.exp(2.5))
    assert (float(age), float(low), float(high)) == pytest.approx((25.0, 25 - 1.96, 25 + 1.96), abs=0.002)
    _, low, high = age_by_value(STEADY, np.exp(2.5), error_sd=0.1)
    assert float(high - low) == pytest.approx(2 * 1.96 * np.sqrt(2), abs=0.004)
    age, low, high = age_by_value(STEADY, np.exp([1.5, 5.0]))
    assert np.isnan(low[0]) and age[0] == pytest.approx(15.0, abs=0.002) and np.isnan([age[1], high[1]]).all()


def test_dating_counts_what_leaves_the_chart():
    weeks = np.repeat([20.0, 39.0], 50)
    population = pd.DataFrame({"ga_weeks": weeks, "volume_ml": np.exp(weeks / 10)})
    table = dating_table(population, {"volume_ml": STEADY}, {"volume": ("volume_ml", 0.0)}).set_index("trimester")
    early, late = table.loc["second (14+0 to 27+6)"], table.loc["third (28+0 on)"]
    assert early["half_width_days"] == pytest.approx(7 * 1.96, abs=0.02) and early["cut"] == 0 and early["covered"] == 1
    assert late["cut"] == 1 and np.isnan(late["half_width_days"]) and late["bias_days"] == pytest.approx(0, abs=0.05)


def test_sensitivity_at_five_percent_with_wilsons_interval():
    """Of 0 to 99 the 95th percentile is 94.05; 3 of 4 lie above. Wilson: 30.1 to 95.4 %."""
    assert sensitivity(np.arange(100.0), np.array([95.0, 99, 200, 3])) == pytest.approx(
        (0.75, 0.3006, 0.9544), abs=1e-4
    )


def test_area_is_the_share_of_pairs_in_the_right_order():
    assert area(np.array([1.0, 2, 3]), np.array([2.5, 4.0])) == pytest.approx(5 / 6)


def test_discriminant_weighs_by_the_inverse_covariance():
    healthy = np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]])  # variances 2/3 and 8/3
    assert discriminant(healthy, healthy + [1.0, 1.0]) == pytest.approx([1.5, 0.375])


def test_conditional_z_knows_the_past_and_velocity_the_change():
    rng = np.random.default_rng(1)
    first = rng.normal(size=20_000)
    healthy = np.column_stack([first, 0.8 * first + 0.6 * rng.normal(size=20_000)])
    seen = np.array([[2.0, 1.6], [2.0, 1.0]])
    assert conditional_z(seen, healthy) == pytest.approx([0.0, -1.0], abs=0.03)
    assert velocity_z(seen, healthy) == pytest.approx([-0.4 / np.sqrt(0.4), -1 / np.sqrt(0.4)], abs=0.03)


def test_more_error_finds_less_and_healthy_subjects_are_found_at_five_percent():
    population = draw_population(Protocol(400, ((14.0, 40.0),), seed=7))
    flat = ChartModel("log-polynomial", (1.0, 2.0, 3.0))
    charts = {column: fit_chart(population, flat, column) for column in ("volume_ml", "hc_mm")}
    _, table = largest_useful_error(charts, "microcephaly", subjects=300, errors=(0.0, 0.1, 0.3))
    assert table["volume"].is_monotonic_decreasing and table["volume"].iloc[0] > table["volume"].iloc[2] + 0.2
    assert table["hc"].nunique() == 1


def test_summary_of_repeated_charts_by_hand():
    found = pd.DataFrame(
        {"chart": "raw", "repetition": [0, 0, 1, 1], "centile": 3, "truth": 100.0, "value": [102, 95, 101, 100]}
    ).assign(low=[101, 90, 99, 99], high=[103, 99, 103, 101])
    row = summarise_centiles(found).iloc[0]
    assert (row["error_first"], row["error_median"], row["covered"]) == pytest.approx((5, 3, 0.5))


def test_the_calculator_says_centile_interval_and_age():
    calculator = Calculator(STEADY, ga_weeks=25.0, volume_ml=float(np.exp(2.5)))
    assert "centile 50 (95 % interval 50 to 50), z +0.00" in calculator.sentence()
    assert "25.0 weeks old (23.0 to 27.0)" in calculator.sentence()
    calculator.age.value, calculator.volume.value = 40.0, float(np.exp(3.9))
    assert calculator.sentence().endswith("39.0 weeks old (37.0 to after 40.0 weeks).")
    calculator.volume.value = 90.0
    assert calculator.sentence().endswith("outside the chart's 14.0 weeks to 40.0 weeks.")
    calculator.age.value, calculator.volume.value = 25.0, float(np.exp(2.5))
    calculator.error.value = 10.0
    assert "95 % interval 2 to 98" in calculator.said.value
    assert len(calculator.static().axes) == 1


def test_figures_show_what_they_are_given():
    table = STEADY.table(np.linspace(14, 40, 10))
    axis = reference_chart(table, pd.DataFrame({"ga_weeks": [20.0], "volume_ml": [7.0]})).axes[0]
    assert [text.get_text() for text in axis.texts] == ["3", "10", "50", "90", "97"]
    assert axis.get_legend_handles_labels()[1] == ["1 measurements", "centiles with 95 % bands"]
    worm = pd.DataFrame({"ages": ["a", "b"], "expected": [0.0, 0.0], "deviation": [0.1, 0.2], "band": [0.3, 0.3]})
    assert [axis.get_title() for axis in worm_plot(worm).axes] == ["a, n = 1", "b, n = 1"]
    sweep = pd.DataFrame({"error_sd": [0.0, 0.1], "volume": [0.9, 0.5], "hc": [0.7, 0.7]})
    lines = useful_error({"fluid": sweep}, 0.05).axes[0].lines
    assert lines[0].get_ydata().tolist() == pytest.approx([90, 50]) and lines[1].get_ydata().tolist() == pytest.approx(
        [70, 70]
    )
