"""Parsing request bodies without holding up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ingest.http.endpoint import IncomingRequest

T = TypeVar("T")


class Parser:
    """Calls functions on bodies, in a thread where that takes long."""

    def __init__(self) -> None:
        # One thread, because several would take too much time from the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parser")

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
