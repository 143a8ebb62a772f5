"""``python -m bench.ingest.traces``: what a vector in a trace costs, against one in a JSON batch.

The same vectors, with new ids and the same texts in every request, come as spans with one vector
each, as one span with all of them, and as a batch in JSON. Compared is the CPU time of the service
for a vector, because other processes disturb it less than the rate; the forms take turns.
"""

from __future__ import annotations

import base64
import statistics
import sys

import msgspec
import numpy as np
import psutil
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from bench.ingest import service, wrk
from bench.results import report

DIMENSION = 768
BATCH = 100
CONNECTIONS = 4
TEXT = "a text of usual length, as one searches for it in a shop or in a support forum"
PROTOBUF, JSON = "application/x-protobuf", "application/json"

Form = tuple[str, str, bytes]
"""Path, content type and body."""


def export(vectors: np.ndarray, spans: int) -> ExportTraceServiceRequest:
    """Make a request of vectors in so many spans."""
    request = ExportTraceServiceRequest()
    found = request.resource_spans.add().scope_spans.add().spans
    for number, rows in enumerate(np.split(vectors, spans)):
        span: Span = found.add(name="CreateEmbeddings", trace_id=wrk.FRESH.encode())
        span.span_id = (number + 1).to_bytes(8)
        span.end_time_unix_nano = 1_700_000_000_000_000_000
        span.attributes.add(key="embedding.model_name").value.string_value = "traces"
        for at, row in enumerate(rows):
            start = f"embedding.embeddings.{at}.embedding"
            span.attributes.add(key=f"{start}.text").value.string_value = TEXT
            values = span.attributes.add(key=f"{start}.vector").value.array_value.values
            for component in row.tolist():
                values.add(double_value=component)
    return request


def in_json(request: ExportTraceServiceRequest) -> bytes:
    """Encode a request in JSON, with ids in hexadecimal as OTLP demands."""
    written = json_format.MessageToDict(request)
    for span in written["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        span["traceId"] = 2 * wrk.FRESH
        span["spanId"] = base64.b64decode(span["spanId"]).hex()
    return msgspec.json.encode(written)


def batch(vectors: np.ndarray) -> bytes:
    """Make a batch in JSON with the ids and metadata that spans have."""
    return msgspec.json.encode(
        {
            "model_name": "batches",
            "embeddings": vectors.tolist(),
            "ids": [f"{wrk.FRESH}-{number}" for number in range(len(vectors))],
            "metadata": [{"text": TEXT, "timestamp": 1_700_000_000}] * len(vectors),
        }
    )


def measured(running: service.Service, form: Form, seconds: float) -> tuple[float, float]:
    """Return vectors per second, and the CPU time of the service for one."""
    path, content_type, body = form
    process = psutil.Process(running.pid)
    before = process.cpu_times()
    url, headers = f"{running.url}{path}", {"Content-Type": content_type}
    rate = BATCH * wrk.post(url, body, headers, CONNECTIONS, seconds).rate
    after = process.cpu_times()
    spent = after.user - before.user + after.system - before.system
    return rate, spent / (rate * seconds)


def main(quick: bool) -> None:
    """Measure and print."""
    rounds, seconds = (2, 2.0) if quick else (9, 4.0)
    vectors = np.random.default_rng(0).normal(size=(BATCH, DIMENSION)).astype(np.float32)
    forms: dict[str, Form] = {
        f"JSON, batches of {BATCH}": ("/embeddings", JSON, batch(vectors)),
        f"OTLP in protobuf, {BATCH} spans": (
            "/v1/traces",
            PROTOBUF,
            export(vectors, BATCH).SerializeToString(),
        ),
        "OTLP in protobuf, one span": (
            "/v1/traces",
            PROTOBUF,
            export(vectors, 1).SerializeToString(),
        ),
        f"OTLP in JSON, {BATCH} spans": ("/v1/traces", JSON, in_json(export(vectors, BATCH))),
    }
    first = next(iter(forms))
    found: dict[str, list[tuple[float, float]]] = {what: [] for what in forms}
    with service.postgresql() as store, service.serving(store, "ingest") as ingest:
        for form in forms.values():
            measured(ingest, form, 1)
        for number in range(rounds):
            service.discard(store)
            for what in list(forms)[:: 1 if number % 2 else -1]:
                found[what].append(measured(ingest, forms[what], seconds))
    rows = []
    for what, measurements in found.items():
        rates, spent = zip(*measurements, strict=True)
        ratios = [own / other for own, (_, other) in zip(spent, found[first], strict=True)]
        rows.append(
            (
                what,
                f"{statistics.median(rates):,.0f}",
                round(1e6 * statistics.median(spent)),
                f"{statistics.median(ratios):.2f}",
            )
        )
    report(
        "ingest.traces",
        "traces",
        f"Vectors of dimension {DIMENSION} with ids and texts",
        ("form", "vectors /s", "CPU µs a vector", "of JSON batches"),
        rows,
        quick,
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
