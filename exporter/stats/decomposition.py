"""Season of hourly values, and the errors of forecasts one day ahead."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DAY = 24
WEEK = 7 * DAY

_TREND_PERIODS = 1.5
"""Span of the trend, in periods: the least that leaves the season its variation."""
_ROBUST_ITERATIONS = 3
_LEAST_WEIGHT = 1e-6
_ROUNDING = 1e-6
"""Residuals that are this small beside the largest one are rounding."""

Hours = NDArray[np.float64]


class Season(NamedTuple):
    """Seasonal part of a series of n hours, and the level of its last day.

    Attributes
    ----------
    repeated : ndarray, shape (n + 24,)
        Seasonal part, continued for one day.
    level : float
        Median of the last 24 values without their seasonal part.
    """

    repeated: Hours
    level: float

    @property
    def next_day(self) -> Hours:
        """Forecast of the 24 hours after the series."""
        return self.level + self.repeated[-DAY:]


def decompose(values: Hours, weekly: bool) -> Season:
    """Decompose hourly values, shape (n,), by robust STL, or by MSTL with a day and a week.

    The seasonal part is periodic: an average over all periods, in which outliers weigh little. One
    that may change from period to period would fit everything and predict nothing. Gaps (NaN) are
    filled with the median of the same hour of the day.

    The values must span two periods at least.

    Source: Cleveland et al. (1990), with n_i = 1, n_o = 3 and an infinite n_s; Bandara, Hyndman,
    Bergmeir (2021).
    """
    rest = _filled(values)
    cycles = {period: np.zeros(period) for period in ((DAY, WEEK) if weekly else (DAY,))}
    for _ in cycles:
        for period, cycle in cycles.items():
            rest += np.resize(cycle, len(rest))
            cycles[period] = _cycle(rest, period)
            rest -= np.resize(cycles[period], len(rest))
    repeated = sum(np.resize(cycle, len(values) + DAY) for cycle in cycles.values())
    # The end of the fitted trend depends on the last few hours; the median of a day does not.
    return Season(np.asarray(repeated), float(np.median(rest[-DAY:])))


def day_ahead_errors(values: Hours, weekly: bool, days: int) -> Hours:
    """Return the errors of one-day-ahead forecasts of the last days, shape (24 * days,).

    An error is the value minus its forecast; NaN where the value is missing. Each day is forecast
    from the values before it only. The oldest day comes first.
    """
    errors = []
    for back in range(days, 0, -1):
        known = len(values) - DAY * back
        season = decompose(values[:known], weekly)
        errors.append(values[known : known + DAY] - season.next_day)
    return np.concatenate(errors)


def _filled(values: Hours) -> Hours:
    """Fill gaps with the median of the same hour of other days, or else of all hours."""
    by_hour = _periods(values, DAY)
    usual = np.full(DAY, np.nanmedian(values))
    seen = np.isfinite(by_hour).any(axis=0)
    usual[seen] = np.nanmedian(by_hour[:, seen], axis=0)
    return np.where(np.isfinite(by_hour), by_hour, usual).ravel()[: len(values)]


def _periods(values: Hours, period: int) -> Hours:
    """Return one row a period; the end of the last may be missing (NaN)."""
    rows = np.full((-(-len(values) // period), period), np.nan)
    rows.ravel()[: len(values)] = values
    return rows


def _cycle(values: Hours, period: int) -> Hours:
    """Return the mean period of values without their trend, shape (period,), by robust STL.

    The low-pass filter of STL keeps the trend out of the season. Averaged over its period, a
    periodic season is constant, so here the filter subtracts the mean. The first season is one of
    medians, not of means: outliers at the same hour of many days would hide in a mean.
    """
    phase = np.arange(len(values)) % period
    cycle = np.nanmedian(_periods(values, period), axis=0)
    weights = np.ones_like(values)
    for _ in range(_ROBUST_ITERATIONS):
        without = values - (cycle - cycle.mean())[phase]
        trend = _loess(without, weights, _TREND_PERIODS * period)
        weights = _bisquare(without - trend)
        cycle = np.bincount(phase, weights * (values - trend)) / np.bincount(phase, weights)
    mean: Hours = cycle - cycle.mean()
    return mean


def _bisquare(residuals: Hours) -> Hours:
    """Return the weight of each residual: 1 for none, almost 0 for six medians or more."""
    sizes = np.abs(residuals)
    # Where nearly all residuals are 0 but for rounding, none of these may look like an outlier.
    most = max(6 * float(np.median(sizes)), _ROUNDING * float(sizes.max()))
    ratios = np.divide(sizes, most, out=np.zeros_like(sizes), where=most > 0)
    # Never 0: an hour of the day may have nothing but outliers.
    weights: Hours = np.maximum((1 - np.minimum(ratios, 1) ** 2) ** 2, _LEAST_WEIGHT)
    return weights


def _loess(values: Hours, weights: Hours, span: float) -> Hours:
    """Smooth by a straight line around each hour, fitted to the nearest values.

    The line is fitted at every tenth of the span only. Between, the smooth part is interpolated.
    """
    n = len(values)
    width = min(math.ceil(span) | 1, n)
    at = np.unique(np.append(np.arange(0, n, math.ceil(width / 10)), n - 1))[:, None]
    near = np.clip(at - width // 2, 0, n - width) + np.arange(width)
    distance = np.abs(near - at)
    furthest = distance.max(axis=1, keepdims=True)
    kernel = weights[near] * (1 - (distance / furthest) ** 3) ** 3
    kernel /= kernel.sum(axis=1, keepdims=True)
    centre = (kernel * near).sum(axis=1, keepdims=True)
    offset = near - centre
    slope = (kernel * offset * values[near]).sum(axis=1) / (kernel * offset**2).sum(axis=1)
    fitted = (kernel * values[near]).sum(axis=1) + slope * (at - centre)[:, 0]
    smooth: Hours = np.interp(np.arange(n), at[:, 0], fitted)
    return smooth
