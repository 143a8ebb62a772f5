"""Request bodies: read within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from ingest.runtime.errors import BodyTooLarge, PayloadError, QueueFull, SlowClient
from ingest.runtime.settings import IngestSettings


class Bodies:
    """Bodies of all requests under way, which share one allowance.

    Parameters
    ----------
    settings : IngestSettings
    read_timeout : float
        Seconds a client may take to send a body.

    Attributes
    ----------
    settings : IngestSettings
        Those in force; may be replaced at any time.
    size : int
        Bytes under way.
    """

    def __init__(self, settings: IngestSettings, read_timeout: float) -> None:
        self.settings = settings
        self.size = 0
        self._read_timeout = read_timeout

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read a request's body; its bytes count as under way while entered.

        Raises
        ------
        BodyTooLarge
            As soon as it is known that the body is longer than allowed.
        QueueFull
            If all bodies under way take more than they may.
        SlowClient
            If it does not arrive in time.
        PayloadError
            If the client hangs up before its end.
        """
        share = _Share()
        try:
            # No name here: the caller lets go of the body when it is parsed.
            yield await self._receive_in_time(request, share)
        finally:
            self.size -= share.size

    async def _receive_in_time(self, request: Request, share: _Share) -> bytes:
        try:
            async with asyncio.timeout(self._read_timeout):
                return await self._receive(request, share)
        except TimeoutError as error:
            raise SlowClient(
                f"the body did not arrive within {self._read_timeout:g} s (server.read_timeout)"
            ) from error
        except ClientDisconnect as error:
            raise PayloadError("the connection was closed before the body's end") from error

    async def _receive(self, request: Request, share: _Share) -> bytes:
        limit = self.settings.max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        chunks = []
        async for chunk in request.stream():
            if not chunk:
                continue
            chunks.append(chunk)
            share.size += len(chunk)
            self.size += len(chunk)
            if share.size > limit:
                raise _too_large(limit)
            if self.size > self.settings.max_queue_bytes:
                raise QueueFull(
                    f"the requests under way exceed {self.settings.max_queue_bytes} bytes"
                    " (ingest.max_queue_bytes)"
                )
        return b"".join(chunks)


@dataclass(slots=True)
class _Share:
    """What one request takes of the allowance, in bytes."""

    size: int = 0


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds {limit} bytes (ingest.max_body_bytes)")
