"""An endpoint: what it gives to its function, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import Message

from ingest.http.body_reader import BodyReader
from ingest.http.endpoint import Endpoint, IncomingRequest
from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.errors import MonitorError, PayloadError, StoreUnavailable
from ingest.runtime.settings.settings import IngestSettings

Answer = Callable[[IncomingRequest], Awaitable[Response]]


class Called:
    """One request to an endpoint: what it sent, counted and raised."""

    def __init__(self, answer: Answer, query: bytes = b"") -> None:
        self.registry = CollectorRegistry()
        self.reader = BodyReader(IngestSettings(), 1)
        self.sent: list[Message] = []
        self.error: MonitorError | None = None

        async def unpack(request: IncomingRequest) -> int:
            request.body = request.body.upper()
            self.reader.hold(3)
            return 3

        endpoint = Endpoint(
            "/embeddings", unpack, answer, self.reader, IngestMetrics(self.registry)
        )
        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(b"x-model", b"first"), (b"x-model", b"second")],
            "query_string": query,
            "auth": {"write"},
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": b"body", "more_body": False}

        async def send(message: Message) -> None:
            self.sent.append(message)

        try:
            asyncio.run(endpoint(scope, receive, send))
        except MonitorError as error:
            self.error = error

    def requests(self, code: int) -> float | None:
        labels = {"route": "/embeddings", "code": str(code)}
        return self.registry.get_sample_value("embedding_drift_ingest_requests_total", labels)

    def rejected(self, reason: str) -> float | None:
        labels = {"route": "/embeddings", "reason": reason}
        return self.registry.get_sample_value("embedding_drift_ingest_rejected_total", labels)


def test_the_function_gets_unpacked_body_first_headers_query_and_scopes() -> None:
    requests = []

    async def answer(request: IncomingRequest) -> Response:
        requests.append(request)
        return Response("stored", 201)

    called = Called(answer, b"model=m")
    [request] = requests
    assert request.body == b"BODY"
    assert request.headers["x-model"] == "first"
    assert request.query["model"] == "m"
    assert request.scopes == {"write"}
    assert called.sent[0]["status"] == 201
    assert called.requests(201) == 1
    assert called.reader.held_bytes == 0


@pytest.mark.parametrize("error", [PayloadError("no"), StoreUnavailable("no")])
def test_an_error_is_counted_with_its_status_and_raised_for_the_middleware(
    error: MonitorError,
) -> None:
    async def answer(_: IncomingRequest) -> Response:
        raise error

    called = Called(answer)
    assert called.error is error
    assert called.sent == []
    assert called.requests(error.status) == 1
    assert called.rejected(type(error).__name__) == 1
    assert called.reader.held_bytes == 0


def test_a_request_that_is_cancelled_at_the_stop_gets_503() -> None:
    async def answer(_: IncomingRequest) -> Response:
        raise asyncio.CancelledError

    called = Called(answer)
    assert isinstance(called.error, StoreUnavailable)
    assert called.requests(503) == 1


def test_an_unexpected_error_is_counted_as_500() -> None:
    async def answer(_: IncomingRequest) -> Response:
        raise KeyError("bug")

    seen: list[Called] = []

    class Kept(Called):
        def __init__(self) -> None:
            seen.append(self)
            super().__init__(answer)

    with pytest.raises(KeyError):
        Kept()
    assert seen[0].requests(500) == 1
    assert seen[0].reader.held_bytes == 0
