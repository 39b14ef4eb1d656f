"""Growth over time and its disorders: conditional z-scores, velocity, and what is found at a false alarm rate of 5 %."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import rankdata
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from fhlib.images.volume import Floats
from fhlib.population.charts import Chart
from fhlib.population.drawn.errors import ErrorModel
from fhlib.population.drawn.protocol import CONDITIONS, HEALTHY, Protocol
from fhlib.population.drawn.visits import HC_ERROR_SD, draw_population

MEASURES: Mapping[str, tuple[str, ...]] = {
    "HC in 2D": ("hc_mm",),
    "volume": ("volume_ml",),
    "volume and HC": ("volume_ml", "hc_mm"),
}
FALSE_ALARMS = 0.05
VISITS = ((19.0, 21.0), (27.0, 29.0), (35.0, 37.0))
RATES = np.array([0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0])


@dataclass(frozen=True)
class Followed:
    """Subjects of one kind at their visits: z-scores by column, each (subjects, visits)."""

    z: Mapping[str, Floats]

    def features(self, columns: Sequence[str], visits: int) -> Floats:
        """z-scores of the last so many visits, (subjects, columns x visits)."""
        return np.hstack([self.z[column][:, -visits:] for column in columns])


def follow(
    protocol: Protocol, charts: Mapping[str, Chart], errors: Mapping[str, float], condition: str = HEALTHY
) -> Followed:
    """Draw subjects that all have one condition, measure them at each visit, and look them up in the charts.

    Args:
        protocol: subjects, visits and seed.
        charts: of true values, by column (`volume_ml`, `hc_mm`).
        errors: SD of the error of each logarithm, by column; independent between visits and measures.
        condition: of all.
    """
    everyone = replace(protocol, conditions={} if condition == HEALTHY else {condition: 1.0})
    population = draw_population(everyone)
    rng = np.random.default_rng([protocol.seed, 606])
    shape = protocol.subjects, len(protocol.visits)
    z = {}
    for column, chart in charts.items():
        values = population[column].to_numpy() * np.exp(rng.normal(0, errors[column], len(population)))
        z[column] = chart.z(values, population["ga_weeks"]).reshape(shape)
    return Followed(z)


def conditional_z(z: Floats, healthy: Floats) -> Floats:
    """z of the last visit given those before: how far it lies from where healthy subjects with that past are, (subjects,).

    Args:
        z: (subjects, visits).
        healthy: (subjects, visits), measured alike; the regression is theirs.
    """
    fitted = sm.OLS(healthy[:, -1], sm.add_constant(healthy[:, :-1])).fit()
    expected = sm.add_constant(z[:, :-1], has_constant="add") @ fitted.params
    return (z[:, -1] - expected) / np.sqrt(fitted.scale)


def velocity_z(z: Floats, healthy: Floats) -> Floats:
    """Change of z from the last visit but one to the last, in SDs of healthy subjects, (subjects,)."""
    change = healthy[:, -1] - healthy[:, -2]
    return (z[:, -1] - z[:, -2] - change.mean()) / change.std(ddof=1)


def discriminant(healthy: Floats, affected: Floats) -> Floats:
    """Fisher's linear discriminant of two groups of features, with the healthy ones' covariance, (features,)."""
    covariance = np.atleast_2d(np.cov(healthy, rowvar=False))
    return np.linalg.solve(covariance, affected.mean(0) - healthy.mean(0))


def sensitivity(healthy: Floats, affected: Floats, rate: float = FALSE_ALARMS) -> tuple[float, float, float]:
    """Share of affected scores above the healthy ones' quantile at a false alarm rate, and Wilson's 95 % interval."""
    count = int((affected > np.quantile(healthy, 1 - rate)).sum())
    low, high = proportion_confint(count, len(affected), method="wilson")
    return count / len(affected), float(low), float(high)


def area(healthy: Floats, affected: Floats) -> float:
    """Area under the ROC curve."""
    ranks = rankdata(np.concatenate([healthy, affected]))[len(healthy) :]
    n, m = len(affected), len(healthy)
    return float((ranks.sum() - n * (n + 1) / 2) / (n * m))


def detection_table(
    charts: Mapping[str, Chart], error: ErrorModel, conditions: Sequence[str] = (), subjects: int = 2000,
    visits: Sequence[int] = (1, 2, 3),
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Sensitivity at 5 % false alarms by disorder, error of the volume, measure and number of visits; and the ROC curves of all visits.

    The score is the discriminant of the z-scores, learnt on other subjects of the same kind. As many affected subjects are scored as
    `subjects`, and five times as many healthy ones. HC has one sonographer's error throughout.

    Returns:
        condition, error, measure, visits, sensitivity, low, high, area; and condition, error, measure, rate, sensitivity, low, high.
    """
    rows: list[dict[str, object]] = []
    curves: list[dict[str, object]] = []
    for level, sd in error_levels(error).items():
        for condition in conditions or [name for name in CONDITIONS if name != HEALTHY]:
            for measure, count, scores in _scored(charts, sd, condition, subjects, visits):
                of: dict[str, object] = {"condition": condition, "error": level, "measure": measure}
                rows.append({**of, "visits": count, **_found(*scores), "area": area(*scores)})
                if count == max(visits):
                    curves += [{**of, "rate": rate, **_found(*scores, rate)} for rate in RATES]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def _found(healthy: Floats, affected: Floats, rate: float = FALSE_ALARMS) -> dict[str, object]:
    return dict(zip(("sensitivity", "low", "high"), sensitivity(healthy, affected, rate), strict=True))


def error_levels(error: ErrorModel) -> dict[str, float]:
    """The errors that are compared: none, half the segmentor's, the segmentor's; SD of ln(volume)."""
    return {"none": 0.0, "half the segmentor's": error.calibrated_sd / 2, "the segmentor's": error.calibrated_sd}


def largest_useful_error(
    charts: Mapping[str, Chart],
    condition: str,
    subjects: int = 2000,
    errors: Sequence[float] = tuple(np.arange(0, 0.13, 0.01)),
) -> tuple[float, pd.DataFrame]:
    """The SD of the volume's error (of its logarithm) at which volume finds no more than HC, by all visits.

    NaN where volume without error finds no more than HC, or no more than chance could (p of two proportions above 0.05). Where it still
    finds more at the largest error tried, that error is given. Also the sensitivities: error_sd, volume, hc.
    """
    rows = []
    for sd in errors:
        scored = {measure: scores for measure, _, scores in _scored(charts, float(sd), condition, subjects, (3,))}
        rows.append(
            {"error_sd": sd, "volume": sensitivity(*scored["volume"])[0], "hc": sensitivity(*scored["HC in 2D"])[0]}
        )
    table = pd.DataFrame(rows)
    gain = (table["volume"] - table["hc"]).to_numpy()
    counts = np.round(table[["volume", "hc"]].iloc[0] * subjects)
    if gain[0] <= 0 or proportions_ztest(counts, [subjects, subjects])[1] > 0.05:
        return float("nan"), table
    lost = np.flatnonzero(gain <= 0)
    if not len(lost):
        return float(table["error_sd"].iloc[-1]), table
    k = lost[0]
    share = gain[k - 1] / (gain[k - 1] - gain[k])
    return float(
        table["error_sd"].iloc[k - 1] + share * (table["error_sd"].iloc[k] - table["error_sd"].iloc[k - 1])
    ), table


def scores_of_growth(
    charts: Mapping[str, Chart], error: ErrorModel, condition: str, subjects: int = 2000
) -> pd.DataFrame:
    """What looking at growth adds to size, by the segmentor: score, measure, sensitivity, low, high.

    Scores are the size at the last visit, the velocity since the one before, the conditional z-score, and the discriminant of all visits.
    The direction of the disorder is taken as known.
    """
    rows: list[dict[str, object]] = []
    healthy, affected = (_followed(charts, error.calibrated_sd, name, subjects, 0) for name in (HEALTHY, condition))
    for measure, column in (("HC in 2D", "hc_mm"), ("volume", "volume_ml")):
        h, a = healthy.z[column], affected.z[column]
        sign = np.sign(a[:, -1].mean() - h[:, -1].mean())
        pairs = {
            "size": (h[:, -1], a[:, -1]),
            "velocity": (velocity_z(h, h), velocity_z(a, h)),
            "conditional": (conditional_z(h, h), conditional_z(a, h)),
        }
        for score, (of_healthy, of_affected) in pairs.items():
            rows.append({"score": score, "measure": measure, **_found(sign * of_healthy, sign * of_affected)})
    for measure, _, scores in _scored(charts, error.calibrated_sd, condition, subjects, (3,)):
        rows.append({"score": "all visits", "measure": measure, **_found(*scores)})
    return pd.DataFrame(rows)


def _scored(
    charts: Mapping[str, Chart], volume_sd: float, condition: str, subjects: int, visits: Sequence[int]
) -> Iterator[tuple[str, int, tuple[Floats, Floats]]]:
    """Measure, number of visits, and the scores of healthy and affected subjects."""
    learn, test = (
        {name: _followed(charts, volume_sd, name, subjects, part) for name in (HEALTHY, condition)} for part in (1, 0)
    )
    for measure, columns in MEASURES.items():
        for count in visits:
            weights = discriminant(*(learn[name].features(columns, count) for name in (HEALTHY, condition)))
            healthy, affected = (test[name].features(columns, count) @ weights for name in (HEALTHY, condition))
            yield measure, count, (healthy, affected)


def _followed(charts: Mapping[str, Chart], volume_sd: float, condition: str, subjects: int, part: int) -> Followed:
    """Subjects of a condition, healthy ones five times as many; another `part` has other subjects."""
    many = 5 * subjects if condition == HEALTHY else subjects
    seed = 20 + 2 * list(CONDITIONS).index(condition) + part
    protocol = Protocol(subjects=many, visits=VISITS, seed=seed)
    return follow(protocol, charts, {"volume_ml": volume_sd, "hc_mm": HC_ERROR_SD}, condition)
