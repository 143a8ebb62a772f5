"""A network that fails on demand, and the service behind it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx2
import msgspec
import pytest

from ingest.formats import parse
from ingest.runtime.errors import DimensionMismatch, MonitorError
from ingest.runtime.http.problems import problem
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch
from tests.service import serving


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b'{"detail":"not now"}'


Fault = Reply | Literal["lost", "cut", "truncated"]
"""An answer of the network, or: the answer is lost, the request or the answer is cut."""
Service = Callable[[Mapping[str, str], bytes], Reply]


@dataclass
class Network:
    """A server in front of a service. Each fault in ``faults`` affects one request, in order."""

    service: Service
    faults: list[Fault] = field(default_factory=list)
    requests: list[Mapping[str, str]] = field(default_factory=list)
    """Headers of all requests, with names in lower case, and ``:path``."""
    answers: list[Reply] = field(default_factory=list)
    """Answers of the service."""
    closed: threading.Event = field(default_factory=threading.Event)
    """While this event is not set, requests wait."""
    url: str = ""

    def __post_init__(self) -> None:
        self.closed.set()

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for headers in self.requests]

    def through(self, headers: Mapping[str, str], body: bytes) -> Reply:
        answer = self.service(headers, body)
        self.answers.append(answer)
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing: a client may hang up."""


@contextmanager
def listening(network: Network, tls: ssl.SSLContext | None = None) -> Iterator[Network]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            headers[":path"] = self.path
            network.requests.append(headers)
            network.closed.wait(60)
            fault = network.faults.pop(0) if network.faults else None
            if fault == "cut":
                self.rfile.read(1)
                self.close_connection = True
                return
            body = self.rfile.read(int(headers["content-length"]))
            answer = fault if isinstance(fault, Reply) else network.through(headers, body)
            if fault == "lost":
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            half = fault == "truncated"
            self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)
            self.close_connection |= half

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        network.url = f"{scheme}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield network
        finally:
            network.closed.set()
            server.shutdown()
            thread.join()


@dataclass
class Shelf:
    """A service that keeps the batches of valid requests, one batch for each key."""

    batches: list[Batch] = field(default_factory=list)

    def __call__(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            batch = self._read(headers, body)
        except MonitorError as error:
            answer = problem(error)
            return Reply(answer.status_code, dict(answer.headers), bytes(answer.body))
        if batch.idempotency_key not in [known.idempotency_key for known in self.batches]:
            self.batches.append(batch)
        return Reply(201, {}, msgspec.json.encode({"stored": len(batch), "duplicates": 0}))

    def _read(self, headers: Mapping[str, str], body: bytes) -> Batch:
        batch = parse(body, headers=headers, query={}, limits=IngestSettings(), now=2e9)
        if self.batches and batch.dimension != self.batches[0].dimension:
            raise DimensionMismatch(f"model {batch.model_name} has vectors of another dimension")
        return batch

    def __len__(self) -> int:
        return sum(map(len, self.batches))


def forwarded(url: str) -> Service:
    """Forward requests to a real service."""

    def forward(headers: Mapping[str, str], body: bytes) -> Reply:
        kept: dict[str, Any] = {
            name: value
            for name, value in headers.items()
            if name not in ("host", "connection", ":path")
        }
        response = httpx2.post(f"{url}{headers[':path']}", content=body, headers=kept, timeout=60)
        replayed = response.headers.get("idempotency-replayed")
        extra = {} if replayed is None else {"Idempotency-Replayed": replayed}
        return Reply(response.status_code, extra, response.content)

    return forward


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def network(shelf: Shelf) -> Iterator[Network]:
    with listening(Network(shelf)) as network:
        yield network


@pytest.fixture
def real(folder: Path, store: str) -> Iterator[Network]:
    """The real ingest half on the store, behind a network."""
    config = folder / "config.yaml"
    config.write_text(f'server: {{port: 0}}\ndatabase: {{connection_string: "{store}"}}\n')
    with serving(config, "ingest") as service, listening(Network(forwarded(service.url))) as front:
        yield front
