"""Ingest over HTTP: ``POST /embeddings``, ``/canaries``, ``/search`` and ``/v1/traces``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from starlette.responses import Response
from starlette.routing import Route

from ingest.formats import checks, registry
from ingest.http import canaries, losses, operations
from ingest.http.bodies import Stored, StoredCanaries
from ingest.http.body_reader import BodyReader
from ingest.http.endpoint import Endpoint, IncomingRequest
from ingest.http.parser import Parser
from ingest.http.searches import Searches
from ingest.http.traces import TRACES, Traces, refusal
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import guard
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.http import application
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.settings import Settings
from ingest.store import canaries as stored_canaries
from ingest.store.batch import Batch
from ingest.store.canaries import CanarySet, Moved
from ingest.store.connection import unavailable

SEARCH = "/search"
_CANARY_SECONDS = 20.0
_REPLAYED = {"Idempotency-Replayed": "true"}


class Searching:
    """Finds similar vectors, where something else stores them.

    Parameters
    ----------
    pipeline : Pipeline
        Another half runs it.
    settings : Settings
    """

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        self._metrics = pipeline.metrics
        self._reader = BodyReader(settings.ingest, settings.server.read_timeout)
        self._metrics.queue_bytes.set_function(lambda: self._reader.held_bytes)
        self._parser = Parser(self._reader)
        self._searches = Searches(pipeline.pool, self._parser, settings)
        self.routes: list[Route] = []
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        self.refusals: dict[str, application.Refusal] = {}
        self._answer(SEARCH, self._searches.answer)

    def _answer(self, path: str, answer: Callable[[IncomingRequest], Awaitable[Response]]) -> None:
        """Add an endpoint."""
        self.endpoints["POST", path] = Endpoint(
            path, self._parser.unpack, answer, self._reader, self._metrics
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close the parser in the end."""
        try:
            yield
        finally:
            self._parser.close()

    def reconfigure(self, settings: Settings) -> None:
        """Apply other limits."""
        self._searches.settings = settings
        self._reader.settings = settings.ingest

    def described(self) -> Description:
        """Describe the endpoints, with the current limits."""
        return operations.searching(self._reader.settings)

    def not_ready(self) -> str | None:
        """Return None: there is nothing to start. Without PostgreSQL, requests get 503."""
        return None


class Ingest(Searching):
    """Accepts vectors and stores them, too.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors; it runs while this half runs.
    settings : Settings
    """

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        super().__init__(pipeline, settings)
        self._pipeline = pipeline
        self._settings = settings
        # From the first scrape. A process that has this series is one that takes vectors.
        self._metrics.requests.labels("/embeddings", "201")
        self._answer("/embeddings", self._embeddings)
        self._answer("/canaries", self._canaries)
        self._answer(TRACES, Traces(pipeline, self._reader, self._parser).answer)
        self.refusals[TRACES] = refusal

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the pipeline while entered."""
        async with super().running(), self._pipeline.running():
            yield

    def reconfigure(self, settings: Settings) -> None:
        """Apply other limits."""
        super().reconfigure(settings)
        self._settings = settings
        self._pipeline.reconfigure(settings)

    def described(self) -> Description:
        """Describe the endpoints, with the current limits."""
        return operations.description(self._settings.ingest)

    async def _embeddings(self, request: IncomingRequest) -> Response:
        lost = losses.parse(request.headers)
        batch = await self._batch(request)
        checks.refuse_reserved_ids(batch)
        stored = await self._pipeline.store(batch)
        sampled_out = len(batch) - stored.stored - stored.duplicates
        response = application.json_response(
            Stored(
                batch.model_name,
                stored.stored,
                stored.revisions,
                stored.duplicates,
                sampled_out,
            ),
            status=201,
        )
        if stored.replayed:
            response.headers.update(_REPLAYED)
        else:
            lost.add_to(self._pipeline.metrics, batch.model_name)
        return response

    async def _canaries(self, request: IncomingRequest) -> Response:
        given = canaries.read(await self._batch(request))
        moved = await self._moved(given)
        response = application.json_response(
            StoredCanaries(
                given.model_name,
                given.name,
                len(given.ids),
                moved.is_reference,
                moved.median,
                moved.max,
            ),
            status=201,
        )
        if moved.replayed:
            response.headers.update(_REPLAYED)
        return response

    async def _moved(self, given: CanarySet) -> Moved:
        """Store canaries, beside the writer: they are few, and in no group."""
        try:
            with unavailable():
                async with (
                    asyncio.timeout(_CANARY_SECONDS),
                    self._pipeline.pool.lend() as connection,
                ):
                    return await stored_canaries.insert(
                        connection, given, self._settings.ingest.max_models
                    )
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the canaries were not stored within {_CANARY_SECONDS:.0f} s:"
                " PostgreSQL is slow, or too many requests wait"
            ) from error

    async def _batch(self, request: IncomingRequest) -> Batch:
        """Read the vectors of a request, of a client that may write to their model."""
        parse = partial(
            registry.parse,
            headers=request.headers,
            query=request.query,
            limits=self._settings.ingest,
            now=time.time(),
        )
        place = registry.find(request.headers).place(request.body)
        batch = await self._parser.parsed(request, parse, place)
        self._parser.hold(request, batch.nbytes)
        guard.require_write(request.scopes, batch.model_name)
        return batch
