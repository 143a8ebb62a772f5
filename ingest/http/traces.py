"""``POST /v1/traces``: stores the vectors of spans, by OTLP/HTTP.

Specification: https://opentelemetry.io/docs/specs/otlp/#otlphttp.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from ingest.formats import checks
from ingest.formats.format import Place
from ingest.http.body_reader import BodyReader
from ingest.http.endpoint import IncomingRequest
from ingest.http.parser import Parser
from ingest.otlp import answers, json, openinference, protobuf
from ingest.otlp.openinference import Export
from ingest.otlp.spans import Span
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import guard
from ingest.runtime.errors import (
    Forbidden,
    MonitorError,
    PayloadError,
    TooManyModels,
    UnsupportedMediaType,
)
from ingest.runtime.http.problems import headers_of
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

_log = logging.getLogger(__name__)

TRACES = "/v1/traces"

_READERS: Mapping[str, Callable[[bytes], Iterator[Span]]] = {
    answers.PROTOBUF: protobuf.read,
    answers.JSON: json.read,
}
_PERMANENT = (PayloadError, Forbidden, TooManyModels)
"""Errors of a batch that sending it again would not help. Others concern the whole request."""


class Traces:
    """Answers exports of spans.

    A span that cannot be stored is refused alone, with all of its vectors. If no span can be
    accepted, the request is refused.

    Parameters
    ----------
    pipeline : Pipeline
    reader : BodyReader
        Has the current limits.
    parser : Parser
    """

    def __init__(self, pipeline: Pipeline, reader: BodyReader, parser: Parser) -> None:
        self._pipeline = pipeline
        self._reader = reader
        self._parser = parser

    async def answer(self, request: IncomingRequest) -> Response:
        """Store the vectors of a request."""
        content_type = checks.content_type(request.headers)
        if content_type not in _READERS:
            raise UnsupportedMediaType(
                f"Content-Type {content_type or '(none)'} is not supported; allowed are"
                f" {' and '.join(_READERS)}"
            )
        limits = self._reader.settings
        read = partial(_read, content_type=content_type, limits=limits, now=time.time())
        export = await self._parser.parsed(request, read, Place.THREAD)
        # An attribute of a resource becomes metadata of each of its vectors.
        self._parser.hold(request, sum(batch.nbytes for batch, _ in export.batches))
        refused = await self._stored(export, request.scopes)
        accepted = export.spans - len(refused)
        self._count(export, accepted, refused)
        answer = answers.accepted(refused, export.cut)
        if said := answer.partial_success.error_message:
            # Here too, because most exporters do not log it.
            _log.warning("spans refused or cut", extra={"error": said})
        if refused and not accepted:
            raise _of_whole(refused)
        for reason in {type(error).__name__ for error in refused}:
            self._pipeline.metrics.rejected.labels(TRACES, reason).inc()
        return Response(answers.encode(answer, content_type), media_type=content_type)

    async def _stored(self, export: Export, scopes: Collection[str]) -> list[MonitorError]:
        """Store all batches, and return why spans are refused, one error for each span.

        Raises
        ------
        MonitorError
            If the request should be sent again. What is stored already is then a duplicate.
        """
        # All at once, so that one transaction stores them.
        outcomes = await asyncio.gather(
            *(self._outcome(batch, scopes) for batch, _ in export.batches)
        )
        refused: list[MonitorError] = list(export.refused)
        for (_, spans), error in zip(export.batches, outcomes, strict=True):
            if error is not None and not isinstance(error, _PERMANENT):
                raise error
            if error is not None:
                refused += [error] * spans
        return refused

    async def _outcome(self, batch: Batch, scopes: Collection[str]) -> MonitorError | None:
        """Store a batch. Return why it cannot be stored; None if it is."""
        try:
            guard.require_write(scopes, batch.model_name)
            await self._pipeline.store(batch)
        except MonitorError as error:
            return error
        return None

    def _count(self, export: Export, accepted: int, refused: Sequence[MonitorError]) -> None:
        counts = {
            "stored": accepted - export.without_vectors,
            "without_vectors": export.without_vectors,
            "rejected": len(refused),
        }
        for outcome, spans in counts.items():
            self._pipeline.metrics.spans.labels(outcome).inc(spans)


def refusal(error: MonitorError, scope: Scope) -> Response:
    """Answer with an error as OTLP has it: a Status, in the encoding of the request."""
    content_type = checks.content_type(Headers(scope=scope))
    if content_type not in _READERS:
        content_type = answers.JSON
    body = answers.encode(answers.failed(error), content_type)
    return Response(body, error.status, headers_of(error), media_type=content_type)


def _of_whole(refused: Sequence[MonitorError]) -> MonitorError:
    """Make the error of a request of which no span is accepted."""
    first = refused[0]
    # OTLP has one status for all data that is invalid for good.
    kind = type(first) if first.status in (400, 403) else PayloadError
    problems = [problem for error in refused for problem in error.problems]
    return kind(answers.summary(refused), problems[: checks.LISTED])


def _read(body: bytes, content_type: str, limits: IngestSettings, now: float) -> Export:
    return openinference.read(_READERS[content_type](body), limits, now)
