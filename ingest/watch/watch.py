"""The half of the service that follows a table, as if its vectors had been sent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

from prometheus_client import CollectorRegistry
from starlette.routing import Route

from ingest.pipeline.metrics import WatchMetrics
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.background import background
from ingest.runtime.errors import MonitorError
from ingest.runtime.http.application import Endpoints, Refusals
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.settings import Settings
from ingest.watch.follower import Follower
from ingest.watch.sources.source import Source

_log = logging.getLogger(__name__)

_REST = 9.0
"""Seconds of pause for each second that a poll took."""
_LONGEST_PAUSE_SECONDS = 60.0


class Watch:
    """Follows one table that another program fills.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors. It runs while this half runs.
    source : Source
    model_name : str
    overlap_seconds, rechecks_per_hour : float
        See :class:`ingest.watch.follower.Follower`.
    settings : Settings
    registry : CollectorRegistry
        Where the metrics are registered.
    """

    routes: Sequence[Route] = ()
    endpoints: Endpoints = MappingProxyType({})
    refusals: Refusals = MappingProxyType({})

    def __init__(
        self,
        pipeline: Pipeline,
        source: Source,
        model_name: str,
        overlap_seconds: float,
        rechecks_per_hour: float,
        settings: Settings,
        registry: CollectorRegistry,
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._interval = settings.monitoring.poll_interval
        self._rechecks_per_hour = rechecks_per_hour
        self._metrics = WatchMetrics(registry, model_name)
        self._follower = Follower(
            pipeline,
            source,
            model_name,
            self._metrics,
            settings.monitoring.baseline.vectors,
            overlap_seconds,
            rechecks_per_hour,
        )
        self._failure: str | None = None
        self._was_up = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the table while entered."""
        _log.info("watching a table", extra={"table": str(self._source)} | self._noticed())
        async with (
            self._pipeline.running(),
            self._source.connected(),
            background(self._run(), "watch"),
        ):
            yield

    def reconfigure(self, settings: Settings) -> None:
        """Use another interval and other limits from now on."""
        self._interval = settings.monitoring.poll_interval
        self._pipeline.reconfigure(settings)

    def described(self) -> Description:
        """Return an empty description: this half has no endpoints."""
        return Description({})

    def not_ready(self) -> str | None:
        """Return why this half is not ready, or None. It is ready after the first poll."""
        return None if self._was_up else "watch: table not read yet"

    async def _run(self) -> None:
        while True:
            start = time.perf_counter()
            try:
                await self._follower.poll()
            except Exception as error:
                self._failed(error)
            else:
                self._succeeded()
            # Another program needs the server: use at most a tenth of one connection's time.
            rest = min(_REST * (time.perf_counter() - start), _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(max(self._interval, rest))

    def _noticed(self) -> dict[str, str]:
        """Return what is noticed of the table, for the log."""
        if self._source.finds_changes:
            changed = "all, by time"
        elif self._rechecks_per_hour > 0:
            changed = f"a sample, {self._rechecks_per_hour:g} per hour"
        else:
            changed = "never"
        return {
            "new_rows": "by time" if self._source.finds_changes else "by id",
            "changed_rows": changed,
            "emptied_or_remade": "by identity and position"
            if self._source.has_identity
            else "by position only",
            "deleted_rows": "never",
        }

    def _succeeded(self) -> None:
        if self._failure is not None or not self._was_up:
            _log.info("table followed", extra={"table": str(self._source)})
        self._failure = None
        self._was_up = True
        self._metrics.succeeded()

    def _failed(self, error: Exception) -> None:
        failure = f"{type(error).__name__}: {error}"
        if failure != self._failure:
            _log.warning(
                "table not followed; polling continues",
                exc_info=None if isinstance(error, MonitorError) else error,
                extra={"error": str(error)},
            )
        self._failure = failure
        self._metrics.up.set(0)
