"""Gestational age from the head: by volume, as a segmentor measures it, beside HC."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fhlib.images.volume import Floats
from fhlib.population.charts import Z95, Chart
from fhlib.population.drawn.errors import ErrorModel
from fhlib.population.drawn.visits import HC_ERROR_SD

TRIMESTERS = {"first (to 13+6)": (0.0, 14.0), "second (14+0 to 27+6)": (14.0, 28.0), "third (28+0 on)": (28.0, 45.0)}
STEPS = 2001


def age_by_value(chart: Chart, values: ArrayLike, error_sd: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Age in weeks at which the chart's median is a value, and its 95 % interval: the ages at which it is within 1.96 SD.

    It is the chart read backwards, as `fhlib.measures.growth.age_by_hc` reads INTERGROWTH-21st's. What lies beyond the chart's ages is NaN.

    Args:
        chart: true values by age.
        values: measured, without bias.
        error_sd: SD of the error of their logarithm; it is added to the chart's spread.
    """
    weeks = np.linspace(*chart.weeks, STEPS)
    curves = chart.curves(weeks).with_error(error_sd)

    def age(z: float) -> Floats:
        line = np.maximum.accumulate(curves.at_z(np.array(z)))  # the chart may bend at its ends
        return np.interp(np.asarray(values, float), line, weeks, left=np.nan, right=np.nan)

    return age(0.0), age(Z95), age(-Z95)


def dating_table(
    population: pd.DataFrame, charts: Mapping[str, Chart], errors: Mapping[str, tuple[str, float]], seed: int = 5
) -> pd.DataFrame:
    """How well each measure dates, by trimester, on subjects of known age.

    Columns: trimester, measure, n, bias_days, sd_days, half_width_days (median of whole intervals), covered (share of intervals that
    hold the true age), cut (share that leave the chart). What leaves the chart counts as its first or last week.

    Args:
        population: of `draw_population`, not the subjects of the charts.
        charts: of the columns `volume_ml` and `hc_mm`.
        errors: measure -> its column, and the SD of its logarithm's error.
        seed: of the errors.
    """
    rng, rows = np.random.default_rng([seed, 605]), []
    true = population["ga_weeks"].to_numpy(float)
    for name, (column, sd) in errors.items():
        values = population[column].to_numpy(float) * np.exp(rng.normal(0, sd, len(population)))
        age, low, high = age_by_value(charts[column], values, sd)
        for trimester, (first, last) in TRIMESTERS.items():
            of_it = (true >= first) & (true < last)
            if of_it.any():
                found = _summary(true[of_it], age[of_it], low[of_it], high[of_it], charts[column])
                rows.append({"trimester": trimester, "measure": name, "n": int(of_it.sum()), **found})
    return pd.DataFrame(rows).sort_values("trimester", kind="stable", ignore_index=True)


def _summary(true: Floats, age: Floats, low: Floats, high: Floats, chart: Chart) -> dict[str, float]:
    first, last = chart.weeks
    whole = np.isfinite(low) & np.isfinite(high)
    late = true > (first + last) / 2
    age = np.where(np.isnan(age), np.where(late, last, first), age)
    off = 7 * (age - true)
    reached = (np.where(np.isnan(low), first, low) <= true) & (true <= np.where(np.isnan(high), last, high))
    half = 7 * (high - low)[whole] / 2
    return {
        "bias_days": float(off.mean()),
        "sd_days": float(off.std(ddof=1)),
        "half_width_days": float(np.median(half)) if whole.any() else np.nan,
        "covered": float(reached.mean()),
        "cut": float(1 - whole.mean()),
    }


def compared_measures(error: ErrorModel) -> dict[str, tuple[str, float]]:
    """What `dating_table` compares: HC in 2D, volume without error, and volume by a segmentor and by one of half its error."""
    return {
        "HC in 2D": ("hc_mm", HC_ERROR_SD),
        "volume, no error": ("volume_ml", 0.0),
        "volume, half the segmentor's error": ("volume_ml", error.calibrated_sd / 2),
        "volume, the segmentor": ("volume_ml", error.calibrated_sd),
    }
