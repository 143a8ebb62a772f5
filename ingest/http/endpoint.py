"""An endpoint: reads the requests of one route, has them answered, and counts the answers."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.http.bodies import Bodies
from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.errors import MonitorError, StoreUnavailable


@dataclass(slots=True)
class Arrived:
    """A request that is all there.

    Attributes
    ----------
    body : bytes
    headers : mapping
        By lower-case name; of one that came twice, the first.
    query : mapping
    scopes : collection of str
        What whoever sent it may do.
    """

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    scopes: Collection[str]


class Endpoint:
    """Answers one route; its requests share an allowance with those of others.

    Starlette would do with a function, too. What it wraps around one, for requests of any kind,
    takes longer than reading a vector.
    """

    def __init__(
        self,
        path: str,
        answer: Callable[[Arrived], Awaitable[Response]],
        bodies: Bodies,
        metrics: IngestMetrics,
    ) -> None:
        self._answer = answer
        self._bodies = bodies
        self._answered = cache(lambda code: metrics.requests.labels(path, code))
        self._rejected = cache(lambda reason: metrics.rejected.labels(path, reason))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors are for the middleware to answer."""
        code, size = 500, 0
        try:
            headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in reversed(scope["headers"])
            }
            try:
                body = await self._bodies.read(headers, receive)
                size = len(body)
                query = QueryParams(scope["query_string"]) if scope["query_string"] else {}
                arrived = Arrived(body, headers, query, scope["auth"])
                # Whoever answers lets go of it: it takes several times its vectors' memory.
                del body
                response = await self._answer(arrived)
            except CancelledError as error:
                # By uvicorn, which stops and waits no longer. It would make it a 500, which
                # nobody sends again.
                raise StoreUnavailable("the service stops before the request was done") from error
            code = response.status_code
        except MonitorError as error:
            code = error.status
            self._rejected(type(error).__name__).inc()
            raise
        finally:
            self._bodies.size -= size
            self._answered(code).inc()
        await response(scope, receive, send)
