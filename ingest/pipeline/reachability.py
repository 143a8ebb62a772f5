"""Reachability of the store, on which the readiness of ingest depends."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import psycopg

from ingest.runtime.background import background
from ingest.runtime.errors import StoreUnavailable
from ingest.store.connection import unavailable
from ingest.store.pool import AsyncPool

_PERIOD_SECONDS = 5.0


class Reachability:
    """Asks a pool for a connection every few seconds.

    A pool that gave up tries again only when it is asked. Without these requests, a service that is
    not ready would stay so, because clients wait until it is ready.

    Attributes
    ----------
    reached : bool
        Whether the last connection answered. True until the first is asked for.
    """

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self.reached = True

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Ask while entered."""
        return background(self._watch(), "reachability")

    async def _watch(self) -> None:
        while True:
            try:
                with unavailable():
                    async with asyncio.timeout(_PERIOD_SECONDS), self._pool.connection() as found:
                        await found.execute("select 1")
                        self.reached = True
            except (StoreUnavailable, TimeoutError, psycopg.Error):
                self.reached = False
            await asyncio.sleep(_PERIOD_SECONDS)
