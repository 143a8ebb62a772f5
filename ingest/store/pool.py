"""Connections to PostgreSQL: pools that come back by themselves, and one error for callers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from ingest.runtime.errors import StoreUnavailable

_WAIT_SECONDS = 5.0
"""How long a caller waits for a connection before the store counts as unavailable."""

_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    # Prepared statements belong to a session; a pooler in transaction mode changes sessions.
    "prepare_threshold": None,
    "connect_timeout": 5,
    "application_name": "embedding-drift",
}


# Connections are checked when they are handed out, so a server that was restarted costs no
# request. A pool backs off between attempts to reconnect, up to minutes; given up early, the
# next caller starts a new attempt at once.
_POOL: dict[str, Any] = {
    "kwargs": _CONNECTION,
    "min_size": 1,
    "timeout": _WAIT_SECONDS,
    "reconnect_timeout": _WAIT_SECONDS,
}


def open_async(connection_string: str, size: int) -> AsyncConnectionPool:
    """Make a pool for the event loop; it is opened when it is entered."""
    check = AsyncConnectionPool.check_connection
    return AsyncConnectionPool(connection_string, max_size=size, check=check, open=False, **_POOL)


def open_sync(connection_string: str, size: int) -> ConnectionPool:
    """Make and open a pool for threads; connections follow when the server is there."""
    check = ConnectionPool.check_connection
    return ConnectionPool(connection_string, max_size=size, check=check, open=True, **_POOL)


def connect(connection_string: str) -> psycopg.Connection:
    """Open one connection for a command that does one thing.

    Raises
    ------
    StoreUnavailable
        If the server cannot be reached.
    """
    with unavailable():
        return psycopg.connect(connection_string, **_CONNECTION)


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what psycopg raises when the server is away or unwilling into StoreUnavailable.

    Errors of the data or of our SQL pass through: they are not the server's state.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise StoreUnavailable(_summary(error)) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise StoreUnavailable(_summary(error)) from error
    except psycopg.errors.UndefinedTable as error:
        raise StoreUnavailable("the store has no schema; run: embedding-drift migrate") from error


def _summary(error: psycopg.Error) -> str:
    # The first line only: the rest may quote the connection string.
    lines = str(error).strip().splitlines()
    return f"PostgreSQL is not available: {lines[0] if lines else type(error).__name__}"
