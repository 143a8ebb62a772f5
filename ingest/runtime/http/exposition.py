"""``GET /metrics``: the content of a registry, computed and rendered in threads."""

from __future__ import annotations

import asyncio
import gzip
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.runtime.http.negotiation import accepts_gzip, media_types

_SCRAPES_AT_ONCE = 4
_MARGIN = 0.9
"""Share of Prometheus's timeout for collecting. The rest is for rendering and the network."""

_MEDIA_TYPES = ("text/plain", "application/openmetrics-text")


deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""When this scrape should have collected everything, by ``time.monotonic``.

A registry does not pass the request to its collectors, so they read Prometheus's timeout here.
"""


def process_registry() -> CollectorRegistry:
    """Make a registry with metrics of the process, without ``_created`` series."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    # The collectors of the process have no describe(), which name[] needs otherwise.
    registry = CollectorRegistry(support_collectors_without_names=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def route(registry: CollectorRegistry) -> Route:
    """Serve the registry at exactly ``/metrics``.

    ``?name[]=NAME`` selects samples by name; it may be repeated.
    """
    # Own threads, because those of asyncio.to_thread may all wait for a database that hangs.
    threads = ThreadPoolExecutor(_SCRAPES_AT_ONCE, thread_name_prefix="scrape")

    async def metrics(request: Request) -> Response:
        # In a thread, because collecting would block all other clients.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, _render, registry, request)

    return Route("/metrics", metrics, methods=["GET"])


def _render(registry: CollectorRegistry, request: Request) -> Response:
    deadline.set(time.monotonic() + _MARGIN * _timeout(request))
    names = request.query_params.getlist("name[]")
    encode, content_type = _encoder(_header(request, "accept"))
    page = encode(registry.restricted_registry(names) if names else registry)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if accepts_gzip(_header(request, "accept-encoding")):
        # The fastest level, because every level compresses about tenfold.
        page = gzip.compress(page, compresslevel=1)
        headers["Content-Encoding"] = "gzip"
    return Response(page, headers=headers)


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Choose the format that the client likes best; plain text if none is acceptable."""
    for media_type in media_types(accept, _MEDIA_TYPES):
        encode, content_type = choose_encoder(media_type)
        # It falls back to text for a version that it does not know.
        if content_type.partition(";")[0] == media_type.partition(";")[0]:
            return encode, content_type
    return choose_encoder("")


def _header(request: Request, name: str) -> str:
    return ",".join(request.headers.getlist(name))


def _timeout(request: Request) -> float:
    try:
        return float(request.headers.get("x-prometheus-scrape-timeout-seconds", "inf"))
    except ValueError:
        return math.inf
