"""The pipeline: stores validated batches from any source."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from ingest.pipeline.maintenance import Maintenance
from ingest.pipeline.metrics import IngestMetrics
from ingest.pipeline.removals import Removals
from ingest.pipeline.sampling import Sampler
from ingest.pipeline.writer import Writer
from ingest.runtime.settings.settings import Settings
from ingest.store.batch import Batch
from ingest.store.connection import ConnectionString
from ingest.store.pool import async_pool
from ingest.store.rights import owner
from ingest.store.vectors import Stored


class Pipeline:
    """Samples, writes and counts vectors, and maintains the store.

    HTTP endpoints, followers of tables and other sources share one.

    Parameters
    ----------
    connection_string : ConnectionString
        Of a store that is migrated.
    settings : Settings
    registry : CollectorRegistry
        Where the metrics of ingest are registered.

    Attributes
    ----------
    pool : AsyncPool
        Connections to the store.
    metrics : IngestMetrics
    """

    def __init__(
        self, connection_string: ConnectionString, settings: Settings, registry: CollectorRegistry
    ) -> None:
        self.metrics = IngestMetrics(registry)
        self.pool = async_pool(connection_string, settings.database.pool_size)
        self._removals = Removals(self.pool, self.metrics)
        self._sampler = Sampler(settings.ingest)
        self._maintenance = Maintenance(
            owner(settings.database, connection_string), settings.database.retention_days
        )
        self._writer = Writer(
            self.pool, settings.ingest, self.metrics, self._maintenance.make_partitions
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write and maintain the store while entered."""
        async with (
            self.pool,
            self._removals.watched(),
            self._writer.running(),
            # Maintenance ends before the writer, which may wait for a partition.
            self._maintenance.running(),
        ):
            yield

    def reconfigure(self, settings: Settings) -> None:
        """Apply other limits and sampling ratios."""
        self._sampler.settings = settings.ingest
        self._writer.settings = settings.ingest

    async def store(self, batch: Batch) -> Stored:
        """Sample a batch and store what is selected. The vectors are committed when this returns.

        Vectors that sampling leaves out count neither as stored nor as duplicates.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL is not available. The batch may be sent again.
        PayloadError, TooManyModels
            If this batch cannot be stored.
        """
        stored = await self._writer.write(self._sampler.sample(batch))
        sampled_out = len(batch) - stored.stored - stored.duplicates
        if sampled_out and not stored.replayed:
            self.metrics.sampled_out.labels(batch.model_name).inc(sampled_out)
        return stored
