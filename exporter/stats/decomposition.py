"""Season of hourly values, and the errors of forecasts one day ahead."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.tsa.seasonal import MSTL, STL

DAY = 24
WEEK = 7 * DAY

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

    The seasonal part is periodic, that is, averaged over all periods. One that may change from
    period to period would fit everything and predict nothing. Gaps (NaN) are filled with the
    median of the same hour of the day.

    Source: Cleveland et al. (1990); Bandara, Hyndman, Bergmeir (2021).
    """
    filled = _filled(values)
    # A window much longer than the series, with degree 0, makes the season periodic. The jumps
    # interpolate smooth parts instead of fitting them at every hour, at a tenth of the cost.
    window = 2 * (len(values) // DAY) + 101
    # The outer iterations make it robust: each iteration reduces the weight of large residuals.
    common = {"seasonal_deg": 0, "low_pass_jump": 8}
    if not weekly:
        fit = STL(filled, period=DAY, seasonal=window, trend_jump=6, **common).fit(1, 3)
        repeated = np.concatenate([fit.seasonal, fit.seasonal[-DAY:]])
    else:
        options = {"inner_iter": 1, "outer_iter": 3, "seasonal_jump": 5, "trend_jump": 12}
        fit = MSTL(
            filled,
            periods=(DAY, WEEK),
            windows=(window, window),
            stl_kwargs=common | options,
        ).fit()
        day, week = fit.seasonal.T
        repeated = np.concatenate([day + week, day[-DAY:] + week[-WEEK : DAY - WEEK]])
    # The end of the fitted trend depends on the last few hours; the median of a day does not.
    return Season(repeated, float(np.median((filled - repeated[:-DAY])[-DAY:])))


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
    hours = np.full(-(-len(values) // DAY) * DAY, np.nan)
    hours[: len(values)] = values
    by_hour = hours.reshape(-1, DAY)
    usual = np.full(DAY, np.nanmedian(values))
    seen = np.isfinite(by_hour).any(axis=0)
    usual[seen] = np.nanmedian(by_hour[:, seen], axis=0)
    return np.where(np.isfinite(by_hour), by_hour, usual).ravel()[: len(values)]
