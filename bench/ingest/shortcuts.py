"""``python -m bench.ingest.shortcuts``: what each shortcut past Starlette saves.

Two services take turns on the same request, one with the shortcut and one without. Compared is the
CPU time of the service for a request, because other processes disturb it less than the rate.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import psutil
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.ingest import service, wrk
from bench.results import report
from ingest.http.app import Ingest
from ingest.http.endpoint import Endpoint, IncomingRequest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime import logs
from ingest.runtime.http import application, server
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings
from ingest.store.connection import connect
from ingest.store.migrate import migrate

DIMENSION = 768
CONNECTIONS = 64
HEADERS = {"Content-Type": "application/json"}


class WithoutShortcut:
    """The ingest half, its endpoints called by Starlette's router."""

    def __init__(self, half: Ingest, make_route: Callable[[str, Endpoint], Route]) -> None:
        self._half = half
        self.endpoints: application.Endpoints = {}
        self.refusals = half.refusals
        self.routes = [
            make_route(path, endpoint)
            for (_, path), endpoint in half.endpoints.items()
            if isinstance(endpoint, Endpoint)
        ]

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the half."""
        return self._half.running()

    def not_ready(self) -> str | None:
        """Return what the half says."""
        return self._half.not_ready()

    def reconfigure(self, settings: Settings) -> None:
        """Do not reload."""

    def described(self) -> Description:
        """Describe nothing."""
        return Description({})


def routed(path: str, endpoint: Endpoint) -> Route:
    """Route to the same endpoint."""
    return Route(path, endpoint, methods=["POST"])


def function(path: str, endpoint: Endpoint) -> Route:
    """Route to a function, which Starlette calls with a request."""
    answer: Callable[[IncomingRequest], Awaitable[Response]] = endpoint._answer
    reader = endpoint._reader

    async def call(request: Request) -> Response:
        body = await reader.read(request.headers, request.receive)
        size = len(body)
        try:
            query, scopes = request.query_params, request.scope["auth"]
            return await answer(IncomingRequest(body, request.headers, query, scopes, len(body)))
        finally:
            reader.release(size)

    return Route(path, call, methods=["POST"])


WITHOUT = {"routed": routed, "function": function}


def serve(name: str, store: str) -> None:
    """Serve the ingest half, as the product does or without a shortcut."""
    live = LiveSettings(lambda: load(None, None, {"server.port": 0}))
    logs.configure(live.settings.log)
    with connect(store) as connection:
        migrate(connection)
    registry = CollectorRegistry()
    half = Ingest(Pipeline(store, live.settings, registry), live.settings)
    served = WithoutShortcut(half, WITHOUT[name]) if name in WITHOUT else half
    app = application.application(registry, live, served)
    server.run(app, server.listen("127.0.0.1", 0), live, registry)


@contextmanager
def serving(store: str, name: str) -> Iterator[service.Service]:
    """Run :func:`serve` in a process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.ingest.shortcuts", name, store]
        with service.child(command, Path(folder) / "log") as started:
            yield started


def cpu_seconds(
    running: service.Service,
    body: bytes,
    seconds: float,
    headers: Mapping[str, str] = HEADERS,
) -> float:
    """Return the CPU time of a request."""
    process = psutil.Process(running.pid)
    before = process.cpu_times()
    load = wrk.post(f"{running.url}/embeddings", body, headers, CONNECTIONS, seconds)
    after = process.cpu_times()
    spent = after.user - before.user + after.system - before.system
    return spent / (load.rate * seconds)


def row(
    store: str, what: str, name: str, body: bytes, quick: bool
) -> tuple[str, float, float, str]:
    """Measure pairs, and return medians in microseconds and the median gain."""
    rounds, seconds = (2, 2.0) if quick else (15, 4.0)
    pairs = []
    with ExitStack() as stack:
        with_it = stack.enter_context(serving(store, "product"))
        without = stack.enter_context(serving(store, name))
        for running in (with_it, without):
            cpu_seconds(running, body, 1)
        for number in range(rounds):
            service.discard(store)
            order = [with_it, without] if number % 2 else [without, with_it]
            spent = {running.pid: cpu_seconds(running, body, seconds) for running in order}
            pairs.append((spent[with_it.pid], spent[without.pid]))
    ours, others = (1e6 * statistics.median(side) for side in zip(*pairs, strict=True))
    gain = 100 * (statistics.median(other / own for own, other in pairs) - 1)
    return what, round(ours), round(others), f"{gain:.0f}"


def main(quick: bool) -> None:
    """Measure and print."""
    vector = np.random.default_rng(0).normal(size=DIMENSION)
    body = msgspec.json.encode({"model_name": "singles", "embedding": vector.tolist()})
    with service.postgresql() as store:
        rows = [
            row(store, "endpoint called before the router", "routed", body, quick),
            row(store, "the same, and not a function of a request", "function", body, quick),
        ]
    report(
        "ingest.shortcuts",
        "shortcuts",
        f"CPU time of a request of one JSON vector of dimension {DIMENSION}",
        ("shortcut", "with, µs", "without, µs", "without costs more, %"),
        rows,
        quick,
    )


if __name__ == "__main__":
    if sys.argv[1:2] in (["product"], ["routed"], ["function"]):
        serve(*sys.argv[1:])
    else:
        main("--quick" in sys.argv[1:])
