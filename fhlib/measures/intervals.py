"""Numbers with a 95 % interval, the bootstrap that gives one, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from fhlib.images.volume import Floats
from fhlib.measures.inputs import as_numbers, counted, listed, names_of, rows_of

CONFIDENCE = 0.95
LOW_TAIL, HIGH_TAIL = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
Z = 1.96  # the paper's and Bland and Altman's limits
FEWEST_RESAMPLES = 100
"""Bootstrap samples below which percentiles of 2.5 and 97.5 % mean nothing."""


class Interval(NamedTuple):
    """A number and the ends of its 95 % confidence interval; NaN where it cannot be had."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def around(cls, value: float, half_width: float) -> Interval:
        """An interval that reaches equally far to both sides."""
        return cls(value, value - half_width, value + half_width)

    def named(self, name: str) -> dict[str, float]:
        """The number as `name`, its ends as `name_low` and `name_high`: the columns of a table.

        >>> Interval.around(5.0, 2.0).named("bias")
        {'bias': 5.0, 'bias_low': 3.0, 'bias_high': 7.0}
        """
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., float] = np.mean,
    clusters: Sequence[Hashable] | pd.Series | None = None,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic: its low and high end, NaN for fewer than 3 cases or clusters.

    Percentiles, moved outwards so that the interval of a mean is as wide as Student's; plain ones are too narrow for
    few cases (Hesterberg 2015, "expanded percentile"). The same seed gives the same interval, for the same order of cases:
    another order is another draw. Samples for which the statistic is not finite are left out.

    Raises ValueError for values that are missing or not finite, cases without a cluster, numbers of values and clusters that
    differ, and fewer than 100 resamples.

    Args:
        values: (n,), or (n, k) for a statistic of several columns.
        statistic: called as `statistic(sample, axis=0)`; gives one number.
        clusters: a name a case, such as its subject; whole clusters are drawn. None draws cases.
        resamples: how many bootstrap samples.
        seed: of the draws.

    >>> bootstrap_interval([0.9, 0.9, 0.9])  # no spread, so every sample has the same mean
    (0.9, 0.9)
    """
    require_resamples(resamples)
    data = as_numbers(values, "values")
    if data.ndim == 0:
        raise ValueError(f"values is the single number {data:g}: expected one a case")
    gaps = np.flatnonzero(~np.isfinite(data).all(axis=tuple(range(1, data.ndim))))
    if gaps.size:
        raise ValueError(f"{counted(gaps.size, 'case')} missing or not finite ({listed(gaps)}): leave them out first")
    codes = np.arange(len(data))
    if clusters is not None:
        codes = _codes(values, clusters)
    members = [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]
    n = len(members)
    if n < 3:
        return math.nan, math.nan

    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    drawn = [statistic(sample, axis=0) for sample in _samples(data, members, draws)]
    tail = 100 * ndtr(-stdtrit(n - 1, 0.975) * math.sqrt(n / (n - 1)))
    finite = np.asarray(drawn, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return math.nan, math.nan
    low, high = np.percentile(finite, [tail, 100 - tail])
    return float(low), float(high)


def require_resamples(resamples: int) -> None:
    """Raises ValueError for too few bootstrap samples."""
    if resamples < FEWEST_RESAMPLES:
        raise ValueError(f"resamples is {resamples}: expected at least {FEWEST_RESAMPLES} for an interval of 95 %")


def _codes(values: ArrayLike, clusters: Sequence[Hashable] | pd.Series) -> np.ndarray:
    """The number of each case's cluster, (n,)."""
    rows = rows_of(values=values, clusters=clusters)
    names = names_of(clusters, "clusters")
    unknown = names.isna().to_numpy()
    if unknown.any():
        lost = rows[unknown]
        raise ValueError(f"{counted(len(lost), 'case')} without a cluster ({listed(lost)}): leave them out first")
    return pd.factorize(names)[0]


def _samples(data: Floats, members: list[np.ndarray], draws: np.ndarray) -> Iterator[Floats]:
    """The data of each draw of clusters; `members` holds the indices of each cluster's cases."""
    # where each case is a cluster of its own, nothing has to be gathered, which is many times faster
    alone = len(members) == len(data)
    for draw in draws:
        yield data[draw] if alone else data[np.concatenate([members[number] for number in draw])]


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down correction; NaN stay NaN and do not count. Raises ValueError for what is no probability.

    >>> holm([0.01, 0.04, math.nan]).tolist()  # the smaller of two times 2, the larger times 1
    [0.02, 0.04, nan]
    """
    from statsmodels.stats.multitest import multipletests  # here, so that `bland_altman` does not wait for it

    values = as_numbers(p, "p")
    known = ~np.isnan(values)
    wrong = values[known & ~((values >= 0) & (values <= 1))]
    if wrong.size:
        raise ValueError(f"p holds {wrong[0]:g}: expected probabilities, 0 to 1")
    adjusted = np.full(values.shape, math.nan)
    if known.any():
        adjusted[known] = multipletests(values[known], method="holm")[1]
    return adjusted
