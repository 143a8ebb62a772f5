"""The rule for timestamps."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ingest.runtime.timestamps import Unit, seconds, too_late

NOON = 1_782_907_200.0


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        int(NOON),
        "2026-07-01T12:00:00Z",
        "2026-07-01T14:00:00+02:00",
        "2026-07-01 12:00:00+00",
        "2026-07-01 12:00:00.000 UTC",
        "20260701T120000Z",
        datetime(2026, 7, 1, 12, tzinfo=UTC),
    ],
)
def test_a_moment_may_be_written_in_many_ways(value: object) -> None:
    assert seconds(value) == NOON


def test_fractions_are_kept_to_a_microsecond() -> None:
    assert seconds("2026-07-01T12:00:00.123456Z") == pytest.approx(NOON + 0.123456, abs=1e-6)
    assert seconds("2026-07-01T12:00:00.123456789Z") == pytest.approx(NOON + 0.123456, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    ["1782907200", " 1782907200.0 ", "1782907200.", "1.7829072e+09", "1.7829072e9", "1.7829072E+9"],
)
def test_a_number_may_be_a_text_as_in_csv_and_in_queries(text: str) -> None:
    assert seconds(text) == NOON
    with pytest.raises(ValueError, match="1782907200000 is out of range; it looks like millisec"):
        seconds("1782907200000")
    assert seconds("1782907200000", "ms") == NOON
    assert seconds("20260701", zone=UTC) == NOON - 43_200


@pytest.mark.parametrize(("unit", "ticks"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_another_unit_is_named_and_can_be_declared(unit: Unit, ticks: float) -> None:
    name = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    with pytest.raises(ValueError, match=f"is out of range; it looks like {name}$"):
        seconds(NOON * ticks)
    assert seconds(NOON * ticks, unit) == NOON


def test_a_time_without_a_zone_needs_a_declared_one() -> None:
    for value in ("2026-07-01 12:00:00", datetime(2026, 7, 1, 12)):
        with pytest.raises(ValueError, match="names no time zone; an offset or Z is needed"):
            seconds(value)
        assert seconds(value, zone=ZoneInfo("Europe/Berlin")) == NOON - 7_200


@pytest.mark.parametrize(
    "value", [-1, 1e11, 10**400, "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]
)
def test_times_are_from_1970_on_and_of_this_age(value: object) -> None:
    with pytest.raises(ValueError, match="is out of range"):
        seconds(value)


def test_a_time_may_be_a_day_ahead_of_the_clock() -> None:
    assert too_late(NOON + 86_400, NOON) is None
    told = too_late(NOON + 3 * 86_400, NOON)
    assert told is not None
    assert told.startswith("is 3.0 days ahead of this server's clock, 2026-07-01T12:00:00Z, and")


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2026-W27-3T12:00:00Z",
        "1e3",
        "1e07",
        "\uff11\uff17\uff18\uff12\uff19\uff10\uff17\uff12\uff10\uff10",
        "\u0661\u0667\u0668\u0662\u0669\u0660\u0667\u0662\u0660\u0660",
        "",
        "9" * 5_000,
        None,
        True,
        [1],
        float("inf"),
        float("nan"),
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is"):
        seconds(value)
