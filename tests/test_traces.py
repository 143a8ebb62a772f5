"""Traces of real instrumentations reach the store: no program but its exporter is changed."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psycopg
import pytest
from numpy.typing import NDArray
from openinference.instrumentation import TracerProvider, using_session
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider as PlainProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from demo.stack import free_port
from ingest.runtime.auth import tokens
from ingest.store.connection import connect
from tests.service import Service, serving, wait_for

MODEL = "text-embedding-3-small"
DIMENSION = 8
KEY = "of a test"


def embedded(text: str) -> NDArray[np.float32]:
    """What the provider answers for a text."""
    seed = int.from_bytes(text.encode()[-8:].rjust(8, b"\0"))
    return np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)


class Provider(ThreadingHTTPServer):
    """A stand-in for the provider's API: answers what the API would, and nothing else."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Embeddings)
        self.wrong: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Embeddings(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = (self.path, self.headers["Authorization"], body["model"])
        if asked != ("/v1/embeddings", f"Bearer {KEY}", MODEL):
            self.server.wrong.append(repr(asked))
        if body.keys() - {"model", "input", "encoding_format"}:
            self.server.wrong.append(repr(body))
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        as_base64 = body.get("encoding_format", "float") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(embedded(text).tobytes()).decode()
                if as_base64
                else embedded(text).tolist(),
            }
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        answer = {"object": "list", "data": data, "model": MODEL, "usage": usage}
        sent = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        yield provider
        provider.shutdown()
        thread.join()
    assert provider.wrong == []


@pytest.fixture(scope="module")
def running(module_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = tmp_path_factory.mktemp("service") / "config.yaml"
    config.write_text(f'{{database: {{connection_string: "{module_store}"}}, server: {{port: 0}}}}')
    with serving(config, "ingest") as service:
        yield service


@pytest.fixture
def service(running: Service, rows: psycopg.Connection) -> Service:
    """A service of all tests, without vectors."""
    rows.execute("delete from embedding")
    return running


@pytest.fixture
def rows(module_store: str) -> Iterator[psycopg.Connection]:
    """An open connection to the store of that service."""
    with connect(module_store) as connection:
        yield connection


COLLECTOR = """
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
exporters:
  otlphttp:
    endpoint: {url}
    encoding: {encoding}
    headers: {{Authorization: "Bearer {token}"}}
    retry_on_failure: {{initial_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
"""


@pytest.fixture
def collector() -> Path:
    """The program that `make tools-collector` builds."""
    modules = (Path(__file__).parent / "collector" / "go.mod").read_text()
    version = re.search(r"/collector/otelcol v(\S+)", modules)
    assert version
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = cache / "embedding-drift" / f"otelcol-{version[1]}"
    if not found.exists():
        missing = "the OpenTelemetry Collector is not built; make tools-collector"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def collecting(collector: Path, config: Path, port: int, **settings: str) -> Iterator[Path]:
    """Run the Collector and give its log."""
    config.write_text(COLLECTOR.format(port=port, **settings))
    log = config.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen([collector, "--config", config], stderr=stream)
    try:
        wait_for(lambda: "Everything is ready" in log.read_text(), "the Collector")
        yield log
    finally:
        process.terminate()
        process.wait(240)


def instrumented(
    traces: PlainProvider, provider: Provider, texts: list[str], session: str
) -> list[list[float]]:
    """Embed texts by the real client, as an instrumented program does."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=traces)
    try:
        with openai.OpenAI(base_url=provider.url, api_key=KEY) as client, using_session(session):
            answer = client.embeddings.create(model=MODEL, input=texts)
    finally:
        instrumentor.uninstrument()
    return [item.embedding for item in answer.data]


def exporter_to(url: str, compression: Compression = Compression.NoCompression) -> OTLPSpanExporter:
    """Make an exporter with the patience that a busy machine needs: the default is 10 seconds."""
    return OTLPSpanExporter(f"{url}/v1/traces", compression=compression, timeout=60)


def stored(connection: psycopg.Connection) -> list[tuple[str, str, list[float], dict[str, Any]]]:
    return connection.execute(
        "select model_name, id, embedding::real[], metadata from embedding order by seq"
    ).fetchall()


@pytest.mark.xdist_group("traces")
@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
@pytest.mark.parametrize("traces_of", [PlainProvider, TracerProvider])
def test_an_instrumented_program_needs_one_exporter(
    service: Service,
    provider: Provider,
    rows: psycopg.Connection,
    compression: Compression,
    traces_of: type[PlainProvider],
) -> None:
    traces = traces_of(resource=Resource({"service.name": "search"}))
    exporter = exporter_to(service.url, compression)
    traces.add_span_processor(BatchSpanProcessor(exporter))
    texts = [f"text {number}" for number in range(3)]
    got = instrumented(traces, provider, texts, "session 1")
    with traces.get_tracer("program").start_as_current_span("a span without vectors"):
        pass
    assert traces.force_flush(240_000)
    traces.shutdown()
    found = stored(rows)
    vectors = np.array([row[2] for row in found], np.float32)
    np.testing.assert_array_equal(vectors, [embedded(text) for text in texts])
    np.testing.assert_array_equal(vectors, np.array(got, np.float32))
    assert {row[0] for row in found} == {MODEL}
    assert [row[3] for row in found] == [
        {"service.name": "search", "session.id": "session 1", "text": text} for text in texts
    ]


@pytest.mark.xdist_group("traces")
def test_a_retried_export_stores_nothing_twice(
    service: Service, provider: Provider, rows: psycopg.Connection
) -> None:
    traces, exporter = PlainProvider(), exporter_to(service.url)

    class Twice(BatchSpanProcessor):
        """As an exporter does when the answer to the first try is lost."""

        def on_end(self, span: Any) -> None:
            assert exporter.export([span]) is SpanExportResult.SUCCESS
            assert exporter.export([span]) is SpanExportResult.SUCCESS

    traces.add_span_processor(Twice(exporter))
    instrumented(traces, provider, ["a", "b"], "s")
    traces.shutdown()
    assert [row[3]["text"] for row in stored(rows)] == ["a", "b"]


@pytest.mark.xdist_group("traces")
def test_a_span_of_more_texts_than_the_sdk_keeps_attributes_loses_texts_and_no_vectors(
    service: Service, provider: Provider, rows: psycopg.Connection
) -> None:
    """The SDK's default of 128 attributes. The log of the service says so."""
    traces = PlainProvider()
    traces.add_span_processor(BatchSpanProcessor(exporter_to(service.url)))
    instrumented(traces, provider, [f"text {number}" for number in range(100)], "s")
    assert traces.force_flush(240_000)
    traces.shutdown()
    found = stored(rows)
    assert len(found) == 100
    assert sum("text" in (row[3] or {}) for row in found) < 100
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in service.log.read_text()


@pytest.mark.xdist_group("traces")
def test_a_refused_export_fails_in_the_program_and_the_log_of_the_service_says_why(
    service: Service,
) -> None:
    traces, exporter = PlainProvider(), exporter_to(service.url)
    tracer = traces.get_tracer("program")
    results = []

    class Kept(BatchSpanProcessor):
        def on_end(self, span: Any) -> None:
            results.append(exporter.export([span]))

    traces.add_span_processor(Kept(exporter))
    with tracer.start_as_current_span("CreateEmbeddings") as span:
        span.set_attribute("embedding.embeddings.0.embedding.vector", [1.0, 2.0])
    traces.shutdown()
    assert results == [SpanExportResult.FAILURE]
    assert "has vectors, but no text embedding.model_name" in service.log.read_text()


@pytest.mark.parametrize("encoding", ["proto", "json"])
def test_a_collector_forwards_vectors_and_tries_again_while_the_store_is_away(
    store: str,
    server: str,
    connection: psycopg.Connection,
    provider: Provider,
    collector: Path,
    tmp_path: Path,
    encoding: str,
) -> None:
    token = tokens.add(tmp_path / "tokens.yaml", "collector", [f"write:{MODEL}"])
    config, name = tmp_path / "config.yaml", connection.info.dbname
    config.write_text(
        f'{{database: {{connection_string: "{store}"}},'
        f" server: {{port: 0, tokens_file: {tmp_path}/tokens.yaml}}}}"
    )

    def allow(allowed: bool) -> None:
        with connect(server) as admin:
            admin.execute(f"alter database {name} allow_connections {allowed}".encode())
            if not allowed:
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
                    " and pid <> %s",
                    [name, connection.info.backend_pid],
                )

    def exported(text: str) -> None:
        traces = PlainProvider(resource=Resource({"service.name": "search"}))
        exporter = exporter_to(f"http://127.0.0.1:{port}")
        traces.add_span_processor(BatchSpanProcessor(exporter))
        instrumented(traces, provider, [text], "s")
        assert traces.force_flush(240_000)
        traces.shutdown()

    def texts() -> list[str]:
        return [row[3]["text"] for row in stored(connection)]

    port = free_port()
    with (
        serving(config, "ingest") as service,
        collecting(
            collector,
            tmp_path / "collector.yaml",
            port,
            url=service.url,
            encoding=encoding,
            token=token,
        ) as log,
    ):
        exported("before")
        wait_for(lambda: texts() == ["before"], "the vector")
        allow(False)
        exported("during")
        wait_for(lambda: "Throttle (2s)" in log.read_text(), "the Collector heeding Retry-After")
        assert texts() == ["before"]
        allow(True)
        wait_for(lambda: texts() == ["before", "during"], "the vector after the retry")
    vectors = np.array([row[2] for row in stored(connection)], np.float32)
    np.testing.assert_array_equal(vectors, [embedded("before"), embedded("during")])
