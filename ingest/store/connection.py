"""Connect to PostgreSQL, and turn its connection errors into ``StoreUnavailable``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader
from psycopg_pool import PoolTimeout

from ingest.runtime.errors import SettingsError, StoreUnavailable

ConnectionString = str | Callable[[], str]
"""A connection string of libpq, or a function that returns it.

The function is called for each new connection, because the password may change.
"""


class _UtcLoader(TimestamptzLoader):
    """Return times in UTC, whatever the time zone of the session.

    The zone is not set in the session: behind a pooler in transaction mode, the next statement may
    run in another one.
    """

    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


class _UtcBinaryLoader(TimestamptzBinaryLoader):
    """Return times in UTC, whatever the time zone of the session."""

    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


_ADAPTERS = AdaptersMap(psycopg.adapters)
_ADAPTERS.register_loader("timestamptz", _UtcLoader)
_ADAPTERS.register_loader("timestamptz", _UtcBinaryLoader)

OPTIONS: dict[str, Any] = {
    "autocommit": True,
    # A prepared statement belongs to a session, and a pooler in transaction mode changes sessions.
    "prepare_threshold": None,
    "connect_timeout": 5,
    # Detects within 30 seconds that the other machine is unreachable. It does not detect a server
    # that hangs, because its kernel still answers: whatever waits for the server must time out.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "embedding-drift",
    # COPY is sent in this encoding, whatever PGCLIENTENCODING is.
    "client_encoding": "UTF8",
    "context": _ADAPTERS,
}
"""Arguments of every connection, whether it belongs to a pool or not."""


# A special character of a password that is not percent-encoded ends it. Its rest becomes another
# part, which the errors of libpq quote.
_PARTS = {
    "host": re.compile(r"[A-Za-z0-9._:%,-]*|[/@][^,]*(,[/@][^,]*)*"),
    "hostaddr": re.compile(r"[0-9A-Fa-f.:%,]*"),
    "port": re.compile(r"[0-9,]*"),
    "dbname": re.compile(r"[^@/:?#]*"),
}


def connect(connection_string: ConnectionString) -> psycopg.Connection:
    """Open one connection, for a command that does one thing.

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
    """Return the current connection string, after checking its syntax.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    string = connection_string() if callable(connection_string) else connection_string
    try:
        parts = conninfo_to_dict(string)
        if not all(_PARTS[name].fullmatch(str(parts.get(name) or "")) for name in _PARTS):
            raise psycopg.ProgrammingError
    except psycopg.ProgrammingError:
        # "from None", and not left to the pool: libpq's message quotes the string with the
        # password in it.
        raise SettingsError(
            "database.connection_string or database.replica_connection_string cannot be read;"
            " allowed are key=value pairs and postgresql://user:password@host/database, in which"
            " special characters are percent-encoded"
        ) from None
    return string


@contextmanager
def unavailable() -> Iterator[None]:
    """Raise StoreUnavailable if the server cannot be reached or does not accept work.

    Errors in data or in SQL are not changed.
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
    # Only the first line: the others may quote the connection string.
    lines = str(error).strip().splitlines()
    return f"PostgreSQL is not available: {lines[0] if lines else type(error).__name__}"
