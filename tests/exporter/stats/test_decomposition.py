"""Decomposition: the season is found, and forecasts the next day."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from statsmodels.tsa import seasonal

from exporter.stats.decomposition import DAY, WEEK, _filled, day_ahead_errors, decompose

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


@pytest.mark.parametrize(("days", "periods"), [(10, [DAY]), (21, [DAY]), (28, [DAY, WEEK])])
def test_the_season_is_that_of_statsmodels(days: int, periods: list[int]) -> None:
    # Its STL averages over all periods, too, if the window of the season is this long.
    options: dict[str, int] = {"seasonal_deg": 0, "inner_iter": 1, "outer_iter": 3}
    windows = [100_001] * len(periods)
    values = weekly(days * DAY) if WEEK in periods else daily(days * DAY)
    values += noise(days * DAY) + 0.01 * np.arange(days * DAY)
    values[50] += 5
    fit = seasonal.MSTL(values, periods=periods, windows=windows, stl_kwargs=options).fit()
    theirs = fit.seasonal.reshape(len(values), -1).sum(axis=1)
    ours = decompose(values, WEEK in periods).repeated[:-DAY]
    np.testing.assert_allclose(ours, theirs, atol=0.05)


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


@pytest.mark.parametrize(("days", "weekly_too"), [(10, False), (28, True)])
def test_the_season_repeats_exactly(days: int, weekly_too: bool) -> None:
    # Also if the amplitude grows: the season is the average over all periods.
    period = WEEK if weekly_too else DAY
    hours = np.arange(days * DAY)
    values = (1 + hours / len(hours)) * weekly(days * DAY) + noise(days * DAY)
    repeated = decompose(values, weekly_too).repeated
    periods = repeated[: len(repeated) // period * period].reshape(-1, period)
    assert np.ptp(periods, axis=0).max() < 0.02
    assert np.ptp(periods[0]) > 1.5


@pytest.mark.parametrize(
    ("length", "days", "weekly_too"), [(10, [1, 3, 5, 8], False), (28, [1, 3, 9, 15, 20], True)]
)
def test_outliers_at_the_same_hour_of_many_days_do_not_move_it(
    length: int, days: list[int], weekly_too: bool
) -> None:
    values = daily(length * DAY) + noise(length * DAY)
    values[[7 + DAY * day for day in days]] += 10
    forecast = decompose(values, weekly_too).next_day[7]
    assert forecast == pytest.approx(daily(8)[7], abs=0.3)


@pytest.mark.parametrize(("days", "weekly"), [(10, False), (21, True)])
@pytest.mark.parametrize("amplitude", [0.0, 0.05])
def test_an_outlier_among_values_without_noise_does_not_move_them(
    days: int, weekly: bool, amplitude: float
) -> None:
    hours = np.arange(days * DAY)
    exact = 0.9 + amplitude * np.sin(2 * np.pi * hours / DAY)
    values = exact.copy()
    values[5 * DAY + 7] = 0.4
    assert np.abs(decompose(values, weekly).next_day - exact[:DAY]).max() < 1e-5


@pytest.mark.parametrize("weekly_too", [False, True])
def test_the_level_is_that_of_the_last_day(weekly_too: bool) -> None:
    trend = 0.02 * np.arange(28 * DAY)
    season = decompose(daily(28 * DAY) + trend, weekly_too)
    assert season.level == pytest.approx(5 + trend[-DAY:].mean(), abs=0.05)
    assert season.repeated[:WEEK].mean() == pytest.approx(0, abs=0.02)


def test_errors_with_a_weekly_season_are_those_of_weekly_forecasts() -> None:
    values = weekly(27 * DAY) + noise(27 * DAY)
    errors = day_ahead_errors(values, weekly=True, days=2)
    for back in (2, 1):
        known = len(values) - back * DAY
        expected = decompose(values[:known], weekly=True).next_day
        found = errors[(2 - back) * DAY :][:DAY]
        np.testing.assert_array_equal(found, values[known : known + DAY] - expected)


def test_a_gap_takes_the_median_of_its_hour() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=5 * DAY + 7) + 10 * (np.arange(5 * DAY + 7) % DAY)
    known = values.copy()
    known[[3, DAY + 3, 2 * DAY + 10]] = np.nan
    # An hour that was never seen takes the median of all values.
    known[20::DAY] = np.nan
    filled = _filled(known)
    assert (
        filled[3]
        == filled[DAY + 3]
        == np.median(values[[2 * DAY + 3, 3 * DAY + 3, 4 * DAY + 3, 5 * DAY + 3]])
    )
    assert filled[2 * DAY + 10] == np.median(values[[10, DAY + 10, 3 * DAY + 10, 4 * DAY + 10]])
    assert (filled[20::DAY] == np.nanmedian(known)).all()
    seen = np.isfinite(known)
    np.testing.assert_array_equal(filled[seen], values[seen])
    assert len(filled) == len(values)
