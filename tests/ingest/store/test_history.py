"""The history of drift: rows are added, filled in for the past, and read by window and baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from ingest.store import history
from ingest.store.batch import Batch
from ingest.store.history import HistoryRow

InsertAll = Callable[..., list[object]]

PAST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def row(
    window: str = "fast", version: int | None = 1, cosine_similarity: float | None = None
) -> HistoryRow:
    return HistoryRow(
        "m",
        window,
        "ok",
        250,
        version,
        score=1.5,
        cosine_similarity=cosine_similarity,
        components={"mean": 0.5},
    )


@pytest.fixture
def connection(connection: psycopg.Connection, insert_all: InsertAll) -> psycopg.Connection:
    """A store with a model m."""
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    return connection


def test_an_added_row_has_the_time_of_the_server(connection: psycopg.Connection) -> None:
    history.append(connection, [row(), HistoryRow("m", "slow", "warming_up", 3)])
    found = connection.execute(
        "select window_name, state, vectors, baseline_version, score, changed_ratio, components,"
        " computed_at between clock_timestamp() - interval '1 minute' and clock_timestamp()"
        " from drift_history order by window_name"
    ).fetchall()
    assert found == [
        ("fast", "ok", 250, 1, 1.5, None, {"mean": 0.5}, True),
        ("slow", "warming_up", 3, None, None, None, None, True),
    ]


def test_a_row_of_a_removed_model_is_left_out(connection: psycopg.Connection) -> None:
    history.append(connection, [HistoryRow("removed", "fast", "ok", 250, 1), row()])
    assert connection.execute("select model_name from drift_history").fetchall() == [("m",)]


def test_a_filled_row_has_its_own_time_and_replaces_that_of_its_window(
    connection: psycopg.Connection,
) -> None:
    history.fill(connection, [(PAST, row(version=1)), (PAST, row("slow", version=1))])
    history.fill(connection, [(PAST, row(version=2, cosine_similarity=0.25))])
    found = connection.execute(
        "select extract(epoch from computed_at)::float8, window_name, baseline_version,"
        " cosine_similarity from drift_history order by window_name"
    ).fetchall()
    assert found == [(PAST, "fast", 2, 0.25), (PAST, "slow", 1, None)]


def test_if_one_row_cannot_be_filled_in_none_is(connection: psycopg.Connection) -> None:
    bad = HistoryRow("m", "fast", "ok", 2**40)
    with pytest.raises(psycopg.DataError):
        history.fill(connection, [(PAST, row()), (PAST + 1, bad)])
    assert connection.execute("select count(*) from drift_history").fetchone() == (0,)


def test_times_are_those_of_one_window_and_baseline_oldest_first(
    connection: psycopg.Connection,
) -> None:
    rows = [(PAST + 60, row()), (PAST, row()), (PAST, row("slow")), (PAST + 30, row(version=2))]
    history.fill(connection, rows)
    assert history.times(connection, "m", "fast", 1).tolist() == [PAST, PAST + 60]
    assert history.times(connection, "m", "fast", 3).shape == (0,)


def test_what_the_exporter_measured_against_any_baseline_is_left_to_it(
    connection: psycopg.Connection,
) -> None:
    live = [(PAST + 0.5, row(version=2)), (PAST + 7.25, row(version=None))]
    history.fill(connection, [*live, (PAST + 30, row(version=2))])
    assert history.times(connection, "m", "fast", 1).tolist() == [PAST + 0.5]


def test_cosine_similarities_begin_at_a_time_and_have_no_gaps(
    connection: psycopg.Connection,
) -> None:
    values = {0: 0.1, 60: 0.2, 120: None, 180: 0.3}
    rows = [(PAST + at, row(cosine_similarity=value)) for at, value in values.items()]
    history.fill(connection, [*rows, (PAST + 60, row("slow", cosine_similarity=0.9))])
    since = datetime.fromtimestamp(PAST, UTC) + timedelta(seconds=60)
    times, found = history.cosine_similarities(connection, "m", "fast", 1, since)
    assert times.tolist() == [PAST + 60, PAST + 180]
    assert found == pytest.approx([0.2, 0.3])
    times, found = history.cosine_similarities(connection, "m", "fast", 9, since)
    assert (times.shape, found.shape) == ((0,), (0,))


def test_the_newest_rows_of_a_window_come_newest_first(connection: psycopg.Connection) -> None:
    rows = [row("fast", version) for version in range(3)]
    history.fill(connection, [(PAST + 60 * n, each) for n, each in enumerate(rows)])
    history.fill(connection, [(PAST, row("slow"))])
    found = history.newest(connection, "m", "fast", 2)
    assert [each for _, each in found] == [rows[2], rows[1]]
    assert [at.timestamp() - PAST for at, _ in found] == [120, 60]


def scored(score: float | None, changed_ratio: float | None = None) -> HistoryRow:
    state = "stale" if score is None else "ok"
    return HistoryRow("m", "fast", state, 250, 1, score=score, changed_ratio=changed_ratio)


def test_a_course_has_the_highest_values_of_each_stretch(connection: psycopg.Connection) -> None:
    rows = [(0, scored(1.0)), (60, scored(3.0, 0.25)), (600, scored(None)), (1_200, scored(2.0))]
    history.fill(connection, [(PAST + seconds, row) for seconds, row in rows])
    assert history.course(connection, ["m", "other"], PAST - 1, PAST + 900, 600) == [
        ("m", "fast", PAST, 3.0, 0.25),
        ("m", "fast", PAST + 600, None, None),
    ]


def test_in_an_average_a_score_that_is_missing_counts_as_0(connection: psycopg.Connection) -> None:
    rows = [(0, scored(9.0)), (1, scored(1.0)), (2, scored(None)), (3, scored(2.0))]
    rows.append((1, HistoryRow("m", "slow", "stale", 250, 1)))
    history.fill(connection, [(PAST + seconds, row) for seconds, row in rows])
    expected = {("m", "fast"): 1.0}
    assert history.average_scores(connection, PAST, PAST + 3) == expected
    assert history.average_scores(connection, PAST, PAST + 3, "m") == expected
    assert history.average_scores(connection, PAST, PAST + 3, "other") == {}


def test_the_average_of_a_window_against_a_baseline_says_of_how_many_hours_it_is(
    connection: psycopg.Connection,
) -> None:
    rows = [(0, scored(9.0)), (1, scored(None)), (2, scored(1.0)), (3, scored(2.0))]
    other = replace(scored(8.0), baseline_version=2)
    history.fill(connection, [(PAST + at, row) for at, row in (*rows, (1.5, other))])
    assert history.average(connection, "m", "fast", 1, PAST, PAST + 3) == (1.5, 1)
    assert history.average(connection, "m", "fast", 2, PAST, PAST + 3) == (8.0, 1)
    assert history.average(connection, "m", "slow", 1, PAST, PAST + 3) is None
    assert history.average(connection, "other", "fast", 1, PAST, PAST + 3) is None
    assert history.average(connection, "m", "fast", 1, PAST, PAST + 1) is None
    history.fill(connection, [(PAST + at, scored(3.0)) for at in (3_599, 3_600, 7_200)])
    assert history.average(connection, "m", "fast", 1, PAST + 3, PAST + 7_200) == (3.0, 3)


def test_the_rows_at_a_time_are_the_last_before_it(connection: psycopg.Connection) -> None:
    rows = [(0, scored(1.0)), (60, scored(2.0)), (120, scored(3.0))]
    history.fill(connection, [(PAST + seconds, row) for seconds, row in rows])
    assert history.rows_at(connection, "m", PAST + 119) == [(PAST + 60, scored(2.0))]
    assert history.rows_at(connection, "m", PAST - 1) == []
