"""Removals: the counters of a removed model go with it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import psycopg

from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.background import background
from ingest.runtime.errors import StoreUnavailable
from ingest.store import models
from ingest.store.connection import unavailable
from ingest.store.pool import AsyncPool

_PERIOD_SECONDS = 60.0
_ANSWER_SECONDS = 10.0


class Removals:
    """Looks every minute which of the counted models were removed from the store."""

    def __init__(self, pool: AsyncPool, metrics: IngestMetrics) -> None:
        self._pool = pool
        self._metrics = metrics

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Look while entered."""
        return background(self._watch(), "removals")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            await self._forget_removed()

    async def _forget_removed(self) -> None:
        # In this order: a model is counted after its commit, so a counted model that the store does
        # not have was removed.
        counted = self._metrics.models()
        try:
            with unavailable():
                async with asyncio.timeout(_ANSWER_SECONDS), self._pool.connection() as connection:
                    stored = await models.existing(connection, counted)
        except (StoreUnavailable, TimeoutError, psycopg.Error):
            return  # the next look comes soon
        for model_name in counted - stored:
            self._metrics.forget(model_name)
