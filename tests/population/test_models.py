"""Fractional polynomials, LMS, and their likelihood: by hand, and against gamlss."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.tools.numdiff import approx_fprime

from fhlib.population.charts import fit_model
from fhlib.population.models import ChartModel, Curves, Likelihood, candidates, fractional

WEEKS = np.linspace(14, 40, 120)
# a wave in place of drawn numbers, so that the values are the same everywhere
VALUES = np.round(
    50 * (WEEKS / 10) ** 2.5 * (1 + 0.3 * (0.08 + WEEKS / 1000) * 1.4 * np.sin(7 * np.arange(120))) ** (1 / 0.3), 3
)
TABLE = pd.DataFrame({"subject": np.arange(120), "ga_weeks": WEEKS, "volume_ml": VALUES})


def test_powers_are_of_decades_zero_is_the_logarithm_and_a_repeated_power_gets_one():
    design = fractional(np.array([20.0]), (0.0, 2.0, 2.0, 2.0))
    log2 = np.log(2)
    assert design.tolist() == [pytest.approx([1, log2, 4, 4 * log2, 4 * log2**2])]


def test_z_of_lms_by_hand():
    """sqrt(121 / 100) = 1.1, so z = (1.1 - 1) / (0.5 x 0.1) = 2."""
    curves = Curves(np.array([100.0]), np.array([0.1]), 0.5)
    assert curves.z(np.array([121.0])) == pytest.approx([2.0])
    assert curves.at_z(np.array(2.0)) == pytest.approx([121.0])
    normal, lognormal = Curves(np.array([100.0]), np.array([0.1]), 1.0), Curves(np.array([100.0]), np.array([0.1]), 0.0)
    assert normal.z(np.array([120.0])) == pytest.approx([2.0])
    assert lognormal.at_z(np.array(2.0)) == pytest.approx([100 * np.exp(0.2)])


def test_error_adds_to_the_spread_as_variances():
    assert Curves(np.array([1.0]), np.array([0.3]), 0.0).with_error(0.4).spread == pytest.approx([0.5])


@pytest.mark.parametrize("model", candidates(WEEKS, VALUES), ids=lambda model: f"{model.name} {model.spread_powers}")
def test_the_gradient_is_that_of_the_likelihood(model):
    likelihood = Likelihood(model, WEEKS, VALUES, np.full(120, 0.05))
    at = likelihood.start() + 0.01
    assert likelihood.score(at) == pytest.approx(
        approx_fprime(at, likelihood.loglike, centered=True), rel=1e-5, abs=1e-3
    )
    assert likelihood.score_obs(at).sum(0) == pytest.approx(likelihood.score(at))


def test_fits_are_those_of_gamlss():
    """gamlss 0.1.0 of Python, a port whose tests hold it against R's gamlss 5.5: families BCCGo and LOGNO, sigma ~ x, x in decades."""
    skewed = fit_model(TABLE, ChartModel("LMS", (1.0, 2.0), (1.0,), skewness=None))
    expected = [2.422906862, 1.970059307, -0.184428983, -2.522317545, 0.102363099, 0.306258416]
    assert skewed.params == pytest.approx(expected, abs=2e-4)
    assert skewed.aic - 2 * skewed.model.parameters == pytest.approx(1311.297879750, abs=1e-5)

    lognormal = fit_model(TABLE, ChartModel("log-polynomial", (1.0, 2.0, 3.0), (1.0,)))
    expected = [1.658137861, 2.924507204, -0.560512024, 0.046997181, -2.516379968, 0.096227084]
    assert lognormal.params == pytest.approx(expected, abs=2e-4)
    assert lognormal.aic - 2 * lognormal.model.parameters == pytest.approx(1308.619748681, abs=1e-5)
