"""An endpoint: reads requests, has a function answer them, and counts the answers."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.http.body_reader import BodyReader
from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.errors import MonitorError, StoreUnavailable


@dataclass(slots=True)
class IncomingRequest:
    """A request whose body has been read.

    Attributes
    ----------
    body : bytes
        The answer gets it decompressed.
    headers : mapping
        By lower-case name. Of a header that occurs twice, the first.
    query : mapping
    scopes : collection of str
        What the client's credentials allow.
    held_bytes : int
        What the reader holds for the request, until it is answered.
    """

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    scopes: Collection[str]
    held_bytes: int


class Endpoint:
    """An ASGI application that answers the requests of one path.

    Starlette could call the function, too. What it adds for requests of any kind takes longer than
    reading a vector (``python -m bench.ingest.shortcuts``).

    Parameters
    ----------
    path : str
    unpack : callable
        Decompresses the body of a request, and returns how many bytes the reader holds for that.
    answer : callable
        Answers one request. May set its body to ``b""`` once it is parsed, to free memory.
    reader : BodyReader
        Shared with other endpoints, because it limits the memory of all.
    metrics : IngestMetrics
    """

    def __init__(
        self,
        path: str,
        unpack: Callable[[IncomingRequest], Awaitable[int]],
        answer: Callable[[IncomingRequest], Awaitable[Response]],
        reader: BodyReader,
        metrics: IngestMetrics,
    ) -> None:
        self._unpack = unpack
        self._answer = answer
        self._reader = reader
        self._answered = cache(lambda code: metrics.requests.labels(path, code))
        self._rejected = cache(lambda reason: metrics.rejected.labels(path, reason))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The middleware answers errors."""
        code = 500
        try:
            headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in reversed(scope["headers"])
            }
            query = QueryParams(scope["query_string"]) if scope["query_string"] else {}
            try:
                body = await self._reader.read(headers, receive)
                request = IncomingRequest(body, headers, query, scope["auth"], len(body))
                # The request holds the only reference, so that the answer can free the memory.
                del body
                response = await self._response(request)
            except CancelledError as error:
                # uvicorn cancels what still runs when it stops, and would answer 500, which
                # clients do not retry.
                raise StoreUnavailable("the service stops before the request was done") from error
            code = response.status_code
            await response(scope, receive, send)
        except MonitorError as error:
            code = error.status
            self._rejected(type(error).__name__).inc()
            raise
        finally:
            self._answered(code).inc()

    async def _response(self, request: IncomingRequest) -> Response:
        try:
            request.held_bytes += await self._unpack(request)
            return await self._answer(request)
        finally:
            self._reader.release(request.held_bytes)
