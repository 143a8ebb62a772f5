"""A transport that reports its closing and joins short pieces, and a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_SHORT_BYTES = 4 * 1024
"""Pieces up to this size wait for the next one. The head of an answer is such a piece."""
_JOINED_BYTES = 64 * 1024
"""Pieces up to this size are joined to the one that waits. To copy a longer one takes longer."""


class Timer:
    """Calls a function after some seconds, unless it is stopped before."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._seconds = seconds
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start, unless it runs."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._function)

    def stop(self) -> None:
        """Stop, if it runs."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Transport(asyncio.Transport):
    """Passes on to another transport, except what is written after it was closed.

    asyncio's transports ignore that. uvloop's raise an error, which uvicorn would log for each
    pipelined request of a client that hung up: it marks only the last one as disconnected.

    The head and the body of an answer, which uvicorn writes one after the other, are sent by one
    system call. A second one is a noticeable part of a short request.

    Parameters
    ----------
    transport : asyncio.Transport
    on_close : callable
        Is called when the transport closes, which may last: what was written is sent first.
    """

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._held = b""

    def lost(self) -> None:
        """Let go of the other transport, whose memory is large by TLS, as soon as it is closed.

        It and uvicorn's objects refer to each other, so that only the garbage collector, much
        later, would free them.
        """
        self._transport = _CLOSED

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, if the connection is open, a short piece with the next one or soon."""
        held, self._held = self._held, b""
        if not held and len(data) <= _SHORT_BYTES:
            self._held = bytes(data)
            self._loop.call_soon(self._flush)
            return
        # A long body would be copied.
        pieces = [held + data] if len(data) <= _JOINED_BYTES else [held, data]
        for piece in pieces:
            if piece and not self._transport.is_closing():
                self._transport.write(piece)

    def _flush(self) -> None:
        """Send what waits for a next piece."""
        if self._held:
            self.write(b"")

    def close(self) -> None:
        """Send what was written, and close the connection."""
        self._flush()
        self._on_close()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection, whatever has not been sent yet."""
        self._transport.abort()

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


class _Closed(asyncio.Transport):
    """A transport that was closed."""

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""

    def is_closing(self) -> bool:
        """Return True."""
        return True

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


_CLOSED = _Closed()
