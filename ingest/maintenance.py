"""Upkeep of the store: partitions ahead of time, expired ones dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from ingest.runtime.background import background
from ingest.runtime.errors import StoreUnavailable
from ingest.store import partitions
from ingest.store.connection import ConnectionString, connect

_log = logging.getLogger(__name__)

_PERIOD_SECONDS = 3600.0
_RETRY_SECONDS = 60.0


def make_partitions(connection_string: ConnectionString) -> None:
    """Make the partitions of today and the next days.

    Raises
    ------
    StoreUnavailable
        If PostgreSQL cannot be reached.
    """
    with connect(connection_string) as connection:
        partitions.ensure(connection)


def maintain(connection_string: ConnectionString, retention_days: int) -> None:
    """Make the partitions that are missing and drop those that expired."""
    with connect(connection_string) as connection:
        partitions.ensure(connection)
        for day in partitions.drop_expired(connection, retention_days):
            _log.info("partition dropped", extra={"day": day.isoformat()})


@asynccontextmanager
async def maintained(
    connection_string: ConnectionString, retention_days: int
) -> AsyncIterator[None]:
    """Maintain the store every hour while entered."""
    async with background(_run(connection_string, retention_days), "maintenance"):
        yield


async def _run(connection_string: ConnectionString, retention_days: int) -> None:
    while True:
        try:
            await asyncio.to_thread(maintain, connection_string, retention_days)
            pause = _PERIOD_SECONDS
        except Exception as error:  # nobody waits for this task: without it the store fills up
            _log.warning(
                "maintenance failed; it will be tried again",
                exc_info=not isinstance(error, StoreUnavailable | psycopg.Error),
                extra={"error": str(error)},
            )
            pause = _RETRY_SECONDS
        await asyncio.sleep(pause)
