"""Decompressing and parsing request bodies without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ingest.formats import registry
from ingest.formats.format import Place
from ingest.http.body_reader import BodyReader
from ingest.http.decompression import decompress, encoding
from ingest.http.endpoint import IncomingRequest

T = TypeVar("T")


class Parser:
    """Calls functions on bodies, outside the event loop where that takes long.

    Parameters
    ----------
    reader : BodyReader
        Has the current limits, and counts the memory of what is decompressed.
    """

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        # One thread, because several would take too much time from the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parser")
        # Another one waits for the process, so that other bodies need not.
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix="waiting")

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
        request.body = await self.parsed(request, unpacked, Place.THREAD)
        self._reader.hold(len(request.body))
        return len(request.body)

    async def parsed(
        self, request: IncomingRequest, parse: Callable[[bytes], T], place: Place
    ) -> T:
        """Parse the body of a request, and empty it.

        Parameters
        ----------
        request : IncomingRequest
        parse : callable
        place : Place
            Where to call the function.
        """
        body, request.body = request.body, b""
        if place is Place.LOOP:
            return parse(body)
        thread = self._waiting if place is Place.PROCESS else self._thread
        return await asyncio.get_running_loop().run_in_executor(thread, parse, body)

    def hold(self, request: IncomingRequest, size: int) -> None:
        """Hold what came out of a body that says much in few bytes, as Parquet and int8 do.

        Raises
        ------
        QueueFull
            If all bodies together take more memory than allowed.
        """
        # No more than all may take together: whatever comes out has room when nothing else is held.
        more = min(size, self._reader.settings.max_queue_bytes) - request.held_bytes
        if more > 0:
            self._reader.hold(more)
            request.held_bytes += more

    def close(self) -> None:
        """End the process that reads bodies, and wait for the threads to end."""
        # What still waits for the process must not start another one.
        self._waiting.shutdown(wait=False, cancel_futures=True)
        registry.close()
        self._waiting.shutdown()
        self._thread.shutdown()
