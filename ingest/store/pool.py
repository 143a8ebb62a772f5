"""Connections to PostgreSQL: pools that come back by themselves, and one error for callers."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from ingest.runtime.errors import SettingsError, StoreUnavailable

ConnectionString = str | Callable[[], str]
"""As libpq reads it, or what gives it anew for each connection: its password may change."""

_WAIT_SECONDS = 5.0
"""How long a caller waits for a connection before the store counts as unavailable."""

_CONNECTION: dict[str, Any] = {
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


_PATIENCE_SECONDS = 1.0
"""How long what is to end may go on waiting for the server."""


class Pool(ConnectionPool):
    """A pool for threads whose connections can be cut off, also while they are used."""

    def __init__(self, connection_string: ConnectionString, **options: Any) -> None:
        self._made: WeakSet[psycopg.Connection] = WeakSet()
        self._making = threading.Lock()
        super().__init__(connection_string, configure=self._remember, **options)

    def _remember(self, connection: psycopg.Connection) -> None:
        with self._making:
            self._made.add(connection)

    def cut(self) -> None:
        """Make whoever waits for the server fail at once: it may never answer."""
        with self._making:
            _cut(self._made)

    def close(self, timeout: float = _PATIENCE_SECONDS) -> None:
        """Close, and cut off what is still used."""
        super().close(timeout)
        self.cut()


class AsyncPool(AsyncConnectionPool):
    """The same for the event loop."""

    def __init__(self, connection_string: ConnectionString, **options: Any) -> None:
        self._made: WeakSet[psycopg.AsyncConnection] = WeakSet()
        super().__init__(connection_string, configure=self._remember, **options)

    async def _remember(self, connection: psycopg.AsyncConnection) -> None:
        self._made.add(connection)

    def cut(self) -> None:
        """Make whoever waits for the server fail at once: it may never answer."""
        _cut(self._made)

    async def close(self, timeout: float = _PATIENCE_SECONDS) -> None:
        """Close, and cut off what is still used."""
        await super().close(timeout)
        self.cut()


def _cut(connections: Iterable[psycopg.Connection | psycopg.AsyncConnection]) -> None:
    for connection in connections:
        # Another thread may just be closing it.
        with (
            suppress(psycopg.Error, OSError),
            socket.socket(fileno=os.dup(connection.fileno())) as duplicate,
        ):
            duplicate.shutdown(socket.SHUT_RDWR)


def await_end(ended: Callable[[float], bool], *pools: Pool) -> None:
    """Wait for work in a thread that was told to end; cut off what it may be waiting for.

    ``ended`` waits that many seconds for it, and says whether it has.
    """
    while not ended(_PATIENCE_SECONDS):
        for pool in pools:
            pool.cut()


def open_async(connection_string: ConnectionString, size: int) -> AsyncPool:
    """Make a pool for the event loop; it is opened when it is entered.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    """
    readable = partial(_readable, connection_string)
    readable()
    check = _check_socket
    return AsyncPool(readable, max_size=size, check=check, open=False, **_POOL)


async def _check_socket(connection: psycopg.AsyncConnection) -> None:
    """Find out if the server has gone without asking it, which a group commit would wait for.

    What an idle connection says is nearly always that it ends. Where it is something else, such
    as a parameter that a reload of the server changed, a new connection costs little.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await connection.close()
        raise psycopg.OperationalError("the server closed the connection")


def open_sync(connection_string: ConnectionString, size: int) -> Pool:
    """Make and open a pool for threads; connections follow when the server is there.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    """
    readable = partial(_readable, connection_string)
    readable()
    check = ConnectionPool.check_connection
    return Pool(readable, max_size=size, check=check, open=True, **_POOL)


def connect(connection_string: ConnectionString) -> psycopg.Connection:
    """Open one connection for a command that does one thing.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    StoreUnavailable
        If the server cannot be reached.
    """
    readable = _readable(connection_string)
    with unavailable():
        return psycopg.connect(readable, **_CONNECTION)


def _readable(connection_string: ConnectionString) -> str:
    """Give the connection string as it is now, checked."""
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
