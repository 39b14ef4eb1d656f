"""Bootstrap intervals and Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fhlib.measures.intervals import bootstrap_interval, holm


def test_holm_against_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(holm(p)[[0, 1, 3, 4]], multipletests(p[[0, 1, 3, 4]], method="holm")[1])
    assert math.isnan(holm(p)[2])


def test_bootstrap_draws_whole_clusters():
    values, clusters = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 40), np.repeat(list("abcde"), 40)
    wide = bootstrap_interval(values, clusters=clusters, resamples=500)
    narrow = bootstrap_interval(values, resamples=500)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert wide == bootstrap_interval(values, clusters=clusters, resamples=500)
    assert all(math.isnan(x) for x in bootstrap_interval([1.0, 2.0]))


def test_bootstrap_interval_of_a_mean_is_as_wide_as_students():
    values = np.random.default_rng(0).normal(size=12)
    low, high = bootstrap_interval(values, resamples=20000)
    student = stats.t.interval(0.95, 11, values.mean(), values.std(ddof=1) / math.sqrt(12))
    assert (low, high) == pytest.approx(student, abs=0.06 * np.ptp(student))
