"""Take the error of measurement out of a chart: by its known variance, or by SIMEX (Cook and Stefanski 1994)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri

from fhlib.images.volume import Floats
from fhlib.measures.growth import CENTILES
from fhlib.population.charts import Chart, choose, fit_chart, fit_model
from fhlib.population.drawn.errors import ErrorModel
from fhlib.population.models import ChartModel, Curves, curves_of

ADDED = (0.0, 0.5, 1.0, 1.5, 2.0)
"""SIMEX's extra error, as a multiple of the error's variance."""


def corrected_chart(table: pd.DataFrame, error: ErrorModel, model: ChartModel | None = None) -> Chart:
    """A chart of true volumes from measured ones.

    The bias is taken out of each measurement, the error's variance out of the spread. The bands are wider for what the calibration of the
    error, on so many scans, leaves open. Raises ChartError where `fit_chart` does.

    Args:
        table: subject, ga_weeks, volume_ml, as measured.
        error: of the segmentor.
        model: of the chart; chosen by AIC if None.
    """
    ready = error.corrected(table)
    chart = fit_chart(ready, model) if model else choose(ready)[0]
    shifted = [fit_model(neighbour.corrected(table), chart.model, errors=False) for neighbour in error.neighbours()]
    return replace(chart, others=chart.others + tuple((1.0, other.model, other.params) for other in shifted))


def simex(
    table: pd.DataFrame, error: ErrorModel, model: ChartModel, ga_weeks: ArrayLike, centiles: Sequence[float] = CENTILES,
    repeats: int = 20, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Centiles by SIMEX: more error is added, and what the curves do is carried back to none. Columns ga_weeks, centile, value.

    ln M and S^2 are extrapolated by straight lines in the added variance, which is exact for a lognormal chart; L stays. It needs no
    likelihood that knows of an error, and so checks `corrected_chart`.
    """
    weeks, rng = np.asarray(ga_weeks, float), np.random.default_rng([seed, 604])
    ready = error.corrected(table).drop(columns="error_sd")
    log_medians, variances = [], []
    for added in ADDED:
        noise = rng.normal(0, np.sqrt(added) * error.calibrated_sd, (repeats if added else 1, len(ready)))
        noisy = [ready.assign(volume_ml=ready["volume_ml"] * np.exp(one)) for one in noise]
        curves = [curves_of(model, fit_model(each, model, errors=False).params, weeks) for each in noisy]
        log_medians.append(np.mean([np.log(each.median) for each in curves], axis=0))
        variances.append(np.mean([each.spread**2 for each in curves], axis=0))
        if not added:
            skewness = curves[0].skewness
    without = Curves(np.exp(_at_no_error(log_medians)), np.sqrt(np.maximum(_at_no_error(variances), 0)), skewness)
    values = without.at_z(ndtri(np.asarray(centiles) / 100)[:, None])
    at = {"ga_weeks": np.tile(weeks, len(centiles)), "centile": np.repeat(list(centiles), len(weeks))}
    return pd.DataFrame({**at, "value": values.ravel()})


def _at_no_error(by_added: list[Floats]) -> Floats:
    """Curves for each of `ADDED`, carried on by straight lines to -1: no error at all."""
    slope, constant = np.polyfit(ADDED, np.array(by_added), 1)
    return constant - slope
