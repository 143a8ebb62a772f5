"""Delete many rows in steps, each in a transaction of its own, so that nobody waits for long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

_ROWS = 10_000
"""Rows that are deleted together."""


def delete(
    connection: psycopg.Connection,
    table: str,
    column: str,
    least: str,
    condition: sql.Composable,
    parameters: Sequence[object],
    begin: Callable[[], object] = lambda: None,
) -> None:
    """Delete the rows of a table for which a condition holds.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    table : str
    column : str
        In the order of this column, by which the rows can be found.
    least : str
        No value of the column is less.
    condition : sql.Composable
    parameters : sequence
        Those of the condition.
    begin : callable
        What each transaction does first.
    """
    names = {
        "table": sql.Identifier(table),
        "column": sql.Identifier(column),
        "condition": condition,
    }
    # Each step begins where the last one ended. The index still has the deleted rows.
    step = sql.SQL(
        "select {column} from {table} where {condition} and {column} >= %s"
        " order by {column} offset %s limit 1"
    ).format(**names)
    rest = sql.SQL("delete from {table} where {condition} and {column} >= %s").format(**names)
    until = sql.SQL(" and {column} <= %s").format(**names)
    start = [*parameters, least]
    while True:
        with connection.transaction():
            begin()
            found = connection.execute(step, [*start, _ROWS - 1]).fetchone()
            if found is None:
                connection.execute(rest, start)
                return
            connection.execute(rest + until, [*start, *found])
        start = [*parameters, *found]
