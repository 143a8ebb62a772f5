"""Exports of spans, in both encodings."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE, SPAN = bytes(range(16)), bytes(range(8))
END = 1_700_000_000_500_000_000


def any_value(value: Any) -> AnyValue:
    """Make a value of an attribute."""
    match value:
        case None:
            return AnyValue()
        case AnyValue():
            return value
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case Mapping():
            made = AnyValue()
            made.kvlist_value.SetInParent()
            for name, item in value.items():
                made.kvlist_value.values.add(key=name, value=any_value(item))
            return made
        case _:
            made = AnyValue()
            made.array_value.values.extend(map(any_value, value))
            made.array_value.SetInParent()
            return made


def embeddings(
    vectors: Sequence[Any], texts: Sequence[Any] = (), model_name: str | None = "m", **others: Any
) -> dict[str, Any]:
    """Make the attributes of a span of the OpenInference convention."""
    attributes: dict[str, Any] = {"openinference.span.kind": "EMBEDDING", **others}
    if model_name is not None:
        attributes["embedding.model_name"] = model_name
    for number, text in enumerate(texts):
        attributes[f"embedding.embeddings.{number}.embedding.text"] = text
    for number, vector in enumerate(vectors):
        attributes[f"embedding.embeddings.{number}.embedding.vector"] = vector
    return attributes


def span(attributes: Mapping[str, Any], number: int = 0, **fields: Any) -> Span:
    """Make a span; those of different numbers have different ids."""
    ids = {"trace_id": TRACE, "span_id": bytes([*SPAN[:-1], SPAN[-1] + number])}
    made = Span(**{"name": "CreateEmbeddings", "end_time_unix_nano": END, **ids, **fields})
    for name, value in attributes.items():
        made.attributes.add(key=name, value=any_value(value))
    return made


def export(*spans: Span, resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    """Make a request."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    for name, value in (resource or {}).items():
        of_resource.resource.attributes.add(key=name, value=any_value(value))
    of_resource.scope_spans.add().spans.extend(spans)
    return request


def in_json(request: ExportTraceServiceRequest) -> bytes:
    """Encode a request in JSON, with ids in hexadecimal as OTLP demands."""
    written = json_format.MessageToDict(request)
    for of_resource in written.get("resourceSpans", ()):
        for of_scope in of_resource.get("scopeSpans", ()):
            for of_span in of_scope.get("spans", ()):
                for name in {"traceId", "spanId", "parentSpanId"} & of_span.keys():
                    of_span[name] = base64.b64decode(of_span[name]).hex()
    return msgspec.json.encode(written)
