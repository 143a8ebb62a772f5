"""The dimension of a model's vectors. The first vector of a model sets it."""

from __future__ import annotations

import psycopg

from ingest.runtime.errors import DimensionMismatch, NotFound


def find_dimension(connection: psycopg.Connection, model_name: str) -> int | None:
    """Return a model's dimension, or None if there is no such model."""
    row = connection.execute(
        "select dimension from model where model_name = %s", [model_name]
    ).fetchone()
    return None if row is None else int(row[0])


def require_dimension(connection: psycopg.Connection, model_name: str) -> int:
    """Return a model's dimension.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    found = find_dimension(connection, model_name)
    if found is None:
        raise NotFound(f"there is no model {model_name!r}")
    return found


def check_dimension(connection: psycopg.Connection, model_name: str, given: int) -> None:
    """Check that a model, if it exists, has vectors of this dimension.

    Raises
    ------
    DimensionMismatch
        If its vectors have another dimension.
    """
    found = find_dimension(connection, model_name)
    if found is not None and found != given:
        raise mismatch(model_name, found, given)


def mismatch(model_name: str, known: int, given: int) -> DimensionMismatch:
    """Return the error for vectors of another dimension than the model's."""
    return DimensionMismatch(f"model {model_name} has vectors of dimension {known}, not {given}")
