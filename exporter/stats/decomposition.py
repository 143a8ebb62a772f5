"""Trend and season of hourly values, and how well they tell the next day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.tsa.seasonal import MSTL, STL

DAY = 24
WEEK = 7 * DAY

Hours = NDArray[np.float64]


class Season(NamedTuple):
    """What repeats in a series, continued for a day, and the level of its last day."""

    repeated: Hours
    level: float

    @property
    def next_day(self) -> Hours:
        """The values to expect of the 24 hours after the series."""
        return self.level + self.repeated[-DAY:]


def decompose(values: Hours, weekly: bool) -> Season:
    """Take hourly values, shape (n,), apart by robust STL, or MSTL with a day and a week.

    The season is periodic: averaged over all its periods, for one that may change from period
    to period explains everything and foretells nothing. Gaps (NaN) are filled with what is
    usual at that hour of the day.

    Source: Cleveland et al. (1990); Bandara, Hyndman, Bergmeir (2021).
    """
    filled = _filled(values)
    # A window much longer than the series, with degree 0, makes the season periodic. The jumps
    # interpolate what hardly differs from one hour to the next, at a tenth of the cost.
    window = 2 * (len(values) // DAY) + 101
    robust = {"robust": True, "seasonal_deg": 0, "low_pass_jump": 8}
    if not weekly:
        fit = STL(filled, period=DAY, seasonal=window, trend_jump=6, **robust).fit(1, 3)
        repeated = np.concatenate([fit.seasonal, fit.seasonal[-DAY:]])
    else:
        options = {"inner_iter": 1, "outer_iter": 3, "seasonal_jump": 5, "trend_jump": 12}
        fit = MSTL(
            filled,
            periods=(DAY, WEEK),
            windows=(window, window),
            stl_kwargs=robust | options,
        ).fit()
        day, week = fit.seasonal.T
        repeated = np.concatenate([day + week, day[-DAY:] + week[-WEEK : DAY - WEEK]])
    # The trend's own end hangs on its last few hours; a day's median does not.
    return Season(repeated, float(np.median((filled - repeated[:-DAY])[-DAY:])))


def day_ahead_errors(values: Hours, weekly: bool, days: int) -> Hours:
    """Say of each of the last days, shape (24 * days,), how wrong the day before was about it.

    Each day is foretold from what came before it only, oldest first; NaN where a value is
    missing.
    """
    errors = []
    for back in range(days, 0, -1):
        known = len(values) - DAY * back
        season = decompose(values[:known], weekly)
        errors.append(values[known : known + DAY] - season.next_day)
    return np.concatenate(errors)


def _filled(values: Hours) -> Hours:
    """Fill gaps with the median of the same hour of other days, or of all hours."""
    hours = np.full(-(-len(values) // DAY) * DAY, np.nan)
    hours[: len(values)] = values
    by_hour = hours.reshape(-1, DAY)
    usual = np.full(DAY, np.nanmedian(values))
    seen = np.isfinite(by_hour).any(axis=0)
    usual[seen] = np.nanmedian(by_hour[:, seen], axis=0)
    return np.where(np.isfinite(by_hour), by_hour, usual).ravel()[: len(values)]
