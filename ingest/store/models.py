"""List models, resolve a change of their dimension, and remove them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from ingest.store import baselines, steps
from ingest.store.changes import ModelRow
from ingest.store.connection import IDLE_LIMIT
from ingest.store.dimension import require_dimension

_TABLES = (
    "drift_history",
    "slice_history",
    "watch",
    "watch_sample",
    "canary",
    "explanation",
    "report",
)
"""Small tables whose rows are deleted by model."""
_BACK = timedelta(minutes=1)
"""A writer that waits for a model has read the clock before. A cluster's nodes have their own."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A model, as a list of models shows it.

    Attributes
    ----------
    model_name : str
    dimension : int
    vectors : int
        Number of vectors ever stored.
    last_received_at : datetime or None
        When the newest vector arrived.
    """

    model_name: str
    dimension: int
    vectors: int
    last_received_at: datetime | None


def summaries(connection: psycopg.Connection) -> list[Summary]:
    """List the models by name."""
    with connection.cursor(row_factory=class_row(Summary)) as cursor:
        cursor.execute(
            "select model_name, dimension, last_seq as vectors, last_received_at from model"
            " order by model_name"
        )
        return cursor.fetchall()


@contextmanager
def hold(connection: psycopg.Connection, rows: Iterable[ModelRow]) -> Iterator[set[str]]:
    """Keep models from being removed, in a transaction.

    Yields the names of those that were neither removed nor made again since their rows were read.
    What is written of them is removed with them, and is never that of another model of the name.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    rows : iterable of ModelRow
    """
    known = {row.model_name: row.created_at for row in rows}
    with connection.transaction():
        baselines.lock_shared(connection)
        found = connection.execute(
            "select model_name, created_at from model where model_name = any(%s)", [list(known)]
        )
        yield {model_name for model_name, created_at in found if created_at == known[model_name]}


def count(connection: psycopg.Connection) -> int:
    """Return the number of models."""
    [(found,)] = connection.execute("select count(*) from model")
    return int(found)


async def existing(connection: psycopg.AsyncConnection, names: Iterable[str]) -> set[str]:
    """Return those of these names that models have."""
    cursor = await connection.execute(
        "select model_name from model where model_name = any(%s)", [list(names)]
    )
    return {name for (name,) in await cursor.fetchall()}


async def locked(connection: psycopg.AsyncConnection, names: Iterable[str]) -> set[str]:
    """Return the names of models whose rows another transaction has locked.

    Raises
    ------
    psycopg.errors.LockNotAvailable
        If the whole table is locked.
    """
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '1s'")
        cursor = await connection.execute(
            "with free as (select model_name from model"
            "  where model_name = any(%(names)s) for update skip locked)"
            " select model_name from model where model_name = any(%(names)s)"
            " and model_name not in (select model_name from free)",
            {"names": list(names)},
        )
        return {name for (name,) in await cursor.fetchall()}


def resolve_dimension(connection: psycopg.Connection, model_name: str) -> None:
    """Forget that vectors of another dimension were refused.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    require_dimension(connection, model_name)
    connection.execute(
        "update model set mismatched_dimension = null, mismatched_at = null where model_name = %s",
        [model_name],
    )


def remove(connection: psycopg.Connection, model_name: str) -> None:
    """Remove a model with everything that the store has of it.

    If this is interrupted, the model is still listed and can be removed again.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    model_name : str

    Raises
    ------
    NotFound
        If there is no such model.
    """
    require_dimension(connection, model_name)
    # Nearly all rows are deleted first, while writers continue: those of now, and then those that
    # came meanwhile, which are few. The rest is deleted together with the model in one transaction,
    # so that a new model of the same name starts empty.
    since: datetime | str = "-infinity"
    for _ in range(2):
        since = _clear(connection, model_name, since)
    with connection.transaction():
        baselines.lock(connection)
        _lock(connection, model_name)
        _clear(connection, model_name, since)
        connection.execute("delete from model where model_name = %s", [model_name])
        baselines.drop(connection, model_name)


def _clear(connection: psycopg.Connection, model_name: str, since: datetime | str) -> datetime:
    """Delete what came since a time; return the time since which there may be more.

    Indexes have deleted rows until a vacuum, so to look at all rows again would take long.
    """
    lock = partial(_lock, connection, model_name)
    with connection.transaction():
        lock()  # what writers under way store is seen below
        now: datetime
        [(now,)] = connection.execute("select clock_timestamp()")
    came, values = " = %s and received_at >= %s", [model_name, since]
    of_model = sql.SQL("model_name" + came)
    steps.delete(connection, "embedding", "received_at", "-infinity", of_model, values)
    # Writers lock rows of these, too, but in another order: without the lock, there are deadlocks.
    for table, key in (("embedding_id", "id"), ("idempotency_key", "key")):
        if since == "-infinity":
            steps.delete(connection, table, key, "", of_model, values, lock)
        else:
            # Not by their key, which has all the deleted ones.
            recent = sql.SQL("model_name || ''" + came)
            steps.delete(connection, table, "received_at", "-infinity", recent, values, lock)
    for table in _TABLES:
        statement = sql.SQL("delete from {} where model_name = %s").format(sql.Identifier(table))
        connection.execute(statement, [model_name])
    return now - _BACK


def _lock(connection: psycopg.Connection, model_name: str) -> None:
    """Let the writers of a model wait until the transaction ends.

    Raises
    ------
    NotFound
        If there is no such model, or not any longer.
    """
    connection.execute(IDLE_LIMIT)
    connection.execute("select from model where model_name = %s for update", [model_name])
    require_dimension(connection, model_name)
