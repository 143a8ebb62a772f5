"""The history of slices: rows of a check belong together, and each slice has its own course."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from ingest.store import history, slice_history
from ingest.store.batch import Batch
from ingest.store.history import HistoryRow

InsertAll = Callable[..., list[object]]

PAST = 1_767_225_600.0
"""1 January 2026."""
ACME, BOLT = "tenant=acme", "tenant=bolt"


def row(score: float | None, window: str = "fast", model_name: str = "m") -> HistoryRow:
    state = "stale" if score is None else "ok"
    return HistoryRow(
        model_name, window, state, 100, 1, score=score, changed_ratio=score and score / 10
    )


@pytest.fixture
def connection(connection: psycopg.Connection, insert_all: InsertAll) -> psycopg.Connection:
    """A store with a model m."""
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    return connection


def add(connection: psycopg.Connection, after: float, *rows: slice_history.SlicedRow) -> None:
    """Add the rows of a check so many seconds after `PAST`."""
    slice_history.append(connection, rows)
    connection.execute(
        "update slice_history set computed_at = to_timestamp(%s) where computed_at > now() - "
        "interval '1 hour'",
        [PAST + after],
    )


def test_the_rows_of_a_check_have_one_time_and_those_of_a_removed_model_are_left_out(
    connection: psycopg.Connection,
) -> None:
    gone = row(1.0, model_name="gone")
    slice_history.append(connection, [(ACME, row(1.0)), (BOLT, row(None)), (ACME, gone)])
    slice_history.append(connection, [])
    found = connection.execute(
        "select slice, score, count(*) over (partition by computed_at) from slice_history"
        " order by slice"
    ).fetchall()
    assert found == [(ACME, 1.0, 2), (BOLT, None, 2)]


def test_the_rows_at_a_time_are_those_of_the_last_check_before_it(
    connection: psycopg.Connection,
) -> None:
    add(connection, 0, (ACME, row(1.0)), (BOLT, row(2.0)))
    add(connection, 300, (ACME, row(3.0)), (ACME, row(4.0, "slow")))
    found = slice_history.rows_at(connection, "m", PAST + 299)
    assert found == [(PAST, ACME, row(1.0)), (PAST, BOLT, row(2.0))]
    found = slice_history.rows_at(connection, "m", PAST + 301)
    assert [(name, each.window_name, each.score) for _, name, each in found] == [
        (ACME, "fast", 3.0),
        (ACME, "slow", 4.0),
    ]
    assert slice_history.rows_at(connection, "m", PAST - 1) == []
    assert slice_history.rows_at(connection, "m", PAST + 300 + 86_400) == []  # no slices any more
    assert slice_history.rows_at(connection, "other", PAST + 301) == []


def test_a_course_has_the_highest_values_of_one_slice(connection: psycopg.Connection) -> None:
    for after, score in ((0, 1.0), (60, 3.0), (600, None), (1_200, 2.0)):
        add(connection, after, (ACME, row(score)), (BOLT, row(9.0)))
    found = slice_history.course(connection, "m", ACME, PAST - 1, PAST + 900, 600)
    assert found == [("m", "fast", PAST, 3.0, 0.3), ("m", "fast", PAST + 600, None, None)]


def test_averages_are_those_of_the_slices_asked_for_and_count_what_is_missing_as_0(
    connection: psycopg.Connection,
) -> None:
    for after, score in ((0, 9.0), (1, 1.0), (2, None), (3, 2.0)):
        add(connection, after, (ACME, row(score)), (ACME, row(4.0, "slow")), (BOLT, row(7.0)))
    asked = [("m", "fast", ACME), ("m", "slow", BOLT), ("m", "fast", BOLT), ("x", "fast", ACME)]
    found = slice_history.average_scores(connection, PAST, PAST + 3, asked)
    assert found == {("m", "fast", ACME): 1.5, ("m", "fast", BOLT): 7.0}
    # The window had a row at other checks, too, when it held none of the vectors of a slice.
    history.fill(connection, [(PAST + after, row(1.0)) for after in (1, 1.5, 2, 2.5, 3)])
    found = slice_history.average_scores(connection, PAST, PAST + 3, asked)
    assert found == {("m", "fast", ACME): 0.6, ("m", "fast", BOLT): 4.2}
    assert slice_history.average_scores(connection, PAST, PAST + 3, []) == {}


def test_the_averages_of_a_window_say_of_how_many_hours_they_are(
    connection: psycopg.Connection,
) -> None:
    for after, score in ((0, 9.0), (1, None), (2, 1.0), (3, 2.0)):
        add(connection, after, (ACME, row(score)), (BOLT, row(7.0 if after > 2 else None)))
    found = slice_history.averages(connection, "m", "fast", 1, PAST, PAST + 3)
    assert found == {ACME: (1.5, 1), BOLT: (7.0, 1)}
    assert slice_history.averages(connection, "m", "slow", 1, PAST, PAST + 3) == {}
    assert slice_history.averages(connection, "m", "fast", 2, PAST, PAST + 3) == {}
    assert slice_history.averages(connection, "other", "fast", 1, PAST, PAST + 3) == {}


def test_the_newest_rows_of_a_slice_come_newest_first(connection: psycopg.Connection) -> None:
    for after, score in ((0, 1.0), (60, 2.0), (120, 3.0)):
        add(connection, after, (ACME, row(score)), (ACME, row(8.0, "slow")), (BOLT, row(9.0)))
    found = slice_history.newest(connection, "m", ACME, "fast", 2)
    assert [(at.timestamp() - PAST, each) for at, each in found] == [
        (120, row(3.0)),
        (60, row(2.0)),
    ]
