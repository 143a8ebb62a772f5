"""The half that only shows: ``/drift`` and the pages, where other processes follow the models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from exporter.http import operations
from exporter.http.fleet import QUERIES_AT_ONCE, Fleet
from exporter.monitor import privacy
from ingest.runtime.http import application
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.settings import Settings, Texts
from ingest.store.connection import ConnectionString
from ingest.store.pool import sync_pool


class Showing:
    """Only shows the fleet, where other processes follow it.

    Parameters
    ----------
    connection_string : ConnectionString
        Of a store that is migrated. Where the settings name a replica, it is read from.
    settings : Settings
    """

    def __init__(self, connection_string: ConnectionString, settings: Settings) -> None:
        replica = settings.database.replica_connection_string
        string = connection_string if replica is None else replica.get_secret_value
        self._allowed = settings.explanation
        self._pool = sync_pool(string, min(settings.database.pool_size, QUERIES_AT_ONCE))
        self._fleet = Fleet(self._pool, None, self._permits)
        self.routes = self._fleet.routes
        self.endpoints: application.Endpoints = {}
        self.refusals: application.Refusals = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect, and close the connections in the end."""
        self._pool.open()
        try:
            yield
        finally:
            await asyncio.to_thread(self._pool.close)
            await asyncio.to_thread(self._fleet.close)

    def _permits(self, texts: Texts, keys: Collection[str] | None) -> bool:
        return privacy.permits(self._allowed, texts, keys)

    def reconfigure(self, settings: Settings) -> None:
        """Show from now on what these settings allow."""
        self._allowed = settings.explanation

    def described(self) -> Description:
        """Describe the endpoints."""
        return operations.SHOWING

    def not_ready(self) -> str | None:
        """Return None: a page that cannot be shown says why."""
        return None
