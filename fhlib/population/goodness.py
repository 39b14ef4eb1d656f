"""Does a chart fit what it was made of? Shares below each centile by age, worms, and how z-scores of one subject go together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy.special import ndtri
from statsmodels.stats.proportion import proportion_confint

from fhlib.measures.growth import CENTILES
from fhlib.population.charts import Chart

BANDS = 4


def z_scores(chart: Chart, table: pd.DataFrame, column: str = "volume_ml") -> pd.DataFrame:
    """The measurements with their z-scores as measured (`z`), and the quarter of the ages that each is of (`ages`)."""
    z = chart.z(table[column].to_numpy(float), table["ga_weeks"].to_numpy(float), with_error=True)
    edges = np.quantile(table["ga_weeks"], np.linspace(0, 1, BANDS + 1))
    names = [f"{low:.1f} to {high:.1f} weeks" for low, high in pairwise(edges)]
    ages = pd.cut(table["ga_weeks"], edges, labels=names, include_lowest=True)
    return table.assign(z=z, ages=ages)


def shares_below(scored: pd.DataFrame, centiles: Sequence[float] = CENTILES) -> pd.DataFrame:
    """Percentage of measurements below each centile, by age, with Wilson's 95 % interval, which takes visits as independent.

    Columns: ages, n, centile, below, low, high. `scored` is of `z_scores`.
    """
    rows = []
    groups = [("all", scored), *scored.groupby("ages", observed=True)]
    for ages, group in groups:
        for centile in centiles:
            count = int((group["z"] < ndtri(centile / 100)).sum())
            low, high = proportion_confint(count, len(group), method="wilson")
            rows.append((ages, len(group), centile, 100 * count / len(group), 100 * low, 100 * high))
    return pd.DataFrame(rows, columns=["ages", "n", "centile", "below", "low", "high"])


def worms(scored: pd.DataFrame) -> pd.DataFrame:
    """Worm plot (van Buuren and Fredriks 2001): z-scores less what their rank lets expect, by age.

    Columns: ages, expected, deviation, band: 95 % of single points of a fitting chart lie within plus or minus it.
    """
    parts = []
    for ages, group in scored.groupby("ages", observed=True):
        n = len(group)
        p = (np.arange(1, n + 1) - 0.5) / n
        expected = ndtri(p)
        density = np.exp(-(expected**2) / 2) / np.sqrt(2 * np.pi)
        band = 1.96 * np.sqrt(p * (1 - p) / n) / density
        deviation = np.sort(group["z"].to_numpy()) - expected
        parts.append(pd.DataFrame({"ages": ages, "expected": expected, "deviation": deviation, "band": band}))
    return pd.concat(parts, ignore_index=True)


def within_subject(scored: pd.DataFrame) -> float:
    """Share of the variance of z that lies between subjects: a mixed model with a random intercept; NaN for single visits."""
    if scored["subject"].is_unique:
        return float("nan")
    fitted = smf.mixedlm("z ~ 1", scored, groups=scored["subject"]).fit()
    between = float(fitted.cov_re.iloc[0, 0])
    return between / (between + float(fitted.scale))
