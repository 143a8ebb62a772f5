"""Reachability of the store: looked at all the time, for whoever asks if ingest is ready."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from ingest.runtime.background import background
from ingest.runtime.errors import StoreUnavailable
from ingest.store.connection import unavailable
from ingest.store.pool import AsyncPool

_PERIOD_SECONDS = 5.0


class Reachability:
    """Asks a pool for a connection now and then.

    A pool that gave up tries again only when it is asked, and whoever waits until a service is
    ready sends nothing that would ask.

    Attributes
    ----------
    reached : bool
        Whether there was one that answered; so it is taken to be until the first was asked.
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
            except (StoreUnavailable, TimeoutError):
                self.reached = False
            await asyncio.sleep(_PERIOD_SECONDS)
