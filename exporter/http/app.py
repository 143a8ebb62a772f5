"""The exporter half over HTTP: ``/drift`` and the pages for people."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.http import operations, pages, report
from exporter.metrics.collector import DriftCollector
from exporter.monitor.examinations import Check
from exporter.monitor.model import Model, Models
from exporter.monitor.shard import shard
from exporter.monitor.tail import Tail
from ingest.runtime import model_name
from ingest.runtime.errors import NotFound, PayloadError, StoreUnavailable
from ingest.runtime.http import application
from ingest.runtime.http.openapi import Part
from ingest.runtime.settings.settings import Settings
from ingest.store import changes, pins
from ingest.store.changes import WHOLE
from ingest.store.connection import ConnectionString, unavailable
from ingest.store.pool import open_sync

_ASKED_AT_ONCE = 4
_ANSWER_SECONDS = 10.0
"""Less than a service that stops waits for its requests."""

T = TypeVar("T")


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
        # Threads of their own for requests that wait for the store, which may hang.
        self._asking = ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="asking")
        registry.register(
            DriftCollector(self._models, lambda: self._tail.status, own, lambda: self._check.status)
        )
        self.routes = [
            Route("/", self._landing),
            Route("/drift", self._list),
            Route("/drift/{model_name:path}", self._drift),
            Route("/runbook", self._runbook),
        ]
        self.endpoints: application.Endpoints = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the store while entered."""
        self._tail.start()
        self._check.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._check.stop()
        self._tail.stop()
        self._pool.close()
        self._primary.close()
        self._asking.shutdown()

    def reconfigure(self, settings: Settings) -> None:
        """Go on with other intervals."""
        self._tail.settings = settings.monitoring
        self._check.interval = settings.monitoring.check_interval
        for model in self._models.by_name.values():
            model.settings = settings.monitoring

    def described(self) -> Part:
        """Describe the endpoints."""
        return operations.PART

    def not_ready(self) -> str | None:
        """Say whether the windows have not been read yet."""
        read = self._tail.status.timestamp is not None
        return None if read else "exporter: windows not read from the store yet"

    async def _list(self, _: Request) -> Response:
        return application.json(await asyncio.to_thread(report.listing, self._models))

    async def _drift(self, request: Request) -> Response:
        name = request.path_params["model_name"]
        exact = request.query_params.get("exact", "false")
        if exact not in ("true", "false"):
            raise PayloadError(f"exact is {exact!r:.40}; allowed are true and false")
        model = self._models.by_name.get(name)
        if model is None:
            raise NotFound(await self._why_missing(name))
        reference = await self._asked(self._reference, model) if exact == "true" else None
        now = self._models.now()
        return application.json(await asyncio.to_thread(report.detail, model, now, reference))

    async def _asked(self, ask: Callable[..., T], *arguments: object) -> T:
        """Ask the store; only others that ask it have to wait while it does not answer."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await loop.run_in_executor(self._asking, ask, *arguments)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"PostgreSQL did not answer within {_ANSWER_SECONDS:g} s"
            ) from error

    async def _why_missing(self, name: str) -> str:
        """Say why a model is not here, and which shard has it."""
        plain = f"there is no model {name!r}; GET /drift lists those there are"
        if self._shard == WHOLE or not model_name.is_legal(name):
            return plain
        try:
            ordinal = await self._asked(self._shard_of, name)
        except StoreUnavailable:
            return f"{plain} on shard {self._shard.ordinal}; the store cannot be asked for others"
        if ordinal is None:
            return f"{plain}, each shard its own"
        return f"model {name!r} is on shard {ordinal}; this is shard {self._shard.ordinal}"

    def _shard_of(self, name: str) -> int | None:
        with self._connection() as connection:
            return changes.shard_of(connection, name, self._shard.total)

    def _reference(self, model: Model) -> NDArray[np.float32] | None:
        """Read what a model is compared with, if it has a baseline yet."""
        if model.baseline is None:
            return None
        with self._connection() as connection:
            found = pins.vectors(
                connection, model.row.model_name, model.baseline.version, model.row.dimension
            )
        # Without vectors it was dropped, with its model or for a newer one.
        return found if len(found) else None

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        """Give a connection that asks for no longer than somebody waits for the answer."""
        with unavailable(), self._pool.connection() as connection, connection.transaction():
            limit = f"{_ANSWER_SECONDS:g}s"
            connection.execute("select set_config('statement_timeout', %s, true)", [limit])
            yield connection

    async def _landing(self, _: Request) -> Response:
        return HTMLResponse(await asyncio.to_thread(pages.landing, self._models))

    async def _runbook(self, _: Request) -> Response:
        return HTMLResponse(_runbook())


@cache
def _runbook() -> str:
    return pages.runbook()
