"""Local time: what the clock on the wall shows, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.monitor.local_time import from_local, to_local

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    """Seconds since the epoch of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("zone", "time", "shown"),
    [
        ("UTC", "2026-03-29T00:59:59.5", "2026-03-29T00:59:59.5"),
        ("Europe/Berlin", "2026-03-29T00:59:59.5", "2026-03-29T01:59:59.5"),
        ("Europe/Berlin", "2026-03-29T01:00:00", "2026-03-29T03:00:00"),
        ("Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T02:30:00"),
        ("Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T02:30:00"),
        ("America/New_York", "2026-01-01T00:00:00", "2025-12-31T19:00:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00", "2026-04-05T01:30:00"),
    ],
)
def test_local_time_is_what_the_clock_shows(zone: str, time: str, shown: str) -> None:
    assert to_local(np.array([at(time)]), ZoneInfo(zone)).tolist() == [at(shown)]


def test_no_times_are_no_local_times() -> None:
    assert to_local(np.empty(0), BERLIN).shape == (0,)


@given(st.lists(st.floats(at("1980-01-01"), at("2037-01-01")), max_size=20))
def test_many_times_are_each_converted_alone(times: list[float]) -> None:
    alone = [to_local(np.array([time]), BERLIN)[0] for time in times]
    assert to_local(np.array(times), BERLIN).tolist() == alone


@given(st.integers(int(at("1980-01-01")), int(at("2037-01-01"))))
def test_local_time_leads_back_except_in_the_hour_that_is_repeated(time: int) -> None:
    back = from_local(float(to_local(np.array([float(time)]), BERLIN)[0]), BERLIN)
    is_repeated = datetime.fromtimestamp(time, BERLIN).fold
    assert back == time - 3_600 * is_repeated
