"""The rule for timestamps."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from ingest.runtime.timestamps import Unit, seconds

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


@pytest.mark.parametrize("value", ["yesterday", "", None, True, [1], float("inf"), float("nan")])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is"):
        seconds(value)
