"""The exporter half over HTTP: ``/drift`` and the pages for people."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.http import operations, pages, report
from exporter.http.condition import WORDS
from exporter.http.operations import MOST_CHECKS, MOST_VECTORS
from exporter.metrics.collector import DriftCollector
from exporter.monitor.monitor import Monitor
from exporter.monitor.snapshot import ModelSnapshot
from exporter.stats.arrays import Vectors
from ingest.runtime import model_name, timestamps
from ingest.runtime.errors import NotFound, PayloadError, StoreUnavailable
from ingest.runtime.http import application, parameters
from ingest.runtime.http.negotiation import media_types
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.settings import Settings, WindowsSettings
from ingest.runtime.thresholds import LASTING_SECONDS
from ingest.store import baselines, history
from ingest.store.dimension import require_dimension
from ingest.store.newest import newest
from ingest.store.shard import WHOLE, shard_of

_QUERIES_AT_ONCE = 4
_ANSWER_SECONDS = 10.0
"""Shorter than the time for which a stopping service waits for its requests."""
_WINDOWS = tuple(WindowsSettings.model_fields)

_PAGE_SECONDS = 2.0
"""How long a page waits for the past before it is shown without it."""

T = TypeVar("T")


class Exporter:
    """Runs the monitor, and shows what it knows.

    Parameters
    ----------
    monitor : Monitor
    registry : CollectorRegistry
        Where the collector is registered.
    """

    def __init__(self, monitor: Monitor, registry: CollectorRegistry) -> None:
        self._monitor = monitor
        # Requests that query the store have threads of their own, because the store may hang.
        self._queries = ThreadPoolExecutor(_QUERIES_AT_ONCE, thread_name_prefix="query")
        registry.register(DriftCollector(monitor.snapshot))
        self.routes = [
            Route("/", self._fleet),
            Route("/style.css", self._style),
            Route("/drift", self._list),
            # Before the next, which would take it for a model of that name.
            Route("/drift/{model_name:path}/history", self._history),
            Route("/drift/{model_name:path}", self._drift),
            Route("/models/{model_name:path}/vectors", self._newest),
            Route("/runbook", self._runbook),
        ]
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
            await asyncio.to_thread(self._queries.shutdown)

    def reconfigure(self, settings: Settings) -> None:
        """Apply other intervals."""
        self._monitor.reconfigure(settings)

    def described(self) -> Description:
        """Describe the endpoints."""
        return operations.DESCRIPTION

    def not_ready(self) -> str | None:
        """Return why this half is not ready: the windows have not been read yet."""
        followed = self._monitor.has_followed
        return None if followed else "exporter: windows not read from the store yet"

    async def _list(self, request: Request) -> Response:
        found = await asyncio.to_thread(self._listing)
        return application.json_response(found, query=request.query_params)

    def _listing(self) -> report.Models:
        return report.listing(self._monitor.snapshot().models)

    async def _history(self, request: Request) -> Response:
        name, query = request.path_params["model_name"], request.query_params
        if self._monitor.model(f"{name}/history") is not None:
            return await self._report(request, f"{name}/history")
        window = parameters.choice(query, "window", _WINDOWS, "slow")
        count = parameters.whole(query, "newest", 100, MOST_CHECKS)
        found = await self._query(self._checks, name, window, count)
        return application.json_response(found, query=query)

    def _checks(self, name: str, window: str, count: int) -> report.Checks:
        # From the store, so that every shard has the history of every model.
        with self._monitor.connection(_ANSWER_SECONDS) as connection:
            require_dimension(connection, name)
            return report.checks(name, window, history.newest(connection, name, window, count))

    async def _newest(self, request: Request) -> Response:
        name, query = request.path_params["model_name"], request.query_params
        window = parameters.choice(query, "window", _WINDOWS, "fast")
        count = parameters.whole(query, "newest", 50, MOST_VECTORS)
        if self._monitor.model(name) is None:
            raise NotFound(await self._why_missing(name))
        found = await self._query(self._newest_vectors, name, window, count)
        return application.json_response(found, query=query)

    def _newest_vectors(self, name: str, window: str, count: int) -> report.NewestVectors:
        snapshot = self._snapshot(name)
        [series] = (each for each in snapshot.series if each.series.window == window)
        seconds, dimension = series.limits.settings.seconds, snapshot.row.dimension
        with self._monitor.connection(_ANSWER_SECONDS) as connection:
            found, vectors = newest(connection, name, dimension, seconds, count)
        baseline, novelty = snapshot.baseline, [None] * len(found)
        if baseline is not None and found:
            novelty = baseline.detector.novelty(vectors).tolist()
        version = None if baseline is None else baseline.version
        return report.newest_vectors(name, window, version, found, novelty)

    async def _drift(self, request: Request) -> Response:
        return await self._report(request, request.path_params["model_name"])

    async def _report(self, request: Request, name: str) -> Response:
        query = request.query_params
        exact, view = parameters.flag(query, "exact"), _view(query)
        if self._monitor.model(name) is None:
            raise NotFound(await self._why_missing(name))
        if _wants_page(request):
            return await self._model_page(name, view)
        if exact:
            found = await self._query(self._exact_detail, name)
        else:
            found = await asyncio.to_thread(self._detail, name)
        answer = application.json_response(found, query=query)
        answer.headers["Vary"] = "Accept"
        return answer

    def _detail(self, name: str) -> report.Drift:
        return report.detail(self._snapshot(name))

    def _exact_detail(self, name: str) -> report.Drift:
        # One snapshot for all: the vectors of the windows and the version of the baseline that
        # they are compared with belong together.
        snapshot = self._snapshot(name, with_vectors=True)
        return report.detail(snapshot, self._reference(snapshot))

    def _snapshot(self, name: str, with_vectors: bool = False) -> ModelSnapshot:
        model = self._monitor.model(name)
        if model is None:
            raise NotFound(_missing(name))
        return model.snapshot(self._monitor.models.now(), with_vectors=with_vectors)

    def _reference(self, model: ModelSnapshot) -> Vectors | None:
        """Read the vectors of the baseline, if there is one."""
        if model.baseline is None:
            return None
        row = model.row
        with self._monitor.connection(_ANSWER_SECONDS) as connection:
            found = baselines.vectors(
                connection, row.model_name, model.baseline.version, row.dimension
            )
        # Without vectors the baseline was dropped: with its model, or for a newer one.
        return found if len(found) else None

    async def _query(
        self, ask: Callable[..., T], *arguments: object, seconds: float = _ANSWER_SECONDS
    ) -> T:
        """Query the store in a thread; other requests do not wait while it hangs."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._queries, ask, *arguments)
        except TimeoutError as error:
            raise StoreUnavailable(f"PostgreSQL did not answer within {seconds:g} s") from error

    async def _why_missing(self, name: str) -> str:
        """Return why a model is not here, and which shard has it."""
        shard = self._monitor.shard
        if shard == WHOLE or not model_name.is_legal(name):
            return _missing(name)
        try:
            ordinal = await self._query(self._shard_of, name)
        except StoreUnavailable:
            return (
                f"{_missing(name)} on shard {shard.ordinal}; the store cannot be asked for other"
                " shards"
            )
        if ordinal is None:
            return f"{_missing(name)}, each shard its own"
        return f"model {name!r} is on shard {ordinal}; this is shard {shard.ordinal}"

    def _shard_of(self, name: str) -> int | None:
        with self._monitor.connection(_ANSWER_SECONDS) as connection:
            return shard_of(connection, name, self._monitor.shard.total)

    async def _fleet(self, request: Request) -> Response:
        query = _fleet_query(request.query_params)
        now = self._monitor.models.now()
        try:
            averages = await self._query(self._averages, now, seconds=_PAGE_SECONDS)
        except StoreUnavailable:
            averages = None
        chosen = await asyncio.to_thread(self._chosen, query, averages)
        points = None
        if averages is not None:
            names = [each.model.row.model_name for each in chosen.shown]
            with suppress(StoreUnavailable):
                points = await self._query(self._days, names, now, seconds=_PAGE_SECONDS)
        return HTMLResponse(await asyncio.to_thread(pages.render_fleet, chosen, points, now))

    def _averages(self, now: float) -> dict[tuple[str, str], float]:
        with self._monitor.connection(_PAGE_SECONDS) as connection:
            return history.average_scores(connection, now - LASTING_SECONDS, now)

    def _chosen(
        self, query: pages.FleetQuery, averages: dict[tuple[str, str], float] | None
    ) -> pages.Fleet:
        return pages.fleet(self._monitor.snapshot().models, query, averages)

    def _days(self, names: list[str], now: float) -> list[history.Point]:
        with self._monitor.connection(_PAGE_SECONDS) as connection:
            return history.course(connection, names, now - 86_400, now, pages.DAY_STRETCH)

    async def _model_page(self, name: str, view: pages.View) -> Response:
        model = await asyncio.to_thread(self._snapshot, name)
        past = None
        with suppress(StoreUnavailable, NotFound):
            past = await self._query(self._past, model, view, seconds=_PAGE_SECONDS)
        watched = self._monitor.models.watched
        page = await asyncio.to_thread(pages.render_model, model, view, past, watched)
        return HTMLResponse(page, headers={"Vary": "Accept"})

    def _past(self, model: ModelSnapshot, view: pages.View) -> pages.Past:
        name = model.row.model_name
        until = model.computed_at if view.at is None else view.at
        with self._monitor.connection(_PAGE_SECONDS) as connection:
            averages = history.average_scores(connection, until - LASTING_SECONDS, until, name)
            since = until - pages.RANGES[view.range]
            rows = () if view.at is None else history.rows_at(connection, name, view.at)
            return pages.Past(
                history.course(connection, [name], since, until, view.stretch),
                {window: average for (_, window), average in averages.items()},
                [row for _, row in rows],
                baselines.versions(connection, name),
            )

    async def _style(self, _: Request) -> Response:
        caching = {"Cache-Control": "public, max-age=86400"}
        return Response(_style(), media_type="text/css", headers=caching)

    async def _runbook(self, _: Request) -> Response:
        return HTMLResponse(_runbook())


@cache
def _runbook() -> str:
    return pages.runbook()


@cache
def _style() -> str:
    return pages.style()


def _wants_page(request: Request) -> bool:
    """Whether a browser asks. Programs that name no type get JSON."""
    types = media_types(request.headers.get("accept", "*/*"), ("application/json", "text/html"))
    return types[:1] != [] and types[0].startswith("text/html")


def _fleet_query(asked: QueryParams) -> pages.FleetQuery:
    state, page = asked.get("state") or None, asked.get("page", "1")
    word = next((word for word in WORDS if word == state), None)
    if state is not None and word is None:
        raise PayloadError(f"state is {state!r:.40}; allowed are {', '.join(WORDS)}")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", page):
        raise PayloadError(f"page is {page!r:.40}; allowed are numbers from 1")
    return pages.FleetQuery(asked.get("q", "").strip(), word, int(page))


def _view(asked: QueryParams) -> pages.View:
    name, at = asked.get("range", "24h"), asked.get("at")
    shown = next((known for known in pages.RANGES if known == name), None)
    if shown is None:
        raise PayloadError(f"range is {name!r:.40}; allowed are {', '.join(pages.RANGES)}")
    if at is None:
        return pages.View(shown)
    try:
        moment = timestamps.seconds(at)
    except ValueError as error:
        raise PayloadError(f"at: {error}") from error
    return pages.View(shown, moment)


def _missing(name: str) -> str:
    return f"there is no model {name!r}; GET /drift lists the models"
