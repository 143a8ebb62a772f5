"""Forecast: what a history tells, and how rarely it alarms without reason."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.monitor.forecast import HOUR_SECONDS, Forecast, hourly, judge
from exporter.monitor.local_time import to_local
from exporter.stats.decomposition import DAY, day_ahead_errors, decompose
from ingest.runtime.time_zone import UTC

NOW = 1_700_000_000.0
STEP = 300.0
BERLIN = ZoneInfo("Europe/Berlin")
Floats = NDArray[np.float64]


def recorded(days: float, seed: int = 0) -> tuple[Floats, Floats]:
    """A row every five minutes up to now: a wave of a day, and noise."""
    times = np.arange(NOW - days * 86_400, NOW, STEP) + STEP / 2
    noise = np.random.default_rng(seed).normal(scale=0.01, size=len(times))
    return times, 0.6 + 0.05 * np.sin(2 * np.pi * times / 86_400) + noise


@pytest.mark.parametrize(
    ("days", "state"), [(0, "too_short"), (3.9, "too_short"), (4, "daily"), (22, "weekly")]
)
def test_the_state_says_which_seasons_are_known(days: float, state: str) -> None:
    assert judge(*recorded(days), NOW).state == state


def test_without_a_judgement_all_numbers_are_missing() -> None:
    assert judge(*recorded(2), NOW) == Forecast("too_short")


def test_gaps_of_a_third_rule_out_a_judgement() -> None:
    times, values = recorded(8)
    asleep = (times > NOW - 6 * 86_400) & (times < NOW - 2.5 * 86_400)
    assert judge(times[~asleep], values[~asleep], NOW) == Forecast("gaps")
    short = (times > NOW - 6 * 86_400) & (times < NOW - 5 * 86_400)
    assert judge(times[~short], values[~short], NOW).state == "daily"


def test_eight_days_without_a_value_rule_out_a_judgement() -> None:
    times, values = recorded(30)
    before = times < NOW - 8.1 * 86_400
    assert judge(times[before], values[before], NOW) == Forecast("gaps")


@pytest.mark.parametrize("days", [5, 10, 30])
def test_an_ordinary_hour_lies_within_the_band(days: int) -> None:
    times, values = recorded(days)
    found = judge(times, values, NOW)
    assert found.lower is not None
    assert found.upper is not None
    assert found.anomaly is not None
    assert found.lower < values[-12:].mean() < found.upper
    assert abs(found.anomaly) < 3


@pytest.mark.parametrize("days", [5, 10, 30])
def test_an_unusual_hour_is_an_anomaly_with_its_sign(days: int) -> None:
    times, values = recorded(days)
    values[-12:] -= 0.06
    anomaly = judge(times, values, NOW).anomaly
    assert anomaly is not None
    assert anomaly < -5


def test_an_anomaly_does_not_explain_itself_for_a_day() -> None:
    times, values = recorded(10)
    values[times > NOW - 20 * 3_600] -= 0.06
    anomaly = judge(times, values, NOW).anomaly
    assert anomaly is not None
    assert anomaly < -5


@pytest.mark.parametrize("days", [4, 5, 10, 30])
def test_an_anomaly_does_not_widen_its_own_band(days: int) -> None:
    times, values = recorded(days)
    usual = judge(times, values, NOW)
    values[times > NOW - 86_400] -= 0.06
    unusual = judge(times, values, NOW)
    assert (unusual.expected, unusual.lower, unusual.upper) == (
        usual.expected,
        usual.lower,
        usual.upper,
    )
    assert unusual.anomaly is not None
    assert unusual.anomaly < -5


def asleep(times: Floats, hours: float) -> NDArray[np.bool_]:
    """Return which times are within six hours of every day: those that end some hours after now."""
    return (NOW + hours * 3_600 - times) % 86_400 < 6 * 3_600


@pytest.mark.parametrize(("ends", "is_unusual"), [(3, False), (12, True)])
def test_hours_of_few_vectors_have_a_wider_band(ends: float, is_unusual: bool) -> None:
    times, values = recorded(12)
    at_night = asleep(times, ends)
    hours = ((NOW - times) // 3_600).astype(int)
    noise = np.random.default_rng(1).normal(scale=0.03, size=hours.max() + 1)[hours]
    values[at_night] += noise[at_night]
    values[times > NOW - 3_600] = 0.6 + 0.04 + 0.05 * np.sin(2 * np.pi * NOW / 86_400)
    anomaly = judge(times, values, NOW).anomaly
    assert anomaly is not None
    assert (anomaly > 5) == is_unusual


def test_a_few_small_errors_do_not_make_the_band_less_than_half() -> None:
    times, values = recorded(10)
    quiet = asleep(times, 3)
    values[quiet] = 0.6 + 0.05 * np.sin(2 * np.pi * times[quiet] / 86_400)
    found = judge(times, values, NOW)
    hours = hourly(times, values, NOW)
    errors = np.abs(day_ahead_errors(hours[:-DAY], weekly=False, days=7))
    assert found.upper is not None
    assert found.expected is not None
    assert found.upper - found.expected == pytest.approx(3 * 1.4826 * np.median(errors) / 2)


@pytest.mark.parametrize(("length", "days"), [(10, 7), (6, 3), (5, 2)])
def test_the_band_is_that_of_errors_on_earlier_days_near_the_hour(length: int, days: int) -> None:
    times, values = recorded(length, seed=length)
    hours = hourly(times, values, NOW)
    found = judge(times, values, NOW)
    errors = np.abs(day_ahead_errors(hours[:-DAY], weekly=False, days=days))
    near = errors.reshape(days, DAY)[:, [-3, -2, -1, 0, 1]]
    deviation = 1.4826 * np.median(near if near.size >= 15 else errors)
    expected = decompose(hours[:-DAY], weekly=False).next_day[-1]
    assert (found.expected, found.lower, found.upper) == pytest.approx(
        (expected, expected - 3 * deviation, expected + 3 * deviation)
    )
    assert found.anomaly == pytest.approx((hours[-1] - expected) / deviation)


@pytest.mark.parametrize("changes_at", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("hours", range(2, 34, 4))
def test_a_clock_change_is_no_anomaly_in_the_zone_of_the_users(changes_at: str, hours: int) -> None:
    now = datetime.fromisoformat(changes_at).replace(tzinfo=UTC).timestamp() + 3_600 * hours
    times = np.arange(now - 10 * 86_400, now, STEP) + STEP / 2
    noise = np.random.default_rng(hours).normal(scale=0.01, size=len(times))
    values = 0.6 + 0.2 * np.sin(2 * np.pi * to_local(times, BERLIN) / 86_400) + noise
    found = judge(times, values, now, BERLIN)
    assert found.state == "daily"
    assert found.anomaly is not None
    assert abs(found.anomaly) < 4.5


def test_without_their_zone_a_clock_change_is_an_anomaly() -> None:
    now = datetime(2026, 3, 29, 10, tzinfo=UTC).timestamp()
    times = np.arange(now - 10 * 86_400, now, STEP) + STEP / 2
    noise = np.random.default_rng(0).normal(scale=0.01, size=len(times))
    values = 0.6 + 0.2 * np.sin(2 * np.pi * to_local(times, BERLIN) / 86_400) + noise
    anomaly = judge(times, values, now).anomaly
    assert anomaly is not None
    assert abs(anomaly) > 5


def test_the_time_of_a_step_is_no_local_time() -> None:
    times, values = recorded(14)
    stepped = NOW - 5 * 86_400
    values[times > stepped] -= 0.2
    found = judge(times, values, NOW, ZoneInfo("Asia/Tokyo"))
    assert found.changed_at == pytest.approx(stepped, abs=2 * HOUR_SECONDS)


def test_a_usual_weekend_is_no_anomaly_once_weeks_are_known() -> None:
    for hour in range(0, 168, 12):
        now = NOW + hour * 3_600
        times = np.arange(now - 30 * 86_400, now, STEP) + STEP / 2
        noise = np.random.default_rng(hour).normal(scale=0.01, size=len(times))
        values = 0.6 + noise - 0.03 * (times // 86_400 % 7 >= 5)
        found = judge(times, values, now)
        assert found.anomaly is not None
        assert abs(found.anomaly) < 4.5


def test_a_silent_last_hour_has_an_expectation_and_no_anomaly() -> None:
    times, values = recorded(8)
    silent = times > NOW - HOUR_SECONDS
    found = judge(times[~silent], values[~silent], NOW)
    assert found.expected is not None
    assert found.anomaly is None


def test_a_steady_fall_is_a_trend() -> None:
    times, values = recorded(14)
    found = judge(times, values - 0.01 * (times - times[0]) / 86_400, NOW)
    assert found.slope_per_day == pytest.approx(-0.01, abs=0.003)
    assert found.trend_score is not None
    assert found.trend_score > 3


def test_noise_is_no_trend() -> None:
    for seed in range(5):
        score = judge(*recorded(14, seed), NOW).trend_score
        assert score is not None
        assert score < 2.7


def test_less_than_a_week_has_no_trend() -> None:
    found = judge(*recorded(6.9), NOW)
    assert (found.slope_per_day, found.trend_score, found.changed_at) == (None, None, None)


def test_two_weeks_of_gaps_for_the_most_part_have_no_trend() -> None:
    times, values = recorded(30)
    silent = (times > NOW - 13 * 86_400) & (times < NOW - 4 * 86_400)
    found = judge(times[~silent], values[~silent], NOW)
    assert found.expected is not None
    assert (found.slope_per_day, found.trend_score, found.changed_at) == (None, None, None)


def test_a_step_is_dated() -> None:
    times, values = recorded(14)
    began = NOW - 5 * 86_400
    found = judge(times, values - 0.1 * (times > began), NOW)
    assert found.changed_at == pytest.approx(began, abs=2 * HOUR_SECONDS)
    assert judge(times, values, NOW).changed_at is None


def test_a_constant_history_has_neither_anomaly_nor_trend() -> None:
    times, _ = recorded(14)
    found = judge(times, np.full(len(times), 0.5), NOW)
    assert found.anomaly == pytest.approx(0, abs=1e-6)
    assert found.trend_score == pytest.approx(0, abs=1e-3)


def test_irregular_rows_are_averaged_by_the_hour() -> None:
    times = NOW - np.array([10.0, 20.0, 3_000.0, 3_700.0, 11_000.0])
    values = np.array([1.0, 2.0, 6.0, 4.0, 8.0])
    np.testing.assert_array_equal(hourly(times, values, NOW), [8.0, np.nan, 4.0, 3.0])


def test_the_distant_past_and_the_future_are_ignored() -> None:
    times = NOW + np.array([-36 * 86_400.0, 60.0, -60.0])
    np.testing.assert_array_equal(hourly(times, np.arange(3.0), NOW), [2.0])
    assert hourly(np.empty(0), np.empty(0), NOW).shape == (0,)
