"""The history of slices: what was measured of each slice of a window, by model and time.

Its rows are those of `history`, without what is not measured of slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg

from ingest.store.history import Average, HistoryRow, Point

SlicedRow = tuple[str, HistoryRow]
"""The name of a slice, ``key=value``, and what was measured of it."""


def append(connection: psycopg.Connection, rows: Sequence[SlicedRow]) -> None:
    """Add the rows of one check, all with the current time of the server.

    Rows of removed models are left out.
    """
    if not rows:
        return
    values = [
        (
            row.model_name,
            of_slice,
            row.window_name,
            row.state,
            row.vectors,
            row.baseline_version,
            row.score,
            row.changed_ratio,
            row.changed_ratio_lower,
            row.changed_ratio_upper,
        )
        for of_slice, row in rows
    ]
    connection.execute(
        "insert into slice_history (computed_at, model_name, slice, window_name, state, vectors,"
        " baseline_version, score, changed_ratio, changed_ratio_lower, changed_ratio_upper)"
        " select statement_timestamp(), added.* from unnest(%s::text[], %s::text[], %s::text[],"
        " %s::text[], %s::integer[], %s::integer[], %s::float8[], %s::float8[], %s::float8[],"
        " %s::float8[]) as added (model_name, slice, window_name, state, vectors,"
        " baseline_version, score, changed_ratio, changed_ratio_lower, changed_ratio_upper)"
        " where exists (select from model where model.model_name = added.model_name)",
        [list(column) for column in zip(*values, strict=True)],
    )


def newest(
    connection: psycopg.Connection, model_name: str, of_slice: str, window_name: str, count: int
) -> list[tuple[datetime, HistoryRow]]:
    """Return the newest rows of a slice of a window, newest first, and their times."""
    rows = connection.execute(
        "select computed_at, model_name, window_name, state, vectors, baseline_version, score,"
        " changed_ratio, changed_ratio_lower, changed_ratio_upper from slice_history"
        " where model_name = %s and slice = %s and window_name = %s"
        " order by computed_at desc limit %s",
        (model_name, of_slice, window_name, count),
    )
    return [(computed_at, HistoryRow(*values)) for computed_at, *values in rows]


def course(
    connection: psycopg.Connection,
    model_name: str,
    of_slice: str,
    since: float,
    until: float,
    stretch: int,
) -> list[Point]:
    """Return how the scores of a slice went, oldest first.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name, of_slice : str
    since, until : float
        Seconds since the epoch.
    stretch : int
        Seconds that each point stands for.
    """
    rows = connection.execute(
        "select model_name, window_name,"
        " (floor(extract(epoch from computed_at) / %(stretch)s) * %(stretch)s)::float8 as at,"
        " max(score), max(changed_ratio) from slice_history"
        " where model_name = %(name)s and slice = %(slice)s"
        " and computed_at > to_timestamp(%(since)s) and computed_at <= to_timestamp(%(until)s)"
        " group by 1, 2, 3 order by 3",
        {
            "name": model_name,
            "slice": of_slice,
            "since": since,
            "until": until,
            "stretch": stretch,
        },
    )
    return [Point(*row) for row in rows]


def average_scores(
    connection: psycopg.Connection,
    since: float,
    until: float,
    series: Sequence[tuple[str, str, str]],
) -> dict[tuple[str, str, str], float]:
    """Return the average score of some slices between two times, where there is one.

    A slice without a score has no row. It counts as 0 wherever its window has one.

    Parameters
    ----------
    connection : psycopg.Connection
    since, until : float
        Seconds since the epoch.
    series : sequence of (str, str, str)
        Model, window and slice of each.
    """
    if not series:
        return {}
    models, windows, slices = map(list, zip(*series, strict=True))
    rows = connection.execute(
        "with whole as (select model_name, window_name, count(*) from drift_history"
        " where computed_at > to_timestamp(%(since)s) and computed_at <= to_timestamp(%(until)s)"
        " and model_name = any(%(models)s) group by 1, 2)"
        " select model_name, window_name, slice,"
        " sum(score) / greatest(count(score), max(whole.count)) from slice_history"
        " join unnest(%(models)s::text[], %(windows)s::text[], %(slices)s::text[])"
        " as asked (model_name, window_name, slice) using (model_name, window_name, slice)"
        " left join whole using (model_name, window_name)"
        " where computed_at > to_timestamp(%(since)s) and computed_at <= to_timestamp(%(until)s)"
        " and score is not null group by 1, 2, 3",
        {"models": models, "windows": windows, "slices": slices, "since": since, "until": until},
    )
    return {(name, window, of_slice): float(score) for name, window, of_slice, score in rows}


def averages(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    baseline_version: int,
    since: float,
    until: float,
) -> dict[str, Average]:
    """Return the average score of each slice of a window, like `history.average` of all vectors.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name, window_name : str
    baseline_version : int
    since, until : float
        Seconds since the epoch.
    """
    rows = connection.execute(
        "select slice, avg(score), count(distinct date_trunc('hour', computed_at))"
        " from slice_history where model_name = %s and window_name = %s and baseline_version = %s"
        " and computed_at > to_timestamp(%s) and computed_at <= to_timestamp(%s)"
        " and score is not null group by 1",
        (model_name, window_name, baseline_version, since, until),
    )
    return {of_slice: Average(*average) for of_slice, *average in rows}


def rows_at(
    connection: psycopg.Connection, model_name: str, moment: float
) -> list[tuple[float, str, HistoryRow]]:
    """Return the rows of the last check in the day before a time: its time, the slice, and the row.

    A model whose last such check is older has no slices any more: checks are a day apart at most.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    moment : float
        Seconds since the epoch.
    """
    rows = connection.execute(
        "select extract(epoch from computed_at)::float8, slice, model_name, window_name, state,"
        " vectors, baseline_version, score, changed_ratio, changed_ratio_lower,"
        " changed_ratio_upper from slice_history where model_name = %(name)s and computed_at ="
        " (select max(computed_at) from slice_history where model_name = %(name)s"
        " and computed_at <= to_timestamp(%(moment)s)"
        " and computed_at > to_timestamp(%(moment)s - 86400)) order by slice, window_name",
        {"name": model_name, "moment": moment},
    )
    return [(at, of_slice, HistoryRow(*values)) for at, of_slice, *values in rows]
