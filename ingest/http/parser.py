"""Decompressing and parsing request bodies without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ingest.http.body_reader import BodyReader
from ingest.http.decompression import decompress, encoding
from ingest.http.endpoint import IncomingRequest

T = TypeVar("T")


class Parser:
    """Calls functions on bodies, in a thread where that takes long.

    Parameters
    ----------
    reader : BodyReader
        Has the current limits, and counts the memory of what is decompressed.
    """

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        # One thread, because several would take too much time from the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parser")

    async def unpack(self, request: IncomingRequest) -> int:
        """Decompress the body of a request if it is compressed.

        Returns
        -------
        int
            Bytes that the reader holds for it, until they are released.

        Raises
        ------
        PayloadError
            If the encoding is not supported, the body is damaged, or too much comes out.
        QueueFull
            If all bodies together take more memory than allowed.
        """
        how = encoding(request.headers)
        if how is None:
            return 0
        limit = self._reader.settings.max_body_bytes
        unpacked = partial(decompress, encoding=how, limit=limit)
        request.body = await self.parsed(request, unpacked, inline_bytes=0)
        self._reader.hold(len(request.body))
        return len(request.body)

    async def parsed(
        self, request: IncomingRequest, parse: Callable[[bytes], T], inline_bytes: int
    ) -> T:
        """Parse the body of a request, and empty it.

        Parameters
        ----------
        request : IncomingRequest
        parse : callable
        inline_bytes : int
            Size of the longest body that the event loop may wait for.
        """
        body, request.body = request.body, b""
        if len(body) <= inline_bytes:
            return parse(body)
        return await asyncio.get_running_loop().run_in_executor(self._thread, parse, body)

    def close(self) -> None:
        """Wait for the thread to end."""
        self._thread.shutdown()
