"""The exporter half over HTTP: it runs the monitor, and shows the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.detector import Detector
from exporter.detector.exact import Reference
from exporter.http import operations, queries
from exporter.http.fleet import ANSWER_SECONDS, WINDOWS, Fleet
from exporter.http.operations import MOST_VECTORS
from exporter.metrics.collector import DriftCollector
from exporter.monitor import recorded, report, reporting
from exporter.monitor.baseline import load_or_fit
from exporter.monitor.monitor import Monitor
from exporter.monitor.report import Drift, ListedModel
from exporter.monitor.snapshot import ModelSnapshot
from exporter.stats.arrays import Vectors
from ingest.runtime.errors import NotFound
from ingest.runtime.http import application, parameters
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.settings import Settings
from ingest.store import baselines
from ingest.store.newest import newest
from ingest.store.shard import WHOLE


class Exporter:
    """Runs the monitor, and shows what it knows and what the store knows of the other models.

    Parameters
    ----------
    monitor : Monitor
    registry : CollectorRegistry
        Where the collector is registered.
    """

    def __init__(self, monitor: Monitor, registry: CollectorRegistry) -> None:
        self._monitor = monitor
        registry.register(DriftCollector(monitor.snapshot))
        self._fleet = Fleet(monitor.pool, _Followed(monitor), monitor.permits)
        vectors = Route("/models/{model_name:path}/vectors", self._newest)
        self.routes = [*self._fleet.routes, vectors]
        self.endpoints: application.Endpoints = {}
        self.refusals: application.Refusals = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the store while entered."""
        self._monitor.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._monitor.stop)
            await asyncio.to_thread(self._fleet.close)

    def reconfigure(self, settings: Settings) -> None:
        """Apply other intervals."""
        self._monitor.reconfigure(settings)

    def described(self) -> Description:
        """Describe the endpoints."""
        return operations.EXPORTER

    def not_ready(self) -> str | None:
        """Return why this half is not ready: the windows have not been read yet."""
        followed = self._monitor.has_followed
        return None if followed else "exporter: windows not read from the store yet"

    async def _newest(self, request: Request) -> Response:
        name, query = request.path_params["model_name"], request.query_params
        window = parameters.choice(query, "window", WINDOWS, "fast")
        count = parameters.whole(query, "newest", 50, MOST_VECTORS)
        model = await self._fleet.detail(name)
        found = await self._fleet.run(
            self._newest_vectors, model, window, count, within=ANSWER_SECONDS
        )
        return application.json_response(found, query=query)

    def _newest_vectors(self, model: Drift, window: str, count: int) -> report.NewestVectors:
        name, seconds = model.model_name, getattr(model.windows, window).seconds
        version = None if model.baseline is None else model.baseline.version
        detector = self._detector(name, version)
        with self._monitor.pool.borrow(ANSWER_SECONDS) as connection:
            found, vectors = newest(connection, name, model.dimension, seconds, count)
        novelty = [None] * len(found)
        if detector is not None and found:
            novelty = detector.novelty(vectors).tolist()
        return recorded.newest_vectors(name, window, version, found, novelty)

    def _detector(self, name: str, version: int | None) -> Detector | None:
        """Return the detector of a version of a baseline, from the store if it is not here."""
        if version is None:
            return None
        model = self._monitor.model(name)
        known = None if model is None else model.baseline
        if known is not None and known.version == version:
            return known.detector
        with self._monitor.pool.borrow(ANSWER_SECONDS) as connection:
            return load_or_fit(connection, name, version).detector


class _Followed:
    """The models of this exporter, for the fleet."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self.is_whole = monitor.shard == WHOLE

    @property
    def has_followed(self) -> bool:
        return self._monitor.has_followed

    @property
    def names(self) -> Collection[str]:
        return self._monitor.models.by_name.keys()

    @property
    def watched(self) -> int:
        return self._monitor.models.watched

    def now(self) -> float:
        return self._monitor.models.now()

    def listed(self) -> list[ListedModel]:
        return [reporting.listed(model) for model in self._monitor.snapshot().models]

    def detail(self, name: str) -> Drift:
        return reporting.detail(self._snapshot(name))

    def exact(self, found: Drift, seconds: float) -> Drift:
        name = found.model_name
        # During the first poll, the windows of a model may not be read yet.
        if not self.has_followed or self._monitor.model(name) is None:
            windows = self._stored_windows(found, seconds)
        else:
            # One snapshot for all: the vectors of the windows and the version of the baseline
            # that they are compared with belong together.
            snapshot = self._snapshot(name, with_vectors=True)
            found = reporting.detail(snapshot)
            windows = {each.series.window: each.vectors for each in snapshot.series}
        filled = {name: each for name, each in windows.items() if each is not None and len(each)}
        reference = self._reference(found, seconds) if filled else None
        if reference is not None:
            known = Reference(reference)
            for window, vectors in filled.items():
                getattr(found.windows, window).exact = reporting.exact(known.compare(vectors))
        return found

    def _snapshot(self, name: str, with_vectors: bool = False) -> ModelSnapshot:
        model = self._monitor.model(name)
        if model is None:
            raise NotFound(queries.missing(name))
        return model.snapshot(self._monitor.models.now(), with_vectors=with_vectors)

    def _stored_windows(self, found: Drift, seconds: float) -> dict[str, Vectors | None]:
        """Read the newest vectors of each window of a model that another exporter follows."""
        if found.baseline is None:
            return {}
        name, version = found.model_name, found.baseline.version
        windows: dict[str, Vectors | None] = {}
        with self._monitor.pool.borrow(seconds) as connection:
            last_seq = baselines.load(connection, name, version).last_seq
            for window in WINDOWS:
                limits = getattr(found.windows, window)
                _, windows[window] = newest(
                    connection, name, found.dimension, limits.seconds, limits.max_vectors, last_seq
                )
        return windows

    def _reference(self, found: Drift, seconds: float) -> Vectors | None:
        """Read the vectors of the baseline, if there is one."""
        if found.baseline is None:
            return None
        with self._monitor.pool.borrow(seconds) as connection:
            vectors = baselines.vectors(
                connection, found.model_name, found.baseline.version, found.dimension
            )
        # Without vectors the baseline was dropped: with its model, or for a newer one.
        return vectors if len(vectors) else None
