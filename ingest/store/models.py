"""The models of a store: which there are, and one less."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from ingest.store import dimension, pins

_log = logging.getLogger(__name__)

_TABLES = ("embedding", "embedding_id", "idempotency_key", "drift_history", "watch")
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A model for people: ``vectors`` were ever stored, the newest at ``last_received_at``."""

    model_name: str
    dimension: int
    vectors: int
    last_received_at: datetime | None


def listed(connection: psycopg.Connection) -> list[Listed]:
    """List the models by name."""
    with connection.cursor(row_factory=class_row(Listed)) as cursor:
        cursor.execute(
            "select model_name, dimension, last_seq as vectors, last_received_at from model"
            " order by model_name"
        )
        return cursor.fetchall()


def remove(connection: psycopg.Connection, model_name: str) -> None:
    """Remove a model with all that the store has of it.

    Interrupted, the model is still listed, and removing it again goes on.

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
    dimension.of(connection, model_name)
    # Nearly everything before its writers have to wait; what they add meanwhile goes with the
    # model, in one transaction, so that one of the same name begins with nothing.
    _clear(connection, model_name)
    while not _removed(connection, model_name):
        _log.warning("waiting for whoever reads baselines", extra={"model_name": model_name})
        time.sleep(_RETRY_SECONDS)
        _clear(connection, model_name)


def _removed(connection: psycopg.Connection, model_name: str) -> bool:
    """Remove what is left; not (False) while searches under way would keep later ones waiting."""
    try:
        with connection.transaction():
            pins.lock(connection)
            connection.execute("select from model where model_name = %s for update", [model_name])
            _clear(connection, model_name)
            connection.execute("delete from model where model_name = %s", [model_name])
            pins.drop(connection, model_name)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def _clear(connection: psycopg.Connection, model_name: str) -> None:
    for table in _TABLES:
        statement = sql.SQL("delete from {} where model_name = %s").format(sql.Identifier(table))
        connection.execute(statement, [model_name])
