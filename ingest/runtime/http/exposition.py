"""``GET /metrics``: a registry's content, computed and rendered beside the event loop."""

from __future__ import annotations

import asyncio
import gzip
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder, gzip_accepted
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_SCRAPES_AT_ONCE = 4
_MARGIN = 0.9
"""Share of Prometheus's timeout for collecting; the rest is for rendering and the way."""

deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""When the scrape under way should have collected all, by ``time.monotonic``.

A registry hands its collectors no request; this is how they learn of Prometheus's patience.
"""


def process_registry() -> CollectorRegistry:
    """Make a registry that tells of the process itself, without ``_created`` series."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def route(registry: CollectorRegistry) -> Route:
    """Serve the registry at exactly ``/metrics``."""
    # Threads of its own: those that all share may be waiting for a database that hangs.
    threads = ThreadPoolExecutor(_SCRAPES_AT_ONCE, thread_name_prefix="scrape")

    async def metrics(request: Request) -> Response:
        # In a thread: collecting takes long enough to hold up every other client.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, _render, registry, request.headers)

    return Route("/metrics", metrics, methods=["GET"])


def _render(registry: CollectorRegistry, headers: Headers) -> Response:
    deadline.set(time.monotonic() + _MARGIN * _timeout(headers))
    encode, content_type = choose_encoder(headers.get("accept", ""))
    answer = {"Content-Type": content_type, "Vary": "Accept-Encoding"}
    page = encode(registry)
    if gzip_accepted(headers.get("accept-encoding", "")):
        # The fastest level: pages compress tenfold whatever the effort.
        page = gzip.compress(page, compresslevel=1)
        answer["Content-Encoding"] = "gzip"
    return Response(page, headers=answer)


def _timeout(headers: Headers) -> float:
    try:
        return float(headers.get("x-prometheus-scrape-timeout-seconds", "inf"))
    except ValueError:
        return math.inf
