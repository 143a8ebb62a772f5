"""Limits for clients that are not known yet, or that do not read their answers.

uvicorn limits how long a connection may be idle. It limits neither how large and how slow a head
may be, nor how much of a body arrives before the application asks for it, nor how long a client may
leave its answer unread. This module adds these limits, in the callbacks of httptools' parser and an
:class:`asyncio.BufferedProtocol`.

Warning: it extends uvicorn's protocol, whose attributes (``cycle``, ``flow``, ``pipeline``,
``scope``) are not documented. The tests of this module use each of them, with the lowest and the
newest version.

What one connection may make the service hold before a request of it is admitted is bounded by the
constants below, and their number by :class:`~ingest.runtime.http.strangers.Strangers`; that of the
others by :class:`~ingest.runtime.http.clients.Clients`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingest.runtime.http.clients import Clients
from ingest.runtime.http.transport import Timer, Transport

HEAD_BYTES = 16 * 1024
"""Bytes of a head, of a chunk's size with its extensions, and of trailers."""

_FIELDS = 100
"""Fields of a head and its trailers. A short field takes 30 times its bytes as Python objects."""

_PIPELINED = 4
"""Requests that may wait for the answer to the request before them."""

_READ_BYTES = 256 * 1024
_READ_BYTES_OF_STRANGER = 32 * 1024
"""Bytes that one read takes at most."""

_EXTENSION = "embedding_drift.connection"


# One for all connections: what is read is parsed at once, and the parser copies what it keeps.
_buffer = memoryview(bytearray(_READ_BYTES))
_buffer_of_stranger = _buffer[:_READ_BYTES_OF_STRANGER]


class Connection(asyncio.BufferedProtocol):
    """One connection: passes what arrives to uvicorn's protocol, within limits.

    Parameters
    ----------
    requests : Requests
        uvicorn's protocol for the connection.
    clients : Clients
    read_timeout : float
        Seconds from the connection, or from a later request's first byte, to the end of a head.
    write_timeout : float
        Seconds that a client may leave its answer unread.

    Attributes
    ----------
    left : asyncio.Event
        Set when the connection is no stranger anymore: a request was admitted, or it is lost.
    """

    def __init__(
        self, requests: Requests, clients: Clients, read_timeout: float, write_timeout: float
    ) -> None:
        self.left = asyncio.Event()
        self._requests = requests
        self._clients = clients
        self._is_client = False
        self._transport: Transport | None = None
        self._reading = Timer(read_timeout, self.close)
        self._writing = Timer(write_timeout, self.abort)
        self._closing = Timer(write_timeout, self.abort)
        requests.connection = self

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        self._transport = Transport(transport, self._closing.start)
        self._reading.start()
        self._requests.connection_made(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""
        assert self._transport is not None
        self._requests.connection_lost(exc)
        self._transport.lost()
        self.left.set()
        if self._is_client:
            self._clients.lose(self)
        for timer in (self._reading, self._writing, self._closing):
            timer.stop()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        return _buffer_of_stranger if self.is_stranger else _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what was read."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._requests.data_received(_buffer[:nbytes])  # type: ignore[arg-type]

    def eof_received(self) -> None:
        """Close the connection: the client sends no more."""
        self._requests.eof_received()

    def pause_writing(self) -> None:
        """Expect that the client reads."""
        self._writing.start()
        self._requests.pause_writing()

    def resume_writing(self) -> None:
        """Go on, because the client has read."""
        self._writing.stop()
        self._requests.resume_writing()

    @property
    def is_stranger(self) -> bool:
        """Whether no request was admitted yet."""
        return not self.left.is_set()

    def expect_head(self) -> None:
        """Close the connection unless a head is complete in time."""
        self._reading.start()

    def head_complete(self) -> None:
        """Stop waiting for a head."""
        self._reading.stop()
        self._clients.resume(self)

    def answered(self) -> None:
        """Note that no request is under way."""
        assert self._transport is not None
        if self._is_client and not self._transport.is_closing():
            self._clients.rest(self)

    def admitted(self) -> None:
        """Accept the client: a request of it was admitted.

        Raises
        ------
        QueueFull
            If there are too many clients.
        """
        if self.is_stranger:
            self._clients.admit()
            self._is_client = True
            self.left.set()

    def close(self) -> None:
        """Hang up when everything was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up, whatever has not been sent yet."""
        if self._transport is not None:
            self._transport.abort()


class Requests(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, with limits on what its parser collects.

    A callback that raises makes the parser fail. uvicorn answers with 400 then, and hangs up.
    """

    connection: Connection

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._unparsed = 0
        self._head_bytes = 0
        self._fields = 0
        self._has_head = False

    def data_received(self, data: bytes) -> None:
        """Parse what was read."""
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unparsed > HEAD_BYTES:
            self.send_400_response(f"A head, chunk size or trailer exceeds {HEAD_BYTES} bytes.")
        elif self.cycle is None or self.cycle.response_complete:
            self.connection.expect_head()
        elif self.cycle.body and self.cycle.more_body and self.connection.is_stranger:
            # Until the application takes what has arrived. Of others, uvicorn reads 64 KiB more.
            self.flow.pause_reading()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head_bytes = self._fields = 0
        self._has_head = False
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: self.connection}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        """Add a piece of the URL."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field of the head; ignore one of the trailers."""
        self._fields += 1
        self._count(len(name) + len(value))
        if self._fields > _FIELDS:
            raise ValueError("too many fields")
        # The application could take a trailer for a header.
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Call the application."""
        self._unparsed = 0
        self._has_head = True
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many pipelined requests")
        self.connection.head_complete()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._unparsed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, if there is one."""
        if not self.pipeline:
            self.connection.answered()
        super().on_response_complete()

    def _count(self, size: int) -> None:
        """Count bytes of a head and its trailers, which a single read may complete."""
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise ValueError("the head is too long")


def connection(scope: Scope) -> Connection | None:
    """Return the connection of a request; None if another server has it."""
    found: Connection | None = scope.get("extensions", {}).get(_EXTENSION)
    return found
