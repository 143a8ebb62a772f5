"""The application: one or two halves on one port, their errors as problems."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
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

from ingest.runtime.auth.security import Protection, Security
from ingest.runtime.errors import MonitorError, Unauthorized
from ingest.runtime.http import exposition, lag, openapi
from ingest.runtime.settings.reload import FAMILIES as LIVE_FAMILIES
from ingest.runtime.settings.reload import Live
from ingest.runtime.settings.settings import Settings

_log = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS = 2

FAMILIES = (*LIVE_FAMILIES, *lag.FAMILIES)
"""Of every process, whichever half it serves."""


class Half(Protocol):
    """One half of the service: its endpoints and what runs behind them."""

    @property
    def routes(self) -> Sequence[Route]:
        """The endpoints."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the tasks behind the endpoints while entered; leaving drains them."""

    def not_ready(self) -> str | None:
        """Why requests cannot be served now; None when they can."""

    def reconfigure(self, settings: Settings) -> None:
        """Go on with other settings, called from any thread."""

    def described(self) -> openapi.Part:
        """Describe the endpoints, with the limits in force."""


def application(
    registry: CollectorRegistry, live: Live, *halves: Half, protection: Protection | None = None
) -> Starlette:
    """Build the application that serves the given halves and their metrics on one port.

    Without ``protection`` everyone may do everything, as on loopback.
    """
    live.register(registry)
    protection = protection or Protection(Security())
    routes = [route for half in halves for route in half.routes]
    for half in halves:
        live.subscribe(half.reconfigure)

    app = Starlette(
        routes=[*routes, exposition.route(registry), *_routes(live, halves, protection)],
        middleware=[Middleware(_Front, protection=protection, routes=routes)],
        exception_handlers={HTTPException: _on_http_exception},
        lifespan=lambda _: _running(registry, halves),
    )
    # A redirect would lead to whatever host the request names.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _running(registry: CollectorRegistry, halves: Sequence[Half]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(lag.measured(registry))
        for half in halves:
            await stack.enter_async_context(half.running())
        yield


def _routes(live: Live, halves: Sequence[Half], protection: Protection) -> list[Route]:
    """Make the endpoints of every process, whichever half it serves."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("healthy\n")

    async def ready(_: Request) -> Response:
        reasons = [reason for half in halves if (reason := half.not_ready()) is not None]
        return PlainTextResponse("\n".join(reasons or ["ready"]) + "\n", 503 if reasons else 200)

    async def reload(_: Request) -> Response:
        await asyncio.to_thread(live.reload)
        return PlainTextResponse("reloaded\n")

    async def describe(_: Request) -> Response:
        schemes = protection.security.guard.schemes
        return json(openapi.document([half.described() for half in halves], schemes))

    return [
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
        Route("/-/reload", reload, methods=["POST", "PUT"]),
        Route("/openapi.json", describe),
    ]


class _Front:
    """Lets in whom the guard admits, answers errors, and adds the headers that browsers need.

    Routes that are applications themselves are called from here: Starlette's way to them takes
    longer than they do.
    """

    def __init__(self, app: ASGIApp, protection: Protection, routes: Sequence[Route]) -> None:
        self._app = app
        self._protection = protection
        self._direct = {
            (method, route.path): route.app
            for route in routes
            if route.app is route.endpoint
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        security = self._protection.security  # once: a reload replaces it
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] += security.encoded_headers
                # An acknowledgement is for programs.
                if message["status"] != 201:
                    message["headers"] += security.encoded_page_headers
            await send(message)

        try:
            method, path = scope["method"], scope["path"]
            scope["auth"] = await security.guard.admit(method, path, _authorization(scope))
            app = self._direct.get((method, path), self._app)
            await app(scope, receive, send_with_headers)
        except Exception as error:
            if has_begun:
                raise  # to uvicorn, which logs it and hangs up: nothing else tells the client
            answer = _refusal(_foreseen(error, scope["path"]), security)
            await answer(scope, receive, send_with_headers)


def _foreseen(error: Exception, path: str) -> MonitorError:
    """Give the error that clients are told of; one that nobody foresaw is for the log alone."""
    if isinstance(error, MonitorError):
        return error
    _log.error("request failed", exc_info=error, extra={"path": path})
    return MonitorError("an unexpected error; the service's log has the details")


def _refusal(error: MonitorError, security: Security) -> Response:
    answer = problem(error)
    if isinstance(error, Unauthorized):
        for challenge in security.guard.challenges:
            answer.headers.append("WWW-Authenticate", challenge)
    return answer


def _authorization(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text
    return None


def problem(error: MonitorError) -> Response:
    """Answer with the error as an RFC 9457 problem."""
    body = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.problems:
        body["errors"] = [
            {"pointer": p.pointer, "reason": p.reason}
            | ({} if p.index is None else {"index": p.index})
            for p in error.problems
        ]
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if error.status in (429, 503) else None
    return Response(
        msgspec.json.encode(body), error.status, headers, media_type="application/problem+json"
    )


def json(content: object, status: int = 200) -> Response:
    """Answer with JSON; NaN and infinities become null, which JSON can say."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = MonitorError(f"{request.method} {request.url.path}: {error.detail}")
    known.status, known.title = error.status_code, error.detail
    answer = problem(known)
    answer.headers.update(error.headers or {})
    return answer
