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


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        ([1, 2, math.nan, 4, 5], {}, r"1 case missing or not finite \(2\)"),
        ([1, 2, math.inf, 4, -math.inf], {}, r"2 cases missing or not finite \(2, 4\)"),
        (np.ma.array([1.0, 2, 3, 900], mask=[0, 0, 0, 1]), {}, r"1 case missing or not finite \(3\)"),
        ([[1, 2], [3, math.nan], [5, 6]], {}, r"1 case missing or not finite \(1\)"),
        ([1, 2, 3, 4], {"clusters": list("abc")}, "4 values and 3 clusters"),
        ([1, 2, 3, 99], {"clusters": ["a", "b", "c", None]}, r"1 case without a cluster \(3\)"),
        ([1, 2, 3, 99], {"clusters": ["a", " ", math.nan, "b"]}, r"2 cases without a cluster \(1, 2\)"),
        ([1, 2, 3], {"resamples": 1}, "at least 100"),
        (3.0, {}, "expected one a case"),
    ],
)
def test_what_a_bootstrap_cannot_draw_from_is_refused(values, options, said):
    with pytest.raises(ValueError, match=said):
        bootstrap_interval(values, **options)


def test_a_statistic_that_no_sample_has_gives_no_interval():
    assert all(math.isnan(end) for end in bootstrap_interval([1.0, 2, 3], lambda sample, axis: math.nan))


def test_holm_takes_probabilities_only():
    for wrong in (1.5, -0.1, math.inf):
        with pytest.raises(ValueError, match="expected probabilities, 0 to 1"):
            holm([0.5, wrong])
    assert holm([0.03, 0.0, 0.02]).tolist() == pytest.approx([0.04, 0, 0.04])  # 0; 2 x 0.02; no smaller than that
