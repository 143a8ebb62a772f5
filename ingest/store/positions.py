"""Positions in watched tables: how far each table has been read."""

from __future__ import annotations

import psycopg

Position = tuple[str, ...]
"""Texts of the values that order a row. The empty position is before the first row."""


async def load(
    connection: psycopg.AsyncConnection, model_name: str, source: str
) -> Position | None:
    """Return the position saved for a source, or None if it was never watched."""
    cursor = await connection.execute(
        "select position from watch where model_name = %s and source = %s", [model_name, source]
    )
    row = await cursor.fetchone()
    return None if row is None else tuple(row[0])


async def save(
    connection: psycopg.AsyncConnection, model_name: str, source: str, position: Position
) -> None:
    """Save the position of a source."""
    await connection.execute(
        "insert into watch (model_name, source, position) values (%s, %s, %s::text[])"
        " on conflict (model_name, source) do update set position = excluded.position",
        [model_name, source, list(position)],
    )
