"""Forecast of a window's similarity: its season and trend, and whether the last hour is unusual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from exporter.monitor.local_time import from_local, to_local
from exporter.monitor.states import ForecastState
from exporter.stats import changepoint
from exporter.stats.decomposition import DAY, WEEK, Hours, day_ahead_errors, decompose
from exporter.stats.slope import slope
from ingest.runtime import time_zone

HOUR_SECONDS = 3_600.0
LONGEST = 35 * DAY
"""Hours of history used, at most."""

_DAILY = 4 * DAY
"""Minimum hours of history for a daily season: two days to fit, one for the error, one to judge."""
_WEEKLY = 22 * DAY
"""Minimum hours of history for a weekly season."""
_FIT_DAILY = 2
"""Minimum days that a daily season is fitted to."""
_FIT_WEEKLY = 2 * WEEK // DAY + 1
"""Minimum days that a weekly season is fitted to."""
_TRIALS = 7
"""Days whose forecast errors give the deviation, at most."""
_COURSE = 2 * WEEK
"""Hours in which a trend or a step is searched for."""
_LEAST_KNOWN = 2 / 3
"""Share of hours with a value below which there is no judgement."""
_BAND = 3.0
"""Half-width of the band, in robust deviations."""
_DEVIATION = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""
_NEAR = 2
"""Hours of the day before and after the judged one whose errors give the deviation: with fewer
vectors at night, values vary more."""
_FEWEST_NEAR = 15
"""Errors of these hours that give a deviation, at least."""
_LEAST_NEAR = 0.5
"""Deviation near an hour, as a share of that of all hours, at least: a few errors may be small by
chance."""
_FLOOR = 1e-4
"""Minimum deviation of a cosine similarity: smaller errors do not matter."""
_MOST_DECADES = 300.0
"""Largest trend score: a double cannot hold much smaller p-values."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Judgement of a window's cosine similarity by its own past.

    Attributes
    ----------
    state : ForecastState
        The seasons that are known, or the reason why none is. In that case, all other fields are
        None.
    expected, lower, upper : float or None
        Forecast of the last hour, made a day before, and its band of 3 robust deviations. The
        deviation is that of forecasts for earlier days, at about the same hour if there are enough.
    anomaly : float or None
        Last hour minus its forecast, in robust deviations; None for an hour without vectors.
    slope_per_day : float or None
        Change per day over the last two weeks, without the season; None below a week of history.
    trend_score : float or None
        Minus log10 of the p-value of that slope.
    changed_at : float or None
        Time of a step in the level during the last two weeks, in seconds since the epoch; None
        without a step.
    """

    state: ForecastState
    expected: float | None = None
    lower: float | None = None
    upper: float | None = None
    anomaly: float | None = None
    slope_per_day: float | None = None
    trend_score: float | None = None
    changed_at: float | None = None


def judge(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    now: float,
    zone: ZoneInfo = time_zone.UTC,
) -> Forecast:
    """Judge irregular values up to now.

    Parameters
    ----------
    times, values : ndarray of float64, shape (n,)
        Seconds since the epoch, in any order, and the cosine similarities recorded then.
    now : float
        Seconds since the epoch.
    zone : ZoneInfo
        Time zone whose local time the seasons follow. An hour that its clock leaves out is a gap,
        one that it repeats is averaged.
    """
    local_now = float(to_local(np.array([now]), zone)[0])
    hours = hourly(to_local(times, zone), values, local_now)
    if len(hours) < _DAILY:
        return Forecast("too_short")
    if np.isfinite(hours).mean() < _LEAST_KNOWN:
        return Forecast("gaps")
    weekly = len(hours) >= _WEEKLY
    # The forecast and its band come from the days before the last one. Otherwise an anomaly would
    # move its own forecast and widen its own band.
    before = hours[:-DAY]
    season = decompose(before, weekly)
    days = min(_TRIALS, len(before) // DAY - (_FIT_WEEKLY if weekly else _FIT_DAILY))
    errors = day_ahead_errors(before, weekly, days)
    if not np.isfinite(errors).any():
        return Forecast("gaps")
    deviation = max(_DEVIATION * _usual_size(errors), _FLOOR)
    expected = float(season.next_day[-1])
    anomaly = (float(hours[-1]) - expected) / deviation
    return Forecast(
        "weekly" if weekly else "daily",
        expected=expected,
        lower=expected - _BAND * deviation,
        upper=expected + _BAND * deviation,
        anomaly=anomaly if math.isfinite(anomaly) else None,
        **_course(hours - season.repeated, local_now, zone),
    )


def _usual_size(errors: Hours) -> float:
    """Return the median size of forecast errors at about the hour of the day that the last has."""
    sizes = np.abs(errors)
    of_all = float(np.nanmedian(sizes))
    ages = np.arange(len(sizes))[::-1]
    near = sizes[((ages + _NEAR) % DAY <= 2 * _NEAR) & np.isfinite(sizes)]
    if len(near) < _FEWEST_NEAR:
        return of_all
    return max(float(np.median(near)), _LEAST_NEAR * of_all)


def hourly(times: NDArray[np.float64], values: NDArray[np.float64], now: float) -> Hours:
    """Average values by hours that end now, oldest first; NaN for an hour without values.

    Parameters
    ----------
    times, values : ndarray of float64, shape (n,)
        Seconds since the epoch, in any order, and the values recorded then.
    now : float
        Seconds since the epoch.

    Returns
    -------
    ndarray of float64, shape (hours,)
        From the first value on, at most `LONGEST`.
    """
    ages = ((now - times) // HOUR_SECONDS).astype(np.int64)
    recent = (ages >= 0) & (ages < LONGEST)
    if not recent.any():
        return np.empty(0)
    ages, values = ages[recent], values[recent]
    count = np.bincount(ages)
    total = np.bincount(ages, values)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[::-1]


def _course(level: Hours, local_now: float, zone: ZoneInfo) -> dict[str, float | None]:
    """Find trend and step of a series without its season, which ends now.

    Less than a week does not show whether a change is a trend or a difference of weekdays, and
    where most hours are gaps, neither does more.
    """
    # To the precision of float32: smaller changes are rounding errors.
    recent = np.round(level[-_COURSE:], 7)
    if len(level) < WEEK or np.isfinite(recent).mean() < _LEAST_KNOWN:
        return {}
    trend, step = slope(recent), changepoint.step(recent, DAY)
    changed_at = None
    if step is not None:
        changed_at = from_local(local_now - (len(recent) - step) * HOUR_SECONDS, zone)
    return {
        "slope_per_day": trend.per_step * DAY,
        "trend_score": min(-math.log10(max(trend.p_value, 10**-_MOST_DECADES)), _MOST_DECADES),
        "changed_at": changed_at,
    }
