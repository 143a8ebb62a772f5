"""``GET /metrics``: the content of a registry, computed and rendered in threads."""

from __future__ import annotations

import asyncio
import gzip
import math
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import NamedTuple

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
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
_VERSIONS = {"0.0.4", "1.0.0"}
"""Of either format. For others, prometheus_client fails or says that it writes them."""

_VERSION = re.compile(r";\s*version\s*=\s*([^;]*)", re.IGNORECASE)


class Format(NamedTuple):
    """A format of the page: how clients call it, and how prometheus_client writes it."""

    content_type: str
    encode: Callable[[Collector], bytes]


deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""When this scrape should have collected everything, by ``time.monotonic``.

A registry does not pass the request to its collectors, so they read Prometheus's timeout here.
"""
written: ContextVar[Format | None] = ContextVar("written", default=None)
"""The format in which a collector may yield each family as `Text`; None if it has to yield samples.
"""


class Families(Collector):
    """Families that were collected before."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> tuple[Metric, ...]:
        """Return them."""
        return self._families


class Text(Metric):
    """A family that its collector has written.

    Attributes
    ----------
    text : str
        What prometheus_client would write for it, without the end of the page.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, "", "unknown")
        self.text = text


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
    form = _format(_header(request, "accept"))
    # Text cannot be selected by name.
    page = form.encode(registry.restricted_registry(names)) if names else write(registry, form)
    headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
    if accepts_gzip(_header(request, "accept-encoding")):
        # The fastest level, because every level compresses about tenfold.
        page = gzip.compress(page, compresslevel=1)
        headers["Content-Encoding"] = "gzip"
    return Response(page, headers=headers)


def write(registry: Collector, form: Format) -> bytes:
    """Write a page."""
    token = written.set(form)
    try:
        found = list(registry.collect())
    finally:
        written.reset(token)
    others = Families(*(each for each in found if not isinstance(each, Text)))
    texts = [each.text.encode() for each in found if isinstance(each, Text)]
    end = form.encode(Families())
    return b"".join([form.encode(others).removesuffix(end), *texts, end])


def _format(accept: str) -> Format:
    """Choose the format that the client likes best; plain text if none is acceptable."""
    for media_type in media_types(accept, _MEDIA_TYPES):
        if not _VERSIONS.issuperset(_VERSION.findall(media_type)):
            continue
        encode, content_type = choose_encoder(media_type)
        # It falls back to text for an old version.
        if content_type.partition(";")[0] == media_type.partition(";")[0]:
            return Format(content_type, encode)
    encode, content_type = choose_encoder("")
    return Format(content_type, encode)


def _header(request: Request, name: str) -> str:
    return ",".join(request.headers.getlist(name))


def _timeout(request: Request) -> float:
    try:
        return float(request.headers.get("x-prometheus-scrape-timeout-seconds", "inf"))
    except ValueError:
        return math.inf
