"""Reading request bodies within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from ingest.runtime.errors import BodyTooLarge, LostClient, QueueFull, SlowClient
from ingest.runtime.settings.settings import IngestSettings


class BodyReader:
    """Reads bodies, and limits how many bytes all of them take together.

    Parameters
    ----------
    settings : IngestSettings
    read_timeout : float
        Seconds that a client may take to send a body.

    Attributes
    ----------
    settings : IngestSettings
        The current limits. May be replaced at any time.
    held_bytes : int
        Bytes of the bodies that are being read or used, and of what was decompressed from them.
    """

    def __init__(self, settings: IngestSettings, read_timeout: float) -> None:
        self.settings = settings
        self.held_bytes = 0
        self._read_timeout = read_timeout

    async def read(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """Read a body. Its bytes are held until they are given to :meth:`release`.

        Raises
        ------
        BodyTooLarge
            As soon as it is known that the body is longer than allowed.
        QueueFull
            If all bodies together take more memory than allowed.
        SlowClient
            If the body does not arrive in time.
        LostClient
            If the client hangs up before the end of the body.
        """
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.settings.max_body_bytes:
            raise _too_large(self.settings.max_body_bytes)
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._read_timeout):
                await self._receive(receive, chunks)
        except TimeoutError as error:
            self.release(sum(map(len, chunks)))
            raise SlowClient(
                f"the body did not arrive within {self._read_timeout:g} s (server.read_timeout)"
            ) from error
        except BaseException:
            self.release(sum(map(len, chunks)))
            raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def hold(self, size: int) -> None:
        """Add bytes to `held_bytes`, until they are given to :meth:`release`.

        Raises
        ------
        QueueFull
            If all bodies together take more memory than allowed. Nothing is added then.
        """
        if self.held_bytes + size > self.settings.max_queue_bytes:
            raise QueueFull(
                f"the requests under way exceed {self.settings.max_queue_bytes} bytes"
                " (ingest.max_queue_bytes)"
            )
        self.held_bytes += size

    def release(self, size: int) -> None:
        """Subtract bytes from `held_bytes`."""
        self.held_bytes -= size

    async def _receive(self, receive: Receive, chunks: list[bytes]) -> None:
        """Append what arrives to ``chunks``, and count it."""
        size = 0
        is_last = False
        while not is_last:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise LostClient("the connection was closed before the end of the body")
            chunk = message.get("body", b"")
            is_last = not message.get("more_body", False)
            size += len(chunk)
            if size > self.settings.max_body_bytes:
                raise _too_large(self.settings.max_body_bytes)
            self.hold(len(chunk))
            chunks.append(chunk)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds {limit} bytes (ingest.max_body_bytes)")
