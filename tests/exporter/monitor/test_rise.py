"""The rise: how much higher the scores of 8 hours are than in the last week without drift."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest

from exporter.monitor.rise import WINDOW, Recorded, compare
from ingest.store import explanations, history, slice_history
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow

HOUR = 3_600.0
WEEK = 168 * HOUR
CHECK = 300.0
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC).timestamp()
"""Two days after the clocks of Berlin went forward."""
KOLKATA, BERLIN = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")
ACME = "tenant=acme"


@pytest.fixture(autouse=True)
def model(send: Callable[..., None]) -> None:
    """The model m is known."""
    send(np.ones((1, 2), np.float32))


def record(
    connection: psycopg.Connection,
    begin: float,
    end: float,
    score: float | None,
    window: str,
    version: int = 1,
) -> None:
    """Record a score at each check from a time to another, in hours after now."""
    row = HistoryRow("m", window, "stale" if score is None else "ok", 100, version, score=score)
    times = np.arange(NOW + begin * HOUR, NOW + end * HOUR, CHECK)
    history.fill(connection, [(at, row) for at in times.tolist()])


def usual(connection: psycopg.Connection, weeks: int, score: float = 0.2) -> None:
    """Record a day and a half that ended some weeks before now, and what came after it."""
    record(connection, -36 - 168 * weeks, 12 - 168 * weeks, score, WINDOW)


def explain(
    connection: psycopg.Connection,
    begin: float,
    end: float,
    of_slice: str = "",
    version: int = 1,
) -> None:
    """Keep the explanation of the only drift, seen from an hour to another, after now."""
    connection.execute("delete from explanation")
    began, seen = NOW + begin * HOUR, NOW + end * HOUR
    row = ExplanationRow(
        "m", WINDOW, of_slice, began, 0, began, seen, version, "m: new", {"score": 7.5}
    )
    explanations.keep(connection, row, 900.0)


def risen(
    connection: psycopg.Connection, version: int = 1, zone: ZoneInfo = KOLKATA
) -> dict[str, float]:
    """Compare the scores against a baseline."""
    found = compare(Recorded(connection, "m", version, True), NOW, zone)
    assert found.computed_at == NOW
    return {name: round(value, 6) for name, value in found.by_slice.items()}


def test_it_is_the_average_of_8_hours_less_that_of_a_week_before(
    connection: psycopg.Connection,
) -> None:
    usual(connection, 1)
    record(connection, -12, -4, 1.2, WINDOW)
    record(connection, -4, 0, 2.2, WINDOW)
    record(connection, -8, 0, 9.0, "fast")
    assert risen(connection) == {"": pytest.approx(1.5, abs=0.01)}


def test_it_ends_when_the_last_hour_is_as_usual(connection: psycopg.Connection) -> None:
    usual(connection, 1)
    record(connection, -8, -1, 3.0, WINDOW)
    assert risen(connection) == {}
    record(connection, -1, 0, 0.5, WINDOW)
    assert risen(connection) == {"": 0.3}


def test_six_of_the_8_hours_must_have_scores(connection: psycopg.Connection) -> None:
    usual(connection, 1)
    record(connection, -8, -7, None, WINDOW)
    record(connection, -5, 0, 2.0, WINDOW)
    assert risen(connection) == {}
    record(connection, -7, -6, 2.0, WINDOW)
    assert risen(connection) == {"": 1.8}


def test_a_week_without_scores_in_those_hours_is_passed_over(
    connection: psycopg.Connection,
) -> None:
    record(connection, -36, 0, 2.0, WINDOW)
    assert risen(connection) == {}
    record(connection, -168 - 5, -168, 1.0, WINDOW)
    usual(connection, 2)
    assert risen(connection) == {"": 1.8}
    record(connection, -168 - 6, -168 - 5, 1.0, WINDOW)
    assert risen(connection) == {"": 1.0}


def test_scores_against_different_baselines_are_not_compared(
    connection: psycopg.Connection,
) -> None:
    usual(connection, 1)
    record(connection, -36, 0, 3.0, WINDOW, version=2)
    assert risen(connection) == {}
    assert risen(connection, version=2) == {}
    record(connection, -36 - 168, -168, 0.5, WINDOW, version=2)
    assert risen(connection, version=2) == {"": 2.5}


def test_a_drift_from_another_baseline_is_none_from_this_one(
    connection: psycopg.Connection,
) -> None:
    usual(connection, 1)
    record(connection, -36, 0, 2.0, WINDOW)
    explain(connection, -168 - 20, -160, version=2)
    assert risen(connection) == {"": 1.8}
    explain(connection, -168 - 20, -160)
    assert risen(connection) == {}


def test_a_drift_that_lasts_for_weeks_stays_a_rise(connection: psycopg.Connection) -> None:
    for weeks in (1, 2):
        usual(connection, weeks, 2.0)
    usual(connection, 3)
    record(connection, -36, 0, 2.0, WINDOW)
    assert risen(connection) == {"": 0.0}
    explain(connection, -168 * 2 - 20, 0)
    assert risen(connection) == {"": 1.8}


def test_a_drift_that_was_found_a_day_late_is_not_what_is_usual(
    connection: psycopg.Connection,
) -> None:
    usual(connection, 1, 2.0)
    usual(connection, 2)
    record(connection, -36, 0, 2.0, WINDOW)
    explain(connection, -168 + 24.1, -100)
    assert risen(connection) == {"": 0.0}
    explain(connection, -168 + 23.9, -100)
    assert risen(connection) == {"": 1.8}


def test_a_drift_that_ended_before_those_hours_does_not_count(
    connection: psycopg.Connection,
) -> None:
    usual(connection, 1)
    record(connection, -36, 0, 2.0, WINDOW)
    explain(connection, -168 - 20, -168 - 8.1)
    assert risen(connection) == {"": 1.8}
    explain(connection, -168 - 20, -168 - 7.9)
    assert risen(connection) == {}


def test_it_looks_back_four_weeks_at_most(connection: psycopg.Connection) -> None:
    record(connection, -36, 0, 2.0, WINDOW)
    explain(connection, -168 * 3 - 20, 0)
    usual(connection, 4)
    assert risen(connection) == {"": 1.8}
    explain(connection, -168 * 4 - 20, 0)
    usual(connection, 5)
    assert risen(connection) == {}


def test_a_slice_has_its_own_scores_and_drifts(connection: psycopg.Connection) -> None:
    for begin, score in ((-8, 2.5), (-8 - 168, 1.0), (-8 - 336, 0.25)):
        for at in np.arange(begin + 0.5, begin + 8):
            slice_history.append(
                connection, [(ACME, HistoryRow("m", WINDOW, "ok", 100, 1, score=score))]
            )
            connection.execute(
                "update slice_history set computed_at = to_timestamp(%s)"
                " where computed_at > now() - interval '1 hour'",
                [NOW + at * HOUR],
            )
    usual(connection, 1)
    record(connection, -8, 0, 2.0, WINDOW)
    assert risen(connection) == {"": 1.8, ACME: 1.5}
    without = compare(Recorded(connection, "m", 1, False), NOW, KOLKATA)
    assert list(without.by_slice) == [""]
    explain(connection, -170, -160, ACME)
    assert risen(connection) == {"": 1.8, ACME: 2.25}


def test_the_hours_are_those_of_the_users_when_clocks_change(
    connection: psycopg.Connection,
) -> None:
    record(connection, -36, 0, 2.0, WINDOW)
    # On their clocks, the 8 hours of the week before ended 167 hours ago.
    record(connection, -167 - 8, -167, 1.0, WINDOW)
    assert risen(connection, zone=BERLIN) == {"": 1.0}
    record(connection, -168 - 8, -168 - 7, 9.0, WINDOW)
    assert risen(connection, zone=BERLIN) == {"": 1.0}
    assert risen(connection)[""] < 0.5
