"""A window's history as a time series: its trend, its season, and what is odd about now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from exporter.stats import changepoint
from exporter.stats.decomposition import DAY, WEEK, Hours, day_ahead_errors, decompose
from exporter.stats.slope import slope

HistoryState = Literal["too_short", "gaps", "daily", "weekly"]
HISTORY_STATES: tuple[HistoryState, ...] = get_args(HistoryState)

HOUR_SECONDS = 3_600.0
LONGEST = 35 * DAY
"""Hours of history looked at."""

_DAILY = 4 * DAY
_WEEKLY = 22 * DAY
"""Hours that tell a season, and leave days enough to see how well it foretells."""
_TRIALS = 7
"""Most days foretold to learn the error."""
_COURSE = 2 * WEEK
"""Hours over which trend and step are sought."""
_LEAST_KNOWN = 2 / 3
"""Share of the hours below which gaps rule out a judgement."""
_BAND = 3.0
"""Robust deviations between what is expected and either end of its band."""
_DEVIATION = 1.4826
"""Of a normal distribution, in median absolute deviations."""
_FLOOR = 1e-4
"""Deviation of a cosine similarity below which nothing is worth a word."""
_MOST_DECADES = 300.0


@dataclass(frozen=True, slots=True)
class History:
    """What the past says of a window's cosine similarity.

    Attributes
    ----------
    state : HistoryState
        Which seasons are known, or why none is. All else is None then.
    expected, lower, upper : float or None
        What yesterday foretold for the last hour, and its band of 3 robust deviations.
    anomaly : float or None
        How far the last hour is from it, in robust deviations; None without vectors.
    slope_per_day : float or None
        Change per day over the last two weeks, season taken out; from a week of history on.
    trend_score : float or None
        Decades of surprise of that slope: minus log10 of its p-value.
    changed_at : float or None
        When the level stepped, within the last two weeks, in seconds since the epoch; None if it
        did not.
    """

    state: HistoryState
    expected: float | None = None
    lower: float | None = None
    upper: float | None = None
    anomaly: float | None = None
    slope_per_day: float | None = None
    trend_score: float | None = None
    changed_at: float | None = None


def judge(times: NDArray[np.float64], values: NDArray[np.float64], now: float) -> History:
    """Judge irregular values, shape (n,), recorded at these times, in seconds, up to now."""
    hours = hourly(times, values, now)
    if len(hours) < _DAILY:
        return History("too_short")
    if np.isfinite(hours).mean() < _LEAST_KNOWN:
        return History("gaps")
    weekly = len(hours) >= _WEEKLY
    # Today is judged by what was known yesterday: an oddity must not explain itself.
    season = decompose(hours[:-DAY], weekly)
    days = min(_TRIALS, len(hours) // DAY - (2 * WEEK // DAY + 1 if weekly else 2))
    errors = day_ahead_errors(hours, weekly, days)
    if not np.isfinite(errors).any():
        return History("gaps")
    deviation = max(_DEVIATION * float(np.nanmedian(np.abs(errors))), _FLOOR)
    expected = float(season.next_day[-1])
    anomaly = float(errors[-1]) / deviation
    return History(
        "weekly" if weekly else "daily",
        expected=expected,
        lower=expected - _BAND * deviation,
        upper=expected + _BAND * deviation,
        anomaly=anomaly if math.isfinite(anomaly) else None,
        **_course(hours - season.repeated, now),
    )


def hourly(times: NDArray[np.float64], values: NDArray[np.float64], now: float) -> Hours:
    """Average values by hours that end now, oldest first; NaN for an hour without any.

    Parameters
    ----------
    times, values : ndarray of float64, shape (n,)
        Seconds since the epoch, in any order, and what was recorded then.
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


def _course(level: Hours, now: float) -> dict[str, float | None]:
    """Tell where a series without its season goes; a week takes weekdays for no trend."""
    if len(level) < WEEK:
        return {}
    # To the precision of float32: what lies below is no change.
    recent = np.round(level[-_COURSE:], 7)
    trend, step = slope(recent), changepoint.step(recent, DAY)
    return {
        "slope_per_day": trend.per_step * DAY,
        "trend_score": min(-math.log10(max(trend.p_value, 10**-_MOST_DECADES)), _MOST_DECADES),
        "changed_at": None if step is None else now - (len(recent) - step) * HOUR_SECONDS,
    }
