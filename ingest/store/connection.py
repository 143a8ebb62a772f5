"""Connections to PostgreSQL: how one is made, and one error for callers when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolTimeout

from ingest.runtime.errors import SettingsError, StoreUnavailable

ConnectionString = str | Callable[[], str]
"""As libpq reads it, or what gives it anew for each connection: its password may change."""

OPTIONS: dict[str, Any] = {
    "autocommit": True,
    # Prepared statements belong to a session; a pooler in transaction mode changes sessions.
    "prepare_threshold": None,
    "connect_timeout": 5,
    # A peer that is gone without a word is noticed within half a minute. The kernel of a server
    # that hangs goes on answering: that is for whoever waits to notice.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "embedding-drift",
    # What COPY is given is laid out in it, whatever PGCLIENTENCODING says.
    "client_encoding": "UTF8",
}
"""Of every connection, whoever makes it."""


def connect(connection_string: ConnectionString) -> psycopg.Connection:
    """Open one connection for a command that does one thing.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    StoreUnavailable
        If the server cannot be reached.
    """
    string = readable(connection_string)
    with unavailable():
        return psycopg.connect(string, **OPTIONS)


def readable(connection_string: ConnectionString) -> str:
    """Give the connection string as it is now.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    string = connection_string() if callable(connection_string) else connection_string
    try:
        conninfo_to_dict(string)
    except psycopg.ProgrammingError:
        # Not "from error", nor left to the pool: libpq quotes the string, and the password in it.
        raise SettingsError(
            "database.connection_string or database.replica_connection_string cannot be read;"
            " allowed are key=value pairs and postgresql://user:password@host/database, in which"
            " special characters are percent-encoded"
        ) from None
    return string


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
