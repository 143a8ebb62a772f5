"""Answers under way: limits of their memory, and of the time that a client takes to read one.

A server passes an answer to the transport as a whole, which keeps it until the client has read it.
Here a long answer is passed in pieces, the next when the client has read most of those before.
"""

from __future__ import annotations

import asyncio

from starlette.types import Message, Scope, Send

from ingest.runtime.errors import QueueFull
from ingest.runtime.http.protocol import connection

_PIECE_BYTES = 64 * 1024
"""Answers up to this size are not counted: an acknowledgement must not be refused."""

_LIMIT_BYTES = 64 * 1024 * 1024


class Answers:
    """The answers that clients are reading.

    Parameters
    ----------
    write_timeout : float
        Seconds that a client may take to read an answer.
    limit : int
        Bytes of all long answers together. One that is longer is sent when there is no other.
    """

    def __init__(self, write_timeout: float, limit: int = _LIMIT_BYTES) -> None:
        self._write_timeout = write_timeout
        self._limit = limit
        self._sizes: dict[Answer, int] = {}

    def hold(self, answer: Answer, size: int) -> None:
        """Count an answer.

        A scrape is never refused, because whoever watches the service must see what happens to it.
        For it, others are hung up on: those that have been read for longest, and scrapes last.

        Raises
        ------
        QueueFull
            If all answers together take more memory than allowed.
        """
        free = self._limit - sum(self._sizes.values())
        if answer.is_scrape:
            for other in sorted(self._sizes, key=lambda each: each.is_scrape):
                if size <= free:
                    break
                free += self._sizes[other]
                other.abort()
        elif size > free and self._sizes:
            raise QueueFull(
                f"the answers under way exceed {self._limit} bytes; clients read slowly"
            )
        self._sizes[answer] = size

    def release(self, answer: Answer) -> None:
        """Count an answer no longer."""
        self._sizes.pop(answer, None)

    def to(self, scope: Scope, send: Send) -> Answer:
        """Begin the answer to a request."""
        return Answer(self, self._write_timeout, scope, send)


class Answer:
    """The answer to one request. It must be closed.

    Parameters
    ----------
    answers : Answers
    write_timeout : float
    scope : Scope
    send : callable
        Of the server.

    Attributes
    ----------
    is_scrape : bool
        Whether it is the page of metrics.
    """

    def __init__(self, answers: Answers, write_timeout: float, scope: Scope, send: Send) -> None:
        self._answers = answers
        self._write_timeout = write_timeout
        self.is_scrape = scope["path"] == "/metrics"
        self._client = connection(scope)
        self._send = send
        self._deadline: asyncio.TimerHandle | None = None

    def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Hold the memory of an answer with these headers until it is closed.

        Raises
        ------
        QueueFull
            If all answers together take more memory than allowed.
        """
        size = int(dict(headers).get(b"content-length", 0))
        if size <= _PIECE_BYTES:
            return
        self._answers.hold(self, size)
        self._deadline = asyncio.get_running_loop().call_later(self._write_timeout, self.abort)

    def abort(self) -> None:
        """Hang up on the client, and release the memory."""
        self.close()
        if self._client is not None:
            self._client.abort()

    async def send(self, message: Message) -> None:
        """Send a message, a long body in pieces."""
        body = message.get("body", b"")
        last = max(0, len(body) - 1) // _PIECE_BYTES * _PIECE_BYTES
        for at in range(0, last, _PIECE_BYTES):
            piece = body[at : at + _PIECE_BYTES]
            await self._send({"type": message["type"], "body": piece, "more_body": True})
        await self._send({**message, "body": body[last:]} if last else message)

    def close(self) -> None:
        """Release the memory."""
        self._answers.release(self)
        if self._deadline is not None:
            self._deadline.cancel()
