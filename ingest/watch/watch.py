"""The half of the service that follows a source, as if its vectors had been sent."""

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
from ingest.watch.sources.source import Source, Terms
from ingest.watch.target import Target

_log = logging.getLogger(__name__)


class Watch:
    """Follows one source that another program fills.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors. It runs while this half runs.
    source : Source
    model_name : str
    terms : Terms
    skips : bool
        Whether a vector that cannot be used is skipped. If not, nothing after it is read.
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
        terms: Terms,
        skips: bool,
        settings: Settings,
        registry: CollectorRegistry,
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._interval = settings.monitoring.poll_interval
        self._metrics = WatchMetrics(registry, model_name)
        self._target = Target(pipeline, model_name, self._metrics, settings.ingest, skips)
        self._follower = source.follower(self._target, terms)
        self._failure: str | None = None
        self._was_up = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the source while entered."""
        table = {"table": str(self._source)}
        _log.info("watching a table", extra=table | dict(self._follower.noticed))
        async with (
            self._pipeline.running(),
            self._source.connected(),
            background(self._run(), "watch"),
        ):
            yield

    def reconfigure(self, settings: Settings) -> None:
        """Use another interval and other limits from now on."""
        self._interval = settings.monitoring.poll_interval
        self._target.settings = settings.ingest
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
            await asyncio.sleep(self._pause(time.perf_counter() - start))

    def _pause(self, took: float) -> float:
        pause = self._follower.pause(self._interval, took)
        return pause if self._failure is None else max(pause, self._interval)

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
