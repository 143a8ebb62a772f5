"""Positions in watched tables: how far each table has been read."""

from __future__ import annotations

from typing import NamedTuple

import psycopg

Position = tuple[str, ...]
"""Texts of the values that order a row. The empty position is before the first row."""


class Progress(NamedTuple):
    """How far a table has been read, and how it looked then.

    Attributes
    ----------
    position : Position
        The rows up to here have been read.
    identity : tuple of str or None
        What tells the table from another table of its name. None if it is not known.
    newest : Position or None
        Position of the newest row. None if it is not known.
    digest : str or None
        Digest of the newest row's vector. None if it is not known.
    """

    position: Position
    identity: tuple[str, ...] | None = None
    newest: Position | None = None
    digest: str | None = None

    @property
    def last(self) -> Position:
        """Position of the newest row that is known."""
        return self.position if self.newest is None else self.newest


async def load(
    connection: psycopg.AsyncConnection, model_name: str, source: str
) -> Progress | None:
    """Return the progress saved for a source, or None if it was never watched."""
    cursor = await connection.execute(
        "select position, identity, newest, digest from watch"
        " where model_name = %s and source = %s",
        [model_name, source],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    position, identity, newest, digest = row
    return Progress(tuple(position), _tuple(identity), _tuple(newest), digest)


async def save(
    connection: psycopg.AsyncConnection, model_name: str, source: str, progress: Progress
) -> None:
    """Save the progress of a source."""
    position, identity, newest, digest = progress
    await connection.execute(
        "insert into watch (model_name, source, position, identity, newest, digest)"
        " values (%s, %s, %s::text[], %s::text[], %s::text[], %s)"
        " on conflict (model_name, source) do update set position = excluded.position,"
        " identity = excluded.identity, newest = excluded.newest, digest = excluded.digest",
        [model_name, source, list(position), _list(identity), _list(newest), digest],
    )


def _tuple(texts: list[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)


def _list(texts: tuple[str, ...] | None) -> list[str] | None:
    return None if texts is None else list(texts)
