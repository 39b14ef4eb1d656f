"""What charts, dating and detection give on simulated populations whose truth is known: the tables of data/results/growth.

`python -m fhlib.population.study` computes all; `--only centiles sample_size intergrowth dating detection` some of them.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fhlib.files import DATA, progress, write_csv
from fhlib.images.volume import Floats
from fhlib.measures import growth
from fhlib.population.charts import Chart, choose, fit_chart
from fhlib.population.correction import corrected_chart
from fhlib.population.dating import compared_measures, dating_table
from fhlib.population.detection import detection_table, largest_useful_error
from fhlib.population.drawn.errors import ErrorModel, fit_error_model, segmentor_error
from fhlib.population.drawn.protocol import CONDITIONS, HEALTHY, Protocol
from fhlib.population.drawn.visits import draw_population, measure, true_centiles

OUT = DATA / "results" / "growth"
LOOKED_AT = (3, 50, 97)
WEEKS = np.arange(14.5, 40, 1.0)
COUNTS = (100, 200, 400, 800, 1600)
REFERENCE_SUBJECTS, REFERENCE_SEED = 6000, 7


def centile_study(error: ErrorModel, subjects: int = 1000, repetitions: int = 200) -> pd.DataFrame:
    """How right a chart of so many subjects with three visits is, of true volumes, of measured ones, and corrected.

    The segmentor's calibration is drawn anew each time, on as many scans as the shipped one had. Columns: chart, centile, repetitions,
    error_first (largest error over the ages in percent of the true centile, first repetition), error_median and error_p95 (over the
    repetitions), covered (share of ages and repetitions whose band holds the truth), width (median width of the band, percent).
    """
    truth, found = true_centiles(WEEKS, LOOKED_AT), []
    for number in progress(range(repetitions), "fitting charts"):
        for name, chart in _three_charts(error, subjects, number):
            # ages that this sample does not reach have no centile
            reached = WEEKS[(chart.weeks[0] <= WEEKS) & (chart.weeks[1] >= WEEKS)]
            table = chart.table(reached, LOOKED_AT)
            table["truth"] = truth[np.isin(WEEKS, reached)].T.ravel()
            found.append(table.assign(chart=name, repetition=number))
    return summarise_centiles(pd.concat(found, ignore_index=True))


def summarise_centiles(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of `centile_study`; `found` has chart, repetition, centile, value, low, high and truth, a row an age."""
    found = found.assign(
        error=100 * (found["value"] / found["truth"] - 1).abs(),
        covered=(found["low"] <= found["truth"]) & (found["truth"] <= found["high"]),
        width=100 * (found["high"] - found["low"]) / found["value"],
    )
    rows = []
    for (chart, centile), group in found.groupby(["chart", "centile"], sort=False):
        largest = group.groupby("repetition")["error"].max()
        rows.append(
            {
                "chart": chart,
                "centile": centile,
                "repetitions": len(largest),
                "error_first": largest.iloc[0],
                "error_median": largest.median(),
                "error_p95": largest.quantile(0.95),
                "covered": group["covered"].mean(),
                "width": group["width"].median(),
            }
        )
    return pd.DataFrame(rows)


def _three_charts(error: ErrorModel, subjects: int, number: int) -> Iterator[tuple[str, Chart]]:
    population = draw_population(Protocol(subjects=subjects, seed=1000 + number))
    measured = measure(population, error, seed=1000 + number)
    yield "true volumes", choose(population)[0]
    yield "raw", choose(measured)[0]
    yield "corrected", corrected_chart(measured, calibrated_anew(error, number))


def calibrated_anew(error: ErrorModel, seed: int) -> ErrorModel:
    """What another calibration of the same segmentor, on other scans, would say of its error; `error` itself where it is known exactly."""
    if not error.n:
        return error
    rng = np.random.default_rng([seed, 607])
    true = np.exp(rng.normal(error.centre, error.centre_sd, error.n))
    return fit_error_model(true, error.measured(true, rng))


def sample_size(error: ErrorModel, counts: Sequence[int] = COUNTS, repetitions: int = 60) -> pd.DataFrame:
    """Standard error of the outer centiles by number of subjects with one visit each, mean over 16 to 38 weeks, percent.

    Columns: subjects, centile, se_true (charts of true volumes), se_corrected (of measured volumes, corrected by a known error),
    royston (his formula for the mean age, SD sqrt((1 + z^2 / 2) / n), Royston 1991), with the population's mean spread.
    """
    weeks, exact = np.arange(16.0, 39.0, 2.0), ErrorModel(error.sd, error.offset, error.slope, error.centre)
    spread = _mean_spread(weeks)
    rows = []
    for count in counts:
        lines: dict[str, list[Floats]] = {"se_true": [], "se_corrected": []}
        for number in progress(range(repetitions), f"{count} subjects"):
            population = draw_population(Protocol(count, ((14.0, 40.0),), seed=5000 + number))
            measured = measure(population, exact, seed=number)
            for name, chart in (("se_true", choose(population)[0]), ("se_corrected", corrected_chart(measured, exact))):
                lines[name].append(_log_centiles(chart, weeks))
        for k, centile in enumerate((3, 97)):
            z = ndtri(centile / 100)
            royston = 100 * spread * np.sqrt((1 + z**2 / 2) / count)
            found = {name: 100 * float(np.nanstd(values, axis=0, ddof=1)[k].mean()) for name, values in lines.items()}
            rows.append({"subjects": count, "centile": centile, **found, "royston": royston})
    return pd.DataFrame(rows)


def _mean_spread(weeks: Floats) -> float:
    """SD of ln(volume) in the population, mean over ages."""
    low, high = true_centiles(weeks, [15.865525, 84.134475]).T
    return float(np.mean(np.log(high / low) / 2))


def _log_centiles(chart: Chart, weeks: Floats) -> Floats:
    """ln of the 3rd and 97th centile, (2, ages), NaN beyond the chart's ages."""
    inside = (chart.weeks[0] <= weeks) & (weeks <= chart.weeks[1])
    lines = np.full((2, len(weeks)), np.nan)
    lines[:, inside] = np.log([chart.value(weeks[inside], centile) for centile in (3, 97)])
    return lines


def intergrowth_hc(draws: int = 4000, repetitions: int = 20) -> pd.DataFrame:
    """INTERGROWTH-21st's HC from draws of its own equations, fitted anew, 14 to 40 weeks.

    Columns: centile, draws, repetitions, error_first (largest error over the ages, percent, of the first draw), error_median,
    error_p95, model (of the first draw).
    """
    grid = np.linspace(14, 40, 105)
    mean, sd = growth.reference("hc", grid)
    charts = [_drawn_hc_chart(draws, number) for number in progress(range(repetitions), "fitting HC")]
    rows = []
    for centile in growth.CENTILES:
        true = mean + sd * ndtri(centile / 100)
        largest = [float(100 * np.abs(chart.value(grid, centile) / true - 1).max()) for chart in charts]
        found = {"error_first": largest[0], "error_median": np.median(largest), "error_p95": np.quantile(largest, 0.95)}
        rows.append(
            {"centile": centile, "draws": draws, "repetitions": repetitions, **found, "model": charts[0].model.name}
        )
    return pd.DataFrame(rows)


def _drawn_hc_chart(draws: int, seed: int) -> Chart:
    rng = np.random.default_rng([seed, 608])
    weeks = rng.uniform(14, 40, draws)
    weeks[:2] = 14, 40
    mean, sd = growth.reference("hc", weeks)
    values = mean + sd * rng.normal(size=draws)
    return choose(pd.DataFrame({"subject": np.arange(draws), "ga_weeks": weeks, "hc_mm": values}), "hc_mm")[0]


def reference_charts(weeks: tuple[float, float] = (12.0, 40.0), subjects: int = REFERENCE_SUBJECTS) -> dict[str, Chart]:
    """Charts of true volume and true HC from many subjects with one visit each: what dating and detection look values up in."""
    population = draw_population(Protocol(subjects, (weeks,), seed=REFERENCE_SEED))
    return {column: fit_chart(population, column=column) for column in ("volume_ml", "hc_mm")}


def date(error: ErrorModel, subjects: int = REFERENCE_SUBJECTS) -> pd.DataFrame:
    """`dating_table` on subjects of 12 to 40 weeks."""
    others = draw_population(Protocol(subjects, ((12.0, 40.0),), seed=REFERENCE_SEED + 1))
    return dating_table(others, reference_charts(), compared_measures(error))


def useful_errors(error: ErrorModel, subjects: int = 2000) -> pd.DataFrame:
    """`largest_useful_error` by disorder: condition, hc and volume (sensitivities, the volume's without error), error_sd, segmentor_sd."""
    charts, rows = reference_charts((14.0, 40.0)), []
    for condition in [name for name in CONDITIONS if name != HEALTHY]:
        largest, table = largest_useful_error(charts, condition, subjects)
        first = table.iloc[0]
        rows.append((condition, first["hc"], first["volume"], largest, error.calibrated_sd))
    return pd.DataFrame(rows, columns=["condition", "hc", "volume", "error_sd", "segmentor_sd"])


def times(error: ErrorModel) -> pd.DataFrame:
    """Seconds for 1,000 subjects with three visits, measurements alone, and for a chart of them: what, seconds."""
    start = time.perf_counter()
    measured = measure(draw_population(Protocol()), error)
    drawn = time.perf_counter()
    corrected_chart(measured, error)
    return pd.DataFrame(
        {"what": ["draw and measure", "corrected chart"], "seconds": [drawn - start, time.perf_counter() - drawn]}
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Charts, dating and detection on simulated populations.")
    error = segmentor_error()
    parser.add_argument("--repetitions", type=int, default=200, help="of the chart of 1,000 subjects")
    parser.add_argument("--only", nargs="+", default=None, help="names of tables")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)

    def detect() -> pd.DataFrame:
        table, _ = detection_table(reference_charts((14.0, 40.0)), error)
        return table

    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "error_model": lambda: pd.DataFrame([{**vars(error), "calibrated_sd": error.calibrated_sd}]),
        "times": lambda: times(error),
        "intergrowth": intergrowth_hc,
        "dating": lambda: date(error),
        "detection": detect,
        "useful_errors": lambda: useful_errors(error),
        "centiles": lambda: centile_study(error, repetitions=options.repetitions),
        "sample_size": lambda: sample_size(error),
    }
    for name in options.only or tables:
        if name not in tables:
            parser.error(f"{name!r} is no table; choose from {', '.join(tables)}")
        write_csv(tables[name](), OUT / f"{name}.csv")
        print(f"{name}.csv")


if __name__ == "__main__":
    main()
