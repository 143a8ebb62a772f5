"""The fleet: any process shows every model, whichever exporter follows it.

What this process follows, it shows as it is now. The rest it reads from the store, where the
exporter of a model writes a report at each check. So the answer is there while that exporter is
away, with its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Literal, Protocol, TypeVar

from msgspec import UNSET
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.http import fleet_page, model_page, queries, rendering
from exporter.http.condition import WORDS, Word
from exporter.http.operations import MOST_CHECKS, MOST_PAGES
from exporter.monitor import report
from exporter.monitor.privacy import Permits
from exporter.monitor.report import Drift, ListedModel, Map, Past
from exporter.monitor.series import Series
from ingest.runtime import model_name
from ingest.runtime.errors import (
    AnswerLate,
    NotFound,
    PayloadError,
    Problem,
    StoreUnavailable,
)
from ingest.runtime.http import application, parameters
from ingest.runtime.http.negotiation import media_types
from ingest.runtime.settings.settings import WindowsSettings
from ingest.store.dimension import find_dimension
from ingest.store.pool import Pool

QUERIES_AT_ONCE = 4
"""Queries of the store that run at once, in each process."""
ANSWER_SECONDS = 10.0
"""Shorter than the time for which a stopping service waits for its requests."""
WINDOWS = tuple(WindowsSettings.model_fields)
_STATES: tuple[Literal[""] | Word, ...] = ("", *WORDS)
"""Of the models that are listed; the empty one stands for all."""

_PAGE_SECONDS = 2.0
"""How long a page waits for the past before it is shown without it."""


T = TypeVar("T")


class Followed(Protocol):
    """The models that this process follows itself."""

    @property
    def has_followed(self) -> bool:
        """Whether they have been read from the store; before, some or all are missing."""

    @property
    def is_whole(self) -> bool:
        """Whether these are all models, so that no other exporter follows any."""

    @property
    def names(self) -> Collection[str]:
        """Their names."""

    @property
    def watched(self) -> int:
        """Number of them and of their slices that have a score now."""

    def now(self) -> float:
        """Return the time of the store, in seconds since the epoch."""

    def listed(self) -> list[ListedModel]:
        """List them as they are now."""

    def detail(self, name: str) -> Drift:
        """Report one as it is now.

        Raises
        ------
        NotFound
            If it is not followed any longer.
        """

    def exact(self, found: Drift, seconds: float) -> Drift:
        """Add the exact statistics of every dimension, whether the model is followed here or not.

        Parameters
        ----------
        found : Drift
        seconds : float
            How long each query may take.
        """


class Fleet:
    """Answers requests for any model of the fleet.

    Parameters
    ----------
    pool : Pool
        Connections to read from.
    followed : Followed or None
        None where nothing is followed.
    permits : callable
        Whether an explanation of the past may be shown.
    """

    def __init__(self, pool: Pool, followed: Followed | None, permits: Permits) -> None:
        self._pool = pool
        self._followed = followed
        self._permits = permits
        # Requests that query the store have threads of their own, because the store may hang.
        self._queries = ThreadPoolExecutor(QUERIES_AT_ONCE, thread_name_prefix="query")
        self.routes = [
            Route("/", self._fleet),
            Route("/style.css", self._style),
            Route("/drift", self._list),
            # Before the next, which would take it for a model of that name.
            Route("/drift/{model_name:path}/history", self._history),
            Route("/drift/{model_name:path}", self._drift),
            Route("/runbook", self._runbook),
        ]

    def close(self) -> None:
        """Wait for the queries under way."""
        self._queries.shutdown()

    async def run(self, work: Callable[..., T], *arguments: object, within: float) -> T:
        """Run work that queries the store in a thread; others do not wait while it hangs.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL is away.
        AnswerLate
            If this takes longer than so many seconds.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within):
                return await loop.run_in_executor(self._queries, work, *arguments)
        except TimeoutError as error:
            raise AnswerLate(
                f"no answer within {within:g} s: PostgreSQL is slow, or there is much to compute"
            ) from error

    async def _query(
        self, ask: Callable[..., T], *arguments: object, seconds: float | None = None
    ) -> T:
        """Do the same with one query, which gets a connection and the arguments."""
        limit = ANSWER_SECONDS if seconds is None else seconds

        def asked() -> T:
            with self._pool.borrow(limit) as connection:
                return ask(connection, *arguments)

        return await self.run(asked, within=limit)

    @property
    def _following(self) -> Followed | None:
        """What this process follows; None until it has read that from the store.

        An answer asks once: the first poll may end in between.
        """
        followed = self._followed
        return followed if followed is not None and followed.has_followed else None

    def follows(self, name: str) -> bool:
        """Return whether this process follows a model."""
        following = self._following
        return following is not None and name in following.names

    def _require_possible(self, name: str) -> None:
        """Raise NotFound if no model has such a name. One of an earlier release may."""
        if not self.follows(name) and not model_name.is_legal(name):
            raise NotFound(queries.missing(name))

    async def _list(self, request: Request) -> Response:
        following = self._following
        own = await _own(following)
        listed = [*own, *await self._others(following, own)]
        listed.sort(key=lambda model: model.model_name)
        return application.json_response(report.Models(listed), query=request.query_params)

    async def _others(
        self,
        following: Followed | None,
        own: Sequence[ListedModel],
        seconds: float | None = None,
    ) -> list[ListedModel]:
        if following is not None and following.is_whole:
            return []
        names = [model.model_name for model in own]
        return await self._query(queries.listed, names, seconds=seconds)

    async def _history(self, request: Request) -> Response:
        name, query = request.path_params["model_name"], request.query_params
        self._require_possible(name)
        whole = f"{name}/history"
        if self.follows(whole) or await self._query(find_dimension, whole) is not None:
            return await self._report(request, whole)
        window = parameters.choice(query, "window", WINDOWS, "slow")
        checks = parameters.whole(query, "newest", 100, MOST_CHECKS)
        found = await self._query(queries.checks, name, window, checks, _slice(query))
        return application.json_response(found, query=query)

    async def _drift(self, request: Request) -> Response:
        return await self._report(request, request.path_params["model_name"])

    async def _report(self, request: Request, name: str) -> Response:
        query = request.query_params
        exact, view = parameters.flag(query, "exact"), _view(query)
        map_of = parameters.choice(query, "map", ("", *WINDOWS), "")
        self._require_possible(name)
        found: Drift | Past | Map
        if _wants_page(request):
            return await self._model_page(await self.detail(name), view)
        if map_of:
            if view.slice:
                raise NotFound(f"slice {view.slice!r} has no map; whole windows have one")
            found = await self._map(name, map_of, view.at)
        elif view.at is not None:
            found = await self._query(queries.past, name, view.at, self._permits)
        elif exact:
            if self._followed is None:
                raise PayloadError("exact=true: only exporters compute exact statistics")
            known, within = await self.detail(name), ANSWER_SECONDS
            found = await self.run(self._followed.exact, known, within, within=within)
        else:
            found = await self.detail(name)
        answer = application.json_response(found, query=query)
        answer.headers["Vary"] = "Accept"
        return answer

    async def _map(self, name: str, window: str, at: float | None) -> Map:
        known = [] if at is not None else model_page.known_now(await self.detail(name))
        found = await self._query(queries.window_map, name, window, at, known, self._permits)
        if found is None:
            raise NotFound(
                f"the {window} window of {name} has no map"
                f" {'at that time' if at is not None else 'now'}: it gets one while it drifts"
            )
        return found

    async def detail(self, name: str) -> Drift:
        """Report a model: as it is now if it is followed here, else as the store has it.

        Raises
        ------
        NotFound
            If there is no such model.
        NotChecked
            If no exporter has reported on it yet.
        StoreUnavailable
            If PostgreSQL is away, and the model is not followed here, or not yet.
        """
        self._require_possible(name)
        following = self._following
        if following is not None:
            if name in following.names:
                return await asyncio.to_thread(following.detail, name)
            if following.is_whole:
                raise NotFound(queries.missing(name))
        found = await self._query(queries.detail, name)
        for window in model_page.windows(found):
            told = window.explanation
            # It was made with the settings of another process, perhaps long ago.
            if told is not UNSET and not self._permits(told.texts, told.metadata_keys):
                window.explanation = UNSET
        return found

    async def _fleet(self, request: Request) -> Response:
        query = _fleet_query(request.query_params)
        following, points = self._following, None
        own = await _own(following)
        try:
            others = await self._others(following, own, _PAGE_SECONDS)
            slices = [
                Series(model.model_name, each.window, each.slice)
                for model in (*own, *others)
                for each in model.slices
            ]
            now, averages = await self._query(queries.averages, slices, seconds=_PAGE_SECONDS)
        except StoreUnavailable:
            if following is None:
                raise
            others, now, averages = [], following.now(), None
        chosen = await asyncio.to_thread(fleet_page.fleet, [*own, *others], query, averages)
        if averages is not None:
            names = [each.model.model_name for each in chosen.shown]
            with suppress(StoreUnavailable):
                points = await self._query(queries.day, names, now, seconds=_PAGE_SECONDS)
        return HTMLResponse(await asyncio.to_thread(fleet_page.render_fleet, chosen, points, now))

    async def _model_page(self, model: Drift, view: model_page.View) -> Response:
        following = self._following
        past, watched = None, 1 if following is None else following.watched
        is_past = view.at is not None
        seconds = ANSWER_SECONDS if is_past else _PAGE_SECONDS
        try:
            past, watched = await self._query(
                queries.past_of_page, model, view, self._permits, seconds=seconds
            )
        except StoreUnavailable:
            # Of a past time there is nothing else to show.
            if is_past:
                raise
        if past is not None:
            _require_slice(model, view.slice, past)
        page = await asyncio.to_thread(model_page.render_model, model, view, past, watched)
        return HTMLResponse(page, headers={"Vary": "Accept"})

    async def _style(self, _: Request) -> Response:
        caching = {"Cache-Control": "public, max-age=86400"}
        return Response(_style(), media_type="text/css", headers=caching)

    async def _runbook(self, _: Request) -> Response:
        return HTMLResponse(_runbook())


async def _own(following: Followed | None) -> list[ListedModel]:
    return [] if following is None else await asyncio.to_thread(following.listed)


def _require_slice(model: Drift, name: str, past: model_page.Past) -> None:
    """Raise NotFound if the slice that is asked for is not measured, and was not in this time."""
    listed = {of_slice for of_slice, _, _ in model_page.windows_of_slices(model)}
    was = {of_slice for of_slice, _ in past.sliced} | {each.slice for each in past.explained}
    if name and name not in listed | was and not past.points:
        has = f"it has {', '.join(sorted(listed))}" if listed else "it has none"
        raise NotFound(f"model {model.model_name!r} has no slice {name!r}; {has}")


@cache
def _runbook() -> str:
    return rendering.runbook()


@cache
def _style() -> str:
    return rendering.style()


def _wants_page(request: Request) -> bool:
    """Whether a browser asks. Programs that name no type get JSON."""
    types = media_types(request.headers.get("accept", "*/*"), ("application/json", "text/html"))
    return types[:1] != [] and types[0].startswith("text/html")


def _fleet_query(asked: QueryParams) -> fleet_page.FleetQuery:
    state = parameters.choice(asked, "state", _STATES, "") or None
    page = parameters.whole(asked, "page", 1, MOST_PAGES)
    return fleet_page.FleetQuery(asked.get("q", "").strip(), state, page)


def _view(asked: QueryParams) -> model_page.View:
    shown = parameters.choice(asked, "range", tuple(model_page.RANGES), "24h")
    return model_page.View(shown, parameters.moment(asked, "at"), _slice(asked))


def _slice(asked: QueryParams) -> str:
    """Return the slice that is asked for; empty without one. PostgreSQL takes no NUL in a text."""
    found = asked.get("slice", "")
    if found and ("=" not in found or "\0" in found):
        reason = f"is {found!r:.40}; allowed are slices, KEY=VALUE without NUL"
        raise PayloadError(f"slice {reason}", [Problem("slice", reason)])
    return found
