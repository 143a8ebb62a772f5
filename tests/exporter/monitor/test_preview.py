"""Preview: what the baseline in use says of vectors before they become a baseline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor import baseline
from exporter.monitor.preview import Comparison, preview
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store import explanations
from ingest.store.explanations import ExplanationRow
from ingest.store.selection import Selection, select

Vectors = NDArray[np.float32]
Send = Callable[..., None]


def compared(
    connection: psycopg.Connection, selection: Selection, check_interval: int = 300
) -> Comparison:
    settings = MonitoringSettings(check_interval=check_interval)
    found = preview(connection, "m", selection, settings, datetime.now(UTC)).comparison
    assert found is not None
    return found


def recorded(connection: psycopg.Connection, minutes: int, score: float, rows: int = 1) -> None:
    """Record scores, one a minute up to some minutes ago."""
    connection.execute(
        "insert into drift_history (model_name, window_name, computed_at, state, vectors,"
        " baseline_version, score) select 'm', 'fast', clock_timestamp() - make_interval(mins =>"
        " at), 'ok', 100, 1, %s from generate_series(%s, %s - 1) as at",
        [score, minutes, minutes + rows],
    )


def test_without_a_baseline_only_the_vectors_are_told(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:300])
    send(vectors[300:500])
    found = preview(connection, "m", Selection(first=400), MonitoringSettings(), datetime.now(UTC))
    assert found.vectors == 400
    assert found.first_at is not None
    assert found.last_at is not None
    assert found.first_at < found.last_at
    assert found.comparison is None


@pytest.mark.parametrize(("zone", "stage"), [("UTC", "provisional"), ("Asia/Kolkata", "daily")])
def test_the_stage_is_that_of_the_local_time(
    connection: psycopg.Connection, send: Send, vectors: Vectors, zone: str, stage: str
) -> None:
    send(vectors[:240])
    connection.execute("create table past partition of embedding default")
    # From midnight to four in UTC, on two days. In Kolkata, these are parts of five hours.
    connection.execute(
        "update embedding set received_at = '2026-01-04 23:59Z'::timestamptz"
        " + seq * interval '1 minute' + seq % 2 * interval '1 day'"
    )
    found = preview(
        connection,
        "m",
        Selection(first=240),
        MonitoringSettings(time_zone=zone),
        datetime.now(UTC),
    )
    assert found.stage == stage


def test_no_vectors_are_no_error(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:10])
    never = Selection(start=datetime.max.replace(tzinfo=UTC))
    found = preview(connection, "m", never, MonitoringSettings(), datetime.now(UTC))
    assert (found.vectors, found.first_at, found.comparison) == (0, None, None)


@pytest.mark.parametrize(("moved", "drifts"), [(0, False), (5, True)])
def test_the_baseline_in_use_says_how_unlike_the_vectors_are(
    connection: psycopg.Connection, send: Send, vectors: Vectors, moved: int, drifts: bool
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=600))
    send(vectors[600:1_000] + np.float32(moved))
    found = compared(connection, Selection(last=400))
    assert found.version == 1
    assert (found.score > 5) == drifts
    assert (found.changed.lower > 0.5) == drifts
    assert found.alarm_ratio is None
    assert found.drifts == drifts  # although nothing was recorded: the exporter may be away


def test_kinds_of_vectors_that_take_turns_are_compared_with_each_other(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    in_turns = vectors.copy()
    in_turns[::2] += 5
    send(in_turns[:600])
    baseline.pin(connection, "m", Selection(first=600))
    send(in_turns[600:1_800])
    assert compared(connection, Selection(last=1_200)).score < 3


def test_the_vectors_are_compared_in_the_time_zone_of_the_baseline(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    week = 691 * np.arange(1_000.0)
    baseline.pin_vectors(connection, "m", vectors[:1_000], week, "lake", ZoneInfo("Asia/Kolkata"))
    send(vectors[1_000:1_200] + np.float32(0.3))
    detector = baseline.load(connection, "m", 1).detector
    rows = select(connection, "m", Selection(last=200))

    def score(offset: float) -> float:
        return detector.score(detector.sums(rows["embedding"], rows["received_at"] + offset))

    found = compared(connection, Selection(last=200))
    assert found.score == pytest.approx(score(19_800))
    assert found.score != pytest.approx(score(0))


def test_what_was_recorded_says_how_long_the_model_drifted(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=600))
    send(vectors[600:800])
    connection.execute(
        "create table past partition of embedding default;"
        " update embedding set received_at = received_at - interval '2 hours' where seq < 700"
    )
    recorded(connection, minutes=60, score=99, rows=30)
    recorded(connection, minutes=30, score=0, rows=30)
    found = compared(connection, Selection(last=200))
    assert found.alarm_ratio == pytest.approx(0.5)
    assert not found.drifts
    recorded(connection, minutes=0, score=99)
    assert compared(connection, Selection(last=200)).drifts


def test_what_was_recorded_before_the_vectors_came_says_nothing_of_them(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=600))
    recorded(connection, minutes=5, score=99, rows=5)
    send(vectors[600:800])
    found = compared(connection, Selection(last=200))
    assert found.alarm_ratio is None
    assert found.drifts


@pytest.mark.parametrize(("check_interval", "drifts"), [(300, False), (3_600, True)])
def test_a_score_is_recent_until_the_check_after_the_next(
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
    check_interval: int,
    drifts: bool,
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=600))
    send(vectors[600:800])
    recorded(connection, minutes=50, score=99)
    assert compared(connection, Selection(last=200), check_interval).drifts == drifts


@pytest.mark.parametrize("of_slice", ["", "tenant=acme"])
@pytest.mark.parametrize(
    ("minutes", "version", "drifts"), [(14, 1, True), (16, 1, False), (14, 2, False)]
)
def test_a_rise_or_a_slice_is_drift_although_the_scores_of_the_windows_are_low(
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
    of_slice: str,
    minutes: int,
    version: int,
    drifts: bool,
) -> None:
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=600))
    send(vectors[600:800])
    recorded(connection, minutes=5, score=1.5)
    seen = datetime.now(UTC).timestamp() - 60 * minutes
    row = ExplanationRow("m", "slow", of_slice, seen - 600, 0, seen, seen, version, "m: new", {})
    explanations.keep(connection, row, 900)
    assert compared(connection, Selection(last=200), 60).drifts == drifts
