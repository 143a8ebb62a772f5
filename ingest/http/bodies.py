"""Request bodies: read within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from ingest.runtime.errors import BodyTooLarge, PayloadError, QueueFull, SlowClient
from ingest.runtime.settings.settings import IngestSettings

_LATE = "late"


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
        Bytes under way; who is done with a body takes off its length.
    """

    def __init__(self, settings: IngestSettings, read_timeout: float) -> None:
        self.settings = settings
        self.size = 0
        self._read_timeout = read_timeout

    async def read(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """Read a request's body, which counts as under way from now on.

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
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.settings.max_body_bytes:
            raise _too_large(self.settings.max_body_bytes)
        chunks: list[bytes] = []
        task = asyncio.current_task()
        assert task is not None
        # What asyncio.timeout does, in a quarter of its time.
        late = task.get_loop().call_later(self._read_timeout, task.cancel, _LATE)
        try:
            await self._receive(receive, chunks)
        except BaseException as error:
            self.size -= sum(map(len, chunks))
            if error.args == (_LATE,):
                task.uncancel()
                raise SlowClient(
                    f"the body did not arrive within {self._read_timeout:g} s (server.read_timeout)"
                ) from error
            raise
        finally:
            late.cancel()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _receive(self, receive: Receive, chunks: list[bytes]) -> None:
        """Append to ``chunks`` what arrives, and count it."""
        size = 0
        is_last = False
        while not is_last:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise PayloadError("the connection was closed before the body's end")
            chunks.append(message.get("body", b""))
            is_last = not message.get("more_body", False)
            size += len(chunks[-1])
            self.size += len(chunks[-1])
            if size > self.settings.max_body_bytes:
                raise _too_large(self.settings.max_body_bytes)
            if self.size > self.settings.max_queue_bytes:
                raise QueueFull(
                    f"the requests under way exceed {self.settings.max_queue_bytes} bytes"
                    " (ingest.max_queue_bytes)"
                )


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds {limit} bytes (ingest.max_body_bytes)")
