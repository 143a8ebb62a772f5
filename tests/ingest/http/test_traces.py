"""``POST /v1/traces`` on a real PostgreSQL: what is stored, and what is answered."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import tokens
from ingest.runtime.auth.guard import Guard
from ingest.runtime.auth.security import Protection, Security
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from tests.ingest.otlp.exports import END, SPAN, TRACE, embeddings, export, in_json, span

A, B = [0.5, 1.0, -2.0], [1.0, 0.0, 0.0]
PROTOBUF, JSON = "application/x-protobuf", "application/json"
Post = Callable[..., httpx2.Response]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def pipeline(store: str, registry: CollectorRegistry) -> Pipeline:
    return Pipeline(store, load(), registry)


@pytest.fixture
def client(pipeline: Pipeline, registry: CollectorRegistry) -> Iterator[TestClient]:
    settings = {"ingest.max_body_bytes": 30_000, "ingest.max_queue_bytes": 40_000}
    live = LiveSettings(lambda: load(None, None, {**settings, "ingest.max_models": 3}))
    pipeline.reconfigure(live.settings)
    secrets = {"writer": ["write"], "of-m": ["write:m"], "reader": ["drift"]}
    known = [
        tokens.Token(name=name, sha256=tokens.digest(name), scopes=scopes)
        for name, scopes in secrets.items()
    ]
    app = application.application(
        registry,
        live,
        Ingest(pipeline, live.settings),
        protection=Protection(Security(Guard({}, known))),
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        client.headers["Authorization"] = "Bearer writer"
        yield client


@pytest.fixture(params=[PROTOBUF, JSON])
def post(request: pytest.FixtureRequest, client: TestClient) -> Post:
    """Send an export in one of the encodings; the answer must have the same."""

    def post(message: ExportTraceServiceRequest, **headers: str) -> httpx2.Response:
        is_json = request.param == JSON
        body = in_json(message) if is_json else message.SerializeToString()
        if headers.get("Content_Encoding") == "gzip":
            body = gzip.compress(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = client.post(
            "/v1/traces", content=body, headers={"Content-Type": request.param, **named}
        )
        assert answer.headers["content-type"] == request.param
        return answer

    return post


def success(answer: httpx2.Response) -> ExportTraceServiceResponse:
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == JSON:
        return json_format.Parse(answer.text, ExportTraceServiceResponse())
    return ExportTraceServiceResponse.FromString(answer.content)


def failure(answer: httpx2.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    if answer.headers["content-type"] == JSON:
        return str(json_format.Parse(answer.text, Status()).message)
    return str(Status.FromString(answer.content).message)


def vectors(connection: psycopg.Connection, model_name: str = "m") -> list[list[float]]:
    statement = "select embedding::real[] from embedding where model_name = %s order by seq"
    return [row for (row,) in connection.execute(statement, [model_name])]


def counted(registry: CollectorRegistry, outcome: str) -> float | None:
    labels = {"outcome": outcome}
    return registry.get_sample_value("embedding_drift_ingest_spans_total", labels)


def test_vectors_of_spans_are_stored_when_they_are_acknowledged(
    post: Post, connection: psycopg.Connection, registry: CollectorRegistry
) -> None:
    spans = span(embeddings([A, B], ["one", "two"])), span({"llm.model_name": "gpt"}, 1)
    answer = success(post(export(*spans, resource={"service.name": "search"})))
    assert not answer.HasField("partial_success")
    id_ = f"{TRACE.hex()}-{SPAN.hex()}"
    assert connection.execute(
        "select id, embedding::real[], metadata, extract(epoch from embedded_at)::float"
        " from embedding order by seq"
    ).fetchall() == [
        (f"{id_}-0", A, {"service.name": "search", "text": "one"}, END / 1e9),
        (f"{id_}-1", B, {"service.name": "search", "text": "two"}, END / 1e9),
    ]
    outcomes = ("stored", "without_vectors", "rejected")
    assert [counted(registry, outcome) for outcome in outcomes] == [1, 1, 0]


def test_a_retry_is_a_duplicate(post: Post, connection: psycopg.Connection) -> None:
    message = export(span(embeddings([A, B])), span(embeddings([A]), 1))
    for _ in range(2):
        assert not success(post(message)).HasField("partial_success")
    assert vectors(connection) == [A, B, A]


def test_a_span_twice_in_one_request_is_a_duplicate(
    post: Post, connection: psycopg.Connection
) -> None:
    success(post(export(span(embeddings([A])), span(embeddings([A])))))
    assert vectors(connection) == [A]


def test_a_compressed_body_is_stored(post: Post, connection: psycopg.Connection) -> None:
    success(post(export(span(embeddings([A]))), Content_Encoding="gzip"))
    assert vectors(connection) == [A]


def test_an_empty_request_is_acknowledged(post: Post) -> None:
    assert not success(post(export())).HasField("partial_success")


def test_other_spans_are_stored_beside_a_refused_one(
    post: Post, connection: psycopg.Connection, registry: CollectorRegistry
) -> None:
    spans = (
        span(embeddings([A])),
        span(embeddings([[1.0, float("nan"), 0.0]]), 1),
        span(embeddings([B], model_name=None), 2),
    )
    partial = success(post(export(*spans))).partial_success
    assert partial.rejected_spans == 2
    assert "is NaN" in partial.error_message
    assert vectors(connection) == [A]
    assert (counted(registry, "stored"), counted(registry, "rejected")) == (1, 2)
    for reason in ("NonFinite", "PayloadError"):
        labels = {"route": "/v1/traces", "reason": reason}
        assert registry.get_sample_value("embedding_drift_ingest_rejected_total", labels) == 1


def test_spans_that_the_store_refuses_are_counted_in_the_partial_success(
    post: Post, connection: psycopg.Connection
) -> None:
    success(post(export(span(embeddings([A])))))
    spans = [span(embeddings([B]), 1), *(span(embeddings([[1.0, 2.0]]), n) for n in (2, 3))]
    partial = success(post(export(*spans))).partial_success
    assert partial.rejected_spans == 2
    assert "dimension 3; these have 2" in partial.error_message
    assert vectors(connection) == [A, B]


def test_models_beyond_the_limit_are_refused(post: Post, connection: psycopg.Connection) -> None:
    spans = [span(embeddings([A], model_name=f"m{number}"), number) for number in range(4)]
    partial = success(post(export(*spans))).partial_success
    assert partial.rejected_spans == 1
    assert "ingest.max_models" in partial.error_message
    assert len(connection.execute("select from embedding").fetchall()) == 3


def test_a_request_of_refused_spans_only_is_bad_data(post: Post) -> None:
    success(post(export(span(embeddings([A])))))
    wrong = [[1.0, 2.0]]
    message = failure(post(export(*(span(embeddings(wrong), n) for n in (1, 2)))), 400)
    assert "these have 2" in message
    assert "in all, 2 spans are refused" in message
    assert "is NaN" in failure(post(export(span(embeddings([[float("inf")] * 3]), 3))), 400)


def test_refused_spans_beside_some_without_vectors_are_a_partial_success(post: Post) -> None:
    message = export(span({}, 1), span(embeddings(["x"])))
    assert success(post(message)).partial_success.rejected_spans == 1


def test_a_span_that_lacks_attributes_is_stored_with_a_warning(
    post: Post, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    partial = success(
        post(export(span(embeddings([A]), dropped_attributes_count=3)))
    ).partial_success
    assert partial.rejected_spans == 0
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in partial.error_message
    assert vectors(connection) == [A]
    [record] = [record for record in caplog.records if record.msg == "spans refused or cut"]
    assert vars(record)["error"] == partial.error_message


def test_scopes_decide_by_model(post: Post, connection: psycopg.Connection) -> None:
    both = export(span(embeddings([A])), span(embeddings([A], model_name="n"), 1))
    partial = success(post(both, Authorization="Bearer of-m")).partial_success
    assert partial.rejected_spans == 1
    assert "needs the scope write:n" in partial.error_message
    assert (vectors(connection, "m"), vectors(connection, "n")) == ([A], [])
    only_n = export(span(embeddings([A], model_name="n"), 1))
    assert "write:n" in failure(post(only_n, Authorization="Bearer of-m"), 403)


def test_refusals_before_the_body_are_statuses_too(post: Post) -> None:
    unknown = post(export(), Authorization="Bearer wrong")
    assert "credentials" in failure(unknown, 401)
    assert unknown.headers["www-authenticate"].startswith("Bearer")
    assert "scope write" in failure(post(export(), Authorization="Bearer reader"), 403)
    assert "another origin" in failure(post(export(), Origin="http://evil.example"), 403)


def test_what_should_be_sent_again_says_when(
    post: Post, pipeline: Pipeline, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Any) -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(pipeline, "store", fails)
    spans = span(embeddings([A])), span(embeddings(["x"]), 1), span({}, 2)
    answer = post(export(*spans))
    assert failure(answer, 503) == "no answer"
    assert int(answer.headers["retry-after"]) > 0
    assert counted(registry, "rejected") is None


def test_what_comes_out_of_gzip_is_limited(post: Post) -> None:
    message = export(span(embeddings([A], ["x" * 40_000])))
    assert "decompressed" in failure(post(message, Content_Encoding="gzip"), 413)
    assert "ingest.max_body_bytes" in failure(post(message), 413)


def test_what_comes_out_of_gzip_counts_as_memory_in_use(
    client: TestClient, pipeline: Pipeline, registry: CollectorRegistry, post: Post
) -> None:
    held: list[float | None] = []
    stored = pipeline.store

    async def store(batch: Any) -> Any:
        held.append(registry.get_sample_value("embedding_drift_ingest_queue_bytes"))
        return await stored(batch)

    pipeline.store = store  # type: ignore[method-assign]
    message = export(span(embeddings([A], ["x" * 20_000])))
    success(post(message, Content_Encoding="gzip"))
    assert held[0] is not None
    assert held[0] > 20_000
    assert registry.get_sample_value("embedding_drift_ingest_queue_bytes") == 0


@pytest.mark.parametrize(("count", "held"), [(3, 30_000), (9, 40_000)])
def test_metadata_that_an_attribute_multiplies_counts_as_memory_in_use(
    pipeline: Pipeline, registry: CollectorRegistry, post: Post, count: int, held: int
) -> None:
    """More than all requests may take together counts as that, so that it is stored alone."""
    name = "embedding_drift_ingest_queue_bytes"
    found: list[float] = []
    stored = pipeline.store

    async def store(batch: Any) -> Any:
        found.append(registry.get_sample_value(name) or 0)
        return await stored(batch)

    pipeline.store = store  # type: ignore[method-assign]
    message = export(span(embeddings([A] * count)), resource={"service.name": "x" * 10_000})
    assert message.ByteSize() < 12_000
    success(post(message))
    assert held <= found[0] <= 40_000
    assert registry.get_sample_value(name) == 0


def test_a_body_that_cannot_be_decoded_is_bad_data(client: TestClient) -> None:
    for content_type in (PROTOBUF, JSON):
        answer = client.post("/v1/traces", content=b"[", headers={"Content-Type": content_type})
        assert answer.headers["content-type"] == content_type
        assert "not an ExportTraceServiceRequest" in failure(answer, 400)


def test_another_content_type_is_refused_in_json(client: TestClient) -> None:
    answer = client.post("/v1/traces", content=b"", headers={"Content-Type": "text/plain"})
    assert "application/x-protobuf and application/json" in failure(answer, 415)


def test_an_unknown_compression_is_refused(post: Post) -> None:
    assert "allowed are gzip" in failure(post(export(), Content_Encoding="br"), 415)


def test_the_same_vectors_come_out_of_json_numbers(
    client: TestClient, connection: psycopg.Connection
) -> None:
    """As a JavaScript SDK writes them: whole numbers are integers."""
    values = [{"intValue": 1}, {"doubleValue": 0.5}, {"intValue": "-2"}]
    attributes = [
        {"key": "embedding.model_name", "value": {"stringValue": "m"}},
        {
            "key": "embedding.embeddings.0.embedding.vector",
            "value": {"arrayValue": {"values": values}},
        },
    ]
    of_span = {"traceId": "A" * 32, "spanId": "b" * 16, "attributes": attributes}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [of_span]}]}]}
    answer = client.post("/v1/traces", json=body)
    assert (answer.status_code, json.loads(answer.text)) == (200, {})
    np.testing.assert_array_equal(vectors(connection), [[1, 0.5, -2]])
