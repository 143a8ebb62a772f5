"""The exporter half over HTTP: ``/drift`` and the pages for people."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter import openapi, pages, report
from exporter.check import Check
from exporter.collector import DriftCollector
from exporter.model import Model, Models
from exporter.shard import shard
from exporter.tail import Tail
from ingest.runtime import model_name, web
from ingest.runtime.errors import NotFound, PayloadError, StoreUnavailable
from ingest.runtime.openapi import Part
from ingest.runtime.settings import Settings
from ingest.store import baselines, tail
from ingest.store.connection import ConnectionString, unavailable
from ingest.store.pool import open_sync
from ingest.store.tail import WHOLE


class Exporter:
    """Follows the store and exposes drift.

    Parameters
    ----------
    connection_string : ConnectionString
        Of a store that is migrated. Read from is its replica, where the settings name one.
    settings : Settings
    registry : CollectorRegistry
        Where the collector is registered.

    Raises
    ------
    SettingsError
        If there are several shards and none says which one this is.
    """

    def __init__(
        self, connection_string: ConnectionString, settings: Settings, registry: CollectorRegistry
    ) -> None:
        self._shard = own = shard(settings.monitoring, socket.gethostname())
        self._models = Models()
        size, replica = settings.database.pool_size, settings.database.replica_connection_string
        self._primary = open_sync(connection_string, size)
        self._pool = self._primary if replica is None else open_sync(replica.get_secret_value, size)
        self._tail = Tail(self._pool, self._models, settings.monitoring, own, primary=self._primary)
        self._check = Check(
            self._pool,
            self._models,
            settings.monitoring.check_interval,
            self._tail.followed,
            primary=self._primary,
        )
        registry.register(
            DriftCollector(self._models, lambda: self._tail.status, own, lambda: self._check.status)
        )
        self.routes = [
            Route("/", self._landing),
            Route("/drift", self._list),
            Route("/drift/{model_name:path}", self._drift),
            Route("/runbook", self._runbook),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the store while entered."""
        self._tail.start()
        self._check.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._check.stop)
            await asyncio.to_thread(self._tail.stop)
            await asyncio.to_thread(self._pool.close)
            await asyncio.to_thread(self._primary.close)

    def reconfigure(self, settings: Settings) -> None:
        """Go on with other intervals."""
        self._tail.settings = settings.monitoring
        self._check.interval = settings.monitoring.check_interval
        for model in self._models.by_name.values():
            model.settings = settings.monitoring

    def described(self) -> Part:
        """Describe the endpoints."""
        return openapi.PART

    def not_ready(self) -> str | None:
        """Say whether the windows have not been read yet."""
        read = self._tail.status.timestamp is not None
        return None if read else "exporter: windows not read from the store yet"

    async def _list(self, _: Request) -> Response:
        return web.json(await asyncio.to_thread(report.listing, self._models))

    async def _drift(self, request: Request) -> Response:
        name = request.path_params["model_name"]
        exact = request.query_params.get("exact", "false")
        if exact not in ("true", "false"):
            raise PayloadError(f"exact is {exact!r:.40}; allowed are true and false")
        model = self._models.by_name.get(name)
        if model is None:
            raise NotFound(await asyncio.to_thread(self._missing, name))
        return web.json(await asyncio.to_thread(self._detail, model, exact == "true"))

    def _missing(self, name: str) -> str:
        """Say why a model is not here, and which shard has it."""
        plain = f"there is no model {name!r}; GET /drift lists those there are"
        if self._shard == WHOLE or not model_name.is_legal(name):
            return plain
        try:
            with unavailable(), self._pool.connection() as connection:
                ordinal = tail.shard_of(connection, name, self._shard.total)
        except StoreUnavailable:
            return f"{plain} on shard {self._shard.ordinal}; the store cannot be asked for others"
        if ordinal is None:
            return f"{plain}, each shard its own"
        return f"model {name!r} is on shard {ordinal}; this is shard {self._shard.ordinal}"

    def _detail(self, model: Model, exact: bool) -> report.Json:
        now = self._models.now()
        if not exact or model.baseline is None:
            return report.detail(model, now)
        with unavailable(), self._pool.connection() as connection:
            reference = baselines.vectors(
                connection, model.row.model_name, model.baseline.version, model.row.dimension
            )
        # Without vectors it was dropped, with its model or for a newer one.
        return report.detail(model, now, reference if len(reference) else None)

    async def _landing(self, _: Request) -> Response:
        return HTMLResponse(await asyncio.to_thread(pages.landing, self._models))

    async def _runbook(self, _: Request) -> Response:
        return HTMLResponse(_runbook())


@cache
def _runbook() -> str:
    return pages.runbook()
