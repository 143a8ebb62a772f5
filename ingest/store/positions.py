"""How far the tables that are watched have been read."""

from __future__ import annotations

import psycopg

Position = tuple[str, ...]
"""What orders a row, as PostgreSQL writes it; empty is before the first."""


async def load(
    connection: psycopg.AsyncConnection, model_name: str, source: str
) -> Position | None:
    """Give the position kept for a source; None when it was never watched."""
    cursor = await connection.execute(
        "select position from watch where model_name = %s and source = %s", [model_name, source]
    )
    row = await cursor.fetchone()
    return None if row is None else tuple(row[0])


async def save(
    connection: psycopg.AsyncConnection, model_name: str, source: str, position: Position
) -> None:
    """Keep the position of a source."""
    await connection.execute(
        "insert into watch (model_name, source, position) values (%s, %s, %s::text[])"
        " on conflict (model_name, source) do update set position = excluded.position",
        [model_name, source, list(position)],
    )
