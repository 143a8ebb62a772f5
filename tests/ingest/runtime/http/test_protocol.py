"""Limits of the protocol: what a client may send, and for how long."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ingest.runtime.http.server import Server
from tests.service import wait_until_hung_up

READ_TIMEOUT = WRITE_TIMEOUT = 1.0
MIB = 1024 * 1024

Timed = Callable[[bytes], socket.socket]

may_answer = threading.Event()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body's size; /refused reads no body, /slow takes two seconds.

    /held reads no body either, and answers when it may. /endless waits until the client is gone.
    /long answers with 8 MiB more, and /fields with the names of the request's fields.
    """
    request = Request(scope, receive)
    size = 0
    if request.url.path not in ("/refused", "/held"):
        size = len(await request.body())
    while request.url.path == "/held" and not may_answer.is_set():
        await asyncio.sleep(0.02)
    if request.url.path == "/slow":
        await asyncio.sleep(2)
    while request.url.path == "/endless" and not await request.is_disconnected():
        await asyncio.sleep(0.02)
    response: Response = PlainTextResponse(f"{size} bytes\n")
    if request.url.path == "/long":
        response = PlainTextResponse(bytes(8 * MIB) + b"bytes\n")
    if request.url.path == "/fields":
        response = PlainTextResponse(" ".join(request.headers) + " bytes\n")
    await response(scope, receive, send)


@contextmanager
def connected(
    loop: str, read_timeout: float, write_timeout: float, sent: bytes = b""
) -> Iterator[socket.socket]:
    """Serve the application and connect to it.

    What is ``sent`` has arrived before the server begins, so it cannot be late.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    registry = CollectorRegistry()
    timeouts = read_timeout, write_timeout
    options: dict[str, Any] = {"loop": loop, "lifespan": "off", "timeout_keep_alive": 240}
    server = Server(app, listener, registry, None, *timeouts, **options)
    thread = threading.Thread(target=server.run)
    client = socket.create_connection(listener.getsockname()[:2], timeout=240)
    client.sendall(sent)
    thread.start()
    try:
        with client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(params=["asyncio", "uvloop"])
def client(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A client of a server whose patience does not end within a test."""
    with connected(request.param, 240, 240) as client:
        yield client


@pytest.fixture(params=["asyncio", "uvloop"])
def timed(request: pytest.FixtureRequest) -> Iterator[Timed]:
    """A client of a server that waits for a second; it is given what the client sends first."""
    with ExitStack() as stack:
        timeouts = READ_TIMEOUT, WRITE_TIMEOUT
        yield lambda sent: stack.enter_context(connected(request.param, *timeouts, sent))


def head(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def answer(client: socket.socket) -> bytes:
    """Read one answer; what there is of it if the server hangs up."""
    data = b""
    with suppress(ConnectionError):
        while not data.endswith(b"bytes\n") and (more := client.recv(65_536)):
            data += more
    return data


def send_until_hung_up(client: socket.socket, data: bytes) -> int:
    """Send again and again; returns how many bytes were taken."""
    sent = 0
    try:
        while sent < 64 * MIB:
            sent += client.send(data)
    except ConnectionError:
        return sent
    pytest.fail("the server took all")


def test_a_head_without_end_is_hung_up_on(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\n")
    # More than the limit, because of the buffers of both sockets.
    assert send_until_hung_up(client, b"X-More: " + 8_000 * b"x" + b"\r\n") < 16 * MIB


def test_a_head_without_end_is_hung_up_on_while_a_request_is_answered(
    client: socket.socket,
) -> None:
    client.sendall(head("/endless", "Content-Length: 0") + b"GET / HTTP/1.1\r\n")
    send_until_hung_up(client, b"X-More: " + 8_000 * b"x" + b"\r\n")


def test_a_body_may_be_longer_than_the_allowance_and_slower_than_a_head(timed: Timed) -> None:
    client = timed(head("/", "Transfer-Encoding: chunked"))
    for _ in range(4):
        client.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
        time.sleep(READ_TIMEOUT / 2)
    client.sendall(b"0\r\n\r\n")
    assert answer(client).endswith(b"4194304 bytes\n")


def test_an_answer_may_take_longer_than_a_head(timed: Timed) -> None:
    client = timed(head("/slow", "Content-Length: 0"))
    assert answer(client).endswith(b"0 bytes\n")


def test_a_refused_request_may_send_its_body_to_the_end(client: socket.socket) -> None:
    """Or the client would see a broken connection rather than the refusal."""
    client.sendall(head("/refused", f"Content-Length: {4 * MIB}"))
    assert answer(client).endswith(b"0 bytes\n")
    client.sendall(bytes(4 * MIB))
    client.sendall(head("/", "Content-Length: 3") + b"abc")
    assert answer(client).endswith(b"3 bytes\n")


def test_the_body_of_a_refused_request_has_to_arrive_in_time(timed: Timed) -> None:
    client = timed(head("/refused", f"Content-Length: {4 * MIB}"))
    assert answer(client).endswith(b"0 bytes\n")
    client.sendall(b"x")
    assert answer(client) == b""


def test_pipelined_requests_are_answered_in_their_order(client: socket.socket) -> None:
    client.sendall(b"".join(head("/", f"Content-Length: {n}") + n * b"x" for n in range(5)))
    data = b""
    while data.count(b"bytes\n") < 5 and (more := client.recv(65_536)):
        data += more
    assert [int(line.split()[0]) for line in data.splitlines() if b"bytes" in line] == [*range(5)]


LONG = "x" * (16 * 1024)


@pytest.mark.parametrize(
    "request_",
    [
        head(f"/{LONG}", "Content-Length: 0"),
        head("/", f"A: {LONG}", "Content-Length: 0"),
        head("/", *["A: b"] * 100, "Content-Length: 0"),
    ],
    ids=["URL", "field", "fields"],
)
def test_a_head_beyond_the_limits_is_an_error_although_it_is_complete(
    client: socket.socket, request_: bytes
) -> None:
    client.sendall(request_)
    assert answer(client).startswith(b"HTTP/1.1 400 ")


def test_trailers_are_no_headers(client: socket.socket) -> None:
    client.sendall(head("/fields", "Transfer-Encoding: chunked") + b"0\r\nX-Later: 1\r\n\r\n")
    assert answer(client).endswith(b"host transfer-encoding bytes\n")


@pytest.mark.parametrize("end", [b"0\r\n", b"5"], ids=["trailers", "extension"])
def test_what_follows_a_body_has_a_limit(client: socket.socket, end: bytes) -> None:
    client.sendall(head("/slow", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + end)
    send_until_hung_up(client, b";a=" + 1_000 * b"b" if end == b"5" else b"A: " + LONG.encode())


def test_more_pipelined_requests_than_a_few_are_an_error(client: socket.socket) -> None:
    client.sendall(head("/slow", "Content-Length: 0") * 20)
    assert answer(client).startswith(b"HTTP/1.1 400 ")


def test_no_more_of_a_body_is_read_than_the_application_asks_for(client: socket.socket) -> None:
    client.settimeout(1)
    may_answer.clear()
    client.sendall(head("/held", f"Content-Length: {64 * MIB}"))
    sent = 0
    with suppress(TimeoutError):
        while sent < 64 * MIB:
            sent += client.send(bytes(MIB))
    may_answer.set()
    assert sent < 32 * MIB  # the buffers of both sockets


def test_a_client_that_does_not_read_is_hung_up_on(timed: Timed) -> None:
    client = timed(head("/long", "Content-Length: 0") * 3)
    received = len(client.recv(1))
    wait_until_hung_up(os.getpid(), client)
    with suppress(ConnectionError):
        while more := client.recv(MIB):
            received += len(more)
    assert received < 24 * MIB


def test_a_client_that_does_not_read_is_hung_up_on_although_its_answer_is_the_last(
    timed: Timed,
) -> None:
    client = timed(head("/long", "Content-Length: 0", "Connection: close"))
    data = client.recv(1)
    wait_until_hung_up(os.getpid(), client)
    with suppress(ConnectionError):
        while more := client.recv(MIB):
            data += more
    assert not data.endswith(b"bytes\n")
