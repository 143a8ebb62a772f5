"""Answers to an export, in the encoding of the request, as the OTLP specification says."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ingest.runtime.errors import MonitorError, PayloadError

PROTOBUF, JSON = "application/x-protobuf", "application/json"
"""Content types of both encodings."""


def accepted(refused: Sequence[MonitorError], cut: int) -> ExportTraceServiceResponse:
    """Return the answer when spans are stored.

    Parameters
    ----------
    refused : sequence of MonitorError
        One for each span that is not stored. If there are any, the success is partial.
    cut : int
        Spans that lack attributes. If there are any, the answer warns of that.
    """
    response = ExportTraceServiceResponse()
    said = [summary(refused)] if refused else []
    if cut:
        said.append(
            f"{cut} spans with vectors lack attributes that their SDK dropped, perhaps vectors:"
            " raise OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT there"
        )
    if said:
        response.partial_success.rejected_spans = len(refused)
        response.partial_success.error_message = "; ".join(said)
    return response


def summary(refused: Sequence[MonitorError]) -> str:
    """Say in one text why spans are refused."""
    first = refused[0].detail
    return first if len(refused) == 1 else f"{first}; in all, {len(refused)} spans are refused"


def failed(error: MonitorError) -> Status:
    """Return the answer when nothing is stored. It lists the places that are wrong."""
    # Without a code: OTLP uses none.
    status = Status(message=error.detail)
    if isinstance(error, PayloadError) and error.problems:
        violation = BadRequest.FieldViolation
        places = [violation(field=p.pointer, description=p.reason) for p in error.problems]
        status.details.add().Pack(BadRequest(field_violations=places))
    return status


def encode(message: Message, content_type: str) -> bytes:
    """Encode an answer: in protobuf if the request was, else in JSON."""
    if content_type == PROTOBUF:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None).encode()
