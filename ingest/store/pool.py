"""Pools of connections to PostgreSQL, for threads and for asyncio.

A pool replaces lost connections. It can interrupt callers that wait for the server, so that the
process ends in time even if the server hangs.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from ingest.store.connection import (
    OPTIONS,
    AsyncConnection,
    Connection,
    ConnectionString,
    readable,
    unavailable,
)
from ingest.store.sockets import Sockets

Borrow = Callable[[], AbstractContextManager[psycopg.Connection]]
"""Lends a connection, as `Pool.borrow` does, to work that needs one now and then."""

_WAIT_SECONDS = 5.0
"""Longest wait for a connection; after it, the store counts as unavailable."""
_GRACE_SECONDS = 1.0
"""How long callers may finish their work with the server when a pool closes."""

# A connection is checked before a caller gets it, so a restart of the server fails no request.
# A pool waits longer and longer between attempts to reconnect, up to minutes. It gives up early
# here: then the next caller starts a new attempt at once.
_POOL: dict[str, Any] = {
    "kwargs": OPTIONS,
    "min_size": 1,
    "timeout": _WAIT_SECONDS,
    "reconnect_timeout": _WAIT_SECONDS,
}


class Pool(ConnectionPool[Connection]):
    """A pool for threads. Its connections can be cut off while they are used."""

    def __init__(self, connection_string: ConnectionString, **options: Any) -> None:
        self._sockets = Sockets()
        options = {"connection_class": Connection} | options
        super().__init__(connection_string, configure=self._sockets.add, **options)

    @contextmanager
    def borrow(self, seconds: float | None = None) -> Iterator[psycopg.Connection]:
        """Borrow a connection. Do not hold it while computing: other threads need one, too.

        Parameters
        ----------
        seconds : float, optional
            The longest time that a statement may take. The connection is in a transaction then.

        Raises
        ------
        StoreUnavailable
            If there is no connection in time, a statement takes longer, or the server goes away
            while the connection is used.
        """
        with unavailable(), self.connection() as connection:
            if seconds is None:
                yield connection
                return
            with connection.transaction():
                limit = f"{seconds:g}s"
                connection.execute("select set_config('statement_timeout', %s, true)", [limit])
                yield connection

    def cut(self) -> None:
        """Make callers that wait for the server fail at once."""
        self._sockets.cut()

    def close(self, timeout: float = _GRACE_SECONDS) -> None:
        """Close the pool, and cut off connections that are still used after ``timeout`` seconds."""
        super().close(timeout)
        self.cut()


class AsyncPool(AsyncConnectionPool[AsyncConnection]):
    """A pool for asyncio. Its connections can be cut off while they are used."""

    def __init__(self, connection_string: ConnectionString, **options: Any) -> None:
        self._sockets = Sockets()
        super().__init__(
            connection_string,
            connection_class=AsyncConnection,
            configure=self._remember,
            **options,
        )
        self._half = asyncio.Semaphore(max(1, self.max_size // 2))

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection to a client's request that does not go through the writer.

        All of them together get at most half of the connections. The others are for the writer. If
        there is only one, they take turns.
        """
        async with self._half, self.connection() as connection:
            yield connection

    async def _remember(self, connection: psycopg.AsyncConnection) -> None:
        self._sockets.add(connection)

    def cut(self) -> None:
        """Make callers that wait for the server fail at once."""
        self._sockets.cut()

    async def close(self, timeout: float = _GRACE_SECONDS) -> None:
        """Close the pool, and cut off connections that are still used after ``timeout`` seconds."""
        await super().close(timeout)
        self.cut()


def async_pool(connection_string: ConnectionString, size: int) -> AsyncPool:
    """Make a pool for asyncio. It opens when it is entered.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    """
    string = partial(readable, connection_string)
    string()
    check = _check_socket
    return AsyncPool(string, max_size=size, check=check, open=False, **_POOL)


async def _check_socket(connection: psycopg.AsyncConnection) -> None:
    """Raise OperationalError if the server has closed the connection.

    This asks the socket, not the server: a query would delay every group commit. Data on an idle
    connection nearly always means that it was closed. If it means something else, such as a
    changed parameter of the server, the cost is one new connection.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await connection.close()
        raise psycopg.OperationalError("the server closed the connection")


def _check_server(connection: psycopg.Connection) -> None:
    """Raise OperationalError if the server does not answer."""
    # With a cursor of psycopg: ours would begin and commit a transaction for it.
    psycopg.Cursor(connection).execute("")


def sync_pool(connection_string: ConnectionString, size: int) -> Pool:
    """Make a pool for threads. It opens when it is entered, or by ``open``.

    It connects as soon as the server can be reached.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    """
    string = partial(readable, connection_string)
    string()
    check = _check_server
    return Pool(string, max_size=size, check=check, open=False, **_POOL)
