"""Strangers: connections of which no request was admitted yet."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

_GRACE_SECONDS = 1.0


class Strangers:
    """Tasks of connections of which no request was admitted yet, the oldest first.

    Only some are open at a time, so that together they hold little memory. Others wait in the
    kernel. A client that sends its request at once is admitted within milliseconds, so hundreds
    that connect at the same time are served soon.

    Parameters
    ----------
    limit : int
        Connections that are open at the same time.
    grace : float
        Seconds that each has to be admitted while others wait.
    """

    def __init__(self, limit: int, grace: float = _GRACE_SECONDS) -> None:
        self._limit = limit
        self._grace = grace
        # A dictionary, because it keeps the order and removes quickly.
        self._since: dict[asyncio.Task[None], float] = {}
        self._has_left = asyncio.Event()

    def add(self, connection: Coroutine[None, None, None]) -> None:
        """Run a connection until its client is admitted or lost."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(connection)
        self._since[task] = loop.time()
        task.add_done_callback(self._remove)

    async def room(self) -> None:
        """Wait until there is room for one more. Cancels the oldest that had its time."""
        while len(self._since) >= self._limit:
            oldest, since = next(iter(self._since.items()))
            left = since + self._grace - asyncio.get_running_loop().time()
            if left <= 0:
                oldest.cancel()
                self._remove(oldest)
                continue
            self._has_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._has_left.wait()

    def _remove(self, task: asyncio.Task[None]) -> None:
        self._since.pop(task, None)
        self._has_left.set()
