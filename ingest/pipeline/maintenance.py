"""Maintenance of the store: what only the owner of its tables may do, every hour."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg

from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.worker import Worker
from ingest.store import baselines, partitions, rights
from ingest.store.connection import ConnectionString, connect, unavailable
from ingest.store.sockets import Sockets

_log = logging.getLogger(__name__)

_PERIOD_SECONDS = 3600.0
_RETRY_SECONDS = 60.0


class Maintenance:
    """Makes partitions and drops those that expired, as the tables' owner.

    It opens its own connections, because it may hold one for long and a pool has few.

    Parameters
    ----------
    connection_string : ConnectionString
    retention_days : int
    """

    def __init__(self, connection_string: ConnectionString, retention_days: int) -> None:
        self._connection_string = connection_string
        self._retention_days = retention_days
        self._sockets = Sockets()
        self._ended = False
        self._worker = Worker("maintenance", self.maintain, self._pause, failed=_log_failure)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Maintain the store every hour while entered. Leaving does not wait for the server."""
        self._worker.start()
        try:
            yield
        finally:
            self._ended = True
            self._sockets.cut()
            await asyncio.to_thread(self._worker.stop, self._sockets.cut)

    def make_partitions(self) -> None:
        """Make the partitions of today and the next days.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached, or maintenance has ended, or the role does not own the
            tables.
        """
        with self._connection() as connection:
            if not rights.owns(connection):
                raise StoreUnavailable(
                    f"there is no partition for today, and the role {rights.role(connection)} does"
                    " not own the tables; set database.admin_connection_string in one process, or"
                    " run embedding-drift migrate as the owner"
                )
            partitions.ensure(connection)

    def maintain(self) -> None:
        """Make missing partitions; drop those that expired, and indexes of earlier versions.

        A role that does not own the tables does nothing.

        Raises
        ------
        StoreUnavailable
            As :meth:`make_partitions` does.
        """
        with self._connection() as connection:
            if not rights.owns(connection):
                return
            partitions.ensure(connection)
            for day in partitions.drop_expired(connection, self._retention_days):
                _log.info("partition dropped", extra={"day": day.isoformat()})
            baselines.drop_indexes(connection)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        with unavailable(), connect(self._connection_string) as connection:
            self._sockets.add(connection)
            # After add, so that the end either is seen here or cuts this connection.
            if self._ended:
                raise StoreUnavailable("the service stops")
            yield connection

    def _pause(self) -> float:
        return _PERIOD_SECONDS if self._worker.status.succeeded else _RETRY_SECONDS


def _log_failure(error: Exception) -> None:
    _log.warning(
        "maintenance failed; it will be tried again",
        exc_info=None if isinstance(error, StoreUnavailable | psycopg.Error) else error,
        extra={"error": str(error)},
    )
