"""Pools of connections to PostgreSQL: they come back by themselves, and end when they are told."""

from __future__ import annotations

import select
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from ingest.store.connection import OPTIONS, ConnectionString, readable
from ingest.store.sockets import Sockets

_WAIT_SECONDS = 5.0
"""How long a caller waits for a connection before the store counts as unavailable."""
_PATIENCE_SECONDS = 1.0
"""How long what is to end may go on waiting for the server."""

# Connections are checked when they are handed out, so a server that was restarted costs no
# request. A pool backs off between attempts to reconnect, up to minutes; given up early, the
# next caller starts a new attempt at once.
_POOL: dict[str, Any] = {
    "kwargs": OPTIONS,
    "min_size": 1,
    "timeout": _WAIT_SECONDS,
    "reconnect_timeout": _WAIT_SECONDS,
}


class Pool(ConnectionPool):
    """A pool for threads whose connections can be cut off, also while they are used."""

    def __init__(self, connection_string: ConnectionString, **options: Any) -> None:
        self._sockets = Sockets()
        super().__init__(connection_string, configure=self._sockets.add, **options)

    def cut(self) -> None:
        """Make whoever waits for the server fail at once: it may never answer."""
        self._sockets.cut()

    def close(self, timeout: float = _PATIENCE_SECONDS) -> None:
        """Close, and cut off what is still used."""
        super().close(timeout)
        self.cut()


class AsyncPool(AsyncConnectionPool):
    """The same for the event loop."""

    def __init__(self, connection_string: ConnectionString, **options: Any) -> None:
        self._sockets = Sockets()
        super().__init__(connection_string, configure=self._remember, **options)

    async def _remember(self, connection: psycopg.AsyncConnection) -> None:
        self._sockets.add(connection)

    def cut(self) -> None:
        """Make whoever waits for the server fail at once: it may never answer."""
        self._sockets.cut()

    async def close(self, timeout: float = _PATIENCE_SECONDS) -> None:
        """Close, and cut off what is still used."""
        await super().close(timeout)
        self.cut()


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
    string = partial(readable, connection_string)
    string()
    check = _check_socket
    return AsyncPool(string, max_size=size, check=check, open=False, **_POOL)


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
    string = partial(readable, connection_string)
    string()
    check = ConnectionPool.check_connection
    return Pool(string, max_size=size, check=check, open=True, **_POOL)
