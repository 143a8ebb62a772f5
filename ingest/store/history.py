"""The history of drift: a row per model and window every so often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.types.json import Jsonb


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What one window said at one time; the numbers are None in a "cannot tell" state."""

    model_name: str
    window_name: str
    state: str
    vectors: int
    score: float | None = None
    magnitude: float | None = None
    cosine_similarity: float | None = None
    components: dict[str, float] | None = None


def append(connection: psycopg.Connection, rows: Sequence[HistoryRow]) -> None:
    """Add rows, all at the store's present time."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into drift_history (model_name, window_name, state, vectors, score,"
            " magnitude, cosine_similarity, components) values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    row.model_name,
                    row.window_name,
                    row.state,
                    row.vectors,
                    row.score,
                    row.magnitude,
                    row.cosine_similarity,
                    None if row.components is None else Jsonb(row.components),
                )
                for row in rows
            ],
        )
