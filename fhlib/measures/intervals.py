"""Numbers with a 95 % interval, the bootstrap that gives one, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from fhlib.images.volume import Floats

CONFIDENCE = 0.95
LOW_TAIL, HIGH_TAIL = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
Z = 1.96  # the paper's and Bland and Altman's limits


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
    few cases (Hesterberg 2015, "expanded percentile"). The same seed gives the same interval.

    Args:
        values: (n,), or (n, k) for a statistic of several columns.
        statistic: called as `statistic(sample, axis=0)`; gives one number.
        clusters: a name a case, such as its subject; whole clusters are drawn. None draws cases.
        resamples: how many bootstrap samples.
        seed: of the draws.

    >>> bootstrap_interval([0.9, 0.9, 0.9])  # no spread, so every sample has the same mean
    (0.9, 0.9)
    """
    data = np.asarray(values, dtype=float)
    codes = np.arange(len(data))
    if clusters is not None:
        codes = pd.factorize(np.asarray(clusters, dtype=object))[0]
    members = [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]
    n = len(members)
    if n < 3:
        return math.nan, math.nan

    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    drawn = [statistic(sample, axis=0) for sample in _samples(data, members, draws)]
    tail = 100 * stats.norm.sf(stats.t.ppf(0.975, n - 1) * math.sqrt(n / (n - 1)))
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def _samples(data: Floats, members: list[np.ndarray], draws: np.ndarray) -> Iterator[Floats]:
    """The data of each draw of clusters; `members` holds the indices of each cluster's cases."""
    # where each case is a cluster of its own, nothing has to be gathered, which is many times faster
    alone = len(members) == len(data)
    for draw in draws:
        yield data[draw] if alone else data[np.concatenate([members[number] for number in draw])]


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down correction; NaN stay NaN and do not count.

    >>> holm([0.01, 0.04, math.nan]).tolist()  # the smaller of two times 2, the larger times 1
    [0.02, 0.04, nan]
    """
    from statsmodels.stats.multitest import multipletests  # here, so that `bland_altman` does not wait for it

    values = np.asarray(p, dtype=float)
    known = np.isfinite(values)
    adjusted = np.full(values.shape, math.nan)
    if known.any():
        adjusted[known] = multipletests(values[known], method="holm")[1]
    return adjusted
