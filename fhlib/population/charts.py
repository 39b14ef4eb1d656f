"""A reference chart from measurements: refuse what cannot carry one, choose a model, centiles with bands, z-scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from statsmodels.tools.numdiff import approx_fprime

from fhlib.cohorts.tables import read_table
from fhlib.images.volume import Floats
from fhlib.measures.growth import AGES_WEEKS, CENTILES
from fhlib.measures.inputs import as_numbers, counted, listed
from fhlib.population.models import ChartModel, Curves, Likelihood, candidates, curves_of, fractional

FEWEST_SUBJECTS, FEWEST_BINS, BIN_WEEKS, SHORTEST_WEEKS, WIDEST_GAP_WEEKS = 50, 5, 2.0, 8.0, 4.0
LEAST_WEIGHT = 0.01
LEAST_OWN_SHARE = 0.1
"""Share of the observed variance that must be the subjects' own: else an error of measurement cannot be taken out."""
COLUMNS = ("subject", "ga_weeks", "volume_ml")
Z95 = float(ndtri(0.975))


class ChartError(ValueError):
    """Measurements that cannot carry a chart; the message says why and what is needed."""


@dataclass(frozen=True)
class Chart:
    """A fitted chart: what it says within the ages of its measurements, and no further."""

    model: ChartModel
    params: Floats
    covariance: Floats
    weeks: tuple[float, float]
    """Youngest and oldest age measured."""
    subjects: int
    rows: int
    aic: float
    error_sd: float = 0.0
    """Mean SD of ln(value)'s error of measurement, taken out of the spread; 0 where none was."""
    others: tuple[tuple[float, ChartModel, Floats], ...] = field(default=(), repr=False)
    """What else the chart could have been, with its weight: other models, and other values of what the error's calibration leaves open."""

    def curves(self, ga_weeks: ArrayLike) -> Curves:
        """M, S and L. Raises ChartError for ages that were not measured."""
        weeks = np.asarray(ga_weeks, float)
        low, high = self.weeks
        if not np.all((weeks >= low - 1e-9) & (weeks <= high + 1e-9)):
            outside = weeks[~((weeks >= low - 1e-9) & (weeks <= high + 1e-9))].flat[0]
            raise ChartError(f"{outside:g} weeks is outside this chart, which holds from {low:g} to {high:g} weeks")
        return curves_of(self.model, self.params, weeks)

    def value(self, ga_weeks: ArrayLike, centile: float) -> Floats:
        """The value at a centile (0 to 100)."""
        return self.curves(ga_weeks).at_z(ndtri(centile / 100))

    def z(self, values: ArrayLike, ga_weeks: ArrayLike, with_error: bool = False) -> Floats:
        """z-scores. With `with_error` against the spread of measured values, as goodness of fit needs it."""
        curves = self.curves(ga_weeks)
        return (curves.with_error(self.error_sd) if with_error else curves).z(np.asarray(values, float))

    def table(self, ga_weeks: ArrayLike, centiles: Sequence[float] = CENTILES) -> pd.DataFrame:
        """Centiles with 95 % bands, a row an age and centile: ga_weeks, centile, value, low, high.

        The bands are pointwise, by the delta method, with subjects as the unit of error, so that repeated visits do no harm. They
        hold that another model might have been chosen (Buckland 1997, Biometrics 53:603), and what the error's calibration leaves open.
        """
        weeks = np.atleast_1d(np.asarray(ga_weeks, float))
        z = ndtri(np.asarray(centiles) / 100)[:, None]

        def logs(params: Floats, model: ChartModel = self.model) -> Floats:
            return np.log(curves_of(model, params, weeks).at_z(z)).ravel()

        self.curves(weeks)
        middle = logs(self.params)
        slopes = approx_fprime(self.params, logs, centered=True).reshape(len(middle), -1)
        variance = np.einsum("ij,jk,ik->i", slopes, self.covariance, slopes)
        for weight, model, params in self.others:
            variance = variance + weight * (logs(params, model) - middle) ** 2
        reach = Z95 * np.sqrt(np.maximum(variance, 0))
        return pd.DataFrame(
            {
                "ga_weeks": np.tile(weeks, len(z)),
                "centile": np.repeat(np.asarray(centiles), len(weeks)),
                "value": np.exp(middle),
                "low": np.exp(middle - reach),
                "high": np.exp(middle + reach),
            }
        )

    def centile_of(self, value: float, ga_weeks: float, error_sd: float | None = None) -> tuple[float, float, float]:
        """Centile (0 to 100) of one value, and its 95 % interval from the error of this measurement (SD of its logarithm).

        Without `error_sd` the error that the chart was corrected for is taken. The interval leaves out the chart's own error.
        """
        if not value > 0:
            raise ChartError(f"a value of {value:g} has no centile: expected one above 0")
        sd = self.error_sd if error_sd is None else error_sd
        values = value * np.exp(Z95 * sd * np.array([0.0, -1.0, 1.0]))
        middle, low, high = (100 * ndtr(self.z(values, np.full(3, ga_weeks)))).tolist()
        return middle, low, high


def read_measurements(path: Path | str) -> pd.DataFrame:
    """A table of measurements: subject, ga_weeks and volume_ml, and the 95 % interval low_ml, high_ml where it is known.

    With an interval the column `error_sd` is added, SD of the error of ln(volume).
    Raises ChartError for a missing column and a cell that is no number; `require_chartable` looks at the values.
    """
    frame = read_table(Path(path), COLUMNS).frame
    if missing := [name for name in COLUMNS if name not in frame]:
        raise ChartError(f"{Path(path).name} has no column {missing[0]!r}; expected {', '.join(COLUMNS)}")
    table = pd.DataFrame({"subject": frame["subject"]})
    try:
        for name in (*COLUMNS[1:], *(name for name in ("low_ml", "high_ml", "hc_mm") if name in frame)):
            table[name] = as_numbers(frame[name].to_numpy(dtype=object), name)
    except ValueError as error:
        raise ChartError(f"{Path(path).name}: {error}") from None
    if {"low_ml", "high_ml"} <= set(table):
        wrong = ~((table["low_ml"] > 0) & (table["low_ml"] <= table["high_ml"]))
        if wrong.any():
            raise ChartError(
                f"{counted(int(wrong.sum()), 'interval')} not 0 < low_ml <= high_ml ({listed(table['subject'][wrong])}): "
                "mend them, or leave both columns out"
            )
        table["error_sd"] = np.log(table["high_ml"] / table["low_ml"]) / (2 * Z95)
    return table


def require_chartable(table: pd.DataFrame, column: str = "volume_ml") -> None:
    """Raise ChartError, with all reasons, for measurements that cannot carry a chart.

    Needed are fifty subjects, and ages in five periods of two weeks that span eight weeks, without a gap of more than four: two
    visit ages say nothing about the ages between them.
    """
    if obstacles := [*_unusable(table, column), *_too_few(table)]:
        raise ChartError(f"no chart can be made of {counted(len(table), 'measurement')}: {'; '.join(obstacles)}")


def fit_chart(table: pd.DataFrame, model: ChartModel | None = None, column: str = "volume_ml") -> Chart:
    """A chart of a model, or of the one that `choose` takes.

    A column `error_sd` (SD of the error of ln(value)) is taken out of the spread.
    Raises ChartError where `require_chartable` does, and where the error is as large as the spread.
    """
    if model is None:
        return choose(table, column)[0]
    require_chartable(table, column)
    return fit_model(table, model, column)


def choose(table: pd.DataFrame, column: str = "volume_ml") -> tuple[Chart, pd.DataFrame]:
    """The chart of the model with the lowest AIC, and the table of all: model, powers, parameters, L, aic, above_best.

    A power that the data chose counts as a parameter. The larger penalty of BIC misses how the spread changes with age, and the outer
    centiles with it. Raises as `fit_chart`.
    """
    require_chartable(table, column)
    models = candidates(table["ga_weeks"].to_numpy(float), table[column].to_numpy(float))
    charts = sorted((fit_model(table, model, column, errors=False) for model in models), key=lambda chart: chart.aic)
    rows = [
        {
            "model": chart.model.name,
            "powers of M": ", ".join(f"{power:g}" for power in chart.model.mean_powers),
            "powers of ln S": ", ".join(f"{power:g}" for power in chart.model.spread_powers) or "constant",
            "parameters": chart.model.parameters,
            "L": curves_of(chart.model, chart.params, np.array([25.0])).skewness,
            "aic": chart.aic,
            "above_best": chart.aic - charts[0].aic,
        }
        for chart in charts
    ]
    weights = np.exp([(charts[0].aic - chart.aic) / 2 for chart in charts])
    shares = weights / weights.sum()
    others = [(share, chart.model, chart.params) for share, chart in zip(shares, charts) if share > LEAST_WEIGHT]
    return replace(fit_model(table, charts[0].model, column), others=tuple(others)), pd.DataFrame(rows)


def quantile_lines(
    table: pd.DataFrame, chart: Chart, ga_weeks: ArrayLike, centiles: Sequence[float] = CENTILES
) -> pd.DataFrame:
    """Centiles by quantile regression of ln(volume) on the chart's powers: ga_weeks, centile, value.

    It assumes no distribution, and so checks the chart's.
    """
    weeks = np.asarray(ga_weeks, float)
    design = fractional(table["ga_weeks"].to_numpy(float), chart.model.mean_powers)
    model = sm.QuantReg(np.log(table["volume_ml"].to_numpy(float)), design)
    parts = []
    for centile in centiles:
        params = model.fit(q=centile / 100, max_iter=5000).params
        lines = np.exp(fractional(weeks, chart.model.mean_powers) @ params)
        parts.append(pd.DataFrame({"ga_weeks": weeks, "centile": centile, "value": lines}))
    return pd.concat(parts, ignore_index=True)


def one_visit_each(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One drawn visit of each subject."""
    return table.groupby("subject", sort=False).sample(1, random_state=seed)


def fit_model(table: pd.DataFrame, model: ChartModel, column: str = "volume_ml", errors: bool = True) -> Chart:
    """`fit_chart` of measurements that have been looked at; without `errors` the chart has no bands.

    Raises ChartError where the error of measurement is nearly the whole spread.
    """
    weeks, values = (table[name].to_numpy(float) for name in ("ga_weeks", column))
    error = table["error_sd"].to_numpy(float) if "error_sd" in table else np.zeros(len(table))
    likelihood = Likelihood(model, weeks, values, error)
    subjects = pd.factorize(table["subject"])[0]
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": subjects}}
    options = {"method": "bfgs", "gtol": 1e-6, "maxiter": 200, "disp": 0, "warn_convergence": False}
    fitted = likelihood.fit(
        start_params=likelihood.start(), **options, **(clustered if errors else {"skip_hessian": True})
    )
    params = likelihood.original(fitted.params)
    own, measured = float(np.mean(curves_of(model, params, weeks).spread ** 2)), float(np.mean(error**2))
    if own < LEAST_OWN_SHARE * (own + measured):
        raise ChartError(
            f"an error of {100 * np.sqrt(measured):.0f} % is nearly the whole spread of these measurements: nothing is left to make "
            "centiles of. Measure more exactly, or state a smaller error"
        )
    covariance = np.full((len(params), len(params)), np.nan)
    if errors:
        to_original = approx_fprime(fitted.params, likelihood.original, centered=True)
        covariance = to_original @ np.asarray(fitted.cov_params()) @ to_original.T
    n = int(subjects.max()) + 1
    return Chart(
        model=model,
        params=params,
        covariance=covariance,
        weeks=(float(weeks.min()), float(weeks.max())),
        subjects=n,
        rows=len(table),
        aic=float(-2 * fitted.llf + 2 * model.parameters),
        error_sd=float(np.sqrt(measured)),
    )


def _unusable(table: pd.DataFrame, column: str) -> Iterator[str]:
    weeks, values = (table[name].to_numpy(float) for name in ("ga_weeks", column))
    first, last = AGES_WEEKS
    reasons = {
        "without a subject": table["subject"].isna().to_numpy()
        | (table["subject"].astype(str).str.strip() == "").to_numpy(),
        f"with an age outside {first} to {last} weeks, or none": ~((weeks >= first) & (weeks <= last)),
        f"whose {column} is missing or not above 0": ~((values > 0) & np.isfinite(values)),
    }
    if "error_sd" in table:
        reasons["whose interval is missing"] = ~(table["error_sd"].to_numpy(float) >= 0)
    for reason, lost in reasons.items():
        if lost.any():
            yield f"{int(lost.sum())} {reason} ({listed(table['subject'][lost])}), to be mended or left out first"


def _too_few(table: pd.DataFrame) -> Iterator[str]:
    weeks = np.sort(table["ga_weeks"].to_numpy(float))
    weeks = weeks[np.isfinite(weeks)]
    subjects = table["subject"].nunique()
    if subjects < FEWEST_SUBJECTS:
        yield f"they are of {counted(subjects, 'subject')}, and {FEWEST_SUBJECTS} are needed"
    if not len(weeks):
        return
    bins = len(np.unique(np.floor(weeks / BIN_WEEKS)))
    if bins < FEWEST_BINS:
        yield f"their ages lie in {counted(bins, 'period')} of {BIN_WEEKS:g} weeks, and {FEWEST_BINS} are needed to see a curve"
    if weeks[-1] - weeks[0] < SHORTEST_WEEKS:
        yield f"their ages span {weeks[-1] - weeks[0]:.1f} weeks, and {SHORTEST_WEEKS:g} are needed"
    gap = np.diff(weeks)
    if len(gap) and gap.max() > WIDEST_GAP_WEEKS:
        k = int(gap.argmax())
        yield f"nobody was measured between {weeks[k]:.1f} and {weeks[k + 1]:.1f} weeks: a gap may be {WIDEST_GAP_WEEKS:g} weeks"
