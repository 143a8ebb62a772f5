"""Limits for clients that never finish the head of a request.

uvicorn limits how long a connection may be idle, but neither how long a head may take nor how
large it may be. Two parts work together here: a protocol counts what arrives, and an ASGI
application reports when a request has arrived. Both use public interfaces only: those of
:class:`asyncio.Protocol` and ASGI.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_ALLOWANCE_BYTES = 512 * 1024
"""Bytes that may arrive before the application takes any.

uvicorn stops reading when a request waits, or 64 KiB of a body. One read adds up to 256 KiB.
"""


class Client:
    """One connection, and how much and how long its client may send.

    Parameters
    ----------
    transport : asyncio.Transport
    read_timeout : float
        Seconds from the connection, or from a later request's first byte, to the end of a head.
    """

    def __init__(self, transport: asyncio.Transport, read_timeout: float) -> None:
        self._transport = transport
        self._read_timeout = read_timeout
        self._loop = asyncio.get_running_loop()
        self._allowance = _ALLOWANCE_BYTES
        self._requests = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._start_timer()

    def may_send(self, size: int) -> bool:
        """Count bytes that arrived, and close the connection if they are too many."""
        self._allowance -= size
        if self._allowance < 0:
            self._transport.close()
        elif self._requests == 0 and self._deadline is None:
            self._start_timer()
        return self._allowance >= 0

    def request_started(self) -> None:
        """Stop the timer: the head of a request is complete."""
        self._requests += 1
        self._allowance = _ALLOWANCE_BYTES
        self.stop_timer()

    def body_taken(self) -> None:
        """Let the client send more, because the application took what had arrived."""
        self._allowance = _ALLOWANCE_BYTES

    def request_ended(self, unread: int) -> None:
        """Expect the next request, after up to ``unread`` bytes of this request's body."""
        self._requests -= 1
        self._allowance = _ALLOWANCE_BYTES + unread

    def stop_timer(self) -> None:
        """Cancel the head timeout."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _start_timer(self) -> None:
        self._deadline = self._loop.call_later(self._read_timeout, self._transport.close)


_client: ContextVar[Client] = ContextVar("client")
"""The connection whose data is handled. The task that answers a request inherits it."""


def protocol(read_timeout: float) -> type[asyncio.Protocol]:
    """Make uvicorn's HTTP/1.1 protocol with limits for :func:`limited` applications.

    Parameters
    ----------
    read_timeout : float
        Seconds from the connection, or from a later request's first byte, to the end of a head.
    """

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._limited_client = Client(transport, read_timeout)
            super().connection_made(_Transport(transport))

        def data_received(self, data: bytes) -> None:
            if self._limited_client.may_send(len(data)):
                _client.set(self._limited_client)
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self._limited_client.stop_timer()
            super().connection_lost(exc)

    return Protocol


def limited(app: ASGIApp) -> ASGIApp:
    """Make an application that notifies the protocol which requests have arrived."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        client = _client.get(None)
        if scope["type"] != "http" or client is None:
            await app(scope, receive, send)
            return
        is_read = False

        async def receive_and_notify() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            client.body_taken()
            return message

        client.request_started()
        try:
            await app(scope, receive_and_notify, send)
        finally:
            client.request_ended(0 if is_read else _content_length(scope))

    return call


def _content_length(scope: Scope) -> int:
    # The server has checked it: two that differ, or one that is no number, are answered with 400.
    return int(dict(scope["headers"]).get(b"content-length", 0))


class _Transport(asyncio.Transport):
    """Passes on to another transport, except what is written after it was closed.

    asyncio's transports ignore that. uvloop's raise an error, which uvicorn would log for each
    pipelined request of a client that hung up: it marks only the last one as disconnected.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, if the connection is open."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Send what was written, and close the connection."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is closing."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Receive no more."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return transport information."""
        return self._transport.get_extra_info(name, default)
