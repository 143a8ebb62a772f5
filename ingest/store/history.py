"""The history of drift: rows of what was measured, by model, window and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from ingest.runtime.settings.settings import WindowsSettings


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What was measured of one window at one time.

    Attributes
    ----------
    model_name, window_name : str
    state : str
        State of the window. Unless drift could be measured, the numbers below are None.
    vectors : int
        Number of vectors in the window.
    baseline_version : int or None
        None if the model had no baseline.
    score, cosine_similarity, norm : float or None
    changed_ratio, changed_ratio_lower, changed_ratio_upper : float or None
        Share of the window that the baseline does not explain, 0 to 1, and its interval.
    components : dict or None
        Score of each component by its name.
    """

    model_name: str
    window_name: str
    state: str
    vectors: int
    baseline_version: int | None = None
    score: float | None = None
    changed_ratio: float | None = None
    changed_ratio_lower: float | None = None
    changed_ratio_upper: float | None = None
    cosine_similarity: float | None = None
    norm: float | None = None
    components: dict[str, float] | None = None


def append(connection: psycopg.Connection, rows: Sequence[HistoryRow]) -> None:
    """Add rows with the current time of the server. Rows of removed models are left out."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into drift_history (model_name, window_name, state, vectors, baseline_version,"
            " score, changed_ratio, changed_ratio_lower, changed_ratio_upper, cosine_similarity,"
            " norm, components) select %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s"
            " where exists (select from model where model_name = %s)",
            [(*_values(row), row.model_name) for row in rows],
        )


def fill(connection: psycopg.Connection, rows: Sequence[tuple[float, HistoryRow]]) -> None:
    """Add rows of the past in one transaction. A row of the same window and time is replaced.

    Parameters
    ----------
    connection : psycopg.Connection
    rows : sequence of (float, HistoryRow)
        The time of each row, in whole seconds since the epoch: see :func:`times`.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into drift_history (computed_at, model_name, window_name, state, vectors,"
            " baseline_version, score, changed_ratio, changed_ratio_lower, changed_ratio_upper,"
            " cosine_similarity, norm, components)"
            " values (to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " on conflict (model_name, window_name, computed_at) do update"
            " set state = excluded.state, vectors = excluded.vectors,"
            " baseline_version = excluded.baseline_version, score = excluded.score,"
            " changed_ratio = excluded.changed_ratio,"
            " changed_ratio_lower = excluded.changed_ratio_lower,"
            " changed_ratio_upper = excluded.changed_ratio_upper,"
            " cosine_similarity = excluded.cosine_similarity,"
            " norm = excluded.norm, components = excluded.components",
            [(computed_at, *_values(row)) for computed_at, row in rows],
        )


def _values(row: HistoryRow) -> tuple[object, ...]:
    return (
        row.model_name,
        row.window_name,
        row.state,
        row.vectors,
        row.baseline_version,
        row.score,
        row.changed_ratio,
        row.changed_ratio_lower,
        row.changed_ratio_upper,
        row.cosine_similarity,
        row.norm,
        None if row.components is None else Jsonb(row.components),
    )


def newest(
    connection: psycopg.Connection, model_name: str, window_name: str, count: int
) -> list[tuple[datetime, HistoryRow]]:
    """Return the newest rows of a window, newest first, and their times."""
    rows = connection.execute(
        "select computed_at, model_name, window_name, state, vectors, baseline_version, score,"
        " changed_ratio, changed_ratio_lower, changed_ratio_upper, cosine_similarity, norm,"
        " components from drift_history where model_name = %s and window_name = %s"
        " order by computed_at desc limit %s",
        (model_name, window_name, count),
    )
    return [(computed_at, HistoryRow(*values)) for computed_at, *values in rows]


def times(
    connection: psycopg.Connection, model_name: str, window_name: str, baseline_version: int
) -> NDArray[np.float64]:
    """Return the times of a window's rows that a backfill against a baseline leaves as they are.

    These are the rows against this baseline, and those that the exporter recorded against any. Its
    times have microseconds, while those of :func:`fill` are whole seconds.

    Returns
    -------
    ndarray of float64, shape (n,)
        Seconds since the epoch, oldest first.
    """
    rows = connection.execute(
        "select extract(epoch from computed_at)::float8 from drift_history where model_name = %s"
        " and window_name = %s and (baseline_version = %s or (baseline_version is not null"
        " and computed_at <> date_trunc('second', computed_at))) order by computed_at",
        (model_name, window_name, baseline_version),
    ).fetchall()
    return np.array(rows, dtype=np.float64).reshape(-1)


def scores(
    connection: psycopg.Connection, model_name: str, since: datetime
) -> list[tuple[str, float, float, int]]:
    """Return the scores of a model's windows since a time, oldest first.

    Returns
    -------
    list of (str, float, float, int)
        Name of the window, seconds since the epoch, score (NaN if drift could not be measured), and
        version of the baseline (0 if there was none).
    """
    return connection.execute(
        "select window_name, extract(epoch from computed_at)::float8, coalesce(score, 'NaN'),"
        " coalesce(baseline_version, 0) from drift_history where model_name = %s"
        # With the names, PostgreSQL seeks in its index.
        " and window_name = any(%s) and computed_at >= %s order by computed_at",
        (model_name, list(WindowsSettings.model_fields), since),
    ).fetchall()


def cosine_similarities(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    baseline_version: int,
    since: datetime,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cosine similarities of a window to a baseline since a time, and their times.

    Returns
    -------
    times : ndarray of float64, shape (n,)
        Seconds since the epoch, oldest first.
    values : ndarray of float64, shape (n,)
    """
    rows = connection.execute(
        "select extract(epoch from computed_at)::float8, cosine_similarity from drift_history"
        " where model_name = %s and window_name = %s and baseline_version = %s"
        " and computed_at >= %s and cosine_similarity is not null order by computed_at",
        (model_name, window_name, baseline_version, since),
    ).fetchall()
    times, values = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    return times, values


class Average(NamedTuple):
    """The average score of some checks.

    Attributes
    ----------
    score : float
    hours : int
        Hours of the clock in which there were some.
    """

    score: float
    hours: int


def average(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    baseline_version: int,
    since: float,
    until: float,
) -> Average | None:
    """Return the average score of a window against a baseline between two times, if it had one.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name, window_name : str
    baseline_version : int
    since, until : float
        Seconds since the epoch.
    """
    row = connection.execute(
        "select avg(score), count(distinct date_trunc('hour', computed_at)) from drift_history"
        " where model_name = %s and window_name = %s and baseline_version = %s"
        " and computed_at > to_timestamp(%s) and computed_at <= to_timestamp(%s)"
        " and score is not null having count(*) > 0",
        (model_name, window_name, baseline_version, since, until),
    ).fetchone()
    return None if row is None else Average(*row)


class Point(NamedTuple):
    """The highest values of a window in one stretch of time, None without any.

    Attributes
    ----------
    model_name, window_name : str
    at : float
        Begin of the stretch, in seconds since the epoch.
    score, changed_ratio : float or None
    """

    model_name: str
    window_name: str
    at: float
    score: float | None
    changed_ratio: float | None


def course(
    connection: psycopg.Connection,
    model_names: Sequence[str],
    since: float,
    until: float,
    stretch: int,
) -> list[Point]:
    """Return how the scores of some models went, oldest first.

    Parameters
    ----------
    connection : psycopg.Connection
    model_names : sequence of str
    since, until : float
        Seconds since the epoch.
    stretch : int
        Seconds that each point stands for.
    """
    rows = connection.execute(
        "select model_name, window_name,"
        " (floor(extract(epoch from computed_at) / %(stretch)s) * %(stretch)s)::float8 as at,"
        " max(score), max(changed_ratio) from drift_history where model_name = any(%(names)s)"
        " and computed_at > to_timestamp(%(since)s) and computed_at <= to_timestamp(%(until)s)"
        " group by 1, 2, 3 order by 3",
        {"names": list(model_names), "since": since, "until": until, "stretch": stretch},
    )
    return [Point(*row) for row in rows]


def average_scores(
    connection: psycopg.Connection, since: float, until: float, model_name: str | None = None
) -> dict[tuple[str, str], float]:
    """Return the average score by model and window between two times, of one model or of all.

    A score that is missing counts as 0, as in the rules. A window without any has no average.

    Parameters
    ----------
    connection : psycopg.Connection
    since, until : float
        Seconds since the epoch.
    model_name : str, optional
    """
    rows = connection.execute(
        "select model_name, window_name, sum(score) / count(*) from drift_history"
        " where computed_at > to_timestamp(%s) and computed_at <= to_timestamp(%s)"
        " and model_name = coalesce(%s, model_name) group by 1, 2 having count(score) > 0",
        (since, until, model_name),
    )
    return {(name, window): float(score) for name, window, score in rows}


def rows_at(
    connection: psycopg.Connection, model_name: str, moment: float
) -> list[tuple[float, HistoryRow]]:
    """Return the last row of each window of a model before a time, with the time of the row.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    moment : float
        Seconds since the epoch.
    """
    rows = connection.execute(
        "select distinct on (window_name) extract(epoch from computed_at)::float8, model_name,"
        " window_name, state, vectors, baseline_version, score, changed_ratio,"
        " changed_ratio_lower, changed_ratio_upper, cosine_similarity, norm, components"
        " from drift_history where model_name = %s and computed_at <= to_timestamp(%s)"
        " order by window_name, computed_at desc",
        (model_name, moment),
    )
    return [(at, HistoryRow(*values)) for at, *values in rows]
