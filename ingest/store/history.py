"""The history of drift: a row per model and window every so often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What one window said at one time; the numbers are None in a "cannot tell" state.

    ``baseline_version`` is None where there was no baseline.
    """

    model_name: str
    window_name: str
    state: str
    vectors: int
    baseline_version: int | None = None
    score: float | None = None
    magnitude: float | None = None
    cosine_similarity: float | None = None
    norm: float | None = None
    components: dict[str, float] | None = None


def append(connection: psycopg.Connection, rows: Sequence[HistoryRow]) -> None:
    """Add rows, all at the store's present time; none of a model that was removed."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into drift_history (model_name, window_name, state, vectors, baseline_version,"
            " score, magnitude, cosine_similarity, norm, components)"
            " select %s, %s, %s, %s, %s, %s, %s, %s, %s, %s"
            " where exists (select from model where model_name = %s)",
            [(*_values(row), row.model_name) for row in rows],
        )


def fill(connection: psycopg.Connection, rows: Sequence[tuple[float, HistoryRow]]) -> None:
    """Add rows of the past, each with its time in seconds since the epoch, all or none.

    A row of the same window and time, measured against another baseline, is replaced.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into drift_history (computed_at, model_name, window_name, state, vectors,"
            " baseline_version, score, magnitude, cosine_similarity, norm, components)"
            " values (to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " on conflict (model_name, window_name, computed_at) do update"
            " set state = excluded.state, vectors = excluded.vectors,"
            " baseline_version = excluded.baseline_version, score = excluded.score,"
            " magnitude = excluded.magnitude, cosine_similarity = excluded.cosine_similarity,"
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
        row.magnitude,
        row.cosine_similarity,
        row.norm,
        None if row.components is None else Jsonb(row.components),
    )


def times(
    connection: psycopg.Connection, model_name: str, window_name: str, baseline_version: int
) -> NDArray[np.float64]:
    """Read when rows of a window against a baseline were recorded, shape (n,), oldest first.

    In seconds since the epoch.
    """
    rows = connection.execute(
        "select extract(epoch from computed_at)::float8 from drift_history where model_name = %s"
        " and window_name = %s and baseline_version = %s order by computed_at",
        (model_name, window_name, baseline_version),
    ).fetchall()
    return np.array(rows, dtype=np.float64).reshape(-1)


def cosine_similarities(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    baseline_version: int,
    since: datetime,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read when a window was measured against a baseline, and its cosine similarity then.

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
