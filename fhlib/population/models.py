"""Candidate models of a chart, their likelihood, and fractional polynomials.

All are one distribution, LMS (Cole and Green 1992; `BCCG` of R's gamlss, without its truncation at 0): z = ((y / M)^L - 1) / (L S).
M is the median, S the coefficient of variation, L the skewness. L = 1 is normal, L = 0 lognormal.

- M or ln M is a fractional polynomial of age (Royston and Altman 1994): INTERGROWTH-21st fits its charts so, with L = 1.
- ln S is a fractional polynomial, too, so that the spread may change with age.
- A known error of measurement is part of the spread: S_total^2 = S^2 + error^2, which is exact for L = 0 and holds to first order else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from statsmodels.base.model import GenericLikelihoodModel
from statsmodels.tools.numdiff import approx_fprime

from fhlib.images.volume import Floats

POWERS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
"""Of a fractional polynomial; 0 stands for the logarithm, a repeated power for a product with it."""
TERMS = 3
SPREADS = (), (1.0,), (0.0, 1.0, 2.0)
"""Powers of ln S: constant, steady, and free to bend."""
AGE_UNIT_WEEKS = 10.0
LOG_SPREADS, SMALLEST = (-12.0, 2.0), 1e-9
HALF_LOG_2PI, IMPOSSIBLE = math.log(2 * math.pi) / 2, -1e6


@dataclass(frozen=True)
class ChartModel:
    """What M, S and L depend on."""

    name: str
    mean_powers: tuple[float, ...] = ()
    spread_powers: tuple[float, ...] = ()
    log_mean: bool = True
    skewness: float | None = 0.0
    """L; None: estimated, one for all ages."""
    chosen_powers: int = 0
    """How many powers were chosen by the data: each counts as a parameter."""

    @property
    def parameters(self) -> int:
        """Estimated coefficients and chosen powers."""
        return 2 + len(self.mean_powers) + len(self.spread_powers) + (self.skewness is None) + self.chosen_powers


def fractional(weeks: Floats, powers: Sequence[float]) -> Floats:
    """Design matrix of a fractional polynomial with its constant, (ages, 1 + powers)."""
    age = np.asarray(weeks, float) / AGE_UNIT_WEEKS
    columns, before = [np.ones_like(age)], None
    for power in powers:
        column = np.log(age) if power == 0 else age**power
        if power == before:
            column = columns[-1] * np.log(age)
        columns.append(column)
        before = power
    return np.stack(columns, axis=-1)


def candidates(weeks: Floats, values: Floats) -> list[ChartModel]:
    """The models that are compared, their powers chosen for these data by the residual sum of squares."""
    logs, alike = np.log(values), np.ones_like(values)
    on_log = best_powers(weeks, logs, alike)
    on_raw = best_powers(weeks, values, 1 / np.exp(_fitted(fractional(weeks, on_log), logs)))
    families = (
        ChartModel("log-polynomial", (1.0, 2.0, 3.0)),
        ChartModel("fractional polynomial of the logarithm", on_log, chosen_powers=TERMS),
        ChartModel("fractional polynomial, normal", on_raw, log_mean=False, skewness=1.0, chosen_powers=TERMS),
        ChartModel("LMS", on_log, skewness=None, chosen_powers=TERMS),
    )
    return [replace(family, spread_powers=powers) for family in families for powers in SPREADS]


def best_powers(weeks: Floats, values: Floats, weights: Floats) -> tuple[float, ...]:
    """The powers of least weighted squares; `weights` multiply the residuals."""

    def remaining(powers: tuple[float, ...]) -> float:
        design = fractional(weeks, powers) * weights[:, None]
        return float(np.sum((values * weights - _fitted(design, values * weights)) ** 2))

    return min(combinations_with_replacement(POWERS, TERMS), key=remaining)


def _fitted(design: Floats, values: Floats) -> Floats:
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    return design @ solution


@dataclass(frozen=True)
class Curves:
    """M, S and L at some ages."""

    median: Floats
    spread: Floats
    skewness: float

    def at_z(self, z: Floats) -> Floats:
        """Values at z-scores; 0 where the distribution ends there."""
        if abs(self.skewness) < 1e-6:
            return self.median * np.exp(self.spread * z)
        inside = np.maximum(1 + self.skewness * self.spread * z, 0.0)
        return self.median * inside ** (1 / self.skewness)

    def z(self, values: Floats) -> Floats:
        """z-scores of values."""
        ratio = np.log(values / self.median)
        return _box_cox(ratio, self.skewness) / self.spread

    def with_error(self, error_sd: Floats | float) -> Curves:
        """The curves of values that are measured with an error of this SD of their logarithm."""
        return replace(self, spread=np.hypot(self.spread, error_sd))


def curves_of(model: ChartModel, params: Floats, weeks: Floats) -> Curves:
    """M, S and L of a model with its coefficients: those of M, of ln S, and L where it is estimated."""
    mean, spread, skewness = _split(model, params)
    eta = fractional(weeks, model.mean_powers) @ mean
    median = np.exp(eta) if model.log_mean else np.maximum(eta, SMALLEST)
    log_spread = np.clip(fractional(weeks, model.spread_powers) @ spread, *LOG_SPREADS)
    return Curves(median, np.exp(log_spread), skewness)


class Likelihood(GenericLikelihoodModel):
    """The likelihood of values at ages for statsmodels, in coefficients of orthonormal columns."""

    def __init__(self, model: ChartModel, weeks: Floats, values: Floats, error_sd: Floats) -> None:
        super().__init__(values)
        self.chart_model, self.values, self.log_values = model, values, np.log(values)
        self.error_variance = error_sd**2
        (self.mean, self.mean_root), (self.spread, self.spread_root) = (
            np.linalg.qr(fractional(weeks, powers) / math.sqrt(len(values)))
            for powers in (model.mean_powers, model.spread_powers)
        )
        self.mean, self.spread = (columns * math.sqrt(len(values)) for columns in (self.mean, self.spread))

    def start(self) -> Floats:
        """Least squares for M, the spread about it for S."""
        target = self.log_values if self.chart_model.log_mean else self.values
        weight = np.ones_like(target) if self.chart_model.log_mean else 1 / self.values
        first, *_ = np.linalg.lstsq(self.mean * weight[:, None], target * weight, rcond=None)
        eta = self.mean @ first
        ratio = self.log_values - (eta if self.chart_model.log_mean else np.log(np.maximum(eta, SMALLEST)))
        variance = float(ratio.var())
        spread = math.sqrt(max(variance - float(self.error_variance.mean()), 0.05 * variance))
        second = np.zeros(self.spread.shape[1])
        second[0] = math.log(spread) / self.spread[0, 0]
        return np.concatenate([first, second, [] if self.chart_model.skewness is not None else [0.0]])

    def original(self, params: Floats) -> Floats:
        """Coefficients of the powers themselves, as `curves_of` takes them."""
        mean, spread, _ = _split(self.chart_model, params)
        raw = np.linalg.solve(self.mean_root, mean), np.linalg.solve(self.spread_root, spread)
        return np.concatenate([*raw, params[len(mean) + len(spread) :]])

    def loglikeobs(self, params: Floats) -> Floats:
        """Log density of each value."""
        with np.errstate(all="ignore"):
            ratio, total, skewness, *_ = self._parts(params)
            z = _box_cox(ratio, skewness) / total
            density = skewness * ratio - self.log_values - np.log(total) - z**2 / 2 - HALF_LOG_2PI
        return np.where(np.isfinite(density), density, IMPOSSIBLE)

    def score_obs(self, params: Floats, **_: object) -> Floats:
        """Its gradient, (values, parameters)."""
        by_mean, by_spread, by_skewness = self._slopes(params)
        return np.hstack([by_mean[:, None] * self.mean, by_spread[:, None] * self.spread, *by_skewness])

    def score(self, params: Floats, **_: object) -> Floats:
        """Gradient of the log likelihood."""
        by_mean, by_spread, by_skewness = self._slopes(params)
        last = [column.sum(0) for column in by_skewness]
        return np.concatenate([by_mean @ self.mean, by_spread @ self.spread, *last])

    def hessian(self, params: Floats) -> Floats:
        """By differences of the gradient."""
        raw = approx_fprime(params, self.score, centered=True)
        return (raw + raw.T) / 2

    def _slopes(self, params: Floats) -> tuple[Floats, Floats, list[Floats]]:
        """Gradient of each log density with respect to M's predictor, ln S, and L where it is estimated."""
        with np.errstate(all="ignore"):
            ratio, total, skewness, median, own_share = self._parts(params)
            z = _box_cox(ratio, skewness) / total
            by_mean = z * np.exp(skewness * ratio) / total - skewness
            if not self.chart_model.log_mean:
                by_mean = by_mean / median
            slopes = by_mean, (z**2 - 1) * own_share
            last = []
            if self.chart_model.skewness is None:
                last = [np.nan_to_num(ratio - z * _box_cox_slope(ratio, skewness) / total)[:, None]]
        return np.nan_to_num(slopes[0]), np.nan_to_num(slopes[1]), last

    def _parts(self, params: Floats) -> tuple[Floats, Floats, float, Floats, Floats]:
        """ln(value / M), total spread, L, M, and the share of the subjects' own in the variance."""
        mean, spread, skewness = _split(self.chart_model, params)
        eta = self.mean @ mean
        log_median = eta if self.chart_model.log_mean else np.log(np.maximum(eta, SMALLEST))
        variance = np.exp(2 * np.clip(self.spread @ spread, *LOG_SPREADS))
        total = variance + self.error_variance
        return self.log_values - log_median, np.sqrt(total), skewness, eta, variance / total


def _split(model: ChartModel, params: Floats) -> tuple[Floats, Floats, float]:
    first = 1 + len(model.mean_powers)
    second = first + 1 + len(model.spread_powers)
    skewness = float(params[second]) if model.skewness is None else model.skewness
    return params[:first], params[first:second], skewness


def _box_cox(ratio: Floats, skewness: float) -> Floats:
    """(exp(L ratio) - 1) / L."""
    return np.expm1(skewness * ratio) / skewness if abs(skewness) > 1e-6 else ratio + skewness * ratio**2 / 2


def _box_cox_slope(ratio: Floats, skewness: float) -> Floats:
    """Its derivative with respect to L."""
    if abs(skewness) < 1e-3:
        return ratio**2 / 2 + skewness * ratio**3 / 3
    return (ratio * np.exp(skewness * ratio) - np.expm1(skewness * ratio) / skewness) / skewness
