"""Charts: what carries none, repeated visits, the error of measurement, and reading a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fhlib.population.charts import Chart, ChartError, choose, fit_chart, fit_model, one_visit_each, read_measurements
from fhlib.population.correction import corrected_chart, simex
from fhlib.population.drawn.errors import ErrorModel
from fhlib.population.goodness import shares_below, within_subject, worms, z_scores
from fhlib.population.models import ChartModel

CUBIC = ChartModel("log-polynomial", (1.0, 2.0, 3.0))


def table_of(subjects: int = 120, spread: float = 0.1, seed: int = 4) -> pd.DataFrame:
    """One visit a subject: 20 mL at 14 weeks, growing with the third power of age."""
    rng = np.random.default_rng(seed)
    weeks = rng.uniform(14, 40, subjects)
    volume = 20 * (weeks / 14) ** 3 * np.exp(spread * rng.normal(size=subjects))
    return pd.DataFrame({"subject": [f"s{k}" for k in range(subjects)], "ga_weeks": weeks, "volume_ml": volume})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.assign(ga_weeks=np.where(t["ga_weeks"] < 27, 20.0, 32.0)), "between 20.0 and 32.0 weeks"),
        (lambda t: t.assign(ga_weeks=22 + t["ga_weeks"] / 10), "weeks, and 8 are needed"),
        (lambda t: t.head(49), "of 49 subjects, and 50 are needed"),
        (lambda t: t.assign(subject=np.arange(len(t)) // 3), "of 40 subjects"),
        (lambda t: t.assign(volume_ml=t["volume_ml"].where(t.index != 7, 0.0)), "1 whose volume_ml is missing or not above 0 (s7)"),
        (lambda t: t.assign(ga_weeks=t["ga_weeks"].where(t.index != 7)), "1 with an age outside 4 to 45 weeks, or none (s7)"),
        (lambda t: t.assign(subject=t["subject"].where(t.index != 7, "")), "1 without a subject"),
    ],
)  # fmt: skip
def test_refused_with_the_reason(change, reason):
    with pytest.raises(ChartError) as error:
        choose(change(table_of(spread=0.1)))
    assert reason in str(error.value)


def test_nothing_is_said_of_ages_that_were_not_measured():
    chart = fit_chart(table_of(), CUBIC)
    with pytest.raises(ChartError, match="41 weeks is outside this chart"):
        chart.value(41.0, 50)


def test_visits_of_one_subject_do_not_count_as_subjects():
    once = table_of()
    twice = pd.concat([once, once])
    width = {}
    for name, table in {
        "once": once,
        "visits": twice,
        "others": twice.assign(subject=np.arange(len(twice))),
    }.items():
        shown = fit_chart(table, CUBIC).table([25.0], [3])
        width[name] = float(np.log(shown["high"] / shown["low"]).iloc[0])
    assert width["visits"] == pytest.approx(width["once"], rel=0.02)
    assert width["others"] == pytest.approx(width["once"] / np.sqrt(2), rel=0.02)


def test_bands_hold_what_the_chart_could_have_been_too():
    """With another chart 10 % higher, of weight 0.25: variance 0.25 (ln 1.1)^2 is added."""
    chart = fit_chart(table_of(), CUBIC)
    higher = chart.params + np.array([np.log(1.1), 0, 0, 0, 0])
    wider = replace(chart, others=((0.25, CUBIC, higher),))
    half = [float(np.log(c.table([25.0], [50])["high"] / c.value(25.0, 50)).iloc[0]) / 1.959964 for c in (chart, wider)]
    assert half[1] ** 2 - half[0] ** 2 == pytest.approx(0.25 * np.log(1.1) ** 2)


def test_a_known_error_is_taken_out_as_a_variance():
    """A lognormal chart with constant S: S^2 is exactly the raw one less the error's."""
    table = table_of(400, 0.2)
    raw, clean = fit_chart(table, CUBIC), fit_chart(table.assign(error_sd=0.12), CUBIC)
    before, after = (float(chart.curves(25.0).spread) for chart in (raw, clean))
    assert after**2 == pytest.approx(before**2 - 0.12**2, rel=1e-4)
    assert float(clean.value(25.0, 50)) == pytest.approx(float(raw.value(25.0, 50)), rel=1e-4)
    assert float(clean.z(raw.value(25.0, 97), 25.0, with_error=True)) == pytest.approx(1.880794, abs=1e-3)


def test_an_error_as_large_as_the_spread_is_refused():
    with pytest.raises(ChartError, match="nearly the whole spread"):
        fit_chart(table_of().assign(error_sd=0.12), CUBIC)


def test_bias_error_and_calibration_are_taken_out_and_simex_agrees():
    table, error = table_of(600, 0.2), ErrorModel(sd=0.1, offset=-0.05, slope=0.02, centre=5.0, n=100)
    measured = table.assign(volume_ml=error.measured(table["volume_ml"], np.random.default_rng(2)))
    chart = corrected_chart(measured, error, CUBIC)
    exact = corrected_chart(measured, replace(error, n=0), CUBIC)
    assert len(chart.others) == 3 and exact.others == ()
    ages, truth = np.array([18.0, 26.0, 34.0]), 20 * (np.array([18.0, 26.0, 34.0]) / 14) ** 3
    assert chart.value(ages, 50) == pytest.approx(truth, rel=0.04)
    other = simex(measured, error, CUBIC, ages, [3, 50], repeats=8)["value"].to_numpy()
    assert other == pytest.approx(np.concatenate([chart.value(ages, 3), chart.value(ages, 50)]), rel=0.015)
    wide, narrow = (c.table([26.0], [50]) for c in (chart, exact))
    assert float((wide["high"] / wide["low"]).iloc[0]) > float((narrow["high"] / narrow["low"]).iloc[0])


def test_centile_of_one_head_with_the_interval_of_its_error():
    """M = 100, S = 0.1, lognormal: 100 exp(0.1) is z = 1; an error of 5 % reaches 0.98 of a z-score to either side."""
    params = np.array([np.log(100), np.log(0.1)])
    chart = Chart(ChartModel("flat"), params, np.eye(2), (14.0, 40.0), 50, 50, 0.0)
    middle, low, high = chart.centile_of(100 * np.exp(0.1), 30.0, error_sd=0.05)
    assert (middle, low, high) == pytest.approx((84.134, 50.799, 97.614), abs=0.01)
    with pytest.raises(ChartError, match="above 0"):
        chart.centile_of(0.0, 30.0)


def test_goodness_of_a_flat_chart_by_hand():
    """Values at z = -2, -1, 0, 0, 1, 2, twice in each quarter of the ages."""
    chart = Chart(ChartModel("flat"), np.array([np.log(100), np.log(0.1)]), np.eye(2), (14.0, 40.0), 6, 24, 0.0)
    z = np.array([-2.0, -1.0, 0.1, -0.1, 1.0, 2.0])
    subjects, volumes = np.tile(list("abcdef"), 4), 100 * np.exp(0.1 * np.tile(z, 4))
    table = pd.DataFrame({"subject": subjects, "ga_weeks": np.linspace(14, 40, 24), "volume_ml": volumes})
    scored = z_scores(chart, table)
    assert scored["z"].to_numpy() == pytest.approx(np.tile(z, 4)) and scored["ages"].value_counts().tolist() == [6] * 4
    below = shares_below(scored).set_index(["ages", "centile"])["below"]
    assert below["all", 3] == pytest.approx(100 / 6) and below["all", 50] == pytest.approx(50)
    worm = worms(scored)
    assert worm["deviation"].iloc[0] == pytest.approx(
        -2 + 1.382994, abs=1e-5
    )  # the first of six is expected at p = 1/12
    assert within_subject(scored) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(within_subject(one_visit_each(scored)))


def test_reading_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("subject;ga_weeks;volume_ml;low_ml;high_ml\n007;24.5;200;180;222.2222\nb;30;400;360;444.4444\n")
    table = read_measurements(path)
    assert table["subject"].tolist() == ["007", "b"]
    assert table["error_sd"].tolist() == pytest.approx([np.log(1 / 0.81) / 3.919928] * 2, rel=1e-5)
    path.write_text("subject,ga_weeks\na,24\n")
    with pytest.raises(ChartError, match="no column 'volume_ml'"):
        read_measurements(path)
    path.write_text("subject,ga_weeks,volume_ml\na,26+3,200\n")
    with pytest.raises(ChartError, match=r"mine\.csv.*26\+3"):
        read_measurements(path)
    path.write_text("subject,ga_weeks,volume_ml,low_ml,high_ml\na,26,200,210,190\n")
    with pytest.raises(ChartError, match=r"1 interval not 0 < low_ml <= high_ml \(a\)"):
        read_measurements(path)


def test_a_chosen_chart_fits_best_and_carries_the_others():
    chart, models = choose(table_of(300))
    assert models["aic"].is_monotonic_increasing and models["above_best"].iloc[0] == 0 and len(models) == 12
    assert chart.aic == pytest.approx(models["aic"].iloc[0], abs=1e-4)
    assert sum(weight for weight, *_ in chart.others) == pytest.approx(1, abs=0.12)
    assert fit_model(table_of(300), chart.model).params == pytest.approx(chart.params)
