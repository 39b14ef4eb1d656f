"""What notebooks 15 and 16 call: measurements of one's own or drawn, charts of them, comparisons with the truth, findings in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fhlib.figures.charts.growth import reference_chart, trajectories, truth_raw_corrected, useful_error
from fhlib.images.volume import Floats
from fhlib.measures.growth import CENTILES
from fhlib.measures.inputs import counted
from fhlib.population.charts import Chart, ChartError, choose, fit_chart, quantile_lines, read_measurements
from fhlib.population.correction import corrected_chart, simex
from fhlib.population.detection import VISITS, conditional_z, largest_useful_error, velocity_z
from fhlib.population.drawn.errors import ErrorModel, segmentor_error
from fhlib.population.drawn.protocol import CONDITIONS, Protocol
from fhlib.population.drawn.visits import draw_population, measure, true_centiles

AGES_SHOWN, MARGIN_WEEKS = 60, 0.25
CENTILE_NAMES = {3: "3rd centile", 50: "median", 97: "97th centile"}
LOOKED_AT = tuple(CENTILE_NAMES)


@dataclass(frozen=True)
class Measurements:
    """What a chart is made of: the table as measured, and what is known beside it."""

    table: pd.DataFrame
    error: ErrorModel | None
    """Of drawn measurements."""
    truth: pd.DataFrame | None
    """Of drawn measurements: the heads."""
    said: str

    @property
    def has_error(self) -> bool:
        """Whether an error of measurement is known, to be taken out."""
        return self.error is not None or "error_sd" in self.table

    def raw_chart(self) -> tuple[Chart, pd.DataFrame]:
        """The chart of the values as they are, and the table of models."""
        return choose(self.table.drop(columns="error_sd", errors="ignore"))

    def chart(self) -> Chart:
        """The chart with the error of measurement taken out, where it is known."""
        return fit_chart(self.table) if self.error is None else corrected_chart(self.table, self.error)

    def ready(self) -> pd.DataFrame:
        """The values that `chart` describes: without bias, where it is known."""
        return self.table if self.error is None else self.error.corrected(self.table)


def measurements(path: str = "", subjects: int = 1000, seed: int = 1, weights: str = "") -> Measurements:
    """One's own table (`read_measurements`), or subjects with three visits, drawn and measured with the shipped segmentor's error.

    Args:
        path: of the table; empty: drawn.
        subjects: how many are drawn.
        seed: of the drawing.
        weights: by which one's own volumes were measured (`head`): their calibration then says bias and error. Empty: the intervals do.
    """
    if path:
        return _own(path, weights)
    error = segmentor_error()
    population = draw_population(Protocol(subjects=subjects, seed=seed))
    said = (
        f"{counted(len(population), 'measurement')} of {counted(subjects, 'drawn subject')}. The segmentor's bias is "
        f"{100 * error.offset:+.1f} % at the middle of its calibration, its error {100 * error.calibrated_sd:.1f} % (SD, "
        f"{error.n} scans; {error.left_out} heads flagged or grossly wrong are left out)."
    )
    return Measurements(measure(population, error, seed), error, population, said)


def _own(path: str, weights: str) -> Measurements:
    table = read_measurements(path)
    count = f"{counted(len(table), 'measurement')} of {counted(table['subject'].nunique(), 'subject')}"
    if weights:
        error = segmentor_error(weights)
        known = (
            f"bias {100 * error.offset:+.1f} % and error {100 * error.calibrated_sd:.1f} % are those of the weights {weights!r}, "
            "as measured where they were calibrated, which for shipped weights is on simulated scans"
        )
        return Measurements(table.drop(columns="error_sd", errors="ignore"), error, None, f"{count}; {known}.")
    if "error_sd" not in table:
        known = "nothing says how exact they are (low_ml and high_ml would): the chart is as wide as the measurements"
        return Measurements(table, None, None, f"{count}; {known}.")
    aside = 50 * float(np.log(table["low_ml"] * table["high_ml"] / table["volume_ml"] ** 2).mean())
    known = f"their intervals say how exact they are; the intervals' middles lie {aside:+.1f} % from the volumes, which stays as it is"
    return Measurements(table, None, None, f"{count}; {known}.")


def ages_of(chart: Chart, count: int = AGES_SHOWN) -> Floats:
    """Ages over a chart's range."""
    return np.linspace(*chart.weeks, count)


def chart_figure(chart: Chart, data: Measurements) -> Figure:
    """The chart over the measurements that it describes, with quantile regression where no error was taken out."""
    quantiles = None if data.has_error else quantile_lines(data.table, chart, ages_of(chart))
    return reference_chart(chart.table(ages_of(chart)), data.ready(), quantiles)


def quantile_difference(chart: Chart, data: Measurements) -> pd.DataFrame:
    """How far quantile regression of the raw values lies from their chart: centile, largest and mean difference in percent."""
    weeks = ages_of(chart)[3:-3]
    lines = quantile_lines(data.table, chart, weeks)
    off = 100 * (lines["value"] / chart.table(weeks)["value"] - 1)
    return off.abs().groupby(lines["centile"]).agg(["mean", "max"]).rename_axis("centile").reset_index()


def against_truth(data: Measurements, raw: Chart, chart: Chart) -> tuple[Figure | None, pd.DataFrame]:
    """Raw and corrected chart beside the truth, for drawn measurements: a figure, and the largest errors in percent of the true centile.

    SIMEX is the third row: it takes the error out in another way. None and an empty table for one's own measurements.
    """
    if data.truth is None or data.error is None:
        return None, pd.DataFrame()
    low, high = chart.weeks
    weeks = np.linspace(low + MARGIN_WEEKS, high - MARGIN_WEEKS, 40)
    values = true_centiles(weeks, LOOKED_AT).T.ravel()
    truth = pd.DataFrame({"ga_weeks": np.tile(weeks, 3), "centile": np.repeat(LOOKED_AT, len(weeks)), "value": values})
    tables = {"raw": raw.table(weeks, LOOKED_AT), "corrected": chart.table(weeks, LOOKED_AT)}
    extended = simex(data.table, data.error, chart.model, weeks, LOOKED_AT, repeats=5)
    rows = []
    for name, table in {**tables, "corrected by SIMEX": extended}.items():
        off = (100 * (table["value"] / truth["value"] - 1)).abs().groupby(truth["centile"]).max()
        rows.append(
            {
                "chart": name,
                **{f"{name_of}, largest error [%]": off[centile] for centile, name_of in CENTILE_NAMES.items()},
            }
        )
    return truth_raw_corrected(tables, truth), pd.DataFrame(rows)


def refusal(data: Measurements) -> str:
    """What is said of measurements at two visit ages only."""
    two = data.table.assign(ga_weeks=np.where(data.table["ga_weeks"] < data.table["ga_weeks"].median(), 20.0, 32.0))
    try:
        choose(two)
    except ChartError as error:
        return f"> {error}"
    raise AssertionError("a chart from two visit ages must be refused")


def chart_findings(
    data: Measurements, raw: Chart, chart: Chart, errors: pd.DataFrame, dating: pd.DataFrame
) -> list[str]:
    """What 15 found, in sentences."""
    first, last = chart.weeks
    said = [
        f"A chart of {chart.subjects} subjects and {chart.rows} measurements holds from {first:.1f} to {last:.1f} weeks; "
        f"its model is {chart.model.name}."
    ]
    if not errors.empty:
        off = errors.set_index("chart")[errors.columns[1]]
        said.append(
            f"As measured, its 3rd centile is off by up to {off['raw']:.0f} % of volume; with the segmentor's bias and error "
            f"taken out, by {off['corrected']:.0f} %."
        )
    of = dating[dating["trimester"].str.startswith("second")].set_index("measure")["sd_days"]
    said.append(
        f"In the second trimester HC dates to {of['HC in 2D']:.1f} days (SD), volume by the segmentor "
        f"to {of['volume, the segmentor']:.1f}, and volume without error would to {of['volume, no error']:.1f}."
    )
    return said


def some_trajectories(chart: Chart, count: int = 8, seed: int = 3) -> Figure:
    """A few subjects of each condition, five visits each, true volumes over the chart."""
    visits = tuple((weeks - 0.5, weeks + 0.5) for weeks in (18.0, 23.0, 28.0, 33.0, 38.0))
    parts = []
    for name in CONDITIONS:
        protocol = Protocol(count, visits, {name: 1.0}, seed=seed)
        parts.append(draw_population(protocol))
    return trajectories(pd.concat(parts), chart.table(ages_of(chart)))


def one_subject(
    charts: Mapping[str, Chart], error: ErrorModel, condition: str = "restriction", subjects: int = 3000
) -> pd.DataFrame:
    """A subject with a condition at three visits, as the segmentor measures it: z at each visit, velocity and conditional z of the last.

    Columns: measure, z of each visit, velocity_z, conditional_z. Healthy subjects, measured alike, say what is usual.
    """
    rows = []
    everyone = {
        name: draw_population(Protocol(subjects, VISITS, {name: 1.0}, seed=11)) for name in ("healthy", condition)
    }
    measured = {name: measure(frame, error, seed=11) for name, frame in everyone.items()}
    for measure_name, column in (("volume", "volume_ml"), ("HC in 2D", "hc_mm")):
        z = {}
        for name, frame in measured.items():
            values = error.calibrated(frame["volume_ml"]) if column == "volume_ml" else frame["hc_mm"].to_numpy()
            z[name] = charts[column].z(values, frame["ga_weeks"]).reshape(subjects, -1)
        affected = z[condition][:1]
        at = {f"z at visit {k + 1}": float(value) for k, value in enumerate(affected[0])}
        velocity, conditional = (float(score(affected, z["healthy"])[0]) for score in (velocity_z, conditional_z))
        rows.append({"measure": measure_name, **at, "velocity_z": velocity, "conditional_z": conditional})
    return pd.DataFrame(rows)


def wide_detection(detection: pd.DataFrame, visits: int = 3) -> pd.DataFrame:
    """Sensitivities in percent with intervals, a row a condition and error, a column a measure."""
    shown = detection[detection["visits"] == visits].copy()
    shown["found"] = [
        f"{100 * row.sensitivity:.0f} ({100 * row.low:.0f} to {100 * row.high:.0f})" for row in shown.itertuples()
    ]
    wide = shown.pivot_table(
        index=["condition", "error"], columns="measure", values="found", aggfunc="first", sort=False
    )
    return wide.reset_index().rename_axis(columns=None)


def useful_error_figure(
    charts: Mapping[str, Chart],
    error: ErrorModel,
    conditions: Sequence[str] = ("restriction", "microcephaly", "fluid"),
    subjects: int = 2000,
) -> tuple[Figure, pd.DataFrame]:
    """Sensitivity of volume against its error, beside HC's; and the error at which the gain is lost, NaN where there is none.

    The table has condition and gain_lost_at_percent.
    """
    tables, rows = {}, []
    for condition in conditions:
        largest, tables[condition] = largest_useful_error(charts, condition, subjects)
        rows.append((condition, 100 * largest))
    return useful_error(tables, error.calibrated_sd), pd.DataFrame(rows, columns=["condition", "gain_lost_at_percent"])


def detection_findings(detection: pd.DataFrame, lost: pd.DataFrame, error: ErrorModel) -> list[str]:
    """What 16 found: a sentence a disorder, and what error a segmentor may have."""
    said = []
    of = detection[(detection["visits"] == 3)].set_index(["condition", "error", "measure"])["sensitivity"]
    for condition in dict.fromkeys(detection["condition"]):
        hc, volume = (100 * of[condition, "the segmentor's", measure] for measure in ("HC in 2D", "volume"))
        best = 100 * of[condition, "none", "volume"]
        said.append(
            f"{condition.capitalize()}: three visits find {hc:.0f} % by HC, {volume:.0f} % by the segmentor's volume, "
            f"{best:.0f} % by volume without error."
        )
    gained = lost.dropna()
    limits = ", ".join(f"{row.gain_lost_at_percent:.1f} % ({row.condition})" for row in gained.itertuples())
    below = "Volume finds no more than HC at any error, beyond chance"
    if limits:
        below = f"Volume finds more than HC, beyond chance, only below an error of {limits}"
    said.append(f"{below}; the segmentor's is {100 * error.calibrated_sd:.1f} %.")
    return said


def model_table(models: pd.DataFrame, count: int = 6) -> pd.DataFrame:
    """The first models, rounded; `models` is of `choose`."""
    return models.head(count).round({"L": 2, "aic": 1, "above_best": 1})


def centile_table(chart: Chart) -> pd.DataFrame:
    """Centiles at whole weeks, a row a week, as a group would print them [mL]."""
    first, last = chart.weeks
    table = chart.table(np.arange(np.ceil(first), np.floor(last) + 1), CENTILES)
    return (
        table.pivot_table(index="ga_weeks", columns="centile", values="value")
        .round(1)
        .reset_index()
        .rename_axis(columns=None)
    )
