"""Clients that are slow, many or greedy, and the other clients meanwhile."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest

from tests.service import Service, get, metrics, post, serving, wait_for

ROWS = np.ones((10, 8), np.float32)
SHORT = 5
"""Seconds that a client is given, where its time is to be over soon."""
MIB = 1024 * 1024


@contextmanager
def running(
    folder: Path, store: str, read_timeout: float = 240, **ingest: int
) -> Iterator[Service]:
    file = folder / "config.yaml"
    file.write_text(
        f'database: {{connection_string: "{store}"}}\n'
        f"server: {{port: 0, read_timeout: {read_timeout}}}\n"
        f"ingest: {ingest}\n"
    )
    with serving(file) as service:
        yield service


def connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port), timeout=60)


def head(length: int) -> bytes:
    return (
        b"POST /embeddings HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/octet-stream\r\n"
        b"X-Model-Name: m\r\nX-Dimension: 8\r\nContent-Length: %d\r\n\r\n" % length
    )


def answer(client: socket.socket, end: bytes = b"\r\n\r\n") -> bytes:
    """Read until the service has answered or hung up."""
    data = b""
    while end not in data and (more := client.recv(65_536)):
        data += more
    return data


def test_a_body_that_does_not_arrive_in_time_is_a_408(tmp_path: Path, store: str) -> None:
    with running(tmp_path, store, SHORT) as service, connect(service) as client:
        client.sendall(head(320) + bytes(32))
        assert answer(client).startswith(b"HTTP/1.1 408")
        page = metrics(service.url)
        assert 'rejected_total{reason="SlowClient",route="/embeddings"} 1.0' in page
        assert "embedding_drift_ingest_queue_bytes 0.0" in page


@pytest.mark.parametrize(
    "begun", [b"", b"POST /emb", b"POST /embeddings HTTP/1.1\r\nHost: localhost\r\nX-More: "]
)
def test_a_head_that_does_not_arrive_in_time_is_hung_up_on(
    tmp_path: Path, store: str, begun: bytes
) -> None:
    with running(tmp_path, store, SHORT) as service, connect(service) as client:
        client.sendall(begun)
        assert answer(client) == b""


def test_a_later_request_on_the_same_connection_has_to_arrive_in_time_too(
    tmp_path: Path, store: str
) -> None:
    with running(tmp_path, store, SHORT) as service, connect(service) as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(client, end=b"healthy\n").startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /-/hea")
        assert answer(client) == b""


def test_a_head_that_never_ends_is_hung_up_on(tmp_path: Path, store: str) -> None:
    endless = b"GET / HTTP/1.1\r\n" + 10_000 * (b"X-More: " + 8_000 * b"x" + b"\r\n")
    with (
        running(tmp_path, store) as service,
        connect(service) as client,
        pytest.raises(ConnectionError),
    ):
        client.sendall(endless)


def test_a_client_that_hangs_up_within_its_body_leaves_no_memory_in_use_and_is_not_refused(
    tmp_path: Path, store: str
) -> None:
    """It sends its vectors again, so the alert does not count it among refusals of content."""
    with running(tmp_path, store) as service:
        with connect(service) as client:
            client.sendall(head(320) + bytes(32))
        counted = 'requests_total{code="408",route="/embeddings"} 1.0'
        wait_for(lambda: counted in metrics(service.url), "the end of the request")
        assert post(service.url, ROWS).status_code == 201
        page = metrics(service.url)
        assert "embedding_drift_ingest_queue_bytes 0.0" in page
        assert 'embedding_drift_ingest_vectors_total{model_name="m"} 10.0' in page
        assert 'rejected_total{reason="LostClient",route="/embeddings"} 1.0' in page
        assert "request failed" not in service.log.read_text()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n"),
        (b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"x"),
    ],
    ids=["an empty line", "a body nobody reads"],
)
def test_bytes_after_an_answer_do_not_keep_the_connection_open(
    tmp_path: Path, store: str, first: bytes, then: bytes
) -> None:
    with running(tmp_path, store, SHORT) as service, connect(service) as client:
        client.sendall(first)
        assert answer(client).startswith(b"HTTP/1.1 ")
        # What came after it closed is answered with a reset.
        with suppress(ConnectionError):
            client.sendall(then)
            while client.recv(65_536):
                pass


def test_a_client_that_hangs_up_before_its_answers_logs_no_error(
    tmp_path: Path, store: str
) -> None:
    with running(tmp_path, store) as service:
        for _ in range(3):
            with connect(service) as client:
                client.sendall(5 * (head(320) + bytes(320)))
        assert post(service.url, ROWS).status_code == 201
    log = service.log.read_text()
    assert "request failed" not in log
    assert "Exception" not in log


def test_invalid_requests_do_not_fill_the_log(tmp_path: Path, store: str) -> None:
    upgrade = (
        b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    with running(tmp_path, store) as service:
        for request, status in ((b"nonsense\r\n\r\n", b"400"), (upgrade, b"200")):
            for _ in range(5):
                with connect(service) as client:
                    client.sendall(request)
                    assert answer(client).startswith(b"HTTP/1.1 " + status)
        warnings = [line for line in service.log.read_text().splitlines() if "uvicorn" in line]
    messages = [line.partition(" msg=")[2] for line in warnings]
    assert any("Invalid HTTP request received." in message for message in messages)
    assert any("Unsupported upgrade request." in message for message in messages)
    assert len(messages) == len(set(messages)), "each message once a minute"


def test_a_pipelined_request_does_not_disturb_the_one_before(tmp_path: Path, store: str) -> None:
    rows = np.ones((3_000, 8), np.float32).tobytes()
    with running(tmp_path, store) as service, connect(service) as client:
        client.sendall(head(len(rows)) + rows + b"GET / HT")
        assert answer(client).startswith(b"HTTP/1.1 201")


def test_a_compressed_transfer_is_refused_and_the_connection_goes_on(
    tmp_path: Path, store: str
) -> None:
    """The parser decodes the chunks only, and would pass on compressed bytes."""
    encoded = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: gzip, chunked")
    with running(tmp_path, store) as service, connect(service) as client:
        client.sendall(encoded + b"20\r\n" + bytes(32) + b"\r\n0\r\n\r\n")
        refusal = answer(client, end=b"}")
        assert refusal.startswith(b"HTTP/1.1 415")
        assert b"Transfer-Encoding gzip, chunked" in refusal
        client.sendall(head(320) + bytes(320))
        assert answer(client, end=b"}").startswith(b"HTTP/1.1 201")


def test_other_clients_are_served_during_a_thousand_connections(tmp_path: Path, store: str) -> None:
    """Half of them are idle, the others send a request byte by byte."""
    with running(tmp_path, store, SHORT) as service, ExitStack() as stack:
        now, most = psutil.Process(service.process.pid).rlimit(psutil.RLIMIT_NOFILE)
        assert now == most
        wait_for(lambda: get(f"{service.url}/-/ready").status_code == 200, "the first poll")
        clients = [stack.enter_context(connect(service)) for _ in range(1_000)]
        for byte in head(320)[:20]:
            for client in clients[::2]:
                send(client, bytes([byte]))
        assert post(service.url, ROWS).status_code == 201
        assert get(f"{service.url}/metrics").status_code == 200
        assert get(f"{service.url}/-/ready").status_code == 200
        assert all(is_hung_up(client) for client in clients)
        assert post(service.url, ROWS).status_code == 201


def send(client: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        client.sendall(data)


def is_hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(65_536) == b""
    except ConnectionError:
        return True


def test_the_memory_of_all_bodies_together_is_bounded(tmp_path: Path, store: str) -> None:
    """A hundred bodies of 8 MiB are started, and 32 MiB are allowed."""
    size, allowed = 8 * MIB, 32 * MIB
    limits = {"max_body_bytes": size, "max_queue_bytes": allowed}
    with running(tmp_path, store, **limits) as service, ExitStack() as stack:
        assert post(service.url, ROWS).status_code == 201
        before = psutil.Process(service.process.pid).memory_info().rss
        for _ in range(100):
            client = stack.enter_context(connect(service))
            client.settimeout(0.2)
            begin(client, size)
        wait_for(lambda: refused(service) > 50, "refusals")
        grown = psutil.Process(service.process.pid).memory_info().rss - before
        assert grown < 3 * allowed


def begin(client: socket.socket, size: int) -> None:
    """Send all but the end of a body, and wait a little for its refusal."""
    with suppress(TimeoutError, ConnectionError):
        client.sendall(head(size) + bytes(size - 1))
        refusal = client.recv(65_536)
        assert refusal.startswith(b"HTTP/1.1 429")
        assert b"retry-after: " in refusal


def refused(service: Service) -> float:
    """How many bodies had no room."""
    rejected = r'rejected_total{reason="QueueFull",route="/embeddings"} (\S+)'
    found = re.search(rejected, metrics(service.url))
    return 0.0 if found is None else float(found[1])


def test_a_refused_request_is_served_when_memory_is_free_again(tmp_path: Path, store: str) -> None:
    with running(tmp_path, store, max_body_bytes=4 * MIB, max_queue_bytes=4 * MIB) as service:
        with connect(service) as client:
            client.sendall(head(4 * MIB) + bytes(4 * MIB - 1))
            wait_for(lambda: post(service.url, ROWS).status_code == 429, "the refusal")

        def is_served() -> bool:
            again = post(service.url, ROWS).status_code
            assert again in (201, 429)
            return again == 201

        wait_for(is_served, "memory")
