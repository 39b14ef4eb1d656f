"""Confidence levels, bootstrap intervals, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fhlib.images.volume import Floats

CONFIDENCE = 0.95
Z = 1.96  # the paper's and Bland and Altman's limits


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    clusters: Sequence[Any] | pd.Series | None = None,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of `statistic(values, axis=0)`; values (n,) or (n, k) for a statistic of several columns.

    Percentiles, moved outwards so that the interval of a mean is as wide as Student's (Hesterberg 2015, "expanded percentile"):
    plain ones are too narrow for few cases. With `clusters`, whole clusters (subjects) are drawn. NaN for fewer than 3 cases or
    clusters. The same seed gives the same interval.
    """
    data = np.asarray(values, dtype=float)
    codes = pd.factorize(np.asarray(clusters, dtype=object))[0] if clusters is not None else np.arange(len(data))
    members = [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]
    if len(members) < 3:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(members), size=(resamples, len(members)))
    if len(members) == len(data):
        drawn = (data[draw] for draw in draws)
    else:
        drawn = (data[np.concatenate([members[i] for i in draw])] for draw in draws)
    n = len(members)
    tail = 100 * stats.norm.sf(stats.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1)))
    low, high = np.nanpercentile([statistic(sample, axis=0) for sample in drawn], [tail, 100 - tail])
    return float(low), float(high)


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down correction; NaN stay NaN and do not count."""
    values = np.asarray(p, dtype=float)
    known = np.isfinite(values)
    adjusted = np.full(values.shape, math.nan)
    if known.any():
        adjusted[known] = multipletests(values[known], method="holm")[1]
    return adjusted
