"""Draw a population: a row a visit, with the truth. A thousand subjects with three visits take a tenth of a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri

from fhlib.files import require_own_table, write_csv
from fhlib.images.volume import Floats
from fhlib.measures.growth import CENTILES
from fhlib.phantom.anatomy import SIZE_CORRELATION
from fhlib.population.drawn.errors import ErrorModel
from fhlib.population.drawn.heads import diameter_mm, head_model
from fhlib.population.drawn.protocol import CONDITIONS, HEALTHY, SEVERITY, Protocol

SUBJECTS, MEASUREMENTS = "subjects.csv", "measurements.csv"
HC_ERROR_SD = 0.030 / 1.96 / np.sqrt(2)
"""Of ln(HC) in 2D: one sonographer's 95 % limits of agreement are 3.0 % (Sarris 2012, Ultrasound Obstet Gynecol 39:266)."""
TRUTH_DRAWS = 100_000


def draw_population(protocol: Protocol) -> pd.DataFrame:
    """Heads by protocol, a row a visit: subject, visit, condition, severity, site, seed, ga_weeks, bpd_mm, ofd_mm, hc_mm, volume_ml.

    BPD and OFD are those of INTERGROWTH-21st with the simulator's correlation, and follow their z-scores over time
    (`Tracking`). They are not cut at 2.5 SD as single simulated heads are. A subject's form is the same at all visits.
    """
    rng = np.random.default_rng([protocol.seed, 601])
    n, visits = protocol.subjects, len(protocol.visits)
    low, high = np.array(protocol.visits).T
    weeks = np.sort(rng.uniform(low, high, (n, visits)).round(2), axis=1)

    root = np.linalg.cholesky(protocol.tracking.correlation(weeks) + 1e-9 * np.eye(visits))
    first, own = (root @ rng.normal(size=(2, n, visits, 1)))[..., 0]
    form, hc_form = rng.normal(size=(2, n, 1))
    condition = _conditions(protocol, rng)
    severity = np.where(condition == HEALTHY, 0.0, rng.uniform(*SEVERITY, n))

    z_ofd = SIZE_CORRELATION * first + np.sqrt(1 - SIZE_CORRELATION**2) * own
    grown = {name: 1 + _change(name, condition, severity, weeks) for name in ("bpd", "ofd", "height")}
    bpd = diameter_mm("bpd", weeks, first) * grown["bpd"]
    ofd = diameter_mm("ofd", weeks, z_ofd) * grown["ofd"]
    model = head_model()
    taller = (grown["height"] / grown["ofd"]) ** model.cross_power  # height acts on the volume as BPD does
    each_visit = {
        "subject": np.array([f"p{number + 1:05d}" for number in range(n)]),
        "condition": condition,
        "severity": severity,
        "site": np.resize(protocol.sites, n),
        "seed": protocol.seed * 100_000 + np.arange(n),
    }
    frame = pd.DataFrame({name: np.repeat(values, visits) for name, values in each_visit.items()})
    frame.insert(1, "visit", np.tile(np.arange(1, visits + 1), n))
    frame["ga_weeks"] = weeks.ravel()
    frame["bpd_mm"], frame["ofd_mm"] = bpd.ravel(), ofd.ravel()
    frame["hc_mm"] = model.hc_mm(bpd, ofd, hc_form).ravel()
    frame["volume_ml"] = (model.volume_ml(bpd, ofd, weeks, form) * taller).ravel()
    return frame


def measure(
    population: pd.DataFrame, error: ErrorModel, seed: int = 1, hc_error_sd: float = HC_ERROR_SD
) -> pd.DataFrame:
    """What a segmentor and a sonographer would measure, a row a visit: subject, visit, ga_weeks, volume_ml, low_ml, high_ml, hc_mm.

    Errors of visits are independent of each other. The interval is a 95 % one about the value without its bias.

    Args:
        population: of `draw_population`.
        error: of the segmentor.
        seed: of the errors.
        hc_error_sd: SD of ln(HC)'s error.
    """
    rng = np.random.default_rng([seed, 602])
    measured = population[["subject", "visit", "ga_weeks"]].copy()
    measured["volume_ml"] = error.measured(population["volume_ml"].to_numpy(), rng)
    reach = np.exp(ndtri(0.975) * error.calibrated_sd)
    middle = error.calibrated(measured["volume_ml"].to_numpy())
    measured["low_ml"], measured["high_ml"] = middle / reach, middle * reach
    measured["hc_mm"] = population["hc_mm"].to_numpy() * np.exp(rng.normal(0, hc_error_sd, len(population)))
    return measured


def true_centiles(
    ga_weeks: ArrayLike, centiles: Sequence[float] = CENTILES, column: str = "volume_ml", draws: int = TRUTH_DRAWS
) -> Floats:
    """Centiles of the healthy population that is drawn, (ages, centiles), from so many heads of each age."""
    model, rng = head_model(), np.random.default_rng(603)
    first, own, form, hc_form = rng.normal(size=(4, draws))
    z_ofd = SIZE_CORRELATION * first + np.sqrt(1 - SIZE_CORRELATION**2) * own
    rows = []
    for weeks in np.atleast_1d(np.asarray(ga_weeks, float)):
        bpd, ofd = diameter_mm("bpd", weeks, first), diameter_mm("ofd", weeks, z_ofd)
        values = model.hc_mm(bpd, ofd, hc_form) if column == "hc_mm" else model.volume_ml(bpd, ofd, weeks, form)
        rows.append(np.percentile(values, centiles))
    return np.array(rows)


def write_population(folder: Path | str, protocol: Protocol, error: ErrorModel) -> pd.DataFrame:
    """Draw a population into a folder: subjects.csv is the truth, measurements.csv what was measured. Returns the truth.

    The scans of these visits can be made later (`fhlib.population.drawn.scans`). Raises OSError for a folder with tables of another origin.
    """
    for name in (SUBJECTS, MEASUREMENTS):
        require_own_table(Path(folder) / name, "subject", "visit", "ga_weeks")
    population = draw_population(protocol)
    write_csv(population, Path(folder) / SUBJECTS)
    write_csv(measure(population, error, protocol.seed), Path(folder) / MEASUREMENTS)
    return population


def _conditions(protocol: Protocol, rng: np.random.Generator) -> np.ndarray:
    """A condition a subject, in exact shares and a drawn order."""
    names = np.full(protocol.subjects, HEALTHY, dtype=object)
    begin = 0
    for name, share in protocol.conditions.items():
        end = begin + round(share * protocol.subjects)
        names[begin:end], begin = name, end
    return rng.permutation(names)


def _change(what: str, condition: np.ndarray, severity: Floats, weeks: Floats) -> Floats:
    """By which share BPD, OFD or height is changed, (subjects, visits)."""
    change = np.zeros_like(weeks)
    for name in np.unique(condition):
        of_it, disorder = condition == name, CONDITIONS[name]
        change[of_it] = severity[of_it, None] * getattr(disorder, what) * disorder.progress(weeks[of_it])
    return change
