"""The ingest half over HTTP: ``POST /embeddings`` and ``POST /search``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from starlette.responses import Response
from starlette.routing import Route

from ingest import formats
from ingest.http import operations, search
from ingest.http.bodies import Bodies
from ingest.http.endpoint import Arrived, Endpoint
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import guard
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.http import application
from ingest.runtime.http.openapi import Part
from ingest.runtime.settings.settings import Settings
from ingest.store import neighbours
from ingest.store.connection import unavailable

_AT_ONCE_BYTES = 1024 * 1024
"""A longer body is parsed in a thread, for the event loop to go on."""
_JSON_AT_ONCE_BYTES = 128 * 1024
_SEARCH_SECONDS = 20.0

T = TypeVar("T")


class Ingest:
    """Accepts vectors, stores them, and finds similar ones.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors; it runs while this half runs.
    settings : Settings
    """

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._bodies = Bodies(settings.ingest, settings.server.read_timeout)
        pipeline.metrics.queue_bytes.set_function(lambda: self._bodies.size)
        # One thread: several would keep the event loop waiting for its turn.
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parser")
        self.routes = [
            self._route("/embeddings", self._embeddings),
            self._route("/search", self._search),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the pipeline while entered."""
        async with self._pipeline.running():
            yield
        self._parser.shutdown()

    def reconfigure(self, settings: Settings) -> None:
        """Go on with other limits."""
        self._settings = settings
        self._bodies.settings = settings.ingest
        self._pipeline.reconfigure(settings)

    def described(self) -> Part:
        """Describe the endpoints, with the limits in force."""
        return operations.part(self._settings.ingest)

    def not_ready(self) -> str | None:
        """Say whether the store cannot be reached."""
        return self._pipeline.not_ready()

    def _route(self, path: str, answer: Callable[[Arrived], Awaitable[Response]]) -> Route:
        return Route(
            path, Endpoint(path, answer, self._bodies, self._pipeline.metrics), methods=["POST"]
        )

    async def _embeddings(self, request: Arrived) -> Response:
        batch = await self._parsed(
            request,
            partial(
                formats.parse,
                headers=request.headers,
                query=request.query,
                limits=self._settings.ingest,
                now=time.time(),
            ),
        )
        guard.require_write(request.scopes, batch.model_name)
        stored = await self._pipeline.store(batch)
        response = application.json(
            {
                "model_name": batch.model_name,
                "stored": stored.stored,
                "duplicates": stored.duplicates,
                "sampled_out": len(batch) - stored.stored - stored.duplicates,
            },
            status=201,
        )
        if stored.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    async def _parsed(self, request: Arrived, parse: Callable[[bytes], T]) -> T:
        body, request.body = request.body, b""
        is_json = "json" in request.headers.get("content-type", "")
        if len(body) <= (_JSON_AT_ONCE_BYTES if is_json else _AT_ONCE_BYTES):
            return parse(body)
        return await asyncio.get_running_loop().run_in_executor(self._parser, parse, body)

    async def _search(self, request: Arrived) -> Response:
        parse = partial(search.parse, headers=request.headers, limits=self._settings.ingest)
        wanted = await self._parsed(request, parse)
        try:
            async with asyncio.timeout(_SEARCH_SECONDS):
                matches = await self._matches(wanted)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"PostgreSQL did not search within {_SEARCH_SECONDS:.0f} s"
            ) from error
        return application.json(
            {"model_name": wanted.model_name, "scope": wanted.scope, "matches": matches}
        )

    async def _matches(self, wanted: search.Query) -> list[neighbours.Match]:
        name, vector = wanted.model_name, wanted.target
        with unavailable():
            async with self._pipeline.pool.connection() as connection:
                if isinstance(vector, str):
                    vector = await neighbours.stored_vector(connection, name, vector)
                await neighbours.check(connection, name, len(vector))
                if wanted.scope == "baseline":
                    return await neighbours.baseline(connection, name, vector, wanted.k)
                window = getattr(self._settings.monitoring.windows, wanted.scope)
                return await neighbours.window(connection, name, vector, wanted.k, window)
