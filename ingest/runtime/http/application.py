"""The application: one or two halves of the service on one port.

A request passes :class:`_Middleware`, which checks where it comes from and its credentials, limits
its answer and answers errors. Then it goes to an endpoint of a half or of this module.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.runtime.auth.guard import OPEN
from ingest.runtime.auth.security import Protection, Security
from ingest.runtime.errors import MonitorError, QueueFull, Unauthorized
from ingest.runtime.http import exposition, lag, listener, openapi, parameters
from ingest.runtime.http.answers import Answers
from ingest.runtime.http.problems import problem
from ingest.runtime.http.protocol import connection
from ingest.runtime.settings.reload import FAMILIES as LIVE_FAMILIES
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings
from ingest.runtime.throttle import LogThrottle

_log = logging.getLogger(__name__)

FAMILIES = (*LIVE_FAMILIES, *lag.FAMILIES, *listener.FAMILIES)
"""Metric families of every process."""

Endpoints = Mapping[tuple[str, str], ASGIApp]
"""ASGI applications by method and exact path."""

Refusal = Callable[[MonitorError, Scope], Response]
Refusals = Mapping[str, Refusal]
"""How errors are answered at a path, where that is not by problem details."""


class Half(Protocol):
    """One half of the service: its endpoints and the tasks behind them."""

    @property
    def routes(self) -> Sequence[Route]:
        """Endpoints that Starlette's router calls."""

    @property
    def endpoints(self) -> Endpoints:
        """Endpoints called without the router: routing would take longer than the endpoint."""

    @property
    def refusals(self) -> Refusals:
        """Answers to errors at paths whose protocol has its own."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the tasks behind the endpoints while entered; leaving finishes them."""

    def not_ready(self) -> str | None:
        """Return why this half has not started yet; None from then on.

        It does not depend on what many replicas share. While PostgreSQL is away, all of them would
        be taken out of a Service at once, and clients would find nobody to tell them why.
        """

    def reconfigure(self, settings: Settings) -> None:
        """Apply other settings. May be called from any thread."""

    def described(self) -> openapi.Description:
        """Describe the endpoints, with the current limits."""


def application(
    registry: CollectorRegistry,
    live: LiveSettings,
    *halves: Half,
    protection: Protection | None = None,
) -> Starlette:
    """Build the application that serves the given halves and their metrics.

    Without ``protection``, every client may do everything, as on loopback.
    """
    live.register(registry)
    protection = protection or Protection(Security())
    endpoints = {key: app for half in halves for key, app in half.endpoints.items()}
    refusals = {path: refusal for half in halves for path, refusal in half.refusals.items()}
    for half in halves:
        live.subscribe(half.reconfigure)

    app = Starlette(
        routes=[
            *(route for half in halves for route in half.routes),
            # For the router, which answers other methods of these paths with 405.
            *(Route(path, app, methods=[method]) for (method, path), app in endpoints.items()),
            exposition.route(registry),
            *_routes(live, halves, protection),
        ],
        middleware=[
            Middleware(
                _Middleware,
                protection=protection,
                endpoints=endpoints,
                refusals=refusals,
                answers=Answers(live.settings.server.write_timeout),
            )
        ],
        exception_handlers={HTTPException: _on_http_exception},
        lifespan=lambda _: _running(registry, halves),
    )
    # A redirect would lead to the host that the request names, which may be any.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _running(registry: CollectorRegistry, halves: Sequence[Half]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(lag.measured(registry))
        for half in halves:
            await stack.enter_async_context(half.running())
        yield


def _routes(live: LiveSettings, halves: Sequence[Half], protection: Protection) -> list[Route]:
    """Make the endpoints that every process has."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("healthy\n")

    async def ready(_: Request) -> Response:
        reasons = [reason for half in halves if (reason := half.not_ready()) is not None]
        # They name the database and its role, and whoever asks needs no credentials.
        if protection.security.guard.schemes:
            reasons = ["not ready; the service's log says why"] * bool(reasons)
        return PlainTextResponse("\n".join(reasons or ["ready"]) + "\n", 503 if reasons else 200)

    async def reload(_: Request) -> Response:
        await asyncio.to_thread(live.reload)
        return PlainTextResponse("reloaded\n")

    documents: dict[tuple[str, ...], openapi.Json] = {}

    def forget(_: Settings) -> None:
        # Another dictionary: a document that is being made now may have limits of before.
        nonlocal documents
        documents = {}

    # After the halves, which are subscribed before.
    live.subscribe(forget)

    async def describe(request: Request) -> Response:
        made, schemes = documents, protection.security.guard.schemes
        # Made once, because it takes long and needs no credentials.
        if schemes not in made:
            made[schemes] = openapi.document([half.described() for half in halves], schemes)
        return json_response(made[schemes], query=request.query_params)

    return [
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
        Route("/-/reload", reload, methods=["POST", "PUT"]),
        Route("/openapi.json", describe),
    ]


class _Middleware:
    """Checks requests, calls the endpoint, answers errors and adds security headers."""

    def __init__(
        self,
        app: ASGIApp,
        protection: Protection,
        endpoints: Endpoints,
        refusals: Refusals,
        answers: Answers,
    ) -> None:
        self._app = app
        self._protection = protection
        self._endpoints = endpoints
        self._refusals = refusals
        self._answers = answers
        # A client could fill the disk by the request that fails.
        self._throttle = LogThrottle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        security = self._protection.security  # read once, because a reload replaces it
        has_begun = False
        sent = self._answers.to(scope, send)

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                sent.begin(message["headers"])
                has_begun = True
                message["headers"] += security.encoded_headers
                # Browsers do not show an acknowledgement of vectors.
                if message["status"] != 201:
                    message["headers"] += security.encoded_page_headers
            await sent.send(message)

        try:
            method, path = scope["method"], scope["path"]
            scope["auth"] = await _admitted(scope, security)
            app = self._endpoints.get((method, path), self._app)
            await app(scope, receive, send_with_headers)
        except Exception as error:
            if has_begun:
                raise  # the response has started, so the status cannot change
            answer = self._refusal(self._expected(error, scope["path"]), scope, security)
            await answer(scope, receive, send_with_headers)
        finally:
            sent.close()

    def _expected(self, error: Exception, path: str) -> MonitorError:
        """Return the error to answer with. Details of an unexpected one go to the log only."""
        if isinstance(error, MonitorError):
            return error
        # By place: another fault of the same kind is not left out.
        frame, line = deque(traceback.walk_tb(error.__traceback__), maxlen=1)[0]
        fault = f"{type(error).__name__} {frame.f_code.co_filename}:{line}"
        if self._throttle.passes(fault):
            left_out = self._throttle.left_out(fault)
            more = {"left_out": left_out} if left_out else {}
            _log.error("request failed", exc_info=error, extra={"path": path, **more})
        return MonitorError("an unexpected error; the service's log has the details")

    def _refusal(self, error: MonitorError, scope: Scope, security: Security) -> Response:
        own = self._refusals.get(scope["path"])
        answer = problem(error) if own is None else own(error, scope)
        if isinstance(error, Unauthorized):
            for challenge in security.guard.challenges:
                answer.headers.append("WWW-Authenticate", challenge)
        return answer


async def _admitted(scope: Scope, security: Security) -> frozenset[str]:
    """Check where a request goes and comes from, and return the scopes of the client.

    Raises
    ------
    MonitorError
        If the request is refused.
    """
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    security.sites.check(scope["method"], headers)
    authorization = headers.get(b"authorization", [None])[0]
    scopes = await security.guard.admit(
        scope["method"],
        scope["path"],
        None if authorization is None else authorization.decode("latin-1"),
    )
    if scope["path"] not in OPEN and (client := connection(scope)) is not None:
        try:
            client.admitted()
        except QueueFull:
            # Whoever watches the service must see what happens to it.
            if scope["path"] != "/metrics":
                raise
    return scopes


def json_response(
    content: object, status: int = 200, query: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """Answer with JSON. NaN and infinities become null.

    Parameters
    ----------
    content : object
    status : int
    query : mapping
        Parameters of the request. With ``pretty``, the JSON is indented.
    """
    encoded = msgspec.json.encode(content)
    if parameters.flag(query, "pretty"):
        encoded = msgspec.json.format(encoded, indent=2) + b"\n"
    return Response(encoded, status, media_type="application/json")


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = MonitorError(f"{request.method} {request.url.path}: {error.detail}")
    known.status, known.title = error.status_code, error.detail
    answer = problem(known)
    answer.headers.update(error.headers or {})
    return answer
