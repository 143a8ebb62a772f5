"""The dimension of a model's vectors. The first vector of a model sets it."""

from __future__ import annotations

import psycopg

from ingest.runtime.errors import NotFound


def known(connection: psycopg.Connection, model_name: str) -> int | None:
    """Return a model's dimension, or None if there is no such model."""
    row = connection.execute(
        "select dimension from model where model_name = %s", [model_name]
    ).fetchone()
    return None if row is None else int(row[0])


def of(connection: psycopg.Connection, model_name: str) -> int:
    """Return a model's dimension.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    found = known(connection, model_name)
    if found is None:
        raise NotFound(f"there is no model {model_name!r}")
    return found
