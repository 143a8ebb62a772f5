"""Decomposition: the season is found, and forecasts the next day."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("statsmodels")

from exporter.stats.decomposition import DAY, WEEK, day_ahead_errors, decompose

Hours = NDArray[np.float64]


def daily(hours: int) -> Hours:
    return 5 + np.sin(2 * np.pi * np.arange(hours) / DAY)


def weekly(hours: int) -> Hours:
    weekend: Hours = np.where(np.arange(hours) % WEEK >= 5 * DAY, -2.0, 0.0)
    return daily(hours) + weekend


def noise(hours: int) -> Hours:
    return 0.1 * np.random.default_rng(0).normal(size=hours)


def test_a_daily_wave_forecasts_the_next_day() -> None:
    values = daily(11 * DAY)
    known = values[: 10 * DAY] + noise(10 * DAY)
    season = decompose(known, weekly=False)
    assert len(season.repeated) == len(values)
    np.testing.assert_allclose(season.next_day, values[10 * DAY :], atol=0.2)


@pytest.mark.parametrize("days", [25, 27])
def test_a_weekly_season_forecasts_weekends(days: int) -> None:
    values = weekly((days + 1) * DAY)
    known = values[: days * DAY] + noise(days * DAY)
    season = decompose(known, weekly=True)
    np.testing.assert_allclose(season.next_day, values[days * DAY :], atol=0.5)


def test_gaps_and_outliers_do_not_change_the_season() -> None:
    values = daily(11 * DAY)
    known = values[: 10 * DAY] + noise(10 * DAY)
    known[30:60] = np.nan
    known[100:105] = 50
    known[-3:] = np.nan
    season = decompose(known, weekly=False)
    np.testing.assert_allclose(season.next_day, values[10 * DAY :], atol=0.3)


def test_errors_are_those_of_forecasts_a_day_ahead() -> None:
    values = daily(10 * DAY) + noise(10 * DAY)
    values[-5:] += 3
    errors = day_ahead_errors(values, weekly=False, days=3)
    assert errors.shape == (3 * DAY,)
    np.testing.assert_allclose(errors[-5:], 3, atol=0.5)
    assert np.abs(errors[:-5]).max() < 0.6
    expected = decompose(values[: 9 * DAY], weekly=False).next_day
    np.testing.assert_array_equal(errors[-DAY:], values[-DAY:] - expected)


def test_a_missing_hour_has_no_error() -> None:
    values = daily(10 * DAY)
    values[-2] = np.nan
    errors = day_ahead_errors(values, weekly=False, days=1)
    assert np.flatnonzero(np.isnan(errors)).tolist() == [DAY - 2]
